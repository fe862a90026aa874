//! What a host says about itself: rows that it alone writes.

use std::{fmt, sync::Arc};

use bifrust_model::NodeRef;
use bytes::Bytes;

/// The longest name of a row, in bytes.
pub const ROW_NAME_BYTES_MAX: usize = 128;

/// The largest value of a row, in bytes.
pub const ROW_VALUE_BYTES_MAX: usize = 64 * 1024;

/// What a row is about. Load figures travel and are watched apart, so that they wake nobody who
/// looks for changes of the topology.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RowKind {
    /// A service instance on the host; written through the face for agents.
    Agent,
    /// What runs where: ranges, roles, weights.
    Topology,
    /// How busy something is; of worth only while it is fresh.
    Load,
}

/// A row's name within its owner and kind: 1 to 128 bytes of UTF-8.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RowName(Arc<str>);

/// A text that is no name of a row.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a row's name has 1 to {ROW_NAME_BYTES_MAX} bytes")]
pub struct InvalidRowName;

impl RowName {
    /// The name, if it is one.
    pub fn new(name: &str) -> Result<Self, InvalidRowName> {
        if !(1..=ROW_NAME_BYTES_MAX).contains(&name.len()) {
            return Err(InvalidRowName);
        }
        Ok(Self(name.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for RowName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which of its owner's rows.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RowKey {
    /// What it is about.
    pub kind: RowKind,
    /// Its name within the kind.
    pub name: RowName,
}

/// A row as it was last written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Who wrote it, in which incarnation; it ends with that.
    pub owner: NodeRef,
    /// Which row.
    pub key: RowKey,
    /// The owner's count of writes at this one; a later write has a higher one.
    pub sequence: u64,
    /// What it says, up to 64 KiB.
    pub value: Bytes,
}
