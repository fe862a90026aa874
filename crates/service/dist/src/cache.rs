//! Matches that are kept, and exactly those: a route change makes stale what it touches, nothing else.
//!
//! ```text
//! get ----------> map (tenant, topic) -> Matched          lock-free, no allocation
//! begin, finish -> index, ordered by topic levels: Reading | Kept       under a lock per part
//! invalidate ---> index: the topics that the filter matches, by skip-scan
//! ```
//!
//! Invariants, each of them held under the lock of the topic's part of the index:
//! - The map holds exactly the matches that the index calls kept.
//! - A match that is not kept any more is stale. So whoever holds one that is not stale may use it.
//! - A topic stands in the index as being read before its read starts. A route change meanwhile marks
//!   it, and a marked read is not kept.

use std::hash::Hash;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ahash::RandomState;
use bifrust_model::{TenantNumber, TopicFilter};
use bifrust_plugin_api::{Counter, Gauge, Meter, Meters};
use bytestring::ByteString;
use hashbrown::Equivalent;

use crate::{Config, MatchError, Matched, Then};

mod index;

#[cfg(test)]
mod tests;

use index::{Begun, Finished, Index};

/// What waits for a match.
pub(crate) type Waiter = Then<Result<Arc<Matched>, MatchError>>;

/// Parts of the index. A tenant lives in one, so that what it floods it gives up itself.
const PARTS: usize = 16;

/// A cached topic. Its own copy: a slice of a packet would keep the packet's buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) tenant: TenantNumber,
    pub(crate) topic: ByteString,
}

/// A topic that is looked up.
#[derive(PartialEq, Eq, Hash)]
struct KeyRef<'a> {
    tenant: TenantNumber,
    topic: &'a str,
}

impl Hash for Key {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        let (tenant, topic) = (self.tenant, &*self.topic);
        KeyRef { tenant, topic }.hash(state);
    }
}

impl Equivalent<Key> for KeyRef<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        self.tenant == key.tenant && self.topic == &*key.topic
    }
}

/// What the caller of [`Cache::begin`] has to do.
pub(crate) enum Next {
    /// Read the topic's routes and bring them to [`Cache::finish`].
    Read,
    /// Nothing: the match was there, or is being read.
    Nothing,
}

/// See the module.
pub(crate) struct Cache {
    map: papaya::HashMap<Key, Arc<Matched>, RandomState>,
    parts: Vec<Mutex<Index>>,
    hasher: RandomState,
    /// Over all parts.
    entries: AtomicUsize,
    bytes: AtomicUsize,
    entries_max: NonZeroUsize,
    bytes_max: NonZeroUsize,
    /// The part to take from when the own one has nothing to give.
    next_part: AtomicUsize,
    hits: Counter,
    misses: Counter,
    size: Gauge,
}

impl Cache {
    pub(crate) fn new(config: &Config, meters: &dyn Meters) -> Self {
        let hasher = RandomState::new();
        Self {
            map: papaya::HashMap::with_hasher(hasher.clone()),
            parts: (0..PARTS).map(|_| Mutex::default()).collect(),
            hasher,
            entries: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            entries_max: config.cache_entries_max,
            bytes_max: config.cache_bytes_max,
            next_part: AtomicUsize::new(0),
            hits: meters.counter(Meter::new(
                "bifrust_dist_match_cache_hits",
                "Topics whose match was in the node's cache.",
            )),
            misses: meters.counter(Meter::new(
                "bifrust_dist_match_cache_misses",
                "Topics whose routes had to be read.",
            )),
            size: meters.gauge(Meter::new(
                "bifrust_dist_match_cache_entries",
                "Topics in the node's match cache.",
            )),
        }
    }

    /// The match if it is kept.
    pub(crate) fn get(&self, tenant: TenantNumber, topic: &str) -> Option<Arc<Matched>> {
        let map = self.map.pin();
        let matched = map.get(&KeyRef { tenant, topic })?;
        matched.note_use();
        self.hits.add(1);
        Some(Arc::clone(matched))
    }

    /// Answers from the cache, or lets `done` wait for the one read of this topic.
    pub(crate) fn begin(&self, tenant: TenantNumber, topic: &str, done: Waiter) -> Next {
        if let Some(matched) = self.get(tenant, topic) {
            done(Ok(matched));
            return Next::Nothing;
        }
        let begun = self.part(tenant).begin(tenant, topic, done);
        match begun {
            Begun::Kept(done, matched) => done(Ok(matched)),
            Begun::Full(done) => done(Err(MatchError::Busy)),
            Begun::Joined => {}
            Begun::Read => {
                self.misses.add(1);
                return Next::Read;
            }
        }
        Next::Nothing
    }

    /// Takes what a read found, and answers those who wait for it. `Read` again if somebody came after
    /// a route had changed under it.
    pub(crate) fn finish(
        &self,
        tenant: TenantNumber,
        topic: &str,
        result: Result<Matched, MatchError>,
    ) -> Next {
        let result = result.map(Arc::new);
        let mut part = self.part(tenant);
        let finished = part.finish(tenant, topic, &result, self.bytes_max.get());
        let (waiters, next) = match finished {
            Finished::Kept {
                key,
                matched,
                bytes,
                waiters,
            } => {
                self.map.pin().insert(key, matched);
                self.entries.fetch_add(1, Ordering::Relaxed);
                self.bytes.fetch_add(bytes, Ordering::Relaxed);
                self.size.add(1);
                (waiters, Next::Nothing)
            }
            Finished::NotKept(waiters) => (waiters, Next::Nothing),
            Finished::ReadAgain(waiters) => (waiters, Next::Read),
        };
        drop(part);
        self.make_room(tenant);
        for waiter in waiters {
            waiter(result.clone());
        }
        next
    }

    /// Makes every match stale that a route of `filter` belongs into.
    pub(crate) fn invalidate(&self, tenant: TenantNumber, filter: &TopicFilter) {
        let mut part = self.part(tenant);
        part.invalidate(tenant, filter, |removed| self.forget(&removed));
    }

    /// A match left the index.
    fn forget(&self, removed: &index::Kept) {
        self.map.pin().remove(&removed.key);
        removed.matched.set_stale();
        self.entries.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(removed.bytes, Ordering::Relaxed);
        self.size.add(-1);
    }

    /// Gives matches up until the rest is within bounds: of the tenant's part first.
    fn make_room(&self, tenant: TenantNumber) {
        let mut at = self.place(tenant);
        let mut empty_parts = 0;
        while self.is_over() && empty_parts < PARTS {
            let mut part = lock(&self.parts[at]);
            match part.give_up() {
                // Under the lock: the topic may come again at once.
                Some(removed) => self.forget(&removed),
                None => {
                    empty_parts += 1;
                    at = self.next_part.fetch_add(1, Ordering::Relaxed) % PARTS;
                }
            }
        }
    }

    fn is_over(&self) -> bool {
        self.entries.load(Ordering::Relaxed) > self.entries_max.get()
            || self.bytes.load(Ordering::Relaxed) > self.bytes_max.get()
    }

    fn part(&self, tenant: TenantNumber) -> MutexGuard<'_, Index> {
        lock(&self.parts[self.place(tenant)])
    }

    fn place(&self, tenant: TenantNumber) -> usize {
        (self.hasher.hash_one(tenant) >> 32) as usize % PARTS
    }

    #[cfg(test)]
    fn usage(&self) -> (usize, usize, usize) {
        let indexed = self.parts.iter().map(|part| lock(part).len());
        let entries = self.entries.load(Ordering::Relaxed);
        assert_eq!(self.map.len(), entries);
        (
            entries,
            self.bytes.load(Ordering::Relaxed),
            indexed.sum::<usize>(),
        )
    }
}

fn lock(part: &Mutex<Index>) -> MutexGuard<'_, Index> {
    // Nothing that can panic leaves the index half changed.
    part.lock().unwrap_or_else(PoisonError::into_inner)
}
