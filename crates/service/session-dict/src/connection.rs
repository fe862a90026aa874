//! Connections as the dictionary names them.

use std::net::SocketAddr;

use bifrust_model::NodeRef;

/// One connection, never mistaken for a later one in the same slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnectionRef {
    /// The node that serves it, in its incarnation.
    pub node: NodeRef,
    /// The connection shard of that node.
    pub shard: u16,
    /// The slot in that shard.
    pub slot: u32,
    /// Which of the slot's connections.
    pub generation: u32,
}

/// Where connections are reached.
pub trait Connections: Send + Sync {
    /// Asks the connection to give up its session, release it and close, since a client at `by` has
    /// claimed it. Returns at once; a connection that is gone is ignored.
    fn kick(&self, connection: ConnectionRef, by: Option<SocketAddr>);
}
