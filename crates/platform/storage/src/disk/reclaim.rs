//! Giving room back on a disk that is nearly full.
//!
//! Deleting rows alone frees nothing for a long time. A journal goes only when every keyspace has flushed
//! what it holds, and a keyspace that is hardly written never flushes by itself; tables with deleted rows go
//! only when a compaction merges them with the tombstones. So a store in which nothing more is admitted
//! would stay full. One pass here flushes what holds journals back or holds many tombstones, a later one
//! compacts what the flushed tombstones have emptied. Both need room before they give any, and a flush
//! that runs out of it is fatal, so each is done only if its whole output surely fits.

use std::{
    io,
    os::unix::fs::MetadataExt as _,
    sync::{Arc, Mutex, PoisonError},
};

use fjall::AbstractTree as _;

use super::{Disk, Table, engine_error, journal::active_journal};
use crate::StorageError;

/// Bytes in the active journal above which the engine moves on to the next one when it flushes.
const JOURNAL_TURN_BYTES: u64 = 64_000_000;

/// What a flush or compaction has to be good for, roughly, to be worth its tables.
const WORTH_BYTES: u64 = 1024 * 1024;

/// What a row takes in a table beside its key and value, at most.
const ROW_BYTES: u64 = 64;

/// What a table takes beside its rows, at most.
const TABLE_BYTES: u64 = 64 * 1024;

/// A compaction pays off when at least each so manieth entry of the tables is a tombstone.
const TOMBSTONE_SHARE: u64 = 4;

/// Tombstones that the last compaction of each keyspace left behind, by position: those that a snapshot
/// holds would otherwise have it compacted again and again.
#[derive(Default)]
pub(super) struct Leftovers(Mutex<Vec<u64>>);

/// How many snapshots the engine closes between two looks at which old versions someone may still read.
const SNAPSHOTS_PER_LOOK: usize = 10_000;

/// What is in a memtable.
#[derive(Default)]
struct Contents {
    /// Bytes of a table of all versions that no newer one replaces, or only one that came too late.
    kept: u64,
    tombstones: u64,
}

/// One pass with `room` bytes to use for a time.
pub(super) fn reclaim(disk: &Disk, room: u64) -> Result<(), StorageError> {
    release(disk)?;
    let settled = settle(disk);
    let flushed = flush(disk, room, &settled)?;
    // Not beside flushes: a compaction that drops the newest rows of a keyspace makes it look unflushed to
    // the journals, so those that can go should be gone before.
    let is_flushing = disk
        .tables
        .0
        .iter()
        .any(|table| table.rows.sealed_memtable_count() > 0);
    if flushed || is_flushing {
        return Ok(());
    }
    compact(disk, room, settled.is_some())?;
    release(disk)
}

/// Lets go of the tables that only reads of the past could need; the engine does so when a memtable turns.
pub(super) fn release(disk: &Disk) -> Result<(), StorageError> {
    // Reads that open from here on see at least this; there are no others.
    let visible = disk.db.visible_seqno();
    if has_reads(disk) {
        return Ok(());
    }
    for table in &disk.tables.0 {
        let mut versions = table.rows.tree.get_version_history_lock();
        versions
            .maintenance(table.rows.path(), visible)
            .map_err(|error| engine_error(error.into()))?;
    }
    Ok(())
}

/// Highest sequence number of each memtable, by position. What a version up to there replaces is left out
/// of tables.
type Settled = Vec<Option<fjall::SeqNo>>;

/// Makes the engine see which old versions no one reads any more; `None` if a read may keep some alive.
/// It looks only when a memtable turns or when so many snapshots were closed, and a memtable that is full
/// of deleted rows can only turn once their versions are known to be dead.
fn settle(disk: &Disk) -> Option<Settled> {
    let highest = |table: &Table| table.rows.tree.get_highest_memtable_seqno();
    let settled = disk.tables.0.iter().map(highest);
    let settled = settled.collect();
    // What opens later than this sees all of the above.
    let is_read = has_reads(disk);
    for _ in 0..SNAPSHOTS_PER_LOOK {
        drop(disk.db.snapshot());
    }
    (!is_read).then_some(settled)
}

/// Has memtables flushed, smallest first, while they fit; whether there were any.
fn flush(disk: &Disk, room: u64, settled: &Option<Settled>) -> Result<bool, StorageError> {
    let is_journal_due = journals_can_shrink(disk)
        .map_err(|error| StorageError::Engine(format!("journals cannot be listed: {error}")))?;
    let mut memtables: Vec<_> = disk
        .tables
        .0
        .iter()
        .enumerate()
        .map(|(at, table)| (table.rows.tree.active_memtable().size(), at, &table.rows))
        .filter(|(size, _, table)| *size > 0 && table.sealed_memtable_count() == 0)
        .collect();
    memtables.sort_by_key(|(size, ..)| *size);
    let mut left = room;
    let mut flushed = false;
    for (size, at, table) in memtables {
        let settled = settled.as_ref().and_then(|all| all.get(at).copied()?);
        let contents = contents(table, settled);
        let freed = contents
            .tombstones
            .saturating_mul(mean_row_bytes(table))
            .saturating_add(size);
        if !is_journal_due && freed < WORTH_BYTES {
            continue;
        }
        let needed = contents.kept.saturating_add(TABLE_BYTES);
        if needed > left {
            continue;
        }
        left -= needed;
        flushed |= table.rotate_memtable().map_err(engine_error)?;
    }
    Ok(flushed)
}

/// Whether a sealed journal waits for flushes, or the active one would be sealed by one.
fn journals_can_shrink(disk: &Disk) -> io::Result<bool> {
    if disk.db.journal_count() > 1 {
        return Ok(true);
    }
    let Some((_, path)) = active_journal(&disk.path)? else {
        return Ok(false);
    };
    // By its blocks: a journal has its full length from the start.
    Ok(path.metadata()?.blocks().saturating_mul(512) > JOURNAL_TURN_BYTES)
}

fn contents(table: &fjall::Keyspace, settled: Option<fjall::SeqNo>) -> Contents {
    let mut contents = Contents::default();
    let mut last: Option<(fjall::UserKey, fjall::SeqNo)> = None;
    for entry in table.tree.active_memtable().iter() {
        // Versions of a key follow each other, the newest first.
        let newer = last.take().filter(|(key, _)| *key == entry.key.user_key);
        contents.tombstones += u64::from(newer.is_none() && entry.is_tombstone());
        // The engine is sure of what lies strictly before the highest.
        let is_dropped = newer.is_some_and(|(_, seqno)| settled.is_some_and(|top| seqno < top));
        if !is_dropped {
            let bytes = entry.key.user_key.len() + entry.value.len();
            contents.kept += bytes as u64 + ROW_BYTES;
        }
        last = Some((entry.key.user_key, entry.key.seqno));
    }
    contents
}

fn mean_row_bytes(table: &fjall::Keyspace) -> u64 {
    table.disk_space() / (table.approximate_len() as u64).max(1)
}

/// Compacts the keyspaces that tombstones have emptied, where what is left of them fits.
fn compact(disk: &Disk, room: u64, is_settled: bool) -> Result<(), StorageError> {
    let mut leftovers = disk
        .leftovers
        .0
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    leftovers.resize(disk.tables.0.len(), 0);
    for (Table { keyspace, rows, .. }, leftover) in disk.tables.0.iter().zip(leftovers.iter_mut()) {
        let table = rows;
        let before = table.disk_space();
        let tombstones = table.tree.tombstone_count();
        if before < WORTH_BYTES
            || tombstones <= *leftover
            || tombstones.saturating_mul(TOMBSTONE_SHARE) < table.approximate_len() as u64
        {
            continue;
        }
        let bound = room.saturating_sub(TABLE_BYTES);
        let fits = before <= bound || (is_settled && live_fits(table, bound)?);
        if !fits {
            continue;
        }
        table.major_compact().map_err(engine_error)?;
        *leftover = table.tree.tombstone_count();
        tracing::info!(
            keyspace = keyspace.0,
            before_bytes = before,
            after_bytes = table.disk_space(),
            "compacted because free space is below its floor"
        );
    }
    Ok(())
}

/// Whether the rows that are still there take at most `bound` bytes; reads no more than that of them.
fn live_fits(table: &fjall::Keyspace, bound: u64) -> Result<bool, StorageError> {
    let mut bytes = 0_u64;
    for guard in table.iter() {
        let (key, value) = guard.into_inner().map_err(engine_error)?;
        bytes += key.len() as u64 + value.len() as u64 + ROW_BYTES;
        if bytes > bound {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether a read may keep old versions alive.
fn has_reads(disk: &Disk) -> bool {
    // Each snapshot and each open range holds the keyspaces, as does the engine itself.
    Arc::strong_count(&disk.tables) > 1
}
