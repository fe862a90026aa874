//! What becomes of what is sent.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use rand::{RngExt, rngs::SmallRng};

/// A network between nodes that are known by their place in the world.
#[derive(Debug, Default)]
pub struct Network {
    /// The share of packets that is lost.
    pub loss: f64,
    /// The share of packets that arrives twice.
    pub duplicates: f64,
    /// The longest way of a packet; the shortest is a tenth of a millisecond. Packets overtake.
    pub delay_max: Duration,
    /// From whom to whom nothing arrives, and how many faults say so.
    blocked: BTreeMap<(usize, usize), u32>,
    /// When the last message of a link arrives: links keep order.
    arrivals: BTreeMap<(usize, usize), Duration>,
}

impl Network {
    /// A network that loses nothing.
    pub fn new(delay_max: Duration) -> Self {
        Self {
            delay_max,
            ..Self::default()
        }
    }

    /// Nothing arrives on these ways any more.
    pub fn block(&mut self, ways: &BTreeSet<(usize, usize)>) {
        for way in ways {
            *self.blocked.entry(*way).or_default() += 1;
        }
    }

    /// One fault less that blocks these ways.
    pub fn unblock(&mut self, ways: &BTreeSet<(usize, usize)>) {
        for way in ways {
            if let Some(count) = self.blocked.get_mut(way) {
                *count -= 1;
                if *count == 0 {
                    self.blocked.remove(way);
                }
            }
        }
    }

    /// When a packet arrives: never, once or twice.
    pub fn packet(&mut self, rng: &mut SmallRng, from: usize, to: usize) -> Vec<Duration> {
        if self.blocked.contains_key(&(from, to)) || rng.random_bool(self.loss) {
            return Vec::new();
        }
        let copies = 1 + usize::from(rng.random_bool(self.duplicates));
        (0..copies).map(|_| self.delay(rng)).collect()
    }

    /// When a message of a link arrives, if it does: a link needs both ways.
    pub fn message(
        &mut self,
        rng: &mut SmallRng,
        now: Duration,
        from: usize,
        to: usize,
    ) -> Option<Duration> {
        if self.blocked.contains_key(&(from, to)) || self.blocked.contains_key(&(to, from)) {
            return None;
        }
        let arrival = now + self.delay(rng);
        let last = self.arrivals.entry((from, to)).or_default();
        *last = arrival.max(*last);
        Some(*last)
    }

    fn delay(&self, rng: &mut SmallRng) -> Duration {
        let max = self.delay_max.as_micros().max(200) as u64;
        Duration::from_micros(rng.random_range(100..max))
    }
}
