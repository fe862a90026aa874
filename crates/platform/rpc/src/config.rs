//! How a node's links behave.

use std::num::{NonZeroU16, NonZeroU32};
use std::time::Duration;

use crate::link::Bounds;
use crate::tls::Certificates;

/// Which links are encrypted. Both ends decide by the address of the other, so all nodes of a cluster
/// have the same setting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encryption {
    /// All but those on the loopback interface.
    #[default]
    BeyondLoopback,
    /// All of them.
    Always,
    /// None: whoever sees the network reads and changes what nodes say.
    Never,
}

/// How a node's links behave.
#[derive(Clone, Debug)]
pub struct Config {
    /// Which links are encrypted.
    pub encryption: Encryption,
    /// Certificates of the operator, which both ends then show; without them each start makes one of its
    /// own, and the cluster key alone says who belongs here.
    pub certificates: Option<Certificates>,
    /// What each link holds at most.
    pub bounds: Bounds,
    /// Links to each peer for data, beside the one for consensus; more of them spread a peer's load over
    /// more connections. 1 to 8.
    pub data_links: NonZeroU16,
    /// Peers that this node has links to, at most.
    pub peers_max: NonZeroU32,
    /// Links that others have to this node, at most; the next is refused.
    pub accepted_max: NonZeroU32,
    /// Connections whose hello is not through, at most; the next is closed.
    pub handshakes_max: NonZeroU32,
    /// For a connection and its hello; then it is given up.
    pub hello_timeout: Duration,
    /// The shortest rest after a connection failed; it doubles with each failure.
    pub rest_min: Duration,
    /// The longest rest. Calls to the peer fail at once meanwhile.
    pub rest_max: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            encryption: Encryption::default(),
            certificates: None,
            bounds: Bounds::default(),
            data_links: NonZeroU16::MIN,
            peers_max: NonZeroU32::new(1024).unwrap_or(NonZeroU32::MIN),
            accepted_max: NonZeroU32::new(4096).unwrap_or(NonZeroU32::MIN),
            handshakes_max: NonZeroU32::new(64).unwrap_or(NonZeroU32::MIN),
            hello_timeout: Duration::from_secs(5),
            rest_min: Duration::from_millis(50),
            rest_max: Duration::from_secs(1),
        }
    }
}
