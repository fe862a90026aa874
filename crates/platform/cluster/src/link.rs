//! What the cluster wants of the links between nodes.

use bytes::Bytes;

use crate::Host;

/// The largest message that the cluster gives to a link, in bytes.
pub const LINK_MESSAGE_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Carries messages of the cluster over links. `rpc` implements it; what arrives on the other side is
/// given to that node's cluster together with the peer that the link's hello proved.
pub trait LinkSender: Send + Sync + 'static {
    /// Sends a message, opening a link if there is none. It may be lost, and never waits: a link
    /// that is full or cannot be opened drops it, since the cluster tells everything again.
    fn send(&self, to: &Host, message: Bytes);
}
