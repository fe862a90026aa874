//! How much room the disk has left.

use std::{io, path::PathBuf};

/// Room on a file system.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Space {
    pub(crate) total: u64,
    pub(crate) free: u64,
}

/// Asks for the room; replaced by tests.
pub(crate) type SpaceProbe = Box<dyn Fn() -> io::Result<Space> + Send>;

/// The room on the file system that holds `path`.
pub(crate) fn probe(path: PathBuf) -> SpaceProbe {
    Box::new(move || {
        let stat = rustix::fs::statvfs(&path)?;
        Ok(Space {
            total: stat.f_blocks.saturating_mul(stat.f_frsize),
            free: stat.f_bavail.saturating_mul(stat.f_frsize),
        })
    })
}
