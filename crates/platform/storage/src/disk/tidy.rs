//! Clearing away what removed rows leave behind.
//!
//! Removing a row writes a tombstone, replacing one leaves the old version, and whoever scans steps over both
//! one by one. The engine drops them when a full memtable is flushed and its tables are compacted; a keyspace
//! of small rows that come and go would gather hundreds of thousands of them before. So in the keyspaces that
//! are scanned such rows are counted, and when there are many the memtable is turned early and its tables are
//! compacted, both on a thread of its own and at a bounded share of its time.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use fjall::AbstractTree as _;

use super::{Disk, Table, engine_error, reclaim};
use crate::{KEY_BYTES_MAX, StorageError};

/// Removed rows that a memtable may hold for a while.
const SOME: u64 = 1_024;

/// How long it may hold more than that.
const SOME_GAP: Duration = Duration::from_secs(2);

/// Removed rows that make a memtable turn at once.
const MANY: u64 = 8_192;

/// Of so many rows that are put one is looked at, whether it replaces another.
const PUTS_PER_LOOK: u64 = 16;

/// Tables are compacted if at least each so manieth row is a removed one.
const REMOVED_SHARE: u64 = 64;

/// Larger keyspaces are left to the engine's own compaction, so that one step lasts seconds at most.
const COMPACTED_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// After a compaction the keyspace is left alone for so many times as long as it took.
const REST: u32 = 20;

/// Tables that wait for the engine's own compaction. With more it would hold up writes.
const WAITING_TABLES_MAX: usize = 8;

/// How long a flush is waited for; if it takes longer, the rest is done another time.
const FLUSH_WAIT: Duration = Duration::from_secs(2);

/// How often a flush is looked at.
const FLUSH_LOOK: Duration = Duration::from_millis(5);

/// Length of a journal when the engine moves on to the next, roughly.
const JOURNAL_BYTES: u64 = 64_000_000;

/// Journals beyond the configured ones that mean that something holds them back for good.
const SPARE_JOURNALS: u64 = 4;

/// How long after an attempt to let journals go the next may follow.
const JOURNAL_GAP: Duration = Duration::from_secs(10);

/// Removed and replaced rows of one keyspace that a scan may have to step over.
#[derive(Default)]
pub(super) struct Removed {
    /// Since the memtable was last turned here; replaced ones are among them.
    in_memtable: AtomicU64,
    /// Puts, to look at some of them.
    puts: AtomicU64,
    /// In tables, and in memtables on their way there, as of the last look.
    in_tables: AtomicU64,
    pace: Mutex<Pace>,
}

#[derive(Default)]
struct Pace {
    turned_at: Option<Instant>,
    compact_from: Option<Instant>,
}

impl Removed {
    /// Counts those that a start finds in the memtable.
    pub(super) fn found(table: &fjall::Keyspace) -> Self {
        let memtable = table.tree.active_memtable();
        let mut in_memtable = 0;
        let mut last = None;
        for entry in memtable.iter() {
            let is_replaced = last.as_ref() == Some(&entry.key.user_key);
            in_memtable += u64::from(is_replaced || entry.is_tombstone());
            last = Some(entry.key.user_key);
        }
        Self {
            in_memtable: AtomicU64::new(in_memtable),
            puts: AtomicU64::new(0),
            in_tables: AtomicU64::new(table.tree.tombstone_count()),
            pace: Mutex::default(),
        }
    }

    /// Counts one more; whether it makes the memtable due to be turned.
    pub(super) fn add(&self) -> bool {
        self.add_some(1)
    }

    /// Counts a row that is put if it replaces one, by looking at some; whether it makes the memtable due to
    /// be turned. The old version stays as much in the way as a removed row.
    pub(super) fn add_put(&self, rows: &fjall::Keyspace, key: &[u8]) -> bool {
        let puts = self.puts.fetch_add(1, Ordering::Relaxed);
        puts.is_multiple_of(PUTS_PER_LOOK)
            // An error here meets the write itself as well.
            && rows.contains_key(key).unwrap_or_default()
            && self.add_some(PUTS_PER_LOOK)
    }

    fn add_some(&self, some: u64) -> bool {
        let before = self.in_memtable.fetch_add(some, Ordering::Relaxed);
        before < MANY && before + some >= MANY
    }

    /// How many there are, roughly.
    pub(super) fn count(&self) -> u64 {
        self.in_memtable.load(Ordering::Relaxed) + self.in_tables.load(Ordering::Relaxed)
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks again how many are in tables: the engine compacts by itself as well.
    fn look(&self, rows: &fjall::Keyspace) {
        let in_tables = rows.tree.tombstone_count();
        self.in_tables.store(in_tables, Ordering::Relaxed);
    }

    fn is_turn_due(&self, rows: &fjall::Keyspace, now: Instant) -> bool {
        let count = self.in_memtable.load(Ordering::Relaxed);
        let is_early = || {
            let turned_at = self.pace().turned_at;
            turned_at.is_some_and(|before| now < before + SOME_GAP)
        };
        (count >= MANY || (count >= SOME && !is_early()))
            && rows.sealed_memtable_count() == 0
            && rows.l0_table_count() < WAITING_TABLES_MAX
    }

    fn is_compaction_due(&self, rows: &fjall::Keyspace, now: Instant) -> bool {
        let count = self.in_tables.load(Ordering::Relaxed);
        count >= SOME
            && count >= rows.approximate_len() as u64 / REMOVED_SHARE
            && rows.disk_space() <= COMPACTED_BYTES_MAX
            && self.pace().compact_from.is_none_or(|from| from <= now)
    }
}

/// Whether there is something to do at `now`.
pub(super) fn is_due(disk: &Disk, now: Instant) -> bool {
    disk.tables.counted().any(|(table, removed)| {
        removed.look(&table.rows);
        removed.is_turn_due(&table.rows, now) || removed.is_compaction_due(&table.rows, now)
    }) || are_journals_stuck(disk, now)
}

/// Does what is due at `now`, with `room` bytes of the disk to use for a time.
pub(super) fn tidy(disk: &Disk, room: u64, now: Instant) -> Result<(), StorageError> {
    for (table, removed) in disk.tables.counted() {
        let rows = &table.rows;
        let is_turn_due = removed.is_turn_due(rows, now);
        if is_turn_due || removed.is_compaction_due(rows, now) {
            removed.pace().turned_at = Some(now);
            let turned = removed.in_memtable.swap(0, Ordering::Relaxed);
            removed.in_tables.fetch_add(turned, Ordering::Relaxed);
            if !turn(rows)? {
                continue;
            }
            removed.look(rows);
        }
        // Two copies for a time, and the versions that are flushed meanwhile.
        let fits = rows.disk_space() <= room / 2;
        if fits && removed.is_compaction_due(rows, now) {
            compact(table, removed, now)?;
        }
    }
    if are_journals_stuck(disk, now) {
        disk.journals_freed_at(now);
        free_journals(disk)?;
    }
    reclaim::release(disk)
}

fn compact(table: &Table, removed: &Removed, now: Instant) -> Result<(), StorageError> {
    let before = removed.in_tables.load(Ordering::Relaxed);
    let begun = Instant::now();
    table.rows.major_compact().map_err(engine_error)?;
    let took = begun.elapsed();
    removed.look(&table.rows);
    removed.pace().compact_from = Some(now + took * REST);
    tracing::debug!(
        keyspace = table.keyspace.0,
        removed = before,
        left = removed.in_tables.load(Ordering::Relaxed),
        ?took,
        "compacted because of removed rows"
    );
    Ok(())
}

/// Has the memtable flushed; whether that came to its end.
fn turn(rows: &fjall::Keyspace) -> Result<bool, StorageError> {
    touch(rows)?;
    rows.rotate_memtable().map_err(engine_error)?;
    let begun = Instant::now();
    while rows.sealed_memtable_count() > 0 {
        if begun.elapsed() > FLUSH_WAIT {
            return Ok(false);
        }
        thread::sleep(FLUSH_LOOK);
    }
    Ok(true)
}

/// Removes a row that cannot be there. Turning an empty memtable does nothing, and neither finds out which
/// old versions no one reads any more nor makes the keyspace look flushed.
fn touch(rows: &fjall::Keyspace) -> Result<(), StorageError> {
    rows.remove(vec![0xFF; KEY_BYTES_MAX + 1])
        .map_err(engine_error)
}

/// Whether there are more journals than the engine tolerates when it can let them go.
fn are_journals_stuck(disk: &Disk, now: Instant) -> bool {
    let usual = disk.journal_bytes_max / JOURNAL_BYTES + SPARE_JOURNALS;
    disk.db.journal_count() as u64 > usual && !disk.were_journals_freed_after(now, JOURNAL_GAP)
}

/// Lets go of journals whose rows are all in tables. A compaction that drops the newest rows of a keyspace
/// makes it look unflushed to the journals that hold them; if nothing is written there any more, they and all
/// journals after them would stay for good.
fn free_journals(disk: &Disk) -> Result<(), StorageError> {
    for table in &disk.tables.0 {
        let rows = &table.rows;
        if rows.tree.active_memtable().is_empty() && rows.sealed_memtable_count() == 0 {
            turn(rows)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
