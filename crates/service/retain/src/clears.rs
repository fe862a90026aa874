//! Clears that are remembered: in order, until nothing older can come any more.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bifrust_model::Hlc;

use crate::schema::command::Stamped;

/// For how long. An older publish would have to wait that long in a queue to be taken for a newer one.
const REMEMBERED_MS: u64 = 60_000;

/// Clears that are remembered for their full time. If there are more, the oldest go sooner.
const REMEMBERED_MAX: usize = 65_536;

/// Clears that are listed at all; rows of those that do not fit wait for the next start.
const LISTED_MAX: usize = 2 * REMEMBERED_MAX;

/// Clears that are forgotten at a time.
const FORGOTTEN_MAX: usize = 256;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Clears(Mutex<VecDeque<Stamped>>);

impl Clears {
    /// Notes a clear.
    pub(crate) fn add(&self, clear: Stamped) {
        let mut listed = self.lock();
        if listed.len() == LISTED_MAX {
            listed.pop_front();
        }
        listed.push_back(clear);
    }

    /// Takes some that need not be remembered at `now`.
    pub(crate) fn take_due(&self, now: Hlc) -> Vec<Stamped> {
        let mut listed = self.lock();
        let excess = listed.len().saturating_sub(REMEMBERED_MAX);
        let is_due = |clear: &Stamped| clear.stamp.millis() + REMEMBERED_MS < now.millis();
        // Nearly in the order of their stamps: one that is early waits behind its neighbours.
        let due = listed
            .iter()
            .enumerate()
            .take(FORGOTTEN_MAX)
            .take_while(|(at, clear)| *at < excess || is_due(clear))
            .count();
        listed.drain(..due).collect()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Stamped>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn clear(ms: u64) -> Stamped {
        Stamped {
            key: Bytes::from_static(b"k"),
            stamp: Hlc::from_millis(ms),
        }
    }

    #[test]
    fn a_clear_is_due_after_its_time() {
        let clears = Clears::default();
        clears.add(clear(1_000));
        clears.add(clear(2_000));
        assert_eq!(clears.take_due(Hlc::from_millis(61_000)), []);
        assert_eq!(clears.take_due(Hlc::from_millis(61_001)), [clear(1_000)]);
        assert_eq!(clears.take_due(Hlc::from_millis(90_000)), [clear(2_000)]);
        assert_eq!(clears.take_due(Hlc::from_millis(90_000)), []);
    }

    #[test]
    fn too_many_clears_are_due_sooner_and_the_list_is_bounded() {
        let clears = Clears::default();
        for _ in 0..REMEMBERED_MAX + 3 {
            clears.add(clear(1));
        }
        assert_eq!(clears.take_due(Hlc::from_millis(1)).len(), 3);
        for _ in 0..LISTED_MAX {
            clears.add(clear(1));
        }
        assert_eq!(clears.lock().len(), LISTED_MAX);
        assert_eq!(clears.take_due(Hlc::from_millis(1)).len(), FORGOTTEN_MAX);
    }
}
