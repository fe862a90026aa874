//! A bound for the memtables of all keyspaces together: the engine has one for each only, and a dozen full
//! ones are more than a small machine can spare.

use std::sync::atomic::{AtomicU64, Ordering};

use fjall::AbstractTree as _;

use super::{Tables, engine_error};
use crate::StorageError;

/// Looks at the memtables in the time that it takes to fill them.
const LOOKS: u64 = 64;

/// What may be in memtables that are written to.
#[derive(Debug)]
pub(super) struct Memtables {
    bytes_max: u64,
    /// Written since the last look.
    unseen: AtomicU64,
}

impl Memtables {
    pub(super) fn within(bytes_max: u64) -> Self {
        Self {
            bytes_max,
            unseen: AtomicU64::new(0),
        }
    }

    /// So much was written. Has the fullest memtable flushed if all of them hold too much.
    pub(super) fn wrote(&self, bytes: u64, tables: &Tables) -> Result<(), StorageError> {
        let step = self.bytes_max / LOOKS;
        let unseen = self.unseen.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if unseen < step || self.unseen.swap(0, Ordering::Relaxed) < step {
            return Ok(());
        }
        let sizes = tables.0.iter().map(|table| {
            let size = table.rows.tree.active_memtable().size();
            (size, &table.rows)
        });
        let (mut sum, mut fullest) = (0, None);
        for (size, rows) in sizes {
            sum += size;
            if fullest.is_none_or(|(most, _)| size > most) {
                fullest = Some((size, rows));
            }
        }
        match fullest {
            // One whose predecessor still waits for its flush turns after that.
            Some((_, rows)) if sum > self.bytes_max && rows.sealed_memtable_count() == 0 => {
                rows.rotate_memtable().map_err(engine_error).map(|_| ())
            }
            _ => Ok(()),
        }
    }
}
