//! How a store is opened.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use crate::Keyspace;

const MIB: u64 = 1024 * 1024;
/// Memtables under flush and the tables of one compaction.
const ENGINE_ROOM: u64 = 128 * MIB;

/// Settings of a store on disk.
#[derive(Clone, Debug)]
pub struct Config {
    /// The data folder; it is created if missing.
    pub data_dir: PathBuf,
    /// Settings of the engine.
    pub engine: FjallConfig,
    /// Bytes written and not yet synced above which `write` blocks. More rides out slow syncs, less
    /// bounds memory; 1 MiB to 1 GiB is sane.
    pub unsynced_bytes_max: usize,
    /// Shortest time from the start of one sync to the next. A sync costs the processor as much as dozens
    /// of rows, so under load more rows per sync is cheaper; a lone write is synced at once either way.
    /// 0 to 10 ms; it adds to the time that a durable write takes under load.
    pub sync_gap: Duration,
    /// Free bytes on the disk below which the store no longer admits writes.
    pub free_space_floor: FreeSpaceFloor,
    /// What to do when nothing can be acknowledged any more.
    pub on_fatal: FatalHandler,
}

impl Config {
    /// Defaults for the folder `data_dir`.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            engine: FjallConfig::default(),
            unsynced_bytes_max: 64 * 1024 * 1024,
            sync_gap: Duration::from_millis(1),
            free_space_floor: FreeSpaceFloor::default(),
            on_fatal: FatalHandler::default(),
        }
    }
}

/// Settings of the engine on disk.
#[derive(Clone, Debug)]
pub struct FjallConfig {
    /// Cache of table blocks. More saves reads of cold rows; a fifth of the memory is the ceiling.
    pub cache_bytes: u64,
    /// Recent rows held in memory per keyspace before they go to a table. More means fewer, larger
    /// tables and a longer restart; 1 to 128 MiB.
    pub memtable_bytes: u64,
    /// Recent rows held in memory in all keyspaces; above it the fullest one goes to a table early. What
    /// is on its way there comes on top, up to as much again: then writes wait; at least `memtable_bytes`.
    pub memtables_bytes_max: u64,
    /// Journals on disk above which the keyspaces that hold the oldest one back are flushed. More means
    /// fewer flushes and a longer restart; at least 64 MiB.
    pub journal_bytes_max: u64,
    /// Threads that flush and compact; at least 2, so that a flush never waits for a compaction.
    pub background_threads: usize,
    /// Keyspaces of small rows that come and go and are scanned: removed and replaced rows, which a scan would
    /// step over one by one, are cleared away there soon.
    pub scanned: Vec<Keyspace>,
    /// Whether syncs reach the disk.
    pub sync: SyncMode,
}

impl Default for FjallConfig {
    fn default() -> Self {
        Self {
            cache_bytes: 64 * MIB,
            memtable_bytes: 32 * MIB,
            memtables_bytes_max: 256 * MIB,
            journal_bytes_max: 128 * MIB,
            background_threads: 2,
            scanned: Vec::new(),
            sync: SyncMode::Fsync,
        }
    }
}

/// Whether syncs reach the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncMode {
    /// Each sync waits for the disk.
    Fsync,
    /// Syncs end in the page cache. Loses acknowledged data with the power; only there so that the
    /// durability test can show that it would notice.
    NoneForTests,
}

/// Free bytes on the disk below which the store no longer admits writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FreeSpaceFloor {
    /// 5 % of the file system or 512 MiB, whichever is smaller; but the engine's own room
    /// (128 MiB, or half of a smaller file system): it flushes and compacts what was admitted
    /// before, and meets a full disk otherwise.
    #[default]
    Standard,
    /// So many bytes; 0 admits always.
    Bytes(u64),
}

impl FreeSpaceFloor {
    /// The floor on a file system of `total` bytes.
    pub(crate) fn bytes(self, total: u64) -> u64 {
        match self {
            Self::Standard => (total / 20).max(ENGINE_ROOM.min(total / 2)).min(512 * MIB),
            Self::Bytes(bytes) => bytes,
        }
    }
}

/// Called once with a message when the store can acknowledge nothing any more.
#[derive(Clone)]
pub struct FatalHandler(Arc<dyn Fn(&str) + Send + Sync>);

impl FatalHandler {
    /// A handler of the caller's; it may return, the store then refuses everything.
    pub fn new(handler: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self(Arc::new(handler))
    }

    pub(crate) fn call(&self, message: &str) {
        (self.0)(message);
    }
}

impl Default for FatalHandler {
    /// Says it on stderr and ends the process with exit code 1.
    fn default() -> Self {
        Self::new(|message| {
            // Straight to stderr: the log may be buffered, and nothing runs after this.
            eprintln!("bifrust: fatal storage failure: {message}");
            std::process::exit(1);
        })
    }
}

impl fmt::Debug for FatalHandler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FatalHandler")
    }
}
