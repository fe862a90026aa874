//! Small rows that say what has to happen and when: a new leader scans them to rebuild its timers,
//! and after a restart they name everything that was attached.

use bifrust_model::NodeRef;
use bifrust_model::record::{self, RecordError};
use bytes::Bytes;

use super::connection::NodeRecord;
use super::{Meta, node_from_record, node_record};

const VERSION: u8 = 1;

/// What a session waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SessionDeadline {
    /// Number of the latest connection.
    pub(crate) epoch: u64,
    /// Which of the client's sessions this is.
    pub(crate) incarnation: u64,
    /// The node whose connection is attached.
    pub(crate) owner: Option<NodeRef>,
    /// When it ends, if it is detached and ever ends.
    pub(crate) due_ms: Option<u64>,
    /// Whether rows and routes of subscriptions may differ: a change is not confirmed yet.
    pub(crate) is_unrouted: bool,
    /// Stamp of the latest change of its subscriptions.
    pub(crate) changed_at: u64,
}

/// What a will waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WillDeadline {
    /// The node whose connection set it, while that is attached.
    pub(crate) owner: Option<NodeRef>,
    /// When it is to be sent, once its connection has ended.
    pub(crate) due_ms: Option<u64>,
    /// Its delay in seconds.
    pub(crate) delay_seconds: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct SessionRecord {
    #[prost(uint64, tag = "1")]
    epoch: u64,
    #[prost(uint64, tag = "2")]
    incarnation: u64,
    #[prost(message, optional, tag = "3")]
    owner: Option<NodeRecord>,
    #[prost(uint64, optional, tag = "4")]
    due_ms: Option<u64>,
    #[prost(bool, tag = "5")]
    is_unrouted: bool,
    #[prost(uint64, tag = "6")]
    changed_at: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct WillRecord {
    #[prost(message, optional, tag = "1")]
    owner: Option<NodeRecord>,
    #[prost(uint64, optional, tag = "2")]
    due_ms: Option<u64>,
    #[prost(uint32, tag = "3")]
    delay_seconds: u32,
}

impl SessionDeadline {
    /// What a session's own row says of it.
    pub(crate) fn of(meta: &Meta) -> Self {
        Self {
            epoch: meta.epoch,
            incarnation: meta.incarnation,
            owner: meta.owner.map(|owner| owner.node),
            due_ms: meta.expires_ms,
            is_unrouted: false,
            changed_at: 0,
        }
    }

    pub(crate) fn encode(&self) -> Bytes {
        let record = SessionRecord {
            epoch: self.epoch,
            incarnation: self.incarnation,
            owner: self.owner.map(node_record),
            due_ms: self.due_ms,
            is_unrouted: self.is_unrouted,
            changed_at: self.changed_at,
        };
        record::encode(VERSION, &record)
    }

    pub(crate) fn decode(value: Bytes) -> Result<Self, RecordError> {
        let record: SessionRecord = record::decode(value, VERSION)?;
        Ok(Self {
            epoch: record.epoch,
            incarnation: record.incarnation,
            owner: record.owner.as_ref().map(node_from_record).transpose()?,
            due_ms: record.due_ms,
            is_unrouted: record.is_unrouted,
            changed_at: record.changed_at,
        })
    }
}

impl WillDeadline {
    pub(crate) fn encode(&self) -> Bytes {
        let record = WillRecord {
            owner: self.owner.map(node_record),
            due_ms: self.due_ms,
            delay_seconds: self.delay_seconds,
        };
        record::encode(VERSION, &record)
    }

    pub(crate) fn decode(value: Bytes) -> Result<Self, RecordError> {
        let record: WillRecord = record::decode(value, VERSION)?;
        Ok(Self {
            owner: record.owner.as_ref().map(node_from_record).transpose()?,
            due_ms: record.due_ms,
            delay_seconds: record.delay_seconds,
        })
    }
}

#[cfg(test)]
mod tests {
    use bifrust_model::{Incarnation, NodeId};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn they_survive_their_rows(
            numbers: [u64; 4], id: u128, due_ms: Option<u64>, delay_seconds: u32, flags: [bool; 2],
        ) {
            let node = NodeRef { id: NodeId(id), incarnation: Incarnation(numbers[0]) };
            let owner = flags[0].then_some(node);
            let session = SessionDeadline {
                epoch: numbers[1],
                incarnation: numbers[2],
                owner,
                due_ms,
                is_unrouted: flags[1],
                changed_at: numbers[3],
            };
            prop_assert_eq!(SessionDeadline::decode(session.encode()).unwrap(), session);
            let will = WillDeadline { owner, due_ms, delay_seconds };
            prop_assert_eq!(WillDeadline::decode(will.encode()).unwrap(), will);
        }

        #[test]
        fn any_bytes_are_answered(bytes: Vec<u8>) {
            let _ = SessionDeadline::decode(bytes.clone().into()); // no panic
            let _ = WillDeadline::decode(bytes.into()); // no panic
        }
    }
}
