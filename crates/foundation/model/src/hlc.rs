//! Hybrid logical clock: stamps that order messages across nodes and stay close to wall time.

/// How far ahead of ours a remote stamp may be, in milliseconds.
pub const MAX_DRIFT_MS: u64 = 500;

const COUNTER_BITS: u32 = 16;

/// A stamp: 48 bits of milliseconds since 1970, 16 bits of counter. Made by whoever proposes a
/// command; what applies commands reads no clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hlc(pub u64);

impl Hlc {
    /// The first stamp of a millisecond.
    pub fn from_millis(millis: u64) -> Self {
        Self(millis << COUNTER_BITS)
    }

    /// Its milliseconds since 1970.
    pub fn millis(self) -> u64 {
        self.0 >> COUNTER_BITS
    }
}

/// A remote stamp was too far ahead of our clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("remote clock is {ahead_ms} ms ahead, {MAX_DRIFT_MS} ms are allowed")]
pub struct DriftError {
    /// By how much.
    pub ahead_ms: u64,
}

/// Makes stamps that never repeat and never go back. Reads no clock: `now_ms` is given.
#[derive(Debug, Default)]
pub struct HybridClock {
    last: Hlc,
}

impl HybridClock {
    /// A clock that has not ticked.
    pub fn new() -> Self {
        Self::default()
    }

    /// The next stamp, at or after `now_ms`.
    pub fn tick(&mut self, now_ms: u64) -> Hlc {
        self.last = Hlc::from_millis(now_ms).max(Hlc(self.last.0 + 1));
        self.last
    }

    /// Goes on after a stamp of an earlier life of this node, however far ahead it is: what is
    /// stored must stay older than what comes now, also if the wall clock went back.
    pub fn resume_after(&mut self, stored: Hlc) {
        self.last = self.last.max(stored);
    }

    /// Takes note of a stamp made elsewhere, so that ours will be later.
    pub fn observe(&mut self, remote: Hlc, now_ms: u64) -> Result<(), DriftError> {
        let ahead_ms = remote.millis().saturating_sub(now_ms);
        if ahead_ms > MAX_DRIFT_MS {
            return Err(DriftError { ahead_ms });
        }
        self.last = self.last.max(remote);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_rise_while_the_wall_clock_stands_or_falls() {
        let mut clock = HybridClock::new();
        let a = clock.tick(1_000);
        let b = clock.tick(1_000);
        let c = clock.tick(900);
        assert!(a < b && b < c);
        assert_eq!(clock.tick(2_000).millis(), 2_000);
    }

    #[test]
    fn a_clock_that_went_back_goes_on_after_what_is_stored() {
        let mut clock = HybridClock::new();
        let stored = Hlc::from_millis(9_000);
        clock.resume_after(stored);
        assert!(clock.tick(1_000) > stored);
    }

    #[test]
    fn a_far_remote_stamp_is_refused_and_a_near_one_moves_us() {
        let mut clock = HybridClock::new();
        let near = Hlc::from_millis(1_400);
        assert_eq!(clock.observe(near, 1_000), Ok(()));
        assert!(clock.tick(1_000) > near);
        let far = Hlc::from_millis(2_000);
        assert_eq!(
            clock.observe(far, 1_000),
            Err(DriftError { ahead_ms: 1_000 })
        );
    }
}
