//! The writer thread: take all that waits, sync once, call back in order, look at the disk now and then.

use std::{
    mem,
    sync::{Arc, PoisonError, atomic::Ordering},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::{Done, FreeSpaceFloor, Shared, SpaceProbe};
use crate::{Engine, StorageError};

/// How often the free space is looked at while rows are written or room is awaited.
const LOOK_AFTER_BUSY: Duration = Duration::from_millis(200);

/// How often otherwise.
const LOOK_AFTER_IDLE: Duration = Duration::from_secs(2);

/// How long after the engine was last asked to give room back it may be asked again.
const RECLAIM_GAP: Duration = Duration::from_secs(3);

/// The share of the free space that giving room back may use for a time.
const RECLAIM_SHARE: u64 = 2;

/// The free-space floor and how to measure against it.
pub(super) struct FloorWatch {
    probe: SpaceProbe,
    floor: FreeSpaceFloor,
}

impl FloorWatch {
    pub(super) fn new(probe: SpaceProbe, floor: FreeSpaceFloor) -> Self {
        Self { probe, floor }
    }
}

pub(super) struct Writer {
    shared: Arc<Shared>,
    sync_gap: Duration,
    synced_at: Option<Instant>,
    floor: Option<FloorWatch>,
    looked_at: Option<Instant>,
    /// The thread that last had the engine give room back or tidy up; at most one runs.
    chore: Option<JoinHandle<()>>,
    reclaimed_at: Option<Instant>,
    /// The emptied list of the last turn, kept for its room.
    spare: Vec<Done>,
}

/// What one turn has to do.
struct Turn {
    done: Vec<Done>,
    bytes: usize,
    needs_sync: bool,
    is_last: bool,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, sync_gap: Duration, floor: Option<FloorWatch>) -> Self {
        Self {
            shared,
            sync_gap,
            synced_at: None,
            floor,
            looked_at: None,
            chore: None,
            reclaimed_at: None,
            spare: Vec::new(),
        }
    }

    pub(super) fn run(mut self) {
        let _guard = PanicGuard(self.shared.clone());
        while self.turn() {}
        // Whoever waits for this thread may open the folder again.
        if let Some(chore) = self.chore.take() {
            let _ = chore.join(); // Its panic is no one's: the chore is just not done.
        }
    }

    /// One turn; false after the last.
    fn turn(&mut self) -> bool {
        let turn = self.wait();
        if self.shared.failed.load(Ordering::Acquire) {
            return false;
        }
        if turn.needs_sync {
            self.synced_at = Some(Instant::now());
            if let Err(error) = self.shared.engine.sync() {
                drop(turn.done);
                self.shared.fail(&format!("a sync failed: {error}"));
                return false;
            }
            self.shared.give_room(turn.bytes);
        }
        let mut done = turn.done;
        for done in done.drain(..) {
            done();
        }
        self.spare = done;
        self.look_after();
        !turn.is_last
    }

    /// Sleeps until there is something to do or to look at.
    fn wait(&mut self) -> Turn {
        let mut queue = self.shared.lock();
        let is_closed = || self.shared.closed.load(Ordering::Acquire);
        if queue.done.is_empty() && !queue.wants_sync && !is_closed() {
            let admits = self.shared.admits.load(Ordering::Relaxed);
            let limit = if admits && !self.shared.is_untidy.load(Ordering::Relaxed) {
                LOOK_AFTER_IDLE
            } else {
                LOOK_AFTER_BUSY
            };
            queue.writer_sleeps = true;
            let waited = self.shared.work.wait_timeout(queue, limit);
            queue = waited.unwrap_or_else(PoisonError::into_inner).0;
            queue.writer_sleeps = false;
        }
        if let Some(left) = self.gap_left() {
            // Not marked as sleeping: writes that gather meanwhile need not wake anyone.
            let waited = self
                .shared
                .work
                .wait_timeout_while(queue, left, |_| !is_closed());
            queue = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let needs_sync = !queue.done.is_empty() || queue.wants_sync || is_closed();
        queue.wants_sync = false;
        Turn {
            done: mem::replace(&mut queue.done, mem::take(&mut self.spare)),
            bytes: if needs_sync {
                mem::take(&mut queue.bytes)
            } else {
                0
            },
            needs_sync,
            is_last: is_closed(),
        }
    }

    /// Time until the next sync may start, if that is not now.
    fn gap_left(&self) -> Option<Duration> {
        let next = self.synced_at? + self.sync_gap;
        next.checked_duration_since(Instant::now())
            .filter(|left| !left.is_zero())
    }

    /// Measures the free space and asks the engine how it is, unless that was just done.
    pub(super) fn look_after(&mut self) {
        let Some(watch) = &self.floor else { return };
        let now = Instant::now();
        if self
            .looked_at
            .is_some_and(|before| now < before + LOOK_AFTER_BUSY)
        {
            return;
        }
        self.looked_at = Some(now);
        if let Err(error) = self.shared.engine.check() {
            self.shared
                .fail(&format!("the engine failed in the background: {error}"));
            return;
        }
        // A file system that does not say how full it is does not stop us; a full one will.
        let Ok(space) = (watch.probe)() else { return };
        let floor = watch.floor.bytes(space.total);
        let admits = space.free >= floor;
        if self.shared.admits.swap(admits, Ordering::Relaxed) != admits {
            report(admits, space.free);
        }
        self.shared.is_untidy.store(false, Ordering::Relaxed);
        if !admits {
            self.reclaim(now, space.free / RECLAIM_SHARE);
        } else if !self.has_chore() && self.shared.engine.needs_tidying(now) {
            let room = space.free - floor;
            self.start_chore("storage-tidy", move |engine| engine.tidy(room, now));
        }
    }

    /// Has the engine give room back on a thread of its own, so that syncs go on. Deleting alone frees
    /// nothing soon, and below the floor there are no writes that would make the engine tidy up.
    fn reclaim(&mut self, now: Instant, room: u64) {
        let is_early = self
            .reclaimed_at
            .is_some_and(|before| now < before + RECLAIM_GAP);
        if self.has_chore() || is_early {
            return;
        }
        self.reclaimed_at = Some(now);
        self.start_chore("storage-reclaim", move |engine| engine.reclaim(room));
    }

    fn has_chore(&self) -> bool {
        self.chore.as_ref().is_some_and(|last| !last.is_finished())
    }

    fn start_chore(
        &mut self,
        name: &'static str,
        chore: impl FnOnce(&dyn Engine) -> Result<(), StorageError> + Send + 'static,
    ) {
        let shared = self.shared.clone();
        // Without a thread now there may be one later.
        self.chore = thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                if let Err(error) = chore(&*shared.engine) {
                    tracing::warn!(%error, chore = name, "the engine could not be looked after");
                }
            })
            .ok();
    }
}

fn report(admits: bool, free: u64) {
    if admits {
        tracing::info!(
            free_bytes = free,
            "free space is above its floor, writes resume"
        );
    } else {
        tracing::warn!(
            free_bytes = free,
            "free space is below its floor, writes stop"
        );
    }
}

/// Turns a panic of a `done` into the failure that it is: later writes would wait for ever.
struct PanicGuard(Arc<Shared>);

impl Drop for PanicGuard {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.fail("the writer thread panicked");
        }
    }
}
