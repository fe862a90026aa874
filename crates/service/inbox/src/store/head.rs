//! A session that is in use, as its rows say: kept in memory so that an insert or a settling reads
//! nothing.

use std::collections::{BTreeMap, BTreeSet};

use bifrust_kv::Rows;
use bifrust_model::SessionKey;
use bifrust_model::record::RecordError;
use bifrust_storage::Direction;

use super::queue::Queue;
use crate::schema::{
    BODY, Cursor, DEADLINE, Entry, Inbound, META, Meta, Prefix, SUB, SessionDeadline,
    SubscriptionRow, number_at_end,
};

/// Settled entries after which scans get a new start.
const CURSOR_LAG: u64 = 64;

/// What is derived from the rows of one session.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) prefix: Prefix,
    pub(crate) meta: Meta,
    pub(crate) deadline: SessionDeadline,
    pub(crate) queue: Queue,
    /// Entries whose PUBREC was seen and whose PUBCOMP was not.
    pub(crate) received: BTreeSet<u64>,
    pub(crate) inbound: BTreeMap<u16, Inbound>,
    pub(crate) next_generation: u64,
    /// Number of subscriptions, once it was needed.
    pub(crate) subscriptions: Option<u32>,
    /// Publishers first seen since their rows were last looked through; a hint, not of the rows.
    pub(crate) new_publishers: u32,
    /// As it is stored.
    cursor: Cursor,
}

impl Head {
    /// A session without any row but those that the caller writes.
    pub(crate) fn new(prefix: Prefix, meta: Meta, deadline: SessionDeadline) -> Self {
        let cursor = Cursor::start();
        Self {
            prefix,
            meta,
            deadline,
            queue: Queue::starting_at(cursor.next_seq),
            received: BTreeSet::new(),
            inbound: BTreeMap::new(),
            next_generation: cursor.next_generation,
            subscriptions: Some(0),
            new_publishers: 0,
            cursor,
        }
    }

    /// Reads a session's rows; `None` if there is none.
    pub(crate) fn load(rows: &Rows<'_>, session: &SessionKey) -> Option<Self> {
        let prefix = Prefix::new(session);
        let meta = readable(Meta::decode(rows.get(META, &prefix.meta())?));
        let deadline = rows.get(DEADLINE, &prefix.due_session()).map_or_else(
            || SessionDeadline::of(&meta),
            |value| readable(SessionDeadline::decode(value)),
        );
        let cursor = rows
            .get(META, &prefix.cursor(meta.incarnation))
            .map_or_else(Cursor::start, |value| readable(Cursor::decode(value)));
        let mut head = Self {
            cursor,
            subscriptions: None,
            ..Self::new(prefix, meta, deadline)
        };
        head.load_queue(rows);
        head.load_inbound(rows);
        Some(head)
    }

    fn load_queue(&mut self, rows: &Rows<'_>) {
        let incarnation = self.meta.incarnation;
        self.queue = Queue::starting_at(self.cursor.first_seq);
        let range = self.prefix.entries_from(incarnation, self.cursor.first_seq);
        for (key, value) in rows.range(BODY, range.start(), range.end(), Direction::Forward) {
            let seq = number_at_end(&key).unwrap_or_else(|| damaged("entry key"));
            let qos = Entry::peek_qos(&value).unwrap_or_else(|| damaged("entry"));
            self.queue.restore(seq, qos, value.len());
        }
        let range = self.prefix.all_received(incarnation);
        for (key, _) in rows.range(META, range.start(), range.end(), Direction::Forward) {
            self.received
                .insert(number_at_end(&key).unwrap_or_else(|| damaged("received key")));
        }
        let after_received = self.received.last().map_or(0, |seq| seq + 1);
        self.queue.skip_to(self.cursor.next_seq.max(after_received));
    }

    fn load_inbound(&mut self, rows: &Rows<'_>) {
        let range = self.prefix.all_inbound(self.meta.incarnation);
        self.next_generation = self.cursor.next_generation;
        for (key, value) in rows.range(META, range.start(), range.end(), Direction::Forward) {
            let id = key
                .last_chunk::<2>()
                .unwrap_or_else(|| damaged("inbound key"));
            let inbound = readable(Inbound::decode(value));
            self.next_generation = self.next_generation.max(inbound.generation + 1);
            self.inbound.insert(u16::from_be_bytes(*id), inbound);
        }
    }

    /// Number of subscriptions that stand; counted once.
    pub(crate) fn count_subscriptions(&mut self, rows: &Rows<'_>) -> u32 {
        if let Some(count) = self.subscriptions {
            return count;
        }
        let range = self.prefix.all_subscriptions(self.meta.incarnation);
        let found = rows.range(SUB, range.start(), range.end(), Direction::Forward);
        let stand = found.filter(|(_, value)| {
            let row = readable(SubscriptionRow::decode(value.clone()));
            !row.is_leaving
        });
        let count = u32::try_from(stand.count()).unwrap_or(u32::MAX);
        self.subscriptions = Some(count);
        count
    }

    /// The lowest inbound generation that is not released: what lies below never comes again.
    pub(crate) fn floor(&self) -> u64 {
        let open = self.inbound.values().map(|inbound| inbound.generation);
        open.min().unwrap_or(self.next_generation)
    }

    pub(crate) fn write_meta(&self, rows: &mut Rows<'_>) {
        rows.put(META, self.prefix.meta(), self.meta.encode());
    }

    pub(crate) fn write_deadline(&self, rows: &mut Rows<'_>) {
        rows.put(DEADLINE, self.prefix.due_session(), self.deadline.encode());
    }

    /// Stores the cursor if rows alone would no longer say what comes next, or if scans would meet
    /// many settled entries.
    pub(crate) fn note_progress(&mut self, rows: &mut Rows<'_>) {
        let next_seq = self.queue.next_seq();
        let newest = next_seq.saturating_sub(1);
        let newest_has_row = self.queue.get(newest).is_some() || self.received.contains(&newest);
        let says_seq = newest_has_row || self.cursor.next_seq == next_seq;
        let newest_generation = self.next_generation.saturating_sub(1);
        let says_generation = self.cursor.next_generation == self.next_generation
            || self
                .inbound
                .values()
                .any(|inbound| inbound.generation == newest_generation);
        let lags = self.queue.first_seq().saturating_sub(self.cursor.first_seq) >= CURSOR_LAG;
        if !says_seq || !says_generation || lags {
            self.write_cursor(rows);
        }
    }

    /// Stores where queue and generations stand.
    pub(crate) fn write_cursor(&mut self, rows: &mut Rows<'_>) {
        let cursor = Cursor {
            first_seq: self.queue.first_seq(),
            next_seq: self.queue.next_seq(),
            next_generation: self.next_generation,
        };
        if cursor != self.cursor {
            self.cursor = cursor;
            rows.put(
                META,
                self.prefix.cursor(self.meta.incarnation),
                cursor.encode(),
            );
        }
    }

    /// Memory it takes, roughly.
    pub(crate) fn weight(&self) -> usize {
        const IN_A_TREE: usize = 48;
        size_of::<Self>()
            + 2 * self.prefix.as_bytes().len()
            + self.queue.slots() * 4
            + (self.received.len() + self.inbound.len()) * IN_A_TREE
    }
}

/// A row that this program wrote and cannot read: going on would lose what it holds, so the range
/// stops.
pub(super) fn readable<T>(read: Result<T, RecordError>) -> T {
    read.unwrap_or_else(|error| panic!("a row of the inbox is damaged: {error}"))
}

fn damaged<T>(what: &str) -> T {
    panic!("a row of the inbox is damaged: {what}")
}
