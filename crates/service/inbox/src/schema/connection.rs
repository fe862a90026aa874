//! Nodes and connections within records.

use bifrust_model::record::RecordError;
use bifrust_model::{Incarnation, NodeId, NodeRef};
use bifrust_session_dict::ConnectionRef;
use bytes::Bytes;

/// A node in one of its incarnations.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct NodeRecord {
    #[prost(bytes = "bytes", tag = "1")]
    id: Bytes,
    #[prost(uint64, tag = "2")]
    incarnation: u64,
}

/// A connection of a node.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ConnectionRecord {
    #[prost(message, optional, tag = "1")]
    node: Option<NodeRecord>,
    #[prost(uint32, tag = "2")]
    shard: u32,
    #[prost(uint32, tag = "3")]
    slot: u32,
    #[prost(uint32, tag = "4")]
    generation: u32,
}

pub(crate) fn node_record(node: NodeRef) -> NodeRecord {
    NodeRecord {
        id: Bytes::copy_from_slice(&node.id.0.to_be_bytes()),
        incarnation: node.incarnation.0,
    }
}

pub(crate) fn node_from_record(record: &NodeRecord) -> Result<NodeRef, RecordError> {
    let id = record.id[..]
        .try_into()
        .map_err(|_| RecordError::Invalid("node id"))?;
    Ok(NodeRef {
        id: NodeId(u128::from_be_bytes(id)),
        incarnation: Incarnation(record.incarnation),
    })
}

pub(crate) fn connection_record(connection: ConnectionRef) -> ConnectionRecord {
    ConnectionRecord {
        node: Some(node_record(connection.node)),
        shard: connection.shard.into(),
        slot: connection.slot,
        generation: connection.generation,
    }
}

pub(crate) fn connection_from_record(
    record: &ConnectionRecord,
) -> Result<ConnectionRef, RecordError> {
    let node = record.node.as_ref().ok_or(RecordError::Invalid("node"))?;
    Ok(ConnectionRef {
        node: node_from_record(node)?,
        shard: u16::try_from(record.shard).map_err(|_| RecordError::Invalid("shard"))?,
        slot: record.slot,
        generation: record.generation,
    })
}
