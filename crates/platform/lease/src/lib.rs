//! Who may act, and until when.
//!
//! Two kinds of lease, each with a granting and a holding side that know neither clock nor network:
//!
//! ```text
//! node lease    a node incarnation may serve             granted by the leader of the registry's first range
//! match lease   a replica may answer what a topic        granted by the leader of the range, one exchange
//!               leads to                                 per pair of nodes
//! ```
//!
//! What both rest on: a holder counts from when it *sent* a renewal, and a granter answers one only after
//! a quorum has confirmed that it still led *after the renewal came*. So whoever leads later was chosen
//! after the renewal was sent, and one full [`Terms::length`] from then on every lease that an earlier
//! leader renewed is over, whatever that leader believes. Wall clocks play no part; rates of monotonic
//! clocks may be off by [`Terms::drift_percent`].
//!
//! What it never does: end a lease that its holder may still count on, or let a holder count on one that
//! was ended.

mod fault;
pub mod matches;
pub mod node;
mod terms;
#[cfg(test)]
mod world;

pub use fault::Fault;
pub use terms::{Terms, TermsError};

/// Names one renewal among those of its sender; never reused within an incarnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// Names one question whether this node still leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Round(pub u64);

/// A leadership's number: at most one node ever leads with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaderTerm(pub u64);
