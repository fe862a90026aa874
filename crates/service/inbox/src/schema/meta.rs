//! A session: who owns it, since when, until when.

use std::sync::Arc;

use bifrust_model::record::{self, RecordError};
use bifrust_model::{Hlc, NodeRef};
use bifrust_session_dict::ConnectionRef;
use bytes::Bytes;

use super::connection::{ConnectionRecord, NodeRecord};
use super::{connection_from_record, connection_record, node_from_record, node_record};

const VERSION: u8 = 1;

/// A session that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Meta {
    /// The user it belongs to (contract C4).
    pub(crate) user: Option<Arc<str>>,
    /// Which of the client's sessions this is.
    pub(crate) incarnation: u64,
    /// Number of the latest connection.
    pub(crate) epoch: u64,
    /// The latest connection while it is attached.
    pub(crate) owner: Option<ConnectionRef>,
    /// The node of the latest connection.
    pub(crate) node: NodeRef,
    /// Stamp of the latest attach.
    pub(crate) attached_at: Hlc,
    /// Whether the latest attach resumed the session.
    pub(crate) was_resumed: bool,
    /// Seconds it outlives its connection; `u32::MAX` never ends.
    pub(crate) expiry_seconds: u32,
    /// When it ends while detached, milliseconds since 1970; `None`: never, or not detached.
    pub(crate) expires_ms: Option<u64>,
    /// Receive Maximum of the latest connection.
    pub(crate) window: u16,
    /// Entries below this number may have been sent by a connection that has ended.
    pub(crate) sent_before: u64,
    /// Whether the latest connection came with a will.
    pub(crate) has_will: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
struct MetaRecord {
    #[prost(string, optional, tag = "1")]
    user: Option<String>,
    #[prost(uint64, tag = "2")]
    incarnation: u64,
    #[prost(uint64, tag = "3")]
    epoch: u64,
    #[prost(message, optional, tag = "4")]
    owner: Option<ConnectionRecord>,
    #[prost(message, optional, tag = "5")]
    node: Option<NodeRecord>,
    #[prost(uint64, tag = "6")]
    attached_at: u64,
    #[prost(bool, tag = "7")]
    was_resumed: bool,
    #[prost(uint32, tag = "8")]
    expiry_seconds: u32,
    #[prost(uint64, optional, tag = "9")]
    expires_ms: Option<u64>,
    #[prost(uint32, tag = "10")]
    window: u32,
    #[prost(uint64, tag = "11")]
    sent_before: u64,
    #[prost(bool, tag = "12")]
    has_will: bool,
}

impl Meta {
    pub(crate) fn encode(&self) -> Bytes {
        let record = MetaRecord {
            user: self.user.as_deref().map(str::to_owned),
            incarnation: self.incarnation,
            epoch: self.epoch,
            owner: self.owner.map(connection_record),
            node: Some(node_record(self.node)),
            attached_at: self.attached_at.0,
            was_resumed: self.was_resumed,
            expiry_seconds: self.expiry_seconds,
            expires_ms: self.expires_ms,
            window: self.window.into(),
            sent_before: self.sent_before,
            has_will: self.has_will,
        };
        record::encode(VERSION, &record)
    }

    pub(crate) fn decode(value: Bytes) -> Result<Self, RecordError> {
        let record: MetaRecord = record::decode(value, VERSION)?;
        let node = record.node.as_ref().ok_or(RecordError::Invalid("node"))?;
        Ok(Self {
            user: record.user.map(Into::into),
            incarnation: record.incarnation,
            epoch: record.epoch,
            owner: record
                .owner
                .as_ref()
                .map(connection_from_record)
                .transpose()?,
            node: node_from_record(node)?,
            attached_at: Hlc(record.attached_at),
            was_resumed: record.was_resumed,
            expiry_seconds: record.expiry_seconds,
            expires_ms: record.expires_ms,
            window: u16::try_from(record.window).map_err(|_| RecordError::Invalid("window"))?,
            sent_before: record.sent_before,
            has_will: record.has_will,
        })
    }

    /// Whether the session's time was over at `now_ms`.
    pub(crate) fn has_expired(&self, now_ms: u64) -> bool {
        self.owner.is_none() && self.expires_ms.is_some_and(|at| at <= now_ms)
    }
}

#[cfg(test)]
mod tests {
    use bifrust_model::{Incarnation, NodeId};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_survives_its_row(
            user in proptest::option::of("[a-z]{0,5}"), numbers: [u64; 6], id: u128,
            expires_ms: Option<u64>, expiry_seconds: u32, window: u16, shard: u16, slot: u32,
            flags: [bool; 3],
        ) {
            let node = NodeRef { id: NodeId(id), incarnation: Incarnation(numbers[0]) };
            let owner = ConnectionRef { node, shard, slot, generation: expiry_seconds };
            let meta = Meta {
                user: user.map(Into::into),
                incarnation: numbers[1],
                epoch: numbers[2],
                owner: flags[0].then_some(owner),
                node,
                attached_at: Hlc(numbers[3]),
                was_resumed: flags[1],
                expiry_seconds,
                expires_ms,
                window,
                sent_before: numbers[4],
                has_will: flags[2],
            };
            prop_assert_eq!(Meta::decode(meta.encode()).unwrap(), meta);
        }

        #[test]
        fn any_bytes_are_answered(bytes: Vec<u8>) {
            let _ = Meta::decode(bytes.into()); // no panic
        }
    }
}
