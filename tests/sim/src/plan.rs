//! What happens in a seed: nodes, faults and their times.

use std::{collections::BTreeSet, time::Duration};

use rand::{RngExt, SeedableRng, rngs::SmallRng, seq::IteratorRandom};

/// What goes wrong, or is done, at some moment.
#[derive(Clone, Debug)]
pub enum Fault {
    /// This share of packets is lost for a while.
    Loss(f64),
    /// This share of packets arrives twice for a while.
    Duplicates(f64),
    /// Packets take up to so long for a while.
    Delay(Duration),
    /// Groups that hear nothing of each other for a while.
    Split(Vec<BTreeSet<usize>>),
    /// A node that hears nobody, while all hear it.
    Deaf(usize),
    /// A node that nobody hears, while it hears all.
    Mute(usize),
    /// Two nodes that do not hear each other, while all others do.
    Pair(usize, usize),
    /// A node ends without a word and starts again later; with its data folder or without.
    Crash {
        /// Which.
        node: usize,
        /// The others' links to it break at once.
        is_reset: bool,
        /// It comes back without its data.
        is_emptied: bool,
    },
    /// A node leaves and starts again later.
    Leave(usize),
    /// A node has another evicted, which starts again later.
    Evict(usize, usize),
    /// A node gets other addresses.
    Move(usize),
    /// A link breaks although both of its ends live.
    Reset(usize, usize),
    /// Packets of the past arrive once more.
    Replay,
    /// A node writes and removes more rows than it keeps tombstones.
    Churn(usize),
}

/// A fault with its time.
#[derive(Clone, Debug)]
pub struct Planned {
    /// When it begins.
    pub at: Duration,
    /// How long it lasts.
    pub lasts: Duration,
    /// What it is.
    pub fault: Fault,
}

/// All of a seed.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How many nodes there are.
    pub nodes: usize,
    /// When each starts.
    pub starts: Vec<Duration>,
    /// How fast each one's clock goes: 1 is right.
    pub rates: Vec<f64>,
    /// In order of their times.
    pub faults: Vec<Planned>,
    /// How long nodes write rows, on average one in so long.
    pub writes_every: Duration,
    /// When the last fault is over.
    pub calm: Duration,
    /// When all nodes must agree.
    pub end: Duration,
}

/// How far a clock may go wrong: the bound of leases.
const RATE_MAX: f64 = 0.1;

impl Plan {
    /// The plan of a seed: 3 to 12 nodes, 60 seconds, the last 25 of them without faults.
    pub fn from_seed(seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let nodes = rng.random_range(3..=12);
        let calm = Duration::from_secs(35);
        let count = rng.random_range(0..=8);
        // In some seeds nobody is cut off, so that nobody may be thought to be down.
        let is_gentle = rng.random_bool(0.3);
        let mut faults: Vec<Planned> = (0..count)
            .map(|_| planned(&mut rng, nodes, is_gentle, calm))
            .collect();
        faults.sort_by_key(|planned| planned.at);
        let rates = (0..nodes).map(|_| 1.0 + rng.random_range(-RATE_MAX..RATE_MAX));
        let rates = rates.collect();
        Self {
            nodes,
            starts: (0..nodes)
                .map(|_| millis(rng.random_range(0..3_000)))
                .collect(),
            rates,
            faults,
            writes_every: millis(rng.random_range(50..1_000)),
            calm,
            end: Duration::from_secs(60),
        }
    }

    /// So many nodes that start together, without faults.
    pub fn calm(nodes: usize, end: Duration) -> Self {
        Self {
            nodes,
            starts: vec![Duration::ZERO; nodes],
            rates: vec![1.0; nodes],
            faults: Vec::new(),
            writes_every: Duration::from_secs(3_600),
            calm: Duration::ZERO,
            end,
        }
    }

    /// The same with a fault.
    pub fn with(mut self, at_secs: u64, lasts_secs: u64, fault: Fault) -> Self {
        self.faults.push(Planned {
            at: Duration::from_secs(at_secs),
            lasts: Duration::from_secs(lasts_secs),
            fault,
        });
        self.faults.sort_by_key(|planned| planned.at);
        self.calm = self.calm.max(Duration::from_secs(at_secs + lasts_secs));
        self
    }
}

fn planned(rng: &mut SmallRng, nodes: usize, is_gentle: bool, calm: Duration) -> Planned {
    let lasts = millis(rng.random_range(500..9_000));
    // Most come when there is a cluster; some disturb its forming.
    let earliest = if rng.random_bool(0.8) { 10_000 } else { 0 };
    let latest = (calm - lasts).as_millis() as u64;
    let at = millis(rng.random_range(earliest..latest));
    let (a, b) = pair(rng, nodes);
    let fault = match rng.random_range(if is_gentle { 0..7 } else { 0..16 }) {
        0 => Fault::Loss(rng.random_range(0.02..0.3)),
        1 => Fault::Duplicates(rng.random_range(0.02..0.5)),
        2 => Fault::Delay(millis(rng.random_range(2..80))),
        3 => Fault::Churn(a),
        4 | 5 => Fault::Reset(a, b),
        6 => Fault::Replay,
        7 => Fault::Deaf(a),
        8 => Fault::Mute(a),
        9 => Fault::Pair(a, b),
        10 | 11 => Fault::Split(groups(rng, nodes)),
        12 => Fault::Leave(a),
        13 => Fault::Evict(a, b),
        14 => Fault::Move(a),
        _ => Fault::Crash {
            node: a,
            is_reset: rng.random_bool(0.5),
            is_emptied: rng.random_bool(0.2),
        },
    };
    Planned { at, lasts, fault }
}

fn pair(rng: &mut SmallRng, nodes: usize) -> (usize, usize) {
    let two = (0..nodes).sample(rng, 2);
    (two[0], two[1])
}

fn groups(rng: &mut SmallRng, nodes: usize) -> Vec<BTreeSet<usize>> {
    let count = rng.random_range(2..=3);
    let mut groups = vec![BTreeSet::new(); count];
    for node in 0..nodes {
        groups[rng.random_range(0..count)].insert(node);
    }
    groups
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}
