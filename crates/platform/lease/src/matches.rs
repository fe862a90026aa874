//! The match lease: a replica answers what a topic leads to only while it holds one.
//!
//! The leader of a range grants it to the nodes with a replica, one exchange per pair of nodes for all
//! ranges between them, so that ranges without traffic cost nothing. A subscription is acknowledged once
//! each holder has applied it or is past its lease:
//!
//! ```text
//! Holder --Send(token, epoch)--> Granter --Confirm(round)--> quorums --> Reply(token, cover)
//! write applied --handle_written--> Granter --Acknowledge(range, index)--> SUBACK
//! ```

mod granter;
mod holder;
#[cfg(test)]
mod tests;

pub use granter::{Effect, Granter};
pub use holder::Holder;

use crate::LeaderTerm;

/// Which ranges a lease is about; a granter's number for one list of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

/// What a holder may answer for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Covered<R> {
    /// The range.
    pub range: R,
    /// The leadership that vouches for it.
    pub term: LeaderTerm,
}
