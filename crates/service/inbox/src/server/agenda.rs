//! What has to be done and when: a core without clock or threads. Everything on it follows from rows,
//! so what does not fit may be left out: a later scan finds it again.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use ahash::RandomState;
use bifrust_model::SessionKey;
use bytes::Bytes;
use hashbrown::{HashMap, HashSet};

use crate::Config;

/// Things that may be on the agenda at once.
const WAITING_MAX: usize = 1_000_000;

/// How soon they are scanned if something did not fit.
const SCAN_SOON_MS: u64 = 30_000;

const FIRST_RETRY_MS: u64 = 500;
const LAST_RETRY_MS: u64 = 60_000;

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Chore {
    /// Look for what has to be done, from a key on.
    Scan { after: Option<Bytes> },
    /// Detach a connection of a node that has ended.
    Lose { session: SessionKey, epoch: u64 },
    /// End a session whose time is over.
    Expire { session: SessionKey, epoch: u64 },
    /// Send a will.
    SendWill { session: SessionKey, epoch: u64 },
    /// Delete a will that was sent.
    ForgetWill { session: SessionKey, epoch: u64 },
    /// Remove routes, then rows, of a session that has ended.
    Sweep {
        session: SessionKey,
        incarnation: u64,
    },
    /// Forget publishers that have nothing unreleased.
    Tidy {
        session: SessionKey,
        incarnation: u64,
    },
    /// Make the routes of a session agree with its subscriptions.
    Route {
        session: SessionKey,
        incarnation: u64,
    },
}

impl Chore {
    /// Whether a later scan finds it again.
    fn is_found_again(&self) -> bool {
        !matches!(self, Self::Scan { .. } | Self::ForgetWill { .. })
    }
}

/// How a chore ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    /// To be tried again, later each time.
    Failed,
}

/// Chores in the order of their times.
#[derive(Debug)]
pub(crate) struct Agenda {
    running_max: usize,
    scan_every_ms: u64,
    heap: BinaryHeap<Reverse<(u64, Chore)>>,
    /// Earliest time of each chore in the heap.
    due: HashMap<Chore, u64, RandomState>,
    running: HashSet<Chore, RandomState>,
    failures: HashMap<Chore, u32, RandomState>,
    is_scan_due_soon: bool,
}

impl Agenda {
    pub(crate) fn new(config: &Config) -> Self {
        let scan_every_ms = u64::try_from(config.scan_every.as_millis()).unwrap_or(u64::MAX);
        Self {
            running_max: config.chores_max.get(),
            scan_every_ms: scan_every_ms.max(1_000),
            heap: BinaryHeap::new(),
            due: HashMap::default(),
            running: HashSet::default(),
            failures: HashMap::default(),
            is_scan_due_soon: false,
        }
    }

    /// How far ahead the agenda looks: past the next scan, which finds what is later.
    fn horizon_ms(&self) -> u64 {
        self.scan_every_ms.saturating_mul(2)
    }

    /// Notes a chore for a time.
    pub(crate) fn add(&mut self, at_ms: u64, chore: Chore, now_ms: u64) {
        if chore.is_found_again() {
            if self.is_sent(&chore) {
                return;
            }
            if at_ms > now_ms.saturating_add(self.horizon_ms()) {
                return;
            }
            if self.heap.len() >= WAITING_MAX {
                self.scan_soon(now_ms);
                return;
            }
        }
        let earliest = self.due.get(&chore).copied();
        if earliest.is_none_or(|earliest| at_ms < earliest) {
            self.due.insert(chore.clone(), at_ms);
            self.heap.push(Reverse((at_ms, chore)));
        }
    }

    /// The next chore whose time has come, unless enough are under way.
    pub(crate) fn next(&mut self, now_ms: u64) -> Option<Chore> {
        if self.running.len() >= self.running_max {
            return None;
        }
        while let Some(Reverse((at_ms, _))) = self.heap.peek() {
            if *at_ms > now_ms {
                return None;
            }
            let Reverse((at_ms, chore)) = self.heap.pop()?;
            let is_current = self.due.get(&chore) == Some(&at_ms);
            if !is_current {
                continue; // It was noted for an earlier time too.
            }
            self.due.remove(&chore);
            if self.running.insert(chore.clone()) {
                return Some(chore);
            }
        }
        None
    }

    /// When to look again.
    pub(crate) fn next_at(&self) -> Option<u64> {
        if self.running.len() >= self.running_max {
            return None; // The end of any of them wakes.
        }
        self.heap.peek().map(|Reverse((at_ms, _))| *at_ms)
    }

    /// A chore has ended.
    pub(crate) fn finish(&mut self, chore: Chore, outcome: Outcome, now_ms: u64) {
        self.running.remove(&chore);
        if outcome == Outcome::Done {
            self.failures.remove(&chore);
            return;
        }
        let failures = self.failures.entry(chore.clone()).or_insert(0);
        let delay_ms = FIRST_RETRY_MS
            .saturating_mul(1 << (*failures).min(20))
            .min(LAST_RETRY_MS);
        *failures += 1;
        self.add(now_ms + delay_ms, chore, now_ms);
    }

    /// A scan has come to its end: the next one.
    pub(crate) fn plan_scan(&mut self, now_ms: u64) {
        self.is_scan_due_soon = false;
        let at_ms = now_ms.saturating_add(self.scan_every_ms);
        self.add(at_ms, Chore::Scan { after: None }, now_ms);
    }

    /// A will that was sent and only has to be deleted is not sent again.
    fn is_sent(&self, chore: &Chore) -> bool {
        let Chore::SendWill { session, epoch } = chore else {
            return false;
        };
        let forget = Chore::ForgetWill {
            session: session.clone(),
            epoch: *epoch,
        };
        self.due.contains_key(&forget) || self.running.contains(&forget)
    }

    fn scan_soon(&mut self, now_ms: u64) {
        if !self.is_scan_due_soon {
            self.is_scan_due_soon = true;
            self.add(now_ms + SCAN_SOON_MS, Chore::Scan { after: None }, now_ms);
        }
    }
}

#[cfg(test)]
mod tests {
    use bifrust_model::{ClientId, TenantNumber};

    use super::*;

    fn expire(epoch: u64) -> Chore {
        let session = SessionKey {
            tenant: TenantNumber(1),
            client: ClientId::new("c").unwrap(),
        };
        Chore::Expire { session, epoch }
    }

    #[test]
    fn chores_come_at_their_time_once() {
        let mut agenda = Agenda::new(&Config::default());
        agenda.add(20, expire(1), 0);
        agenda.add(10, expire(2), 0);
        agenda.add(30, expire(2), 0);
        agenda.add(15, expire(1), 0);
        assert_eq!(agenda.next(9), None);
        assert_eq!(agenda.next_at(), Some(10));
        assert_eq!(agenda.next(10), Some(expire(2)));
        assert_eq!(agenda.next(16), Some(expire(1)));
        assert_eq!(agenda.next(99), None);
    }

    #[test]
    fn a_chore_under_way_is_not_begun_again() {
        let mut agenda = Agenda::new(&Config::default());
        agenda.add(1, expire(1), 0);
        assert_eq!(agenda.next(1), Some(expire(1)));
        agenda.add(2, expire(1), 1);
        assert_eq!(agenda.next(2), None);
        agenda.finish(expire(1), Outcome::Done, 3);
        agenda.add(4, expire(1), 3);
        assert_eq!(agenda.next(4), Some(expire(1)));
    }

    #[test]
    fn a_failed_chore_comes_again_later_each_time() {
        let mut agenda = Agenda::new(&Config::default());
        agenda.add(0, expire(1), 0);
        let mut now_ms = 0;
        let mut last_delay = 0;
        for _ in 0..40 {
            assert_eq!(agenda.next(now_ms), Some(expire(1)));
            agenda.finish(expire(1), Outcome::Failed, now_ms);
            let delay = agenda.next_at().unwrap() - now_ms;
            assert!(delay >= last_delay && delay <= LAST_RETRY_MS);
            (last_delay, now_ms) = (delay, now_ms + delay);
        }
        assert_eq!(last_delay, LAST_RETRY_MS);
    }

    #[test]
    fn no_more_run_than_may() {
        let mut agenda = Agenda::new(&Config::default());
        let running_max = agenda.running_max;
        for epoch in 0..=running_max as u64 {
            agenda.add(1, expire(epoch), 0);
        }
        let begun: Vec<_> = std::iter::from_fn(|| agenda.next(1)).collect();
        assert_eq!(begun.len(), running_max);
        assert_eq!(agenda.next_at(), None);
        agenda.finish(begun[0].clone(), Outcome::Done, 1);
        assert!(agenda.next(1).is_some());
    }

    #[test]
    fn what_is_far_ahead_is_left_to_a_later_scan() {
        let mut agenda = Agenda::new(&Config::default());
        agenda.add(agenda.horizon_ms() + 1, expire(1), 0);
        assert_eq!(agenda.next_at(), None);
        agenda.plan_scan(0);
        assert_eq!(agenda.next_at(), Some(agenda.scan_every_ms));
    }
}
