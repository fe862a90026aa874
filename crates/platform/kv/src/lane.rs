//! Lanes: tenants take turns by deficit round robin, so that a flooding tenant delays itself; and the
//! room that each may fill while it waits.

use std::collections::VecDeque;

use bifrust_model::TenantNumber;
use hashbrown::HashMap;

/// Bytes that a lane may send per turn.
const QUANTUM_BYTES: usize = 16 * 1024;

/// Emptied queues kept for their memory.
const SPARE_QUEUES_MAX: usize = 64;

/// Longest queue, in items, that is kept for its memory.
const SPARE_ITEMS_MAX: usize = 1_024;

/// What waits, by lane, in the order of arrival within each.
///
/// Invariant: `turns` holds each lane of `lanes` once, and no lane is empty.
pub(crate) struct Lanes<T> {
    lanes: HashMap<TenantNumber, Lane<T>>,
    /// The front one has its turn.
    turns: VecDeque<TenantNumber>,
    /// Whether the front one was given its quantum for this turn.
    has_begun: bool,
    spare: Vec<VecDeque<Item<T>>>,
    len: usize,
}

struct Lane<T> {
    items: VecDeque<Item<T>>,
    /// Bytes that it may still send.
    deficit: usize,
}

struct Item<T> {
    bytes: usize,
    value: T,
}

impl<T> Lanes<T> {
    pub(crate) fn new() -> Self {
        Self {
            lanes: HashMap::new(),
            turns: VecDeque::new(),
            has_begun: false,
            spare: Vec::new(),
            len: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn push(&mut self, lane: TenantNumber, bytes: usize, value: T) {
        self.lane(lane).items.push_back(Item { bytes, value });
        self.len += 1;
    }

    /// Puts something back that was first.
    pub(crate) fn push_front(&mut self, lane: TenantNumber, bytes: usize, value: T) {
        self.lane(lane).items.push_front(Item { bytes, value });
        self.len += 1;
    }

    fn lane(&mut self, number: TenantNumber) -> &mut Lane<T> {
        let (turns, spare) = (&mut self.turns, &mut self.spare);
        self.lanes.entry(number).or_insert_with(|| {
            turns.push_back(number);
            Lane {
                items: spare.pop().unwrap_or_default(),
                deficit: 0,
            }
        })
    }

    /// The next in turn.
    pub(crate) fn pop(&mut self) -> Option<T> {
        self.pop_if(|_| true)
    }

    /// The next in turn of the lanes that may.
    pub(crate) fn pop_if(&mut self, may: impl Fn(TenantNumber) -> bool) -> Option<T> {
        let mut passed_over = 0;
        loop {
            let number = *self.turns.front()?;
            if !may(number) {
                passed_over += 1;
                if passed_over == self.turns.len() {
                    return None;
                }
                self.next_turn();
                continue;
            }
            passed_over = 0;
            let is_alone = self.turns.len() == 1;
            let lane = self.lanes.get_mut(&number)?;
            let bytes = lane.items.front()?.bytes;
            if !self.has_begun {
                self.has_begun = true;
                lane.deficit += QUANTUM_BYTES;
            }
            if is_alone {
                lane.deficit = lane.deficit.max(bytes);
            }
            if bytes <= lane.deficit {
                lane.deficit -= bytes;
                let item = lane.items.pop_front()?;
                self.len -= 1;
                if lane.items.is_empty() {
                    self.close(number);
                }
                return Some(item.value);
            }
            self.next_turn();
        }
    }

    fn next_turn(&mut self) {
        self.has_begun = false;
        self.turns.rotate_left(1);
    }

    /// Forgets the front lane, which is empty, with what it had left.
    fn close(&mut self, number: TenantNumber) {
        self.turns.pop_front();
        self.has_begun = false;
        if let Some(lane) = self.lanes.remove(&number)
            && self.spare.len() < SPARE_QUEUES_MAX
            && lane.items.capacity() <= SPARE_ITEMS_MAX
        {
            self.spare.push(lane.items);
        }
    }
}

/// So many items of so many bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) items: usize,
    pub(crate) bytes: usize,
}

impl Usage {
    pub(crate) fn add(&mut self, other: Self) {
        self.items += other.items;
        self.bytes += other.bytes;
    }

    fn subtract(&mut self, other: Self) {
        self.items = self.items.saturating_sub(other.items);
        self.bytes = self.bytes.saturating_sub(other.bytes);
    }
}

/// A bound shared by lanes. A lane may hold as much as is left free: one gets half, two a third each,
/// and there is always room for a newcomer.
pub(crate) struct Room {
    limit: Usage,
    used: Usage,
    lanes: HashMap<TenantNumber, Usage>,
}

impl Room {
    pub(crate) fn new(limit: Usage) -> Self {
        Self {
            limit,
            used: Usage::default(),
            lanes: HashMap::new(),
        }
    }

    pub(crate) fn used(&self) -> Usage {
        self.used
    }

    /// Takes room for one item, or says that there is none.
    pub(crate) fn take(&mut self, lane: TenantNumber, bytes: usize) -> bool {
        let held = self.lanes.get(&lane).copied().unwrap_or_default();
        let free = Usage {
            items: self.limit.items.saturating_sub(self.used.items),
            bytes: self.limit.bytes.saturating_sub(self.used.bytes),
        };
        // An item larger than any share goes in when its lane is empty and half of the room is free.
        let is_first = held.items == 0 && self.used.bytes <= self.limit.bytes / 2;
        if held.items >= free.items || (held.bytes + bytes > free.bytes && !is_first) {
            return false;
        }
        let one = Usage { items: 1, bytes };
        self.lanes.entry(lane).or_default().add(one);
        self.used.add(one);
        true
    }

    /// Gives room back.
    pub(crate) fn give(&mut self, lane: TenantNumber, usage: Usage) {
        self.used.subtract(usage);
        if let Some(held) = self.lanes.get_mut(&lane) {
            held.subtract(usage);
            if held.items == 0 {
                self.lanes.remove(&lane);
            }
        }
    }
}

#[cfg(test)]
mod tests;
