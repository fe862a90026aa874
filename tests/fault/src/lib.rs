//! A disk that forgets what was not synced, for real processes.
//!
//! kill -9 spares the page cache, so killing a process proves little about durability. Here a library is
//! preloaded into the process (`preload/lossy.c`), which keeps an undo journal of its file calls beside
//! the data folder; after the kill [`discard`] takes back every byte that no sync of its file covers and
//! every name that no sync of its folder covers. The process under test is the real program, unchanged.
//!
//! ```no_run
//! # use std::process::Command;
//! # use bifrust_fault::{LossyDisk, Mode};
//! # fn main() -> anyhow::Result<()> {
//! let disk = LossyDisk::new("/tmp/run/data", "/tmp/run/undo")?;
//! let mut broker = Command::new("bifrust");
//! disk.attach(&mut broker);
//! let mut broker = broker.args(["start", "--dev", "--data", "/tmp/run/data"]).spawn()?;
//! // ... use it ...
//! broker.kill()?;
//! broker.wait()?;
//! let lost = disk.discard(7, Mode::All)?;
//! println!("{lost:?}");
//! # Ok(())
//! # }
//! ```
//!
//! Only calls through libc symbols are seen: Rust's std makes such, and `rustix` does in this workspace
//! because its `use-libc` feature is on.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

mod discard;
mod journal;
mod shim;

pub mod numbered;

pub use discard::{Lost, Mode, discard};
pub use shim::build_shim;

/// A data folder whose unsynced effects can be taken back.
#[derive(Debug)]
pub struct LossyDisk {
    data: PathBuf,
    journal: PathBuf,
    shim: PathBuf,
}

/// A call that is to fail from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Writes and growth fail with "no space left on device".
    Write,
    /// fsync and fdatasync fail with an input/output error.
    Sync,
}

impl LossyDisk {
    /// Watches the folder `data`; the undo journal goes to `journal`, on the same file system and outside
    /// of `data`. Both are created if missing. Builds the preloaded library with `cc`.
    pub fn new(data: impl Into<PathBuf>, journal: impl Into<PathBuf>) -> io::Result<Self> {
        let (data, journal) = (data.into(), journal.into());
        fs::create_dir_all(&data)?;
        fs::create_dir_all(&journal)?;
        Ok(Self {
            data,
            journal,
            shim: build_shim()?,
        })
    }

    /// Makes the process that `command` will start use this disk.
    pub fn attach(&self, command: &mut Command) {
        command
            .env("LD_PRELOAD", &self.shim)
            .env("LOSSY_DIR", &self.data)
            .env("LOSSY_JOURNAL", &self.journal);
    }

    /// Takes back what the ended process had not synced. The same seed takes back the same.
    pub fn discard(&self, seed: u64, mode: Mode) -> io::Result<Lost> {
        discard(&self.data, &self.journal, seed, mode)
    }

    /// Makes calls of a kind fail in the running process and in later ones, until `heal`.
    pub fn fail(&self, failure: Failure) -> io::Result<()> {
        fs::write(self.failure_file(failure), b"")
    }

    /// Ends the failures.
    pub fn heal(&self) -> io::Result<()> {
        for failure in [Failure::Write, Failure::Sync] {
            match fs::remove_file(self.failure_file(failure)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    fn failure_file(&self, failure: Failure) -> PathBuf {
        self.journal.join(match failure {
            Failure::Write => "fail-write",
            Failure::Sync => "fail-sync",
        })
    }

    /// The watched folder.
    pub fn data(&self) -> &Path {
        &self.data
    }
}
