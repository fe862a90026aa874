//! What rows and log entries look like. One file per record kind.
//!
//! The key of both rows of a topic: tenant (8 bytes), topic levels.

use bifrust_model::{TenantNumber, levels};
use bytes::Bytes;

pub(crate) mod body;
pub(crate) mod command;
pub(crate) mod meta;

/// The key of a topic's rows.
pub(crate) fn key(tenant: TenantNumber, topic: &str) -> Bytes {
    let mut key = Vec::with_capacity(topic.len() + 16);
    key.extend_from_slice(&tenant.key());
    levels::push_name(&mut key, topic);
    key.into()
}
