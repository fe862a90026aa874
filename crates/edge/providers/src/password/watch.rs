//! Notices edits of the users file.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::Shared;
use super::table::Table;

/// Between two looks at the file: one `stat`.
const INTERVAL: Duration = Duration::from_millis(500);

/// What changes when a file is edited or replaced; `None` while there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    modified: (i64, i64),
    changed: (i64, i64),
    bytes: u64,
    inode: u64,
}

pub(super) fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = std::fs::metadata(path).ok()?;
    Some(Stamp {
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
        bytes: metadata.len(),
        inode: metadata.ino(),
    })
}

/// The watching thread.
#[derive(Debug)]
pub(super) struct Watch {
    stop: Arc<(Mutex<bool>, Condvar)>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Watch {
    pub(super) fn start(shared: Arc<Shared>, mut last: Option<Stamp>) -> io::Result<Self> {
        let stop = Arc::new((Mutex::new(false), Condvar::new()));
        let stopping = stop.clone();
        let thread = std::thread::Builder::new()
            .name("users-watch".to_owned())
            .spawn(move || {
                while !pause(&stopping) {
                    let now = stamp(shared.file.path());
                    if now != last {
                        last = now;
                        shared.reload();
                    }
                }
            })?;
        Ok(Self {
            stop,
            thread: Mutex::new(Some(thread)),
        })
    }

    pub(super) fn stop(&self) {
        *self.stop.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.stop.1.notify_all();
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread {
            let _ = thread.join(); // a panic was printed where it happened
        }
    }
}

/// True if it is time to stop.
fn pause(stop: &(Mutex<bool>, Condvar)) -> bool {
    let is_stopped = stop.0.lock().unwrap_or_else(PoisonError::into_inner);
    let (is_stopped, _) = stop
        .1
        .wait_timeout_while(is_stopped, INTERVAL, |is_stopped| !*is_stopped)
        .unwrap_or_else(PoisonError::into_inner);
    *is_stopped
}

impl Shared {
    /// Takes the file as it is now, or keeps what was if it cannot be read.
    pub(super) fn reload(&self) {
        let path = self.file.path().display();
        if !self.file.path().exists() {
            tracing::error!(%path, "the users file is gone; the users read last stay in force");
            return;
        }
        match self.file.read() {
            Ok(users) => {
                let table = Table::new(&users, Some(&self.table.load()));
                let users = table.len();
                self.table.store(Arc::new(table));
                self.version.fetch_add(1, Ordering::Release);
                tracing::info!(%path, users, "users reloaded");
            }
            Err(error) => {
                tracing::error!(%error, "the users file is not valid; the users read last stay in force");
            }
        }
    }
}
