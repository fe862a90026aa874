//! Ranges of an ordered key space driven by coprocessors.
//!
//! ```text
//! Client::execute --> queue of the range --> store worker: lanes take turns, one batch
//!                                              |  Coprocessor::apply over rows + this batch
//!                                              |  one log entry, applied index, rows: one engine batch
//!                                              v
//!                                            Store::write --visible--> `Applied` replies
//!                                              '--synced, writer thread--> effects, `Durable` replies
//! Client::query   --> bounded queue      --> reader thread: Coprocessor::query over a snapshot
//! ```
//!
//! A range hosts one [`Coprocessor`]. Here each range has one replica and a command goes the way that a
//! raft group of one voter would send it: into the range's log, then into its rows.
//!
//! What it never does: wait on the caller's thread, reorder commands of one lane, answer `Durable` before
//! the covering sync, or lose a callback.

mod client;
mod clock;
mod config;
mod coprocessor;
mod error;
#[doc(hidden)]
pub mod fuzz;
mod intake;
mod lane;
mod log;
mod meta;
mod node;
mod outbox;
mod range;
mod reader;
mod rows;
mod seat;
pub mod testing;
#[cfg(test)]
mod toy;
mod wire;
mod worker;

pub use client::Client;
pub use clock::Clock;
pub use config::Config;
pub use coprocessor::{Ack, Coprocessor, Then};
pub use error::{ExecuteError, OpenError, QueryError};
pub use node::{Counts, Node};
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
