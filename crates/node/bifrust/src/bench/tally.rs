//! What arrived: how many, how late, in which order, how often.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use hdrhistogram::Histogram;

/// Missing messages remembered per stream; beyond it a late one counts as a duplicate.
const MISSING_MAX: usize = 100_000;

/// Counts what the subscribers of one phase got.
#[derive(Debug)]
pub(super) struct Tally {
    streams: HashMap<(u32, u32), Stream>,
    is_unordered: bool,
    latency_us: Histogram<u64>,
    /// Messages received, duplicates included.
    pub(super) received: u64,
    /// Messages received more than once.
    pub(super) duplicates: u64,
    /// Messages received after a later one of the same publisher.
    pub(super) reordered: u64,
}

/// What one subscriber got of one publisher.
#[derive(Debug, Default)]
struct Stream {
    next: u64,
    missing: HashSet<u64>,
}

/// Latencies in milliseconds.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub(super) struct Latency {
    pub(super) p50_ms: f64,
    pub(super) p90_ms: f64,
    pub(super) p99_ms: f64,
    pub(super) p999_ms: f64,
    pub(super) max_ms: f64,
}

impl Tally {
    /// Nothing has arrived.
    pub(super) fn new() -> Self {
        let latency_us = Histogram::new_with_bounds(1, 3_600_000_000, 3)
            .expect("the bounds are constants that the histogram accepts");
        Self {
            streams: HashMap::new(),
            is_unordered: false,
            latency_us,
            received: 0,
            duplicates: 0,
            reordered: 0,
        }
    }

    /// The same where no order is to be kept.
    pub(super) fn unordered() -> Self {
        Self {
            is_unordered: true,
            ..Self::new()
        }
    }

    /// `subscriber` got message `sequence` of `publisher`.
    pub(super) fn count(&mut self, subscriber: u32, publisher: u32, sequence: u64, age: Duration) {
        self.received += 1;
        self.latency_us
            .saturating_record(u64::try_from(age.as_micros()).unwrap_or(u64::MAX));
        let stream = self.streams.entry((subscriber, publisher)).or_default();
        if sequence >= stream.next {
            let gap = stream.next..sequence;
            let room = MISSING_MAX.saturating_sub(stream.missing.len());
            stream.missing.extend(gap.take(room));
            stream.next = sequence + 1;
        } else if stream.missing.remove(&sequence) {
            self.reordered += u64::from(!self.is_unordered);
        } else {
            self.duplicates += 1;
        }
    }

    /// Distinct messages received.
    pub(super) fn distinct(&self) -> u64 {
        self.received - self.duplicates
    }

    /// Forgets latencies, at the end of the warm-up.
    pub(super) fn forget_latencies(&mut self) {
        self.latency_us.clear();
    }

    /// The latencies counted so far.
    pub(super) fn latency(&self) -> Latency {
        let at = |quantile| self.latency_us.value_at_quantile(quantile) as f64 / 1000.0;
        Latency {
            p50_ms: at(0.5),
            p90_ms: at(0.9),
            p99_ms: at(0.99),
            p999_ms: at(0.999),
            max_ms: self.latency_us.max() as f64 / 1000.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(sequences: &[u64]) -> Tally {
        let mut tally = Tally::new();
        for sequence in sequences {
            tally.count(0, 0, *sequence, Duration::ZERO);
        }
        tally
    }

    #[test]
    fn a_message_twice_is_a_duplicate() {
        let tally = tally(&[0, 1, 1, 0, 2]);
        assert_eq!(
            (tally.distinct(), tally.duplicates, tally.reordered),
            (3, 2, 0)
        );
    }

    #[test]
    fn a_late_message_is_reordered_once() {
        let tally = tally(&[0, 2, 1, 1, 3]);
        assert_eq!(
            (tally.distinct(), tally.duplicates, tally.reordered),
            (4, 1, 1)
        );
    }

    #[test]
    fn streams_are_apart() {
        let mut tally = Tally::new();
        tally.count(0, 0, 0, Duration::ZERO);
        tally.count(1, 0, 0, Duration::ZERO);
        tally.count(0, 1, 0, Duration::ZERO);
        assert_eq!(tally.duplicates, 0);
    }
}
