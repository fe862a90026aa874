//! What is known not to be there: gaps between the rows of routes.
//!
//! A topic that was never published before cannot be in the match cache. Most of such topics lead
//! nowhere, and the read that finds that out of one sees gaps between the rows that other topics fall
//! into as well. They are remembered here, so that the walk from a topic to its filters can be made
//! without a read as long as every branch it would look for lies in a gap.
//!
//! Invariants, each of them held under the lock of the tenant's part:
//! - No gap holds the key of a route that was answered as added. Adding a route splits its gap before it
//!   is answered.
//! - A gap that was read is entered without the keys that were added since the read began; if these are
//!   not all known any more, not at all.
//! - Whoever holds the part's empty match finds it stale once a route was added after it was handed out.
//!
//! Removing a route makes no gap wrong, only shorter than it could be.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use ahash::RandomState;
use bifrust_model::TenantNumber;
use bifrust_plugin_api::{Counter, Meter, Meters};
use bytes::Bytes;

use crate::Matched;
use crate::store::Gap;
use crate::topic_walk::{Branches, walk};

#[cfg(test)]
mod tests;

/// Parts that are locked each for itself. A tenant lives in one.
const PARTS: usize = 16;

/// What a gap costs beside its two keys.
const GAP_OVERHEAD_BYTES: usize = 96;

/// A gap with longer keys is not worth its place.
const GAP_KEYS_BYTES_MAX: usize = 4096;

/// Added keys that are remembered for the reads which run meanwhile.
const ADDED_MAX: usize = 64;

/// A longer key is not remembered, nor is what was added before it.
const ADDED_BYTES_MAX: usize = 1024;

/// Branches that one topic is looked at for before it is left to a read.
const LOOKS_MAX: usize = 256;

/// See the module.
pub(crate) struct Absent {
    parts: Vec<RwLock<Part>>,
    hasher: RandomState,
    /// Over all parts.
    bytes: AtomicUsize,
    bytes_max: usize,
    /// The part to take from when the own one has no more than its share.
    next_part: AtomicUsize,
    answered: Counter,
}

/// A moment in the order in which routes are added.
#[derive(Clone, Copy)]
pub(crate) struct Moment(u64);

#[derive(Default)]
struct Part {
    gaps: Gaps,
    /// What is answered, the same for all topics until a route is added.
    empty: Arc<Matched>,
    /// Counts added routes; `added` are the keys of the latest.
    moment: u64,
    added: VecDeque<Bytes>,
    /// Where the search for something to give up goes on.
    hand: Box<[u8]>,
}

impl Absent {
    pub(crate) fn new(bytes_max: usize, meters: &dyn Meters) -> Self {
        Self {
            parts: (0..PARTS).map(|_| RwLock::default()).collect(),
            hasher: RandomState::new(),
            bytes: AtomicUsize::new(0),
            bytes_max,
            next_part: AtomicUsize::new(0),
            answered: meters.counter(Meter::new(
                "bifrust_dist_known_unmatched",
                "Topics that were known to lead nowhere though nobody had published to them.",
            )),
        }
    }

    /// An empty match if no filter can match the topic. It is stale once any route was added.
    pub(crate) fn known_empty(&self, tenant: TenantNumber, topic: &str) -> Option<Arc<Matched>> {
        let part = self.read(self.place(tenant));
        if part.gaps.by_end.is_empty() {
            return None;
        }
        let mut known = Known {
            gaps: &part.gaps,
            at: None,
            looks: 0,
        };
        walk(tenant, topic, &mut known).ok()?;
        self.answered.add(1);
        Some(part.empty.clone())
    }

    /// To be asked before a read begins whose gaps are to be entered.
    pub(crate) fn moment(&self, tenant: TenantNumber) -> Moment {
        Moment(self.read(self.place(tenant)).moment)
    }

    /// Enters the gaps that a read saw which began after `since`.
    pub(crate) fn enter(&self, tenant: TenantNumber, since: Moment, seen: Vec<Gap>) {
        if seen.is_empty() {
            return;
        }
        let at = self.place(tenant);
        let mut part = self.write(at);
        let missed = part.moment.saturating_sub(since.0);
        let Some(missed) = usize::try_from(missed)
            .ok()
            .filter(|n| *n <= part.added.len())
        else {
            return;
        };
        let Part { gaps, added, .. } = &mut *part;
        let before = gaps.bytes;
        for Gap { start, end } in seen {
            gaps.insert(start.into(), end.into());
        }
        for key in added.iter().rev().take(missed) {
            gaps.split(key);
        }
        self.account(before, gaps.bytes);
        drop(part);
        self.make_room(at);
    }

    /// A route is there, and its adding is about to be answered.
    pub(crate) fn added(&self, tenant: TenantNumber, key: &Bytes) {
        let mut part = self.write(self.place(tenant));
        let before = part.gaps.bytes;
        part.gaps.split(key);
        self.account(before, part.gaps.bytes);
        part.moment += 1;
        if key.len() > ADDED_BYTES_MAX {
            part.added.clear();
        } else {
            if part.added.len() == ADDED_MAX {
                part.added.pop_front();
            }
            part.added.push_back(key.clone());
        }
        // Under the lock nobody is handed another one: alone here means alone.
        if Arc::strong_count(&part.empty) > 1 {
            part.empty.set_stale();
            part.empty = Arc::default();
        }
    }

    fn account(&self, before: usize, after: usize) {
        // Wraps around for fewer, which adds up right.
        self.bytes
            .fetch_add(after.wrapping_sub(before), Ordering::Relaxed);
    }

    /// Gives gaps up until the rest is within the bound: of the own part if it has more than its share.
    fn make_room(&self, own: usize) {
        let mut at = own;
        let mut empty_parts = 0;
        while self.bytes.load(Ordering::Relaxed) > self.bytes_max && empty_parts < PARTS {
            let mut part = self.write(at);
            let before = part.gaps.bytes;
            if before > self.bytes_max / PARTS && part.give_up() {
                self.account(before, part.gaps.bytes);
            } else {
                empty_parts += 1;
                at = self.next_part.fetch_add(1, Ordering::Relaxed) % PARTS;
            }
        }
    }

    fn read(&self, at: usize) -> RwLockReadGuard<'_, Part> {
        // Nothing that can panic leaves a part half changed.
        self.parts[at]
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, at: usize) -> RwLockWriteGuard<'_, Part> {
        self.parts[at]
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn place(&self, tenant: TenantNumber) -> usize {
        (self.hasher.hash_one(tenant) >> 32) as usize % PARTS
    }

    #[cfg(test)]
    fn usage(&self) -> (usize, usize) {
        let parts: Vec<_> = (0..PARTS).map(|at| self.read(at)).collect();
        let bytes = self.bytes.load(Ordering::Relaxed);
        let in_parts = parts.iter().map(|part| part.gaps.bytes);
        assert_eq!(bytes, in_parts.sum::<usize>());
        (parts.iter().map(|part| part.gaps.by_end.len()).sum(), bytes)
    }
}

impl Part {
    /// Takes out the gap behind the last one that was taken out; false if there is none.
    fn give_up(&mut self) -> bool {
        let behind = (Bound::Excluded(&self.hand[..]), Bound::Unbounded);
        let mut behind_hand = self.gaps.by_end.range::<[u8], _>(behind);
        let next = behind_hand
            .next()
            .or_else(|| self.gaps.by_end.iter().next());
        let Some((end, _)) = next else {
            return false;
        };
        let end = end.clone();
        self.gaps.remove(&end);
        self.hand = end;
        true
    }
}

/// Gaps that neither overlap nor touch.
#[derive(Default)]
struct Gaps {
    /// End to start.
    by_end: BTreeMap<Box<[u8]>, Box<[u8]>>,
    bytes: usize,
}

impl Gaps {
    /// The gap that holds `key`: its start and end.
    fn around(&self, key: &[u8]) -> Option<(&[u8], &[u8])> {
        let above = (Bound::Excluded(key), Bound::Unbounded);
        let (end, start) = self.by_end.range::<[u8], _>(above).next()?;
        (&start[..] <= key).then_some((start, end))
    }

    /// Adds a gap, and what it reaches becomes part of it.
    fn insert(&mut self, mut start: Box<[u8]>, mut end: Box<[u8]>) {
        if start >= end || start.len() + end.len() > GAP_KEYS_BYTES_MAX {
            return;
        }
        let mut reached = Vec::new();
        let from = (Bound::Included(&start[..]), Bound::Unbounded);
        for (other_end, other_start) in self.by_end.range::<[u8], _>(from) {
            if *other_start > end {
                break;
            }
            reached.push(other_end.clone());
        }
        for other in reached {
            if let Some(other_start) = self.remove(&other) {
                start = start.min(other_start);
                end = end.max(other);
            }
        }
        self.put(start, end);
    }

    /// Takes one key out.
    fn split(&mut self, key: &[u8]) {
        let Some((start, end)) = self.around(key) else {
            return;
        };
        let (start, end): (Box<[u8]>, Box<[u8]>) = (start.into(), end.into());
        self.remove(&end);
        if *start < *key {
            self.put(start, key.into());
        }
        let after: Box<[u8]> = [key, &[0]].concat().into();
        if after < end {
            self.put(after, end);
        }
    }

    fn put(&mut self, start: Box<[u8]>, end: Box<[u8]>) {
        self.bytes += start.len() + end.len() + GAP_OVERHEAD_BYTES;
        self.by_end.insert(end, start);
    }

    fn remove(&mut self, end: &[u8]) -> Option<Box<[u8]>> {
        let start = self.by_end.remove(end)?;
        self.bytes -= start.len() + end.len() + GAP_OVERHEAD_BYTES;
        Some(start)
    }
}

/// A branch is absent, or nothing is known of it; and what is not known ends the walk.
struct Known<'g> {
    gaps: &'g Gaps,
    /// The gap that the last branch lay in.
    at: Option<(&'g [u8], &'g [u8])>,
    looks: usize,
}

/// Only a read can tell.
struct Unknown;

impl Branches for Known<'_> {
    type Error = Unknown;

    fn has(&mut self, prefix: &[u8]) -> Result<bool, Unknown> {
        self.looks += 1;
        if self.looks > LOOKS_MAX {
            return Err(Unknown);
        }
        // Prefixes rise, so that the gap does not begin after this one.
        if self.at.is_none_or(|(_, end)| end <= prefix) {
            self.at = self.gaps.around(prefix);
        }
        // A gap that ends below the prefix ends at a key that begins with it.
        let is_absent = self.at.is_some_and(|(_, end)| !end.starts_with(prefix));
        Ok(!is_absent)
    }

    fn gather(&mut self, _path: &[u8]) -> Result<(), Unknown> {
        Err(Unknown)
    }
}
