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
mod host;
mod key;
mod landscape;
mod link;
mod row;

pub use agent::{AgentAddress, InvalidServiceName, ServiceName};
pub use bifrust_model::{Incarnation, NodeId, NodeRef};
pub use host::{ClusterId, Host, InvalidClusterId, PROTOCOL_VERSION, PROTOCOL_VERSION_MIN};
pub use key::{ClusterKey, WeakKey};
pub use landscape::{Agent, HostState, HostView, Landscape, LandscapeWriter, Snapshot};
pub use link::{LINK_MESSAGE_BYTES_MAX, LinkSender};
pub use row::{
    InvalidRowName, ROW_NAME_BYTES_MAX, ROW_VALUE_BYTES_MAX, Row, RowKey, RowKind, RowName,
};
