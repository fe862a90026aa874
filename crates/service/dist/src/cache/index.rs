//! One part of the index: topics that are kept or being read, in level order.

use std::collections::BTreeMap;
use std::mem;
use std::ops::Bound;
use std::sync::Arc;

use bifrust_model::levels::{self, FilterLevels, Step};
use bifrust_model::{TenantNumber, TopicFilter};
use bytestring::ByteString;

use super::{Key, Waiter};
use crate::{MatchError, Matched};

/// Publishes that may wait for the match of one topic; more are told that the service is busy.
const WAITERS_MAX: usize = 65_536;

/// Kept topics that are looked at for one that was not used lately.
const LOOKS_MAX: usize = 16;

/// What a kept topic costs beside its match and its three names.
const ENTRY_OVERHEAD_BYTES: usize = 256;

/// Keys: tenant, then topic levels.
#[derive(Default)]
pub(super) struct Index {
    topics: BTreeMap<Box<[u8]>, Slot>,
    /// Where the search for something to give up goes on.
    hand: Box<[u8]>,
}

enum Slot {
    Reading(Reading),
    Kept(Kept),
}

#[derive(Default)]
struct Reading {
    /// Came before a route changed under the read: what it finds is right for them.
    waiters: Vec<Waiter>,
    /// Came after: they need a later read.
    later: Vec<Waiter>,
    /// A route has changed since the read started.
    is_marked: bool,
}

/// A match that is kept.
pub(super) struct Kept {
    pub(super) key: Key,
    pub(super) matched: Arc<Matched>,
    pub(super) bytes: usize,
}

/// What became of a request.
pub(super) enum Begun {
    /// The match came in the meantime.
    Kept(Waiter, Arc<Matched>),
    /// Too many wait already.
    Full(Waiter),
    /// Waits for a read that runs.
    Joined,
    /// The caller has to read.
    Read,
}

/// What became of a read.
pub(super) enum Finished {
    Kept {
        key: Key,
        matched: Arc<Matched>,
        bytes: usize,
        waiters: Vec<Waiter>,
    },
    NotKept(Vec<Waiter>),
    /// Some came too late for it.
    ReadAgain(Vec<Waiter>),
}

impl Index {
    pub(super) fn begin(&mut self, tenant: TenantNumber, topic: &str, done: Waiter) -> Begun {
        match self.topics.get_mut(&place(tenant, topic)[..]) {
            Some(Slot::Kept(kept)) => Begun::Kept(done, kept.matched.clone()),
            Some(Slot::Reading(reading)) => reading.join(done),
            None => {
                let reading = Reading {
                    waiters: vec![done],
                    ..Reading::default()
                };
                let slot = Slot::Reading(reading);
                self.topics.insert(place(tenant, topic).into(), slot);
                Begun::Read
            }
        }
    }

    pub(super) fn finish(
        &mut self,
        tenant: TenantNumber,
        topic: &str,
        result: &Result<Arc<Matched>, MatchError>,
        bytes_max: usize,
    ) -> Finished {
        let place = place(tenant, topic);
        let Some(Slot::Reading(reading)) = self.topics.get_mut(&place[..]) else {
            return Finished::NotKept(Vec::new());
        };
        let mut waiters = mem::take(&mut reading.waiters);
        let later = mem::take(&mut reading.later);
        let Ok(matched) = result else {
            waiters.extend(later);
            self.topics.remove(&place[..]);
            return Finished::NotKept(waiters);
        };
        if reading.is_marked {
            matched.set_stale();
            if later.is_empty() {
                self.topics.remove(&place[..]);
                return Finished::NotKept(waiters);
            }
            reading.waiters = later;
            reading.is_marked = false;
            return Finished::ReadAgain(waiters);
        }
        let bytes = matched.bytes() + 3 * topic.len() + ENTRY_OVERHEAD_BYTES;
        if bytes > bytes_max {
            matched.set_stale();
            self.topics.remove(&place[..]);
            return Finished::NotKept(waiters);
        }
        let key = Key {
            tenant,
            topic: ByteString::from(topic.to_owned()),
        };
        let kept = Kept {
            key: key.clone(),
            matched: matched.clone(),
            bytes,
        };
        self.topics.insert(place.into(), Slot::Kept(kept));
        Finished::Kept {
            key,
            matched: matched.clone(),
            bytes,
            waiters,
        }
    }

    /// Takes out what is kept of the topics that the filter matches, and marks what is being read.
    pub(super) fn invalidate(
        &mut self,
        tenant: TenantNumber,
        filter: &TopicFilter,
        mut forget: impl FnMut(Kept),
    ) {
        if !filter.has_wildcard() {
            self.invalidate_at(&place(tenant, filter.plain()), &mut forget);
            return;
        }
        let levels = FilterLevels::new(filter.plain());
        let tenant = tenant.key();
        let mut from = Vec::new();
        levels.first(&mut from);
        let mut at = [&tenant[..], &from].concat();
        let mut is_past = false;
        loop {
            let start = if is_past {
                Bound::Excluded(&at[..])
            } else {
                Bound::Included(&at[..])
            };
            let Some((place, _)) = self
                .topics
                .range::<[u8], _>((start, Bound::Unbounded))
                .next()
            else {
                return;
            };
            let Some(topic) = place.strip_prefix(&tenant) else {
                return;
            };
            match levels.step(topic, &mut from) {
                Step::Matches => {
                    at.clear();
                    at.extend_from_slice(place);
                    is_past = true;
                    self.invalidate_at(&at, &mut forget);
                }
                Step::Skip => {
                    at.truncate(tenant.len());
                    at.extend_from_slice(&from);
                    is_past = false;
                }
                Step::End => return,
            }
        }
    }

    fn invalidate_at(&mut self, place: &[u8], forget: &mut impl FnMut(Kept)) {
        match self.topics.get_mut(place) {
            Some(Slot::Reading(reading)) => reading.is_marked = true,
            Some(Slot::Kept(_)) => {
                if let Some(Slot::Kept(kept)) = self.topics.remove(place) {
                    forget(kept);
                }
            }
            None => {}
        }
    }

    /// Takes out a match that was not used since the last look at it, or else the last one looked at.
    pub(super) fn give_up(&mut self) -> Option<Kept> {
        let mut looks = 0;
        let mut last = None;
        let after = (Bound::Excluded(&self.hand[..]), Bound::Unbounded);
        let behind_hand = self.topics.range::<[u8], _>(after);
        for (place, slot) in behind_hand.chain(self.topics.iter()) {
            let Slot::Kept(kept) = slot else {
                continue;
            };
            looks += 1;
            last = Some(place);
            if !kept.matched.take_use() || looks == LOOKS_MAX {
                break;
            }
        }
        let place = last?.clone();
        let slot = self.topics.remove(&place);
        self.hand = place;
        match slot {
            Some(Slot::Kept(kept)) => Some(kept),
            _ => None,
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.topics.len()
    }
}

impl Reading {
    fn join(&mut self, done: Waiter) -> Begun {
        if self.waiters.len() + self.later.len() >= WAITERS_MAX {
            return Begun::Full(done);
        }
        if self.is_marked {
            self.later.push(done);
        } else {
            self.waiters.push(done);
        }
        Begun::Joined
    }
}

fn place(tenant: TenantNumber, topic: &str) -> Vec<u8> {
    let mut place = Vec::with_capacity(topic.len() + 16);
    place.extend_from_slice(&tenant.key());
    levels::push_name(&mut place, topic);
    place
}
