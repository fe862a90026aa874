//! How fast a connection may go: publishes, bytes read, bytes written, each per second.

use bifrust_model::Settings;

/// What was used since a moment, against a number per second. A burst of one second's worth is
/// free; what is over it is waited off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Budget {
    since_ms: u64,
    used: u64,
}

impl Budget {
    /// Uses `n`. The moment from which more may be used, if that is not now.
    fn spend(&mut self, n: u64, per_second: u64, now_ms: u64) -> Option<u64> {
        if per_second == 0 {
            return None;
        }
        if now_ms >= self.end_ms(per_second) && now_ms >= self.since_ms + 1000 {
            *self = Self {
                since_ms: now_ms,
                used: 0,
            };
        }
        self.used = self.used.saturating_add(n);
        (self.used > per_second).then(|| self.end_ms(per_second))
    }

    /// When what was used has been earned.
    fn end_ms(&self, per_second: u64) -> u64 {
        let cost_ms = self.used.saturating_mul(1000) / per_second;
        self.since_ms.saturating_add(cost_ms)
    }
}

/// The limits of one connection; 0 is none.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rate {
    publishes_per_second: u64,
    bytes_in_per_second: u64,
    bytes_out_per_second: u64,
    publishes: Budget,
    bytes_in: Budget,
    bytes_out: Budget,
    /// Nothing is written before this moment.
    pub(crate) silent_until_ms: u64,
}

impl Rate {
    /// The tenant's limits; `None` if it sets none.
    pub(crate) fn of(settings: &Settings) -> Option<Self> {
        let rate = Self {
            publishes_per_second: settings.msg_pub_per_sec.into(),
            bytes_in_per_second: settings.in_bound_band_width,
            bytes_out_per_second: settings.out_bound_band_width,
            ..Self::default()
        };
        let all = rate.publishes_per_second | rate.bytes_in_per_second | rate.bytes_out_per_second;
        (all != 0).then_some(rate)
    }

    /// A publish came; until when nothing is to be read.
    pub(crate) fn published(&mut self, now_ms: u64) -> Option<u64> {
        self.publishes.spend(1, self.publishes_per_second, now_ms)
    }

    /// Bytes came; until when nothing is to be read.
    pub(crate) fn read(&mut self, n: usize, now_ms: u64) -> Option<u64> {
        self.bytes_in
            .spend(n as u64, self.bytes_in_per_second, now_ms)
    }

    /// Bytes went; until when nothing is to be written.
    pub(crate) fn wrote(&mut self, n: usize, now_ms: u64) -> Option<u64> {
        let until = self
            .bytes_out
            .spend(n as u64, self.bytes_out_per_second, now_ms)?;
        self.silent_until_ms = until;
        Some(until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holds_what_it_may_and_the_rest_waits() {
        let mut rate = Rate {
            publishes_per_second: 3,
            ..Rate::default()
        };
        assert_eq!(rate.published(5_000), None);
        assert_eq!(rate.published(5_010), None);
        assert_eq!(rate.published(5_020), None, "as many as allowed");
        assert_eq!(rate.published(5_030), Some(6_333), "one more");
        assert_eq!(rate.published(6_333), None, "a new second");
    }

    #[test]
    fn a_large_read_is_waited_off_in_full() {
        let mut rate = Rate {
            bytes_in_per_second: 1_000,
            ..Rate::default()
        };
        assert_eq!(rate.read(4_000, 10_000), Some(14_000));
        assert_eq!(rate.read(500, 14_000), None);
        assert_eq!(rate.wrote(1 << 30, 14_000), None, "no limit, no wait");
    }
}
