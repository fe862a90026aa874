//! Links between nodes: requests, one-way messages and streams over few connections.
//!
//! ```text
//! Node::request --this node--> Service::request           a function call
//!         '------another-----> Link: credit, priorities --> frames --> TCP, TLS
//!                                                                       |
//! Service::request <-- effects <-- Link of the other node <-- frames <--'
//! ```
//!
//! [`link`], [`frame`] and [`hello`] decide, without clock, socket or thread; the shell around them carries
//! bytes. A service is found through its [`Directory`], which reads the landscape and the traffic rules.
//!
//! What it never does: know what a message means, ask twice by itself, hold more of a peer than it
//! said it takes, or panic on a peer's bytes.

mod cluster_link;
mod config;
pub mod directory;
mod error;
mod event;
pub mod frame;
#[doc(hidden)]
pub mod fuzz;
pub mod hello;
pub mod link;
mod metrics;
mod node;
mod rpc;
mod service;
mod shell;
mod stream;
mod tls;

pub use cluster_link::{CLUSTER_SERVICE, ClusterMessages};
pub use config::{Config, Encryption};
pub use directory::{Choice, Directory, Rules, Server, ServerDetail};
pub use error::{CallError, LinkError, Status};
pub use event::{Event, Logged, Observer};
pub use frame::{Priority, Target};
pub use link::{Body, Bounds, Limits, Outgoing};
pub use node::{Node, Pending};
pub use rpc::{Rpc, Setup, SetupError};
pub use service::{Held, Hold, Reply, Request, Service};
pub use stream::Stream;
pub use tls::{Certificates, TlsError};
