//! One ordered local key-value engine per node, in memory or on disk.
//!
//! ```text
//! callers --write(batch, done)--> engine (visible at once) --> queue of `done`s
//!                                                                |
//!                                            writer thread: take all, sync once, call them in order
//! ```
//!
//! An [`Engine`] orders rows by key within fixed [`Keyspace`]s, commits batches atomically over all of
//! them and has one fsync point. A [`Store`] adds what a node needs around it: the data folder with its
//! lock and [`Manifest`], grouped syncs, a bound on what is written and not yet synced, and the
//! free-space floor.
//!
//! What it never does: acknowledge before the sync that covers a write, go on after a failed sync, panic
//! over a key or value that is too long, or know what the rows mean.

mod batch;
mod config;
mod disk;
mod engine;
mod error;
mod folder;
#[doc(hidden)]
pub mod fuzz;
mod manifest;
mod memory;
mod space;
mod store;

#[cfg(test)]
mod engine_tests;

pub use batch::{Keyspace, Op, WriteBatch};
pub use config::{Config, FatalHandler, FjallConfig, FreeSpaceFloor, SyncMode};
pub use disk::open_fjall;
pub use engine::{Direction, Engine, KEY_BYTES_MAX, Read, Row, Rows, VALUE_BYTES_MAX};
pub use error::{OpenError, StorageError};
pub use manifest::{FORMAT_VERSION, Id, Manifest};
pub use memory::open_memory;
pub use store::{Done, Store};
