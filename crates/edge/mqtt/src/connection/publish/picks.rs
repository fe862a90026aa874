//! QoS 2 publishes of persistent publishers to groups: who was picked is durable before the message is
//! handed over, so that a retry, also after a crash, leads to nobody else.

use std::sync::Arc;

use bifrust_dist::{KeyedPicks, Matched, Picks, Publication, Taken};
use bifrust_inbox::InboxError;

use super::pipeline::is_refusal;
use crate::mailbox::{Completion, Seat};
use crate::session::inbound::{Stage, Waiting};
use crate::shard::Shard;

/// What goes to live members although the publisher's session has left: its retry leaves them out.
pub(crate) struct Orphan {
    publication: Arc<Publication>,
    matched: Arc<Matched>,
    picks: Picks,
}

impl Orphan {
    fn of(publication: &Publication, picks: &KeyedPicks) -> Option<Box<Self>> {
        let (matched, picks) = picks.targets()?;
        Taken::by(matched, picks).live.then(|| {
            Box::new(Self {
                publication: Arc::new(publication.clone()),
                matched: matched.clone(),
                picks: picks.clone(),
            })
        })
    }
}

impl Shard {
    /// Picks members for a publish with a routing key, and keeps them if they are new.
    pub(super) fn keep_picks(&mut self, seat: Seat, number: u64, matched: &Arc<Matched>) {
        let inbox = self.edge.services.inbox.clone();
        let seed = self.next_seed();
        let Some(session) = self.publisher(seat) else {
            return;
        };
        let max = session.tenant.settings.load().max_group_fanout as usize;
        let reference = session.durable.as_ref().map(|of| of.session.clone());
        let Some(waiting) = session.inbound.get(number) else {
            return;
        };
        let publisher = waiting.publication.message.publisher.clone();
        let picks = waiting.picks.get_or_insert_default();
        let is_new = picks.extend(matched, &publisher, seed, max);
        waiting.matched = picks.targets().map(|(matched, _)| matched.clone());
        let (Some(key), Some(reference), true) = (waiting.publication.key, reference, is_new)
        else {
            waiting.stage = Stage::Ready;
            return self.advance(seat);
        };
        waiting.stage = Stage::Pick;
        let stored = picks.stored().to_vec();
        let orphan = Orphan::of(&waiting.publication, picks);
        let done = self.reply(seat, move |result| {
            Completion::Picked(number, orphan, result)
        });
        inbox.store_picks(&reference, key, &stored, done);
    }

    /// Who was picked is durable, or not.
    pub(crate) fn picked(
        &mut self,
        seat: Seat,
        number: u64,
        orphan: Option<Box<Orphan>>,
        result: Result<(), InboxError>,
    ) {
        let waiting = self
            .publisher(seat)
            .and_then(|session| session.inbound.get(number));
        match (waiting, result) {
            (Some(waiting), Ok(())) => {
                waiting.stage = Stage::Ready;
                self.advance(seat);
            }
            (Some(_), Err(error)) => self.publish_failed(seat, number, is_refusal(&error)),
            (None, Ok(())) => {
                if let Some(orphan) = orphan {
                    self.route_shared(seat, &orphan.publication, &orphan.matched, &orphan.picks);
                }
            }
            (None, Err(_)) => {}
        }
    }

    /// A leaving session's time is over before the turn of a publish whose picks are durable.
    pub(crate) fn hand_over_orphan(&mut self, seat: Seat, waiting: &Waiting) {
        // While they are being made durable, their completion sees to it.
        let picks = waiting
            .picks
            .as_ref()
            .filter(|_| waiting.stage != Stage::Pick);
        if let Some(orphan) = picks.and_then(|picks| Orphan::of(&waiting.publication, picks)) {
            self.route_shared(seat, &orphan.publication, &orphan.matched, &orphan.picks);
        }
    }
}
