//! Who a node is and where it listens.

use std::{fmt, net::SocketAddr, num::NonZeroU128, str::FromStr};

use bifrust_model::NodeRef;

/// The version of the packets that this program writes, and the highest that it reads.
pub const PROTOCOL_VERSION: u16 = 1;

/// The lowest version of packets that this program reads.
pub const PROTOCOL_VERSION_MIN: u16 = 1;

/// Which cluster a node belongs to: drawn once, at the cluster's bootstrap; never zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClusterId(NonZeroU128);

impl ClusterId {
    /// The cluster with this number; `None` for zero, which stands for "no cluster yet" on disk.
    pub fn new(number: u128) -> Option<Self> {
        NonZeroU128::new(number).map(Self)
    }

    /// The number itself.
    pub fn number(self) -> u128 {
        self.0.get()
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is no cluster id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a cluster id is 32 hex digits and not zero")]
pub struct InvalidClusterId;

impl FromStr for ClusterId {
    type Err = InvalidClusterId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(InvalidClusterId);
        }
        let number = u128::from_str_radix(text, 16).map_err(|_| InvalidClusterId)?;
        Self::new(number).ok_or(InvalidClusterId)
    }
}

/// A node in one of its incarnations, with its addresses.
///
/// The node id alone says which node it is. Addresses may change while it runs; each change, and each
/// return after it was wrongly declared down, raises the revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Host {
    /// Which node, in which of its starts.
    pub node: NodeRef,
    /// How often this incarnation told others something new about itself.
    pub revision: u32,
    /// Where it takes cluster packets.
    pub udp: SocketAddr,
    /// Where it takes links of `rpc`.
    pub rpc: SocketAddr,
    /// The highest packet version that it reads.
    pub protocol: u16,
}

impl Host {
    /// Whether what this says replaces what `other` says of the same node.
    pub fn is_newer_than(&self, other: &Self) -> bool {
        self.rank() > other.rank()
    }

    /// Addresses come last: two processes with one data folder then agree on which of them counts.
    fn rank(&self) -> (u64, u32, SocketAddr, SocketAddr, u16) {
        (
            self.node.incarnation.0,
            self.revision,
            self.udp,
            self.rpc,
            self.protocol,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_id_is_written_and_read() {
        let id = ClusterId::new(0xabc).unwrap();
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(ClusterId::new(0), None);
        for wrong in ["", "0", &"0".repeat(32), &"g".repeat(32), &"1".repeat(33)] {
            assert_eq!(wrong.parse::<ClusterId>(), Err(InvalidClusterId), "{wrong}");
        }
    }
}
