//! Meters: numbers that the product shows about itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// What a meter is called and what it counts.
#[derive(Clone, Debug)]
pub struct Meter {
    /// Prometheus style, without a suffix: `bifrust_connections`.
    pub name: &'static str,
    /// One sentence.
    pub help: &'static str,
    /// Label names and values.
    pub labels: Vec<(&'static str, String)>,
}

impl Meter {
    /// A meter without labels.
    pub fn new(name: &'static str, help: &'static str) -> Self {
        Self {
            name,
            help,
            labels: Vec::new(),
        }
    }

    /// The same meter with one more label.
    pub fn label(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.labels.push((name, value.into()));
        self
    }
}

/// A number that only rises. A handle: clones count together.
#[derive(Clone, Debug, Default)]
pub struct Counter(Arc<AtomicU64>);

impl Counter {
    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// What it has counted.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that rises and falls. A handle: clones count together.
#[derive(Clone, Debug, Default)]
pub struct Gauge(Arc<AtomicI64>);

impl Gauge {
    /// Adds `n`, which may be negative.
    pub fn add(&self, n: i64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Sets it.
    pub fn set(&self, value: i64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// What it stands at.
    pub fn value(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Upper bounds of a histogram's buckets; one more bucket takes the rest.
pub const BUCKET_BOUNDS: [u64; 12] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 5_000, 30_000];

/// A distribution of whole numbers over [`BUCKET_BOUNDS`]. A handle: clones count together.
#[derive(Clone, Debug, Default)]
pub struct Histogram(Arc<Buckets>);

#[derive(Debug, Default)]
struct Buckets {
    counts: [AtomicU64; BUCKET_BOUNDS.len() + 1],
    sum: AtomicU64,
}

impl Histogram {
    /// Counts one `value`.
    pub fn record(&self, value: u64) {
        let bucket = BUCKET_BOUNDS.partition_point(|bound| *bound < value);
        self.0.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.0.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// Counts per bucket, not cumulative, and the sum of all values.
    pub fn values(&self) -> ([u64; BUCKET_BOUNDS.len() + 1], u64) {
        let counts = std::array::from_fn(|i| self.0.counts[i].load(Ordering::Relaxed));
        (counts, self.0.sum.load(Ordering::Relaxed))
    }
}

/// Where meters are registered. Asking twice for one meter gives the same handle.
pub trait Meters: Send + Sync {
    /// A counter.
    fn counter(&self, meter: Meter) -> Counter;
    /// A gauge.
    fn gauge(&self, meter: Meter) -> Gauge;
    /// A histogram.
    fn histogram(&self, meter: Meter) -> Histogram;
}

/// Meters that nobody reads.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoMeters;

impl Meters for NoMeters {
    fn counter(&self, _meter: Meter) -> Counter {
        Counter::default()
    }

    fn gauge(&self, _meter: Meter) -> Gauge {
        Gauge::default()
    }

    fn histogram(&self, _meter: Meter) -> Histogram {
        Histogram::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_fall_into_the_bucket_whose_bound_they_reach() {
        let histogram = Histogram::default();
        for value in [0, 1, 2, 3, 30_000, 30_001] {
            histogram.record(value);
        }
        let (counts, sum) = histogram.values();
        assert_eq!(counts, [2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1]);
        assert_eq!(sum, 60_007);
    }
}
