//! The node lease: an incarnation of a node serves only while it holds one.
//!
//! Grant and end are entries of a replicated log, renewals stay in the leader's memory:
//!
//! ```text
//! Holder --Send(token)--> Granter --Propose(Grant)--> log --handle_applied--> Reply(Held)
//!                                 \-Confirm(round)--> quorum -handle_confirmed-> Reply(Held)
//! ```
//!
//! Nothing of an incarnation may be swept, detached or taken over before its [`Entry::End`] was applied.

mod granter;
mod holder;
mod table;
#[cfg(test)]
mod tests;

pub use granter::{Effect, Granter};
pub use holder::{Effect as HolderEffect, Holder, Lost};
pub use table::{Applied, Entry, Incarnation, Table};

/// What a granter says to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The lease runs from when the request was sent.
    Held,
    /// This incarnation's lease was ended: it never gets another.
    Ended,
    /// As many incarnations hold leases as there may be.
    Full,
}
