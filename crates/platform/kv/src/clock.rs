//! The node's clock: the only place where proposers get time and stamps from.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use bifrust_model::{Hlc, HybridClock};

/// Wall time and stamps; clones share one hybrid clock.
#[derive(Clone, Debug, Default)]
pub struct Clock(Arc<Mutex<HybridClock>>);

impl Clock {
    /// A clock that has given no stamp yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Milliseconds since 1970 by the wall clock, which may go back.
    pub fn now_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        since.map_or(0, |since| {
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        })
    }

    /// The next stamp, later than every one before it.
    pub fn stamp(&self) -> Hlc {
        let now_ms = self.now_ms();
        self.lock().tick(now_ms)
    }

    /// Makes every further stamp later than one that an earlier life of this node stored.
    pub fn resume_after(&self, stored: Hlc) {
        self.lock().resume_after(stored);
    }

    fn lock(&self) -> MutexGuard<'_, HybridClock> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_share_one_order_of_stamps() {
        let clock = Clock::new();
        let other = clock.clone();
        let stamps = [clock.stamp(), other.stamp(), clock.stamp(), other.stamp()];
        assert!(stamps.is_sorted_by(|a, b| a < b));
        assert!(stamps[0].millis().abs_diff(clock.now_ms()) < 60_000);
    }
}
