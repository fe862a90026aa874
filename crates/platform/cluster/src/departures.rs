//! Incarnations that have ended for good: they left, or an operator evicted them.
//!
//! Every node holds the same bounded set and tells it on, so that an ended incarnation is refused
//! everywhere. Each departure has a stamp one above the highest its author knew; beyond the bound
//! those with the lowest stamps are forgotten, by all nodes alike.

use std::collections::BTreeMap;

use bifrust_model::{NodeId, NodeRef};

use crate::planted::planted;

/// How many departures are remembered.
pub(crate) const DEPARTURES_MAX: usize = 512;

/// How an incarnation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Departure {
    /// It said that it leaves.
    Left,
    /// An operator put it out of the cluster.
    Evicted,
}

/// A departure as it is told on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Departed {
    /// Beyond this, nothing can be stamped any more; honest nodes never get there.
    pub(crate) stamp: u32,
    /// This incarnation and all before it.
    pub(crate) node: NodeRef,
    pub(crate) how: Departure,
}

#[derive(Debug, Default)]
pub(crate) struct Departures(BTreeMap<NodeId, Departed>);

impl Departures {
    /// How this incarnation of a node ended, if it did.
    pub(crate) fn ended(&self, node: NodeRef) -> Option<Departure> {
        let departed = self.0.get(&node.id)?;
        (node.incarnation <= departed.node.incarnation && !planted("departure forgotten"))
            .then_some(departed.how)
    }

    /// The departure of a node, to be told; `None` if it is known already.
    pub(crate) fn depart(&mut self, node: NodeRef, how: Departure) -> Option<Departed> {
        let highest = self.0.values().map(|departed| departed.stamp).max();
        let departed = Departed {
            stamp: highest.map_or(1, |stamp| stamp.saturating_add(1)),
            node,
            how,
        };
        self.learn(departed).then_some(departed)
    }

    /// Takes what another node tells. Whether it is news.
    pub(crate) fn learn(&mut self, departed: Departed) -> bool {
        let id = departed.node.id;
        let rank = |departed: &Departed| (departed.node.incarnation, departed.how, departed.stamp);
        let is_newer = |known: &Departed| rank(&departed) > rank(known);
        if !self.0.get(&id).is_none_or(is_newer) {
            return false;
        }
        self.0.insert(id, departed);
        if self.0.len() <= DEPARTURES_MAX {
            return true;
        }
        let oldest = self.0.values().min().map(|oldest| oldest.node.id);
        oldest.is_some_and(|oldest| {
            self.0.remove(&oldest);
            oldest != id
        })
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Departed> {
        self.0.values()
    }

    /// What is told of a node's departure.
    pub(crate) fn of(&self, node: NodeId) -> Option<Departed> {
        self.0.get(&node).copied()
    }
}

#[cfg(test)]
mod tests {
    use bifrust_model::Incarnation;

    use super::*;

    fn node(id: u128, incarnation: u64) -> NodeRef {
        NodeRef {
            id: NodeId(id),
            incarnation: Incarnation(incarnation),
        }
    }

    #[test]
    fn an_ended_incarnation_stays_ended_and_the_next_start_may_come() {
        let mut departures = Departures::default();
        let told = departures.depart(node(1, 3), Departure::Evicted).unwrap();
        assert_eq!(departures.ended(node(1, 2)), Some(Departure::Evicted));
        assert_eq!(departures.ended(node(1, 3)), Some(Departure::Evicted));
        assert_eq!(departures.ended(node(1, 4)), None);
        assert_eq!(departures.ended(node(2, 1)), None);
        assert!(!departures.learn(told));
        assert_eq!(departures.depart(node(1, 2), Departure::Left), None);
    }

    #[test]
    fn nodes_that_forget_forget_the_same() {
        let told: Vec<Departed> = (0..600)
            .map(|id| Departed {
                stamp: 1 + id / 2,
                node: node(u128::from(id), 1),
                how: Departure::Left,
            })
            .collect();
        let (mut forward, mut backward) = (Departures::default(), Departures::default());
        for departed in &told {
            forward.learn(*departed);
        }
        for departed in told.iter().rev() {
            backward.learn(*departed);
        }
        assert_eq!(forward.iter().count(), DEPARTURES_MAX);
        assert!(forward.iter().eq(backward.iter()));
        assert!(!forward.learn(told[0]), "what was forgotten is no news");
    }
}
