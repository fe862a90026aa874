//! The nodes of a cluster find each other, know who is alive, and tell each other what runs where.
//!
//! ```text
//! host       a process with a node id and an incarnation, found over UDP
//!   agent    one instance of a service on it; comes and goes alone
//!   rows     what the host says about itself, written by nobody else
//! landscape  the living hosts with their agents and rows, as this node sees them
//! ```
//!
//! It never carries a request of a service: that is `rpc`, which reads the landscape to find them.

mod agent;
mod config;
mod core;
mod departures;
mod effect;
mod forming;
pub mod fuzz;
mod host;
mod key;
mod landscape;
mod link;
mod message;
mod packet;
mod peers;
mod planted;
mod replica;
mod row;
mod shell;
mod swim;
mod wire;

pub use agent::{AgentAddress, InvalidServiceName, ServiceName};
pub use bifrust_model::{Incarnation, NodeId, NodeRef};
pub use config::CoreConfig;
pub use core::{Core, EvictError, MemberStanding, MemberStatus, Status};
pub use departures::Departure;
pub use effect::{Counters, Effect, Event};
pub use forming::{EXPECT_MAX, Waiting};
pub use host::{ClusterId, Host, InvalidClusterId, PROTOCOL_VERSION, PROTOCOL_VERSION_MIN};
pub use key::{ClusterKey, WeakKey};
pub use landscape::{Agent, HostState, HostView, Landscape, LandscapeWriter, Snapshot};
pub use link::{LINK_MESSAGE_BYTES_MAX, LinkSender};
pub use packet::Refusal;
pub use replica::RowError;
pub use row::{
    InvalidRowName, ROW_NAME_BYTES_MAX, ROW_VALUE_BYTES_MAX, Row, RowKey, RowKind, RowName,
};
pub use shell::{Cluster, Gone, Surroundings};
