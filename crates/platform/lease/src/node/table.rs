//! The replicated part: which incarnations hold a lease, and which never will again.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

/// One life of a node: from a start to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation<N> {
    /// The node.
    pub node: N,
    /// Which of its lives; later ones are greater.
    pub number: u64,
}

/// What the log carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry<N> {
    /// This incarnation gets a lease.
    Grant(Incarnation<N>),
    /// The lease of this incarnation is over.
    End(Incarnation<N>),
    /// This node is gone for good: nothing of it needs to be remembered.
    Forget(N),
}

/// What an entry did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// The incarnation holds a lease now or did before.
    Granted,
    /// The lease is over now.
    Ended,
    /// The incarnation had ended before.
    RefusedEnded,
    /// There are too many.
    RefusedFull,
    /// Nothing changed.
    Unchanged,
}

/// Who holds a lease, the same on every replica; each entry may be applied twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table<N> {
    granted: BTreeSet<Incarnation<N>>,
    /// The last incarnation of each node that was ended; no earlier one is granted again.
    ended: BTreeMap<N, u64>,
}

impl<N> Default for Table<N> {
    fn default() -> Self {
        Self {
            granted: BTreeSet::new(),
            ended: BTreeMap::new(),
        }
    }
}

impl<N: Copy + Ord + Debug> Table<N> {
    /// Leases that may be held at once, restarted nodes' last ones among them.
    pub const HELD_MAX: usize = 4_096;

    /// Takes one entry of the log.
    pub fn apply(&mut self, entry: Entry<N>) -> Applied {
        match entry {
            Entry::Grant(incarnation) => self.grant(incarnation),
            Entry::End(incarnation) => self.end(incarnation),
            Entry::Forget(node) => self.forget(node),
        }
    }

    /// Whether this incarnation's lease was granted and not ended.
    pub fn holds(&self, incarnation: &Incarnation<N>) -> bool {
        self.granted.contains(incarnation)
    }

    /// Whether this incarnation can never hold a lease again.
    pub fn has_ended(&self, incarnation: &Incarnation<N>) -> bool {
        !self.holds(incarnation)
            && self
                .ended
                .get(&incarnation.node)
                .is_some_and(|&last| incarnation.number <= last)
    }

    /// All that hold a lease, in order.
    pub fn held(&self) -> impl Iterator<Item = Incarnation<N>> {
        self.granted.iter().copied()
    }

    /// How many hold a lease.
    pub fn len(&self) -> usize {
        self.granted.len()
    }

    /// Whether nobody holds a lease.
    pub fn is_empty(&self) -> bool {
        self.granted.is_empty()
    }

    fn grant(&mut self, incarnation: Incarnation<N>) -> Applied {
        if self.has_ended(&incarnation) {
            return Applied::RefusedEnded;
        }
        if !self.holds(&incarnation) && self.granted.len() >= Self::HELD_MAX {
            return Applied::RefusedFull;
        }
        self.granted.insert(incarnation);
        Applied::Granted
    }

    /// An end counts also for an incarnation that was never granted: its request may still be on its way.
    fn end(&mut self, incarnation: Incarnation<N>) -> Applied {
        let held = self.granted.remove(&incarnation);
        let last = self.ended.entry(incarnation.node).or_insert(0);
        *last = incarnation.number.max(*last);
        if held {
            Applied::Ended
        } else {
            Applied::Unchanged
        }
    }

    fn forget(&mut self, node: N) -> Applied {
        if self.granted.iter().all(|held| held.node != node) {
            self.ended.remove(&node);
        }
        Applied::Unchanged
    }
}
