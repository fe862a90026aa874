//! The engine on disk: `fjall`, one database, one journal.
//!
//! Limits of `fjall` that it only asserts are checked here first and come back as errors.

use std::{
    fs, io,
    ops::Bound,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use fjall::{
    CompressionType, Database, KeyspaceCreateOptions, PersistMode, Readable,
    config::{CompressionPolicy, PartitioningPolicy},
};

use crate::{
    Direction, Engine, FjallConfig, Keyspace, Op, OpenError, Read, Rows, StorageError, SyncMode,
    WriteBatch,
    engine::{check_limits, clamp_bounds, is_possible_key},
    folder::sync_folder,
};

mod journal;
mod memtables;
mod reclaim;
mod tail;
mod tidy;

use journal::JournalSync;
use memtables::Memtables;
pub(crate) use tail::whole_batches;
use tidy::Removed;

/// Opens, or creates, an engine in the folder `path`.
///
/// A new engine is built beside its place and moved there when it is complete, so that a crash in the
/// middle of the first start leaves nothing that a later start could stumble over.
pub fn open_fjall(
    path: &Path,
    keyspaces: &[Keyspace],
    config: FjallConfig,
) -> Result<impl Engine + use<>, OpenError> {
    if !path
        .try_exists()
        .map_err(|error| OpenError::from_io(path, error))?
    {
        create(path, keyspaces, &config)?;
    }
    Disk::open(path, keyspaces, &config)
}

fn create(path: &Path, keyspaces: &[Keyspace], config: &FjallConfig) -> Result<(), OpenError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let unfinished = path.with_file_name(name);
    match fs::remove_dir_all(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(OpenError::from_io(unfinished, error));
        }
        _ => {}
    }
    drop(Disk::open(&unfinished, keyspaces, config)?);
    let parent = path.parent().unwrap_or_else(|| Path::new("."));
    sync_folder(&unfinished)
        .and_then(|()| fs::rename(&unfinished, path))
        .and_then(|()| sync_folder(parent))
        .map_err(|error| OpenError::from_io(path, error))
}

struct Disk {
    /// Each open read holds a clone, by which `reclaim` knows of it.
    tables: Arc<Tables>,
    db: Database,
    path: PathBuf,
    journal: JournalSync,
    sync: SyncMode,
    leftovers: reclaim::Leftovers,
    journal_bytes_max: u64,
    memtables: Memtables,
    /// When journals were last helped to go.
    journals_freed: Mutex<Option<Instant>>,
    /// Whether removed rows became many since someone asked.
    is_untidy: AtomicBool,
}

/// The opened keyspaces; a dozen, so a walk over them beats a hash.
struct Tables(Vec<Table>);

/// An opened keyspace.
struct Table {
    keyspace: Keyspace,
    rows: fjall::Keyspace,
    /// Where removed rows are in the way of scans.
    removed: Option<Removed>,
}

impl Tables {
    fn find(&self, ks: Keyspace) -> Result<&Table, StorageError> {
        let is_same = |table: &&Table| std::ptr::eq(table.keyspace.0, ks.0);
        self.0
            .iter()
            .find(is_same)
            .or_else(|| self.0.iter().find(|table| table.keyspace == ks))
            .ok_or(StorageError::UnknownKeyspace(ks.0))
    }

    fn rows(&self, ks: Keyspace) -> Result<&fjall::Keyspace, StorageError> {
        self.find(ks).map(|table| &table.rows)
    }

    fn removed(&self, ks: Keyspace) -> u64 {
        let removed = self.find(ks).ok().and_then(|table| table.removed.as_ref());
        removed.map_or(0, Removed::count)
    }

    fn counted(&self) -> impl Iterator<Item = (&Table, &Removed)> {
        self.0
            .iter()
            .filter_map(|table| Some((table, table.removed.as_ref()?)))
    }
}

impl Disk {
    fn open(path: &Path, keyspaces: &[Keyspace], config: &FjallConfig) -> Result<Self, OpenError> {
        let (db, opened) = match open_database(path, keyspaces, config) {
            Err(fjall::Error::JournalRecovery(_)) if cut_tail(path)? => {
                open_database(path, keyspaces, config)
            }
            opened => opened,
        }
        .map_err(|error| open_error(path, error))?;
        // The engine makes a folder for each keyspace and syncs what is in it, but not its name.
        let names = path.join("keyspaces");
        sync_folder(&names).map_err(|error| OpenError::from_io(names, error))?;
        let tables = opened.into_iter().map(|(keyspace, rows)| {
            let is_counted = config.scanned.contains(&keyspace);
            let removed = is_counted.then(|| Removed::found(&rows));
            Table {
                keyspace,
                rows,
                removed,
            }
        });
        Ok(Self {
            tables: Arc::new(Tables(tables.collect())),
            db,
            path: path.to_owned(),
            journal: JournalSync::new(path.to_owned()),
            sync: config.sync,
            leftovers: reclaim::Leftovers::default(),
            journal_bytes_max: config.journal_bytes_max,
            memtables: Memtables::within(config.memtables_bytes_max),
            journals_freed: Mutex::default(),
            is_untidy: AtomicBool::new(false),
        })
    }

    fn journals_freed_at(&self, now: Instant) {
        *self.freed() = Some(now);
    }

    fn were_journals_freed_after(&self, now: Instant, gap: Duration) -> bool {
        self.freed().is_some_and(|before| now < before + gap)
    }

    fn freed(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        let freed = self.journals_freed.lock();
        freed.unwrap_or_else(PoisonError::into_inner)
    }
}

type OpenedTables = Vec<(Keyspace, fjall::Keyspace)>;

/// Cuts a torn tail off the journal that was being written at the crash; false if it has none.
fn cut_tail(path: &Path) -> Result<bool, OpenError> {
    let cut = || match journal::active_journal(path)? {
        Some((_, journal)) => tail::cut(&journal),
        None => Ok(false),
    };
    cut().map_err(|error| OpenError::from_io(path, error))
}

fn open_database(
    path: &Path,
    keyspaces: &[Keyspace],
    config: &FjallConfig,
) -> fjall::Result<(Database, OpenedTables)> {
    // Some damage makes the engine panic rather than answer; both mean the same to an operator.
    catch_unwind(AssertUnwindSafe(|| {
        try_open_database(path, keyspaces, config)
    }))
    .unwrap_or(Err(fjall::Error::Unrecoverable))
}

fn try_open_database(
    path: &Path,
    keyspaces: &[Keyspace],
    config: &FjallConfig,
) -> fjall::Result<(Database, OpenedTables)> {
    let db = Database::builder(path)
        .cache_size(config.cache_bytes)
        // The journal's buffer goes to the system in `sync`, not once per batch.
        .manual_journal_persist(true)
        .max_journaling_size(config.journal_bytes_max.max(64 * 1024 * 1024))
        .worker_threads(config.background_threads.max(1))
        .open()?;
    let options = |ks: &Keyspace| {
        let mut options = KeyspaceCreateOptions::default()
            .manual_journal_persist(true)
            .max_memtable_size(config.memtable_bytes)
            .data_block_compression_policy(CompressionPolicy::all(CompressionType::Lz4));
        if !config.scanned.contains(ks) {
            // While a table is written its index holds on to a key of each block that was read for it, and
            // so to those blocks. One in parts lets them go part by part: blocks of large rows add up.
            options.index_block_partitioning_policy = PartitioningPolicy::all(true);
        }
        options
    };
    let tables = keyspaces
        .iter()
        .map(|ks| Ok((*ks, db.keyspace(ks.0, || options(ks))?)))
        .collect::<fjall::Result<_>>()?;
    Ok((db, tables))
}

fn open_error(path: &Path, error: fjall::Error) -> OpenError {
    match error {
        fjall::Error::Locked => OpenError::Locked {
            path: path.to_owned(),
            pid: None,
        },
        fjall::Error::Io(source) => io_or_damaged(path, source),
        fjall::Error::Storage(fjall::LsmError::Io(source)) => io_or_damaged(path, source),
        other => damaged(path, &format!("{other:?}")),
    }
}

fn io_or_damaged(path: &Path, source: io::Error) -> OpenError {
    match source.kind() {
        // What the engine's own records promise is missing, cut short or senseless.
        io::ErrorKind::NotFound
        | io::ErrorKind::UnexpectedEof
        | io::ErrorKind::InvalidData
        | io::ErrorKind::AlreadyExists => damaged(path, &source.to_string()),
        _ => OpenError::from_io(path, source),
    }
}

fn damaged(path: &Path, what: &str) -> OpenError {
    OpenError::Damaged {
        what: format!("the engine in {} does not open: {what}", path.display()),
        mend: "restore the data folder from a backup, or move it away to start empty".to_owned(),
    }
}

fn engine_error(error: fjall::Error) -> StorageError {
    match error {
        fjall::Error::Io(source) => StorageError::Engine(source.to_string()),
        fjall::Error::Poisoned => {
            StorageError::Engine("an earlier write, flush or compaction failed".to_owned())
        }
        other => StorageError::Engine(format!("{other:?}")),
    }
}

impl Read for Disk {
    fn get(&self, ks: Keyspace, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        let table = self.tables.rows(ks)?;
        if !is_possible_key(key) {
            return Ok(None);
        }
        Ok(table.get(key).map_err(engine_error)?.map(Bytes::from))
    }

    fn range<'a>(
        &'a self,
        ks: Keyspace,
        start: Bound<&[u8]>,
        end: Bound<&[u8]>,
        direction: Direction,
    ) -> Rows<'a> {
        let table = match self.tables.rows(ks) {
            Ok(table) => table,
            Err(error) => return Box::new(std::iter::once(Err(error))),
        };
        let tables = self.tables.clone(); // First, so that no open read goes uncounted.
        match clamp_bounds(start, end) {
            // Through a snapshot: a keyspace's own range also shows what is written while it runs.
            Some(bounds) => rows(
                self.db.snapshot().range::<&[u8], _>(table, bounds),
                direction,
                tables,
            ),
            None => Box::new(std::iter::empty()),
        }
    }

    fn removed(&self, ks: Keyspace) -> u64 {
        self.tables.removed(ks)
    }
}

fn rows<'a>(iter: fjall::Iter, direction: Direction, tables: Arc<Tables>) -> Rows<'a> {
    let row = move |guard: fjall::Guard| {
        let _open = &tables; // Counted by `reclaim` as a read that is under way.
        let (key, value) = guard.into_inner().map_err(engine_error)?;
        Ok((Bytes::from(key), Bytes::from(value)))
    };
    match direction {
        Direction::Forward => Box::new(iter.map(row)),
        Direction::Backward => Box::new(iter.rev().map(row)),
    }
}

impl Engine for Disk {
    fn write(&self, batch: WriteBatch) -> Result<(), StorageError> {
        for op in batch.iter() {
            check_limits(op)?;
        }
        let bytes = batch.bytes() as u64;
        let mut changes = fjall::OwnedWriteBatch::with_capacity(self.db.clone(), batch.len());
        for op in batch.into_ops() {
            let Table { rows, removed, .. } = self.tables.find(op.keyspace())?;
            let removed = removed.as_ref();
            let became_untidy = match op {
                Op::Put { key, value, .. } => {
                    let is_many = removed.is_some_and(|removed| removed.add_put(rows, &key));
                    changes.insert(rows, key, value);
                    is_many
                }
                Op::Delete { key, .. } => {
                    changes.remove(rows, key);
                    removed.is_some_and(Removed::add)
                }
            };
            if became_untidy {
                self.is_untidy.store(true, Ordering::Relaxed);
            }
        }
        changes.commit().map_err(engine_error)?;
        self.memtables.wrote(bytes, &self.db, &self.tables)
    }

    fn sync(&self) -> Result<(), StorageError> {
        // `persist` holds the journal's lock while it waits for the disk, and every write needs that
        // lock. So under the lock only the buffer is handed to the system, and the wait happens in
        // `JournalSync`, on a file handle of our own: writes go on meanwhile, at no cost per row.
        self.db.persist(PersistMode::Buffer).map_err(engine_error)?;
        match self.sync {
            SyncMode::NoneForTests => Ok(()),
            SyncMode::Fsync => self
                .journal
                .sync()
                .map_err(|error| StorageError::Engine(format!("journal sync failed: {error}"))),
        }
    }

    fn snapshot(&self) -> Box<dyn Read> {
        let tables = self.tables.clone(); // First, so that no open read goes uncounted.
        Box::new(DiskSnapshot {
            snapshot: self.db.snapshot(),
            tables,
        })
    }

    fn check(&self) -> Result<(), StorageError> {
        // The only public way to learn that a background flush or compaction failed.
        self.db.persist(PersistMode::Buffer).map_err(engine_error)
    }

    fn reclaim(&self, room: u64) -> Result<(), StorageError> {
        reclaim::reclaim(self, room)
    }

    fn became_untidy(&self) -> bool {
        self.is_untidy.load(Ordering::Relaxed) && self.is_untidy.swap(false, Ordering::Relaxed)
    }

    fn needs_tidying(&self, now: Instant) -> bool {
        tidy::is_due(self, now)
    }

    fn tidy(&self, room: u64, now: Instant) -> Result<(), StorageError> {
        tidy::tidy(self, room, now)
    }

    fn disk_bytes(&self) -> u64 {
        self.db.disk_space().unwrap_or_default()
    }
}

struct DiskSnapshot {
    snapshot: fjall::Snapshot,
    tables: Arc<Tables>,
}

impl Read for DiskSnapshot {
    fn get(&self, ks: Keyspace, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        let table = self.tables.rows(ks)?;
        if !is_possible_key(key) {
            return Ok(None);
        }
        Ok(self
            .snapshot
            .get(table, key)
            .map_err(engine_error)?
            .map(Bytes::from))
    }

    fn range<'a>(
        &'a self,
        ks: Keyspace,
        start: Bound<&[u8]>,
        end: Bound<&[u8]>,
        direction: Direction,
    ) -> Rows<'a> {
        let table = match self.tables.rows(ks) {
            Ok(table) => table,
            Err(error) => return Box::new(std::iter::once(Err(error))),
        };
        match clamp_bounds(start, end) {
            Some(bounds) => rows(
                self.snapshot.range::<&[u8], _>(table, bounds),
                direction,
                self.tables.clone(),
            ),
            None => Box::new(std::iter::empty()),
        }
    }

    fn removed(&self, ks: Keyspace) -> u64 {
        self.tables.removed(ks)
    }
}
