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

mod delivery;
mod error;
mod schema;
mod session;
mod store;
mod will;

pub use delivery::{Delivery, Fetched, Owner, PageLimit, Push, packet_id};
pub use error::InboxError;
pub use session::{Cause, Detach, InboundId, Open, Opened, SessionRef, Settle, Subscribed};
pub use will::{Will, WillSender};
