//! Listeners, connection shards and live sessions.
//!
//! ```text
//! listener -> acceptor -> shard mailbox -> connection (bytes <-> packets) -> session (rules)
//!                                                  |
//!    other shards <- mailboxes <- publish -> local subscriptions -> outbound queues -> flush
//!                                    |-> dist (match), inbox (persistent), retain
//! ```
//!
//! A shard is one thread with one event loop that owns its connections and their sessions; nothing
//! of it is shared, mail is the only way in. It never blocks and never touches a disk: services
//! answer by mail to (slot, generation), and a slot that has moved on ignores the answer.

mod barrier;
mod config;
mod connection;
mod error;
mod fault;
mod flapping;
#[doc(hidden)]
pub mod fuzz;
mod listener;
mod mailbox;
mod metrics;
mod network;
mod retained;
mod server;
mod services;
mod session;
mod shard;
mod subscriptions;
mod sys;
mod tls;
mod transport;
mod will;

pub use config::{CertificateTenant, Config, Listener, ListenerKind, Proxies, WebSocketRules};
pub use error::StartError;
pub use mailbox::Mailboxes;
pub use network::{Network, NetworkError};
pub use server::{Bound, Server, start};
pub use services::Services;
pub use sys::{SysConfig, SysTopics};
pub use tls::{ClientCertificates, Identity, Tls, TlsError, TlsMaterial};
pub use will::will_sender;
