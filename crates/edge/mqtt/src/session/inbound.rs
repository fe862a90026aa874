//! Publishes of the client: QoS 2 identifiers, what counts against the Receive Maximum, and the
//! order in which they are routed.

use std::sync::Arc;

use ahash::RandomState;
use bifrust_dist::{KeyedPicks, Matched, Publication};
use hashbrown::HashMap;

use super::fifo::Fifo;

/// Where a publish that could not be routed at once stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The permission check has not answered.
    Access,
    /// Its QoS 2 identifier is being made durable.
    Begin,
    /// Its retained copy is being made durable.
    Store,
    /// Its receivers are being looked up.
    Match,
    /// The members that were picked of its groups are being made durable.
    Pick,
    /// Nothing keeps it but those before it.
    Ready,
}

/// A publish on its way to its receivers.
pub(crate) struct Waiting {
    pub(crate) stage: Stage,
    pub(crate) publication: Publication,
    /// Its acknowledgement; `None` at QoS 0.
    pub(crate) token: Option<u64>,
    pub(crate) packet_id: u16,
    pub(crate) matched: Option<Arc<Matched>>,
    /// With a routing key: the members that get it, of its groups.
    pub(crate) picks: Option<Box<KeyedPicks>>,
    /// Its retained copy is stored, or on its way if nobody waits for it.
    pub(crate) is_stored: bool,
    /// Its receivers were looked up twice: what was found then is used.
    pub(crate) is_rematched: bool,
    /// Nothing is done with it: it was refused on the way.
    pub(crate) is_dropped: bool,
}

impl Waiting {
    /// Whether nothing of it was done. One whose retained copy is stored cannot be refused any more:
    /// subscribers to come see it (contract C3).
    pub(crate) fn is_undone(&self) -> bool {
        !self.is_stored
    }

    /// Whether members are to be picked, and to be kept, before it is handed over.
    pub(crate) fn needs_picks(&self, matched: &Matched) -> bool {
        let has_picked = self.picks.as_ref().is_some_and(|p| p.targets().is_some());
        self.publication.key.is_some() && (has_picked || !matched.groups.is_empty())
    }
}

/// What an identifier of an incoming QoS 2 publish means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Not known: a new message.
    New,
    /// On its way; its PUBREC will follow.
    Pending,
    /// Routed: PUBREC again, nothing else.
    Routed,
}

/// All of a client's publishes that are not finished.
#[derive(Default)]
pub(crate) struct Inbound {
    waiting: Fifo<Waiting>,
    first: u64,
    /// QoS 2 identifiers until PUBREL, and whether they are routed.
    ids: Option<Box<HashMap<u16, bool, RandomState>>>,
    /// Publishes that count against the Receive Maximum.
    unanswered: u32,
}

impl Inbound {
    /// Whether nothing waits, so that a publish may be routed at once.
    pub(crate) fn is_clear(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// A publish takes its place behind the others. The number names it.
    pub(crate) fn push(&mut self, waiting: Waiting) -> u64 {
        self.waiting.push_back(waiting);
        self.first + self.waiting.len() as u64 - 1
    }

    /// The number of the next publish that takes a place.
    pub(crate) fn next_number(&self) -> u64 {
        self.first + self.waiting.len() as u64
    }

    pub(crate) fn get(&mut self, number: u64) -> Option<&mut Waiting> {
        let at = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.waiting.get_mut(at)
    }

    /// Whether the newest one waits for a permission; nothing is read behind it.
    pub(crate) fn is_asking(&self) -> bool {
        let newest = self.waiting.back();
        newest.is_some_and(|waiting| waiting.stage == Stage::Access)
    }

    /// The publish that is next, and its number.
    pub(crate) fn head(&mut self) -> Option<(u64, &mut Waiting)> {
        Some((self.first, self.waiting.front_mut()?))
    }

    pub(crate) fn pop(&mut self) -> Option<Waiting> {
        let waiting = self.waiting.pop_front()?;
        self.first += 1;
        self.waiting.trim();
        Some(waiting)
    }

    pub(crate) fn seen(&self, id: u16) -> Seen {
        match self.ids.as_ref().and_then(|ids| ids.get(&id)) {
            None => Seen::New,
            Some(false) => Seen::Pending,
            Some(true) => Seen::Routed,
        }
    }

    /// A QoS 2 identifier is in use from now on.
    pub(crate) fn begin(&mut self, id: u16, is_routed: bool) {
        self.ids.get_or_insert_default().insert(id, is_routed);
    }

    pub(crate) fn routed(&mut self, id: u16) {
        if let Some(is_routed) = self.ids.as_mut().and_then(|ids| ids.get_mut(&id)) {
            *is_routed = true;
        }
    }

    /// PUBREL, or a refusal: the identifier is free. False if it was not in use.
    pub(crate) fn release(&mut self, id: u16) -> bool {
        let Some(ids) = &mut self.ids else {
            return false;
        };
        let was_there = ids.remove(&id).is_some();
        if ids.is_empty() && ids.capacity() > 64 {
            self.ids = None;
        }
        was_there
    }

    /// Identifiers whose message has reached its receivers.
    pub(crate) fn routed_ids(&self) -> Vec<u16> {
        let ids = self.ids.iter().flat_map(|ids| ids.iter());
        let routed = ids.filter(|(_, is_routed)| **is_routed);
        routed.map(|(id, _)| *id).collect()
    }

    pub(crate) fn unanswered(&self) -> u32 {
        self.unanswered
    }

    pub(crate) fn count(&mut self) {
        self.unanswered += 1;
    }

    pub(crate) fn answered(&mut self) {
        self.unanswered = self.unanswered.saturating_sub(1);
    }
}
