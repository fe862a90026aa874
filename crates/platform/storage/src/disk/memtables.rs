//! A bound for the memtables of all keyspaces together: the engine has one for each only, and a dozen full
//! ones are more than a small machine can spare. Nor does it keep that one by itself: it turns a full
//! memtable when one of its threads has time for it, and a fast writer goes on filling it meanwhile.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use fjall::{AbstractTree as _, Database};

use super::{Tables, engine_error};
use crate::StorageError;

/// Looks at the memtables in the time that it takes to fill them.
const LOOKS: u64 = 64;

/// How often a flush that lags is looked at.
const FLUSH_LOOK: Duration = Duration::from_millis(2);

/// How long a write waits at most. A flush that takes longer has failed, and the engine will say so.
const FLUSH_WAIT: Duration = Duration::from_secs(60);

/// What may be in memtables that are written to, and as much again in those on their way to tables.
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

    /// So much was written. Has the fullest memtable flushed if all of them hold too much, and waits if
    /// flushes lag that far behind.
    pub(super) fn wrote(
        &self,
        bytes: u64,
        db: &Database,
        tables: &Tables,
    ) -> Result<(), StorageError> {
        let step = self.bytes_max / LOOKS;
        let unseen = self.unseen.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if unseen < step || self.unseen.swap(0, Ordering::Relaxed) < step {
            return Ok(());
        }
        self.turn_fullest(tables)?;
        let mut since = None;
        while db.write_buffer_size() > 2 * self.bytes_max
            && since.get_or_insert_with(Instant::now).elapsed() < FLUSH_WAIT
        {
            thread::sleep(FLUSH_LOOK);
            self.turn_fullest(tables)?;
        }
        Ok(())
    }

    fn turn_fullest(&self, tables: &Tables) -> Result<(), StorageError> {
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

#[cfg(test)]
mod tests {
    use super::super::Disk;
    use crate::{Engine as _, FjallConfig, Keyspace, WriteBatch};

    const ROWS: Keyspace = Keyspace("test.rows");

    #[test]
    fn writes_wait_for_flushes_that_lag() {
        let folder = tempfile::tempdir().unwrap();
        let bytes_max = 1 << 20;
        let config = FjallConfig {
            memtables_bytes_max: bytes_max,
            ..FjallConfig::default()
        };
        let disk = Disk::open(&folder.path().join("engine"), &[ROWS], &config).unwrap();
        let value = vec![7; 100_000];
        for n in 0..400_u32 {
            let mut batch = WriteBatch::new();
            batch.put(ROWS, n.to_be_bytes().to_vec(), value.clone());
            disk.write(batch).unwrap();
            let held = disk.db.write_buffer_size();
            assert!(held <= 2 * bytes_max + 200_000, "{held} bytes after {n}");
        }
    }
}
