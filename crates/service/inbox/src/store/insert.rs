//! Messages enter queues: one row per session and message, nothing else is rewritten.

use std::sync::Arc;

use bifrust_kv::Rows;
use bifrust_model::{ClientId, Message, Qos, SessionKey, TenantNumber};
use bytes::Bytes;

use super::command::{Bounds, Insert, InsertRetained, Keyed};
use super::head::{Head, readable};
use super::heads::{Heads, Named};
use super::tidy::keep_waiting;
use super::{Effect, Reply};
use crate::Delivery;
use crate::schema::{BODY, Body, EntryHeader, META, Seen, SeenWills};

/// New QoS 2 publishers of a session after which it is tidied: bounds the rows that nobody needs.
const PUBLISHERS_BETWEEN_TIDIES: u32 = 256;

/// One message for many sessions. Those that have ended are passed over.
pub(super) fn apply(
    heads: &mut Heads,
    rows: &mut Rows<'_>,
    command: Insert,
    effects: &mut Vec<Effect>,
) -> Reply {
    let mut values = SharedValue::new(&command.body);
    effects.reserve(command.targets.len());
    // The session of the latest target, if that has taken the key just now: another copy for it is
    // taken too.
    let mut taking: Option<ClientId> = None;
    for target in command.targets {
        let named = Named {
            tenant: command.tenant,
            client: &target.client,
        };
        let found = heads
            .find(rows, named)
            .filter(|head| head.meta.incarnation == target.incarnation);
        let Some(head) = found else {
            continue;
        };
        let mut place = Place {
            tenant: command.tenant,
            client: &target.client,
            head,
            bounds: command.bounds,
        };
        let is_next_copy = taking.as_ref() == Some(&target.client);
        let key = command.key.filter(|_| !is_next_copy);
        let header = target.header;
        let has_taken = place.insert(rows, &command.body, header, key, &mut values, effects);
        if !is_next_copy {
            taking = has_taken.then_some(target.client);
        }
    }
    Reply::Done
}

/// Retained messages for one session, in order, until its queue is full.
pub(super) fn retained(
    heads: &mut Heads,
    rows: &mut Rows<'_>,
    command: InsertRetained,
    effects: &mut Vec<Effect>,
) -> Reply {
    let owned = heads
        .get(rows, &command.session)
        .filter(|head| head.meta.epoch == command.epoch && head.meta.owner.is_some());
    let Some(head) = owned else {
        return Reply::Fenced;
    };
    let mut place = Place {
        tenant: command.session.tenant,
        client: &command.session.client,
        head,
        bounds: command.bounds,
    };
    let mut taken = 0;
    for (header, body) in command.messages {
        let mut values = SharedValue::new(&body);
        if header.qos > Qos::AtMostOnce && !place.has_room(values.get(&header).len()) {
            break;
        }
        place.insert(rows, &body, header, None, &mut values, effects);
        taken += 1;
    }
    Reply::Taken(taken)
}

/// The row's value: built once for all sessions that get the message in the same way.
struct SharedValue<'a> {
    body: &'a Bytes,
    latest: Option<(EntryHeader, Bytes)>,
}

impl<'a> SharedValue<'a> {
    fn new(body: &'a Body) -> Self {
        Self {
            body: &body.bytes,
            latest: None,
        }
    }

    fn get(&mut self, header: &EntryHeader) -> &Bytes {
        let is_same = |(latest, _): &(EntryHeader, Bytes)| latest == header;
        if !self.latest.as_ref().is_some_and(is_same) {
            self.latest = None;
        }
        let body = self.body;
        &self
            .latest
            .get_or_insert_with(|| (header.clone(), header.with_body(body)))
            .1
    }
}

/// What a session has taken from a publisher.
enum Taken {
    Publishes(Seen),
    Wills(SeenWills),
}

impl Taken {
    fn is_new(&self) -> bool {
        match self {
            Self::Publishes(seen) => seen.is_new(),
            Self::Wills(seen) => seen.connections.is_empty(),
        }
    }

    fn contains(&self, generation: u64) -> bool {
        match self {
            Self::Publishes(seen) => seen.contains(generation),
            Self::Wills(seen) => seen.connections.contains(&generation),
        }
    }
}

/// Where a message goes.
struct Place<'a> {
    tenant: TenantNumber,
    client: &'a ClientId,
    head: &'a mut Head,
    bounds: Bounds,
}

impl Place<'_> {
    /// Whether the session has taken the key just now.
    fn insert(
        &mut self,
        rows: &mut Rows<'_>,
        body: &Body,
        header: EntryHeader,
        key: Option<Keyed>,
        values: &mut SharedValue<'_>,
        effects: &mut Vec<Effect>,
    ) -> bool {
        if header.qos == Qos::AtMostOnce && self.head.meta.owner.is_some() {
            self.deliver(0, header, &body.message, effects); // Never queued.
            return false;
        }
        if header.qos == Qos::AtMostOnce && !self.bounds.queues_qos0 {
            return false;
        }
        // Also at QoS 0 a queue holds a will once.
        let key = key.filter(|keyed| header.qos > Qos::AtMostOnce || keyed.key.will().is_some());
        let publisher = &body.message.publisher;
        let taken = key.map(|keyed| self.taken(rows, publisher, keyed));
        if let (Some(taken), Some(keyed)) = (&taken, key)
            && taken.contains(keyed.key.generation)
        {
            return false;
        }
        let value = values.get(&header);
        if !self.make_room(rows, header.qos, value.len(), effects) {
            self.overflow(header.qos, Some(&body.message), effects);
            return false;
        }
        let has_taken = key.is_some();
        if let (Some(taken), Some(keyed)) = (taken, key) {
            if taken.is_new() {
                self.note_publisher(effects);
            }
            self.note_taken(rows, publisher, keyed, taken);
        }
        let seq = self.head.queue.push(header.qos, value.len());
        let row = self.head.prefix.entry(self.head.meta.incarnation, seq);
        rows.put(BODY, row, value.clone());
        if self.head.meta.owner.is_some() {
            self.deliver(seq, header, &body.message, effects);
        }
        has_taken
    }

    /// What this session has taken from the publisher.
    fn taken(&self, rows: &Rows<'_>, publisher: &ClientId, keyed: Keyed) -> Taken {
        let (prefix, incarnation) = (&self.head.prefix, self.head.meta.incarnation);
        if keyed.key.will().is_some() {
            let row = rows.get(META, &prefix.seen_wills(incarnation, publisher));
            return Taken::Wills(
                row.map(|value| readable(SeenWills::decode(value)))
                    .unwrap_or_default(),
            );
        }
        // Another session of the publisher starts anew: the older one is fenced and comes no more.
        let row = rows.get(META, &prefix.seen(incarnation, publisher));
        let seen = row.map(|value| readable(Seen::decode(value)));
        let seen = seen.filter(|seen| seen.session() == keyed.key.session);
        Taken::Publishes(seen.unwrap_or_else(|| Seen::new(keyed.key.session)))
    }

    /// Takes note of a publish or a will that was not taken before.
    fn note_taken(&self, rows: &mut Rows<'_>, publisher: &ClientId, keyed: Keyed, taken: Taken) {
        let (prefix, incarnation) = (&self.head.prefix, self.head.meta.incarnation);
        let generation = keyed.key.generation;
        match taken {
            Taken::Publishes(mut seen) => {
                seen.raise_floor(keyed.floor.min(generation));
                seen.note(generation);
                rows.put(META, prefix.seen(incarnation, publisher), seen.encode());
            }
            Taken::Wills(mut seen) => {
                keep_waiting(rows, self.tenant, publisher, &mut seen);
                seen.connections.push(generation);
                let row = prefix.seen_wills(incarnation, publisher);
                rows.put(META, row, seen.encode());
            }
        }
    }

    /// After many new publishers the rows of those that have nothing unreleased are looked for.
    fn note_publisher(&mut self, effects: &mut Vec<Effect>) {
        self.head.new_publishers += 1;
        if self.head.new_publishers >= PUBLISHERS_BETWEEN_TIDIES {
            self.head.new_publishers = 0;
            effects.push(Effect::TidyDue {
                session: self.session(),
                incarnation: self.head.meta.incarnation,
            });
        }
    }

    fn has_room(&self, bytes: usize) -> bool {
        let queue = &self.head.queue;
        queue.len() < self.bounds.messages
            && queue.bytes().saturating_add(bytes as u64) <= self.bounds.bytes
    }

    /// Finds room for an entry; a new QoS 0 message may push old ones out, if the tenant says so.
    fn make_room(
        &mut self,
        rows: &mut Rows<'_>,
        qos: Qos,
        bytes: usize,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let may_drop = qos == Qos::AtMostOnce
            && self.bounds.drops_oldest_qos0
            && bytes as u64 <= self.bounds.bytes;
        while !self.has_room(bytes) {
            let oldest = may_drop.then(|| self.head.queue.oldest_qos0()).flatten();
            let Some(seq) = oldest else {
                return false;
            };
            self.head.queue.remove(seq);
            let row = self.head.prefix.entry(self.head.meta.incarnation, seq);
            rows.delete(BODY, row);
            self.overflow(qos, None, effects);
        }
        true
    }

    fn deliver(
        &self,
        seq: u64,
        header: EntryHeader,
        message: &Arc<Message>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(to) = self.head.meta.owner else {
            return;
        };
        effects.push(Effect::Deliver {
            session: self.session(),
            to,
            epoch: self.head.meta.epoch,
            delivery: Delivery {
                seq,
                qos: header.qos,
                retain: header.retain,
                subscription_ids: header.ids,
                message: message.clone(),
                possibly_sent: false,
            },
        });
    }

    fn overflow(&self, qos: Qos, message: Option<&Arc<Message>>, effects: &mut Vec<Effect>) {
        effects.push(Effect::Overflowed {
            session: self.session(),
            qos,
            message: message.cloned(),
        });
    }

    fn session(&self) -> SessionKey {
        SessionKey {
            tenant: self.tenant,
            client: self.client.clone(),
        }
    }
}
