//! An engine with the thread that syncs it.
//!
//! Many writes, one sync: while the writer thread waits for the disk, further writes gather, and the
//! next sync covers all of them. A lone write is synced at once; syncs that would follow each other
//! closer than the sync gap wait for more to gather, because a sync costs as much as dozens of rows.

use std::{
    mem,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle, ThreadId},
    time::Duration,
};

use crate::{
    Config, Engine, FatalHandler, FreeSpaceFloor, Keyspace, Manifest, OpenError, Read,
    StorageError, WriteBatch,
    folder::{self, FolderLock},
    open_fjall, open_memory,
    space::{self, SpaceProbe},
};

mod writer;

#[cfg(test)]
mod tests;

use writer::{FloorWatch, Writer};

/// Called once on the writer thread after the sync that covers the write. It should only hand the news
/// on: while it runs nothing is synced. Dropped uncalled if the store fails first.
pub type Done = Box<dyn FnOnce() + Send>;

const ENGINE_FOLDER: &str = "engine";

/// An engine and the writer thread that groups its syncs; cheap to clone.
///
/// Dropping the last clone shuts the store down.
#[derive(Clone)]
pub struct Store {
    owner: Arc<Owner>,
}

struct Owner {
    shared: Arc<Shared>,
    manifest: Manifest,
    is_disk: bool,
    writer: Mutex<Option<JoinHandle<()>>>,
    writer_id: ThreadId,
}

/// What the handles and the writer thread share.
struct Shared {
    engine: Box<dyn Engine>,
    queue: Mutex<Queue>,
    /// The writer waits here for writes.
    work: Condvar,
    /// Writes wait here while too much is unsynced.
    room: Condvar,
    /// Bytes written, or about to be, and not yet synced.
    unsynced: AtomicUsize,
    unsynced_max: usize,
    admits: AtomicBool,
    /// Removed rows became many since the writer last looked after the engine.
    is_untidy: AtomicBool,
    failed: AtomicBool,
    /// Set under the queue's lock.
    closed: AtomicBool,
    on_fatal: FatalHandler,
    /// Last, so that the folder is given up after the engine is closed.
    _lock: Option<FolderLock>,
}

#[derive(Default)]
struct Queue {
    /// In the order of their writes.
    done: Vec<Done>,
    /// Bytes of all writes since the writer last looked.
    bytes: usize,
    /// Sync even if no one waits to hear of it.
    wants_sync: bool,
    writer_sleeps: bool,
}

impl Store {
    /// Opens the data folder, creating it if it is missing, and starts the writer thread.
    pub fn open(config: Config, keyspaces: &[Keyspace]) -> Result<Self, OpenError> {
        let probe = space::probe(config.data_dir.clone());
        Self::open_with_probe(config, keyspaces, probe)
    }

    fn open_with_probe(
        config: Config,
        keyspaces: &[Keyspace],
        probe: SpaceProbe,
    ) -> Result<Self, OpenError> {
        let Config {
            data_dir,
            engine,
            unsynced_bytes_max,
            sync_gap,
            free_space_floor,
            on_fatal,
        } = config;
        let lock = folder::lock(&data_dir)?;
        let engine_path = data_dir.join(ENGINE_FOLDER);
        let has_data = engine_path
            .try_exists()
            .map_err(|error| OpenError::from_io(&engine_path, error))?;
        let manifest = Manifest::advance(&data_dir, has_data)?;
        let engine = open_fjall(&engine_path, keyspaces, engine)?;
        let shared = Shared {
            _lock: Some(lock),
            ..Shared::new(Box::new(engine), unsynced_bytes_max, on_fatal)
        };
        Self::start(
            shared,
            manifest,
            sync_gap,
            Some(FloorWatch::new(probe, free_space_floor)),
        )
        .map_err(|error| OpenError::from_io(data_dir, error))
    }

    /// A store that forgets everything with the process.
    pub fn memory(keyspaces: &[Keyspace]) -> Self {
        let defaults = Config::new("");
        let engine = Box::new(open_memory(keyspaces));
        let shared = Shared::new(engine, defaults.unsynced_bytes_max, defaults.on_fatal);
        Self::start(shared, Manifest::ephemeral(), Duration::ZERO, None)
            .expect("a thread starts unless the process is out of them")
    }

    fn start(
        shared: Shared,
        manifest: Manifest,
        sync_gap: Duration,
        floor: Option<FloorWatch>,
    ) -> std::io::Result<Self> {
        let is_disk = floor.is_some();
        let shared = Arc::new(shared);
        let mut writer = Writer::new(shared.clone(), sync_gap, floor);
        writer.look_after();
        let thread = thread::Builder::new()
            .name("storage-writer".to_owned())
            .spawn(move || writer.run())?;
        let writer_id = thread.thread().id();
        let writer = Mutex::new(Some(thread));
        Ok(Self {
            owner: Arc::new(Owner {
                shared,
                manifest,
                is_disk,
                writer,
                writer_id,
            }),
        })
    }

    /// The rows as they are when each read is made.
    pub fn read(&self) -> &dyn Read {
        &*self.owner.shared.engine
    }

    /// The rows as they are now.
    pub fn snapshot(&self) -> Box<dyn Read> {
        self.owner.shared.engine.snapshot()
    }

    /// Writes a batch: visible to every read that starts after this returns. `done` follows on the
    /// writer thread once the batch is durable, in the order of the writes. Blocks while too much is
    /// unsynced. On an error `done` is dropped uncalled.
    pub fn write(&self, batch: WriteBatch, done: Done) -> Result<(), StorageError> {
        self.write_batch(batch, Some(done))
    }

    /// Writes a batch that becomes durable with whatever syncs next.
    pub fn write_unsynced(&self, batch: WriteBatch) -> Result<(), StorageError> {
        self.write_batch(batch, None)
    }

    fn write_batch(&self, batch: WriteBatch, done: Option<Done>) -> Result<(), StorageError> {
        let shared = &*self.owner.shared;
        let bytes = batch.bytes();
        shared.claim_room(bytes, self.owner.writer_id)?;
        match shared.engine.write(batch) {
            Ok(()) => shared.enqueue(bytes, done),
            Err(error) => {
                shared.give_room(bytes);
                if !error.is_refusal() {
                    shared.fail(&format!("a write failed: {error}"));
                }
                Err(error)
            }
        }
    }

    /// Whether there is room for more: false below the free-space floor and after a failure. What frees
    /// room, such as acknowledgements and expiry, is written all the same.
    pub fn admits_writes(&self) -> bool {
        self.owner.shared.admits.load(Ordering::Relaxed)
    }

    /// Identity and format of the data folder; zeros for a store in memory.
    pub fn manifest(&self) -> &Manifest {
        &self.owner.manifest
    }

    /// Whether the rows outlive the process.
    pub fn is_disk(&self) -> bool {
        self.owner.is_disk
    }

    /// Bytes that the engine occupies on disk, roughly.
    pub fn disk_bytes(&self) -> u64 {
        self.owner.shared.engine.disk_bytes()
    }

    /// Syncs what was written, calls what waits for it, and ends the writer thread. Later writes are
    /// refused; reads still work.
    pub fn shutdown(&self) {
        self.owner.shutdown();
    }
}

impl Owner {
    fn shutdown(&self) {
        {
            let _queue = self.shared.lock();
            self.shared.closed.store(true, Ordering::Release);
        }
        self.shared.work.notify_one();
        self.shared.room.notify_all();
        // A `done` may hold the last handle: the writer cannot wait for itself, it ends by itself.
        if thread::current().id() != self.writer_id {
            let writer = self
                .writer
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
            if let Some(writer) = writer {
                let _ = writer.join(); // A panic there was already reported as fatal.
            }
        }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shutdown();
    }
}

impl Shared {
    fn new(engine: Box<dyn Engine>, unsynced_max: usize, on_fatal: FatalHandler) -> Self {
        Self {
            engine,
            queue: Mutex::default(),
            work: Condvar::new(),
            room: Condvar::new(),
            unsynced: AtomicUsize::new(0),
            unsynced_max,
            admits: AtomicBool::new(true),
            is_untidy: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            on_fatal,
            _lock: None,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing that can panic runs under this lock.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts the bytes in, waiting until they fit. A batch that alone exceeds the bound fits when
    /// nothing else is unsynced. The writer thread never waits, as only it makes room.
    fn claim_room(&self, bytes: usize, writer: ThreadId) -> Result<(), StorageError> {
        self.check_open()?;
        if self.take_room(bytes) {
            return Ok(());
        }
        if thread::current().id() == writer {
            self.unsynced.fetch_add(bytes, Ordering::AcqRel);
            return Ok(());
        }
        let mut queue = self.lock();
        loop {
            self.check_open()?;
            if self.take_room(bytes) {
                return Ok(());
            }
            // Everything unsynced may be of `write_unsynced`, which asks for no sync by itself.
            queue.wants_sync = true;
            self.wake_writer(&mut queue);
            queue = self
                .room
                .wait(queue)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn take_room(&self, bytes: usize) -> bool {
        self.unsynced
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |before| {
                let after = before.saturating_add(bytes);
                (before == 0 || after <= self.unsynced_max).then_some(after)
            })
            .is_ok()
    }

    fn check_open(&self) -> Result<(), StorageError> {
        if self.failed.load(Ordering::Acquire) {
            return Err(StorageError::Failed);
        }
        if self.closed.load(Ordering::Acquire) {
            return Err(StorageError::Closed);
        }
        Ok(())
    }

    /// Counts bytes out again. Under the lock, so that no one who waits for room misses it.
    fn give_room(&self, bytes: usize) {
        let _queue = self.lock();
        self.unsynced.fetch_sub(bytes, Ordering::AcqRel);
        self.room.notify_all();
    }

    /// Notes a write that the engine has taken.
    fn enqueue(&self, bytes: usize, done: Option<Done>) -> Result<(), StorageError> {
        let mut queue = self.lock();
        // The writer may have made its last turn since: no one would call `done`.
        self.check_open()?;
        queue.bytes += bytes;
        let became_untidy = self.engine.became_untidy();
        if became_untidy {
            self.is_untidy.store(true, Ordering::Relaxed);
        }
        match done {
            Some(done) => queue.done.push(done),
            None if became_untidy => {}
            None if queue.bytes >= self.unsynced_max / 2 => queue.wants_sync = true,
            None => return Ok(()),
        }
        self.wake_writer(&mut queue);
        Ok(())
    }

    fn wake_writer(&self, queue: &mut Queue) {
        if mem::take(&mut queue.writer_sleeps) {
            self.work.notify_one();
        }
    }

    /// Nothing may be acknowledged from here on.
    fn fail(&self, message: &str) {
        if !self.failed.swap(true, Ordering::AcqRel) {
            self.admits.store(false, Ordering::Relaxed);
            self.on_fatal.call(message);
        }
        let done = {
            let mut queue = self.lock();
            mem::take(&mut queue.done)
        };
        drop(done); // Outside the lock: what a `done` owns may call back into the store.
        self.room.notify_all();
    }
}
