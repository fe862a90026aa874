//! A QoS 2 publish of the session's client that it has not released.

use bifrust_model::record::{self, RecordError};
use bytes::Bytes;

const VERSION: u8 = 1;

/// What is known of it; the key says its packet id.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Inbound {
    /// Which use of the packet id it is; rises over all ids of the session.
    #[prost(uint64, tag = "1")]
    pub(crate) generation: u64,
    /// Whether it is known to be routed.
    #[prost(bool, tag = "2")]
    pub(crate) is_routed: bool,
    /// The connection that began it.
    #[prost(uint64, tag = "3")]
    pub(crate) epoch: u64,
    /// When; a release of the same connection with an earlier stamp means another one.
    #[prost(uint64, tag = "4")]
    pub(crate) stamp: u64,
    /// Which members of groups get it, as dist writes them; empty before they are known.
    #[prost(bytes = "bytes", tag = "5")]
    pub(crate) picks: Bytes,
}

impl Inbound {
    pub(crate) fn encode(&self) -> Bytes {
        record::encode(VERSION, self)
    }

    pub(crate) fn decode(value: Bytes) -> Result<Self, RecordError> {
        record::decode(value, VERSION)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_survives_its_row(
            generation: u64, is_routed: bool, epoch: u64, stamp: u64, picks: Vec<u8>,
        ) {
            let picks = picks.into();
            let inbound = Inbound { generation, is_routed, epoch, stamp, picks };
            prop_assert_eq!(Inbound::decode(inbound.encode()).unwrap(), inbound);
        }
    }
}
