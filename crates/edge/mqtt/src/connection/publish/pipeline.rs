//! Publishes that wait for something, in the order of their arrival: a permission, a durable QoS 2
//! identifier, a durable retained copy, the lookup of their receivers. They go on when their
//! connection has ended.

use std::sync::Arc;

use bifrust_dist::{KeyedPicks, MatchError, Matched, Publication};
use bifrust_inbox::{InboundId, InboxError};
use bifrust_model::{EventKind, Qos, Topic};
use bifrust_mqtt_codec::ReasonCode;
use bifrust_plugin_api::Access;
use bifrust_retain::RetainError;

use super::{PIPELINE_MAX, Refusal};
use crate::connection::Pause;
use crate::mailbox::{Completion, Seat};
use crate::session::inbound::{Stage, Waiting};
use crate::shard::{DURABLE_MAX, Shard};

impl Shard {
    /// Asks for what this publish needs before its turn.
    pub(super) fn prepare(&mut self, seat: Seat, number: u64) {
        let inbox = self.edge.services.inbox.clone();
        let Some(session) = self.publisher(seat) else {
            return;
        };
        let reference = session
            .durable
            .as_ref()
            .map(|durable| durable.session.clone());
        let Some(waiting) = session.inbound.get(number) else {
            return;
        };
        let packet_id = waiting.packet_id;
        match reference {
            Some(reference) if waiting.publication.message.qos == Qos::ExactlyOnce => {
                waiting.stage = Stage::Begin;
                let done = self.reply(seat, move |result| Completion::Begun(number, result));
                inbox.begin_inbound(&reference, packet_id, done);
            }
            _ => self.store_copy(seat, number),
        }
    }

    /// The retained copy of a QoS 1 or 2 message becomes durable before the message is routed.
    fn store_copy(&mut self, seat: Seat, number: u64) {
        let retain = self.edge.services.retain.clone();
        let Some(session) = self.publisher(seat) else {
            return;
        };
        let Some(waiting) = session.inbound.get(number) else {
            return;
        };
        if !waiting.publication.message.retain || waiting.is_stored {
            return self.match_waiting(seat, number);
        }
        if waiting.token.is_none() {
            let publication = waiting.publication.clone();
            self.store_unasked(seat, &publication);
            return self.match_waiting(seat, number);
        }
        waiting.stage = Stage::Store;
        let (tenant, message) = (
            waiting.publication.tenant.clone(),
            waiting.publication.message.clone(),
        );
        let done = self.store_reply(seat, message.weight(), move |result| {
            Completion::Retained(number, result)
        });
        retain.store(&tenant, &message, done);
        self.wait_for_stores(seat);
    }

    /// Nobody waits for the retained copy of a QoS 0 message.
    pub(super) fn store_unasked(&mut self, seat: Seat, publication: &Publication) {
        let edge = self.edge.clone();
        let message = &publication.message;
        if message.weight() > DURABLE_MAX {
            return self.publish_oversize(seat, message);
        }
        let topic = message.topic.clone();
        let is_cleared = message.payload.is_empty();
        let tenant = publication.tenant.number;
        edge.copies.begin(tenant);
        let copies = edge.clone();
        let done = self.store_reply(seat, message.weight(), move |result| {
            copies.copies.end(tenant);
            Completion::RetainedUnasked(topic, is_cleared, result)
        });
        edge.services
            .retain
            .store(&publication.tenant, message, done);
        self.wait_for_stores(seat);
    }

    pub(crate) fn retained_unasked(
        &mut self,
        seat: Seat,
        topic: &Topic,
        is_cleared: bool,
        result: Result<(), RetainError>,
    ) {
        match result {
            Ok(()) => {
                let kind = retained_kind(is_cleared);
                self.emit(seat, kind, |event| event.topic(topic));
            }
            Err(error) => self.emit(seat, EventKind::MsgRetainedError, |event| {
                event.topic(topic).detail(error.to_string())
            }),
        }
    }

    pub(crate) fn publish_access(&mut self, seat: Seat, number: u64, access: Access) {
        let Some(session) = self.publisher(seat) else {
            return;
        };
        let bypass = session.tenant.settings.load().by_pass_perm_check_error;
        if self.is_granted(seat, access, bypass) {
            self.prepare(seat, number);
            return;
        }
        let Some((token, packet_id, qos, topic)) = self.drop_waiting(seat, number) else {
            return;
        };
        let refusal = Refusal {
            reason: ReasonCode::NOT_AUTHORIZED,
            event: EventKind::PubActionDisallow,
            topic: Some(topic),
        };
        if let Err(ending) = self.refuse_publish(seat, token, packet_id, qos, refusal) {
            self.end(seat, ending);
        }
        self.advance(seat);
    }

    /// A publish keeps its place in the pipeline and does nothing there.
    fn drop_waiting(&mut self, seat: Seat, number: u64) -> Option<(Option<u64>, u16, Qos, Topic)> {
        let waiting = self.publisher(seat)?.inbound.get(number)?;
        waiting.is_dropped = true;
        waiting.stage = Stage::Ready;
        let message = &waiting.publication.message;
        Some((
            waiting.token.take(),
            waiting.packet_id,
            message.qos,
            message.topic.clone(),
        ))
    }

    pub(crate) fn publish_begun(
        &mut self,
        seat: Seat,
        number: u64,
        result: Result<InboundId, InboxError>,
    ) {
        match result {
            Ok(id) => {
                let Some(waiting) = self
                    .publisher(seat)
                    .and_then(|session| session.inbound.get(number))
                else {
                    return;
                };
                if !id.is_routed {
                    waiting.publication.key = Some(id.key);
                    if !id.picks.is_empty() {
                        waiting.picks = Some(Box::new(KeyedPicks::resume(id.picks)));
                    }
                    self.store_copy(seat, number);
                    return;
                }
                // An earlier connection routed it: only the answer is missing.
                let packet_id = waiting.packet_id;
                let token = waiting.token.take();
                waiting.is_dropped = true;
                waiting.stage = Stage::Ready;
                self.publish_done(seat, token, packet_id, ReasonCode::SUCCESS);
                self.advance(seat);
            }
            Err(error) => self.publish_failed(seat, number, is_refusal(&error)),
        }
    }

    pub(crate) fn publish_retained(
        &mut self,
        seat: Seat,
        number: u64,
        result: Result<(), RetainError>,
    ) {
        let Some(waiting) = self
            .publisher(seat)
            .and_then(|session| session.inbound.get(number))
        else {
            return;
        };
        let topic = waiting.publication.message.topic.clone();
        let is_cleared = waiting.publication.message.payload.is_empty();
        match result {
            Ok(()) => {
                waiting.is_stored = true;
                let kind = retained_kind(is_cleared);
                self.emit(seat, kind, |event| event.topic(&topic));
                self.match_waiting(seat, number);
            }
            Err(error) => {
                self.emit(seat, EventKind::MsgRetainedError, |event| {
                    event.topic(&topic).detail(error.to_string())
                });
                self.publish_failed(seat, number, is_retain_refusal(&error));
            }
        }
    }

    /// A publish cannot go on. Refused means that nothing was done of the step that failed.
    pub(super) fn publish_failed(&mut self, seat: Seat, number: u64, is_refused: bool) {
        let waiting = (self.publisher(seat)).and_then(|session| session.inbound.get(number));
        let is_refused = is_refused && waiting.is_some_and(|waiting| waiting.is_undone());
        let Some((token, packet_id, qos, topic)) = self.drop_waiting(seat, number) else {
            return;
        };
        self.publish_undone(seat, token, packet_id, qos, Some(&topic), is_refused);
        self.advance(seat);
    }

    /// Everything it needs is there but its receivers. They are looked up at once, whatever waits
    /// before it, so that the lookups of a burst share their way.
    fn match_waiting(&mut self, seat: Seat, number: u64) {
        let edge = self.edge.clone();
        let Some(session) = self.publisher(seat) else {
            return;
        };
        let tenant = session.tenant.number;
        let Some(waiting) = session.inbound.get(number) else {
            return;
        };
        waiting.stage = Stage::Match;
        let topic = waiting.publication.message.topic.clone();
        let done = self.reply(seat, move |result| Completion::Matched(number, result));
        self.lookups += 1;
        edge.services.dist.match_topic(tenant, &topic, done);
        self.wait_for_stores(seat);
    }

    pub(crate) fn publish_matched(
        &mut self,
        seat: Seat,
        number: u64,
        result: Result<Arc<Matched>, MatchError>,
    ) {
        let Some(waiting) = self
            .publisher(seat)
            .and_then(|session| session.inbound.get(number))
        else {
            return;
        };
        match result {
            Ok(matched) if waiting.needs_picks(&matched) => {
                self.keep_picks(seat, number, &matched);
            }
            Ok(matched) => {
                waiting.matched = Some(matched);
                waiting.stage = Stage::Ready;
                self.advance(seat);
            }
            Err(error) => {
                self.emit(seat, EventKind::DistError, |event| {
                    event.detail(error.to_string())
                });
                self.publish_failed(seat, number, true);
            }
        }
    }

    /// Routes all publishes whose turn has come.
    pub(crate) fn advance(&mut self, seat: Seat) {
        while let Some(session) = self.publisher(seat) {
            let Some((number, head)) = session.inbound.head() else {
                break;
            };
            if head.stage != Stage::Ready {
                break;
            }
            if head.is_dropped {
                session.inbound.pop();
                continue;
            }
            // A route may have changed while it waited for those before it (contract C2).
            let is_stale = head.matched.as_ref().is_none_or(|found| found.is_stale());
            if is_stale && !head.is_rematched {
                head.is_rematched = head.matched.is_some();
                self.match_waiting(seat, number);
                break;
            }
            let Some(Waiting {
                publication,
                token,
                packet_id,
                matched: Some(matched),
                picks,
                ..
            }) = session.inbound.pop()
            else {
                break;
            };
            if let Some(memo) = &mut session.memo
                && memo.topic == publication.message.topic
            {
                memo.matched = Some(matched.clone());
            }
            let picks = picks.and_then(|picks| Some(picks.targets()?.1.clone()));
            self.route(seat, publication, &matched, picks, token, packet_id);
        }
        if self.leave_if_done(seat) {
            return;
        }
        let Some(session) = self.session(seat) else {
            return;
        };
        // A permission that is awaited keeps reading off: the answer belongs to one place.
        let is_asked = session.inbound.is_asking();
        if !is_asked && session.inbound.len() < PIPELINE_MAX {
            self.resume(seat, Pause::Publish);
        }
    }
}

/// Whether the command is known not to be applied.
pub(crate) fn is_refusal(error: &InboxError) -> bool {
    !matches!(error, InboxError::Unknown)
}

fn retained_kind(is_cleared: bool) -> EventKind {
    match is_cleared {
        true => EventKind::RetainMsgCleared,
        false => EventKind::MsgRetained,
    }
}

/// The same of the retained store.
fn is_retain_refusal(error: &RetainError) -> bool {
    !matches!(error, RetainError::Unknown)
}
