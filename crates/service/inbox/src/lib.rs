//! Persistent sessions: subscriptions, queue, in-flight state, timers; and the wills of every
//! client.
//!
//! ```text
//! connection --attach, subscribe, settle ...--> client --commands--> store (apply, rows)
//! dist ------deliver------------------------>  client --Insert---->    |  effects, once durable
//!                                                                     v
//! connection <--Owner::push------------------- server (online map, timers, wills, sweeps)
//! ```
//!
//! What it never does: acknowledge what is not durable, let one full queue slow a publisher, serve
//! two connections of one session, read a clock in `store`.

mod client;
mod config;
mod delivery;
mod error;
#[doc(hidden)]
pub mod fuzz;
mod gather;
mod metrics;
mod schema;
mod server;
mod session;
mod store;
mod will;

pub use bifrust_kv::Then;
pub use client::{Inbox, OpenError};
pub use config::Config;
pub use delivery::{Delivery, Fetched, Owner, PageLimit, Push, packet_id};
pub use error::InboxError;
pub use session::{Cause, Detach, InboundId, Open, Opened, SessionRef, Settle, Subscribed};
pub use will::{Will, WillSender};

/// Where the rows are, for whoever opens the store.
pub fn keyspaces() -> &'static [bifrust_storage::Keyspace] {
    <store::Store as bifrust_kv::Coprocessor>::KEYSPACES
}
