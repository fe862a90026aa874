//! The narrow face that both engines show.

use std::{ops::Bound, time::Instant};

use bytes::Bytes;

use crate::{Keyspace, Op, StorageError, WriteBatch};

/// Longest key in bytes. The engine on disk takes one more, which it needs for itself.
pub const KEY_BYTES_MAX: usize = 65_534;

/// Largest value in bytes; twice the largest MQTT packet.
pub const VALUE_BYTES_MAX: usize = 512 * 1024 * 1024;

/// Which way a range is walked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the lowest key up.
    Forward,
    /// From the highest key down.
    Backward,
}

/// A key and its value.
pub type Row = (Bytes, Bytes);

/// Rows in order, read as they are asked for.
pub type Rows<'a> = Box<dyn Iterator<Item = Result<Row, StorageError>> + 'a>;

/// Consistent reads.
///
/// Each `range` sees one point in time. `get` may already see a batch that another thread is just
/// writing; what needs several reads to fit together takes a snapshot. A value may share memory with the table block that it came from.
pub trait Read: Send + Sync {
    /// The row's value; `None` for keys that no row can have.
    fn get(&self, ks: Keyspace, key: &[u8]) -> Result<Option<Bytes>, StorageError>;

    /// Rows between the bounds in order; bounds that cross give none.
    fn range<'a>(
        &'a self,
        ks: Keyspace,
        start: Bound<&[u8]>,
        end: Bound<&[u8]>,
        direction: Direction,
    ) -> Rows<'a>;

    /// How many removed and replaced rows a scan of the keyspace may have to step over, roughly; 0 where they
    /// are not counted.
    fn removed(&self, _ks: Keyspace) -> u64 {
        0
    }

    /// The first row at or after `key` that is before `end`: the step of a skip-scan.
    fn seek(
        &self,
        ks: Keyspace,
        key: &[u8],
        end: Bound<&[u8]>,
    ) -> Result<Option<Row>, StorageError> {
        self.range(ks, Bound::Included(key), end, Direction::Forward)
            .next()
            .transpose()
    }
}

/// One ordered key-value engine.
pub trait Engine: Read {
    /// Applies the batch atomically over all keyspaces. It is visible to every read that starts after
    /// this returns, and not yet durable.
    fn write(&self, batch: WriteBatch) -> Result<(), StorageError>;

    /// Makes all earlier writes durable. After a crash the rows are those of a prefix of the writes that
    /// holds at least all that were synced.
    fn sync(&self) -> Result<(), StorageError>;

    /// The rows as they are now, however long the snapshot lives.
    fn snapshot(&self) -> Box<dyn Read>;

    /// Whether background work still goes well; an error is final.
    fn check(&self) -> Result<(), StorageError>;

    /// Makes one step towards giving back the room of what was deleted, using at most `room` bytes of
    /// the disk for a time. It may take long, but holds up neither writes nor syncs; there may be more to
    /// give back by the next call. Nothing to do for an engine in memory.
    fn reclaim(&self, _room: u64) -> Result<(), StorageError> {
        Ok(())
    }

    /// Whether removed rows became many since this was last asked.
    fn became_untidy(&self) -> bool {
        false
    }

    /// Whether `tidy` would find something to do at `now`.
    fn needs_tidying(&self, _now: Instant) -> bool {
        false
    }

    /// Clears away removed rows where they are in the way of scans, using at most `room` bytes of the disk
    /// for a time. It may take seconds, but holds up neither writes nor syncs.
    fn tidy(&self, _room: u64, _now: Instant) -> Result<(), StorageError> {
        Ok(())
    }

    /// Bytes that the engine occupies on disk, roughly; 0 in memory.
    fn disk_bytes(&self) -> u64;
}

/// The limits hold for both engines, so that a test in memory finds what the disk would refuse.
pub(crate) fn check_limits(op: &Op) -> Result<(), StorageError> {
    let key = op.key();
    if key.is_empty() {
        return Err(StorageError::KeyEmpty);
    }
    if key.len() > KEY_BYTES_MAX {
        return Err(StorageError::KeyTooLong { len: key.len() });
    }
    match op {
        Op::Put { value, .. } if value.len() > VALUE_BYTES_MAX => {
            Err(StorageError::ValueTooLarge { len: value.len() })
        }
        _ => Ok(()),
    }
}

/// Whether a row may have this key.
pub(crate) fn is_possible_key(key: &[u8]) -> bool {
    !key.is_empty() && key.len() <= KEY_BYTES_MAX
}

/// Where a range starts and where it ends.
pub(crate) type Bounds<'b> = (Bound<&'b [u8]>, Bound<&'b [u8]>);

/// Bounds that every engine takes: neither empty nor too long nor crossed; `None` if no row can lie
/// between them.
pub(crate) fn clamp_bounds<'b>(start: Bound<&'b [u8]>, end: Bound<&'b [u8]>) -> Option<Bounds<'b>> {
    // No row equals a bound that is longer than a key can be, and the rows after its longest possible
    // prefix are exactly the rows after it.
    let start = match start {
        Bound::Included([]) | Bound::Excluded([]) => Bound::Unbounded,
        Bound::Included(key) | Bound::Excluded(key) if key.len() > KEY_BYTES_MAX => {
            Bound::Excluded(&key[..KEY_BYTES_MAX])
        }
        bound => bound,
    };
    let end = match end {
        Bound::Included([]) | Bound::Excluded([]) => return None,
        Bound::Included(key) | Bound::Excluded(key) if key.len() > KEY_BYTES_MAX => {
            Bound::Included(&key[..KEY_BYTES_MAX])
        }
        bound => bound,
    };
    let is_empty = match (start, end) {
        (Bound::Included(start), Bound::Included(end)) => start > end,
        (Bound::Included(start) | Bound::Excluded(start), Bound::Excluded(end))
        | (Bound::Excluded(start), Bound::Included(end)) => start >= end,
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
    };
    (!is_empty).then_some((start, end))
}
