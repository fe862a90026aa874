//! What one atomic write consists of.

use bytes::Bytes;

/// A named column of the engine; the set is fixed when the store opens.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Keyspace(pub &'static str);

/// One change to one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Insert the row or replace its value.
    Put {
        /// The column.
        ks: Keyspace,
        /// The row's key.
        key: Bytes,
        /// The row's new value.
        value: Bytes,
    },
    /// Remove the row if it is there.
    Delete {
        /// The column.
        ks: Keyspace,
        /// The row's key.
        key: Bytes,
    },
}

/// Changes that become visible and durable together; a later one to the same row wins.
///
/// Keys and values are kept as handed in, without a copy: a small slice of a large buffer keeps that
/// buffer in memory until the engine has written the row to a table, so copy such slices first.
#[derive(Clone, Debug, Default)]
pub struct WriteBatch {
    ops: Vec<Op>,
    bytes: usize,
}

/// Bookkeeping that each change costs beside its key and value.
const OP_OVERHEAD_BYTES: usize = 16;

impl WriteBatch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty batch with room for `ops` changes.
    pub fn with_capacity(ops: usize) -> Self {
        Self {
            ops: Vec::with_capacity(ops),
            bytes: 0,
        }
    }

    /// Inserts or replaces a row.
    pub fn put(&mut self, ks: Keyspace, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        let (key, value) = (key.into(), value.into());
        self.bytes += key.len() + value.len() + OP_OVERHEAD_BYTES;
        self.ops.push(Op::Put { ks, key, value });
    }

    /// Removes a row.
    pub fn delete(&mut self, ks: Keyspace, key: impl Into<Bytes>) {
        let key = key.into();
        self.bytes += key.len() + OP_OVERHEAD_BYTES;
        self.ops.push(Op::Delete { ks, key });
    }

    /// Number of changes.
    pub fn len(&self) -> usize {
        self.ops.len()
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Approximate size of the changes in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The changes in order.
    pub fn iter(&self) -> impl Iterator<Item = &Op> {
        self.ops.iter()
    }

    /// Forgets all changes, keeps the room.
    pub fn clear(&mut self) {
        self.ops.clear();
        self.bytes = 0;
    }

    /// Moves the changes of `other` behind these; `other` is empty afterwards.
    pub fn append(&mut self, other: &mut Self) {
        self.ops.append(&mut other.ops);
        self.bytes += std::mem::take(&mut other.bytes);
    }

    pub(crate) fn into_ops(self) -> Vec<Op> {
        self.ops
    }
}

impl Op {
    /// The column that the change concerns.
    pub fn keyspace(&self) -> Keyspace {
        match self {
            Self::Put { ks, .. } | Self::Delete { ks, .. } => *ks,
        }
    }

    /// The row's key.
    pub fn key(&self) -> &Bytes {
        match self {
            Self::Put { key, .. } | Self::Delete { key, .. } => key,
        }
    }
}
