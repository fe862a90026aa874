//! Ranges of an ordered key space driven by coprocessors.
//!
//! A [`Coprocessor`] applies commands to rows and answers queries from them; one range hosts one of its
//! kind. Here each range has one replica, and a command goes the way that a raft group of one voter
//! would send it.

mod clock;
mod coprocessor;
mod error;
mod rows;
pub mod testing;
mod wire;

pub use clock::Clock;
pub use coprocessor::{Ack, Coprocessor, Then};
pub use error::{ExecuteError, OpenError, QueryError};
pub use rows::{Iter, Rows, prefix_end};
pub use wire::Wire;

use bifrust_storage::Keyspace;

/// Commands that were applied, by range and index.
pub(crate) const RAFT_LOG: Keyspace = Keyspace("raft_log");

/// Descriptors, services and applied indexes of the ranges of this node.
pub(crate) const KV_META: Keyspace = Keyspace("kv_meta");

/// The keyspaces that ranges need beside those of their coprocessors.
pub fn keyspaces() -> &'static [Keyspace] {
    &[RAFT_LOG, KV_META]
}
