//! What the simulations of both leases share: virtual time, wrong clocks, a lossy network and an idea of
//! a replicated log that is as nasty as a real one may be.

pub(crate) mod log;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

/// True time since the world began.
pub(crate) type True = Duration;

pub(crate) const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// How many worlds a test looks at: `BIFRUST_SEEDS`, or as many as take a few seconds.
pub(crate) fn seeds() -> u64 {
    let asked = std::env::var("BIFRUST_SEEDS").ok();
    asked.and_then(|seeds| seeds.parse().ok()).unwrap_or(100)
}

/// A clock whose rate changes within the bound.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    shown: Instant,
    since: True,
    rate: f64,
}

impl Clock {
    pub(crate) fn new(base: Instant, rng: &mut fastrand::Rng, drift_percent: u8) -> Self {
        let shown = base + ms(rng.u64(0..100_000));
        let mut clock = Self {
            shown,
            since: True::ZERO,
            rate: 1.0,
        };
        clock.bend(True::ZERO, rng, drift_percent);
        clock
    }

    pub(crate) fn now(&self, now: True) -> Instant {
        self.shown + (now - self.since).mul_f64(self.rate)
    }

    /// Goes on at another rate; often at the very bound.
    pub(crate) fn bend(&mut self, now: True, rng: &mut fastrand::Rng, drift_percent: u8) {
        let drift = f64::from(drift_percent) / 100.0;
        self.shown = self.now(now);
        self.since = now;
        self.rate = match rng.u8(0..4) {
            0 => 1.0 - drift,
            1 => 1.0 + drift,
            _ => 1.0 - drift + rng.f64() * 2.0 * drift,
        };
    }
}

/// What happens later, in order of time.
#[derive(Debug)]
pub(crate) struct Agenda<E> {
    heap: BinaryHeap<Reverse<(True, u64)>>,
    events: std::collections::BTreeMap<u64, E>,
    count: u64,
}

impl<E> Agenda<E> {
    pub(crate) fn new() -> Self {
        Self {
            heap: BinaryHeap::new(),
            events: std::collections::BTreeMap::new(),
            count: 0,
        }
    }

    pub(crate) fn at(&mut self, at: True, event: E) {
        self.heap.push(Reverse((at, self.count)));
        self.events.insert(self.count, event);
        self.count += 1;
    }

    pub(crate) fn next(&mut self) -> Option<(True, E)> {
        let Reverse((at, number)) = self.heap.pop()?;
        Some((at, self.events.remove(&number)?))
    }
}

/// How bad the network is until the last fault.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Network {
    pub(crate) lost_percent: u8,
    pub(crate) slow_percent: u8,
}

impl Network {
    /// When copies of a message arrive.
    pub(crate) fn arrivals(self, now: True, rng: &mut fastrand::Rng) -> Vec<True> {
        let copies = if rng.u8(0..100) < 5 { 2 } else { 1 };
        let mut arrivals = Vec::new();
        for _ in 0..copies {
            if rng.u8(0..100) < self.lost_percent {
                continue;
            }
            arrivals.push(now + self.delay(rng));
        }
        arrivals
    }

    pub(crate) fn delay(self, rng: &mut fastrand::Rng) -> Duration {
        if rng.u8(0..100) < self.slow_percent {
            ms(rng.u64(100..9_000))
        } else {
            ms(rng.u64(1..50))
        }
    }
}
