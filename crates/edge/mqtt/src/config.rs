//! What the operator decides about listeners and connections.

use std::net::SocketAddr;
use std::time::Duration;

use bifrust_model::TenantName;

/// What is spoken below MQTT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ListenerKind {
    /// Plain TCP.
    Tcp,
    /// WebSocket over TCP, on `/mqtt` and `/`.
    Ws,
}

/// Where clients come in.
#[derive(Clone, Debug)]
pub struct Listener {
    /// What is spoken below MQTT.
    pub kind: ListenerKind,
    /// Where to listen; port 0 takes any free one.
    pub address: SocketAddr,
    /// The tenant of every client that comes in here; `None` lets the user name say it.
    pub tenant: Option<TenantName>,
    /// Connections at a time; one more is closed at once.
    pub max_connections: usize,
}

/// Everything about listeners and connection shards. The number of shards is that of the
/// [`Mailboxes`](crate::Mailboxes).
#[derive(Clone, Debug)]
pub struct Config {
    /// Where clients come in.
    pub listeners: Vec<Listener>,
    /// How long a peer may take to send a complete CONNECT and be let in. Less closes slow links,
    /// more lets half-open ones sit. 1 to 300 s.
    pub connect_timeout: Duration,
    /// How long an acknowledgement may wait for its durable effects before the connection is
    /// closed, so that the client sends again.
    pub publish_timeout: Duration,
    /// How long authentication or a permission answer may take before it counts as an error.
    pub auth_timeout: Duration,
    /// How long a socket may take nothing before its client counts as stalled, which is told and
    /// counted, no more.
    pub stall_after: Duration,
    /// Bytes of a CONNECT packet; memory grows only as they arrive.
    pub max_connect_bytes: usize,
    /// Bytes per shard that may be on their way to durable stores; above it publishers wait.
    pub max_store_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listeners: Vec::new(),
            connect_timeout: Duration::from_secs(10),
            publish_timeout: Duration::from_secs(10),
            auth_timeout: Duration::from_secs(5),
            stall_after: Duration::from_secs(30),
            max_connect_bytes: 1 << 20,
            max_store_bytes: 32 << 20,
        }
    }
}
