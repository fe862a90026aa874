//! The data folder: made durable, locked, one process at a time.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use crate::OpenError;

const LOCK_FILE: &str = "LOCK";

/// Makes the names in a folder durable.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// The lock on a data folder; given up when dropped or when the process ends in whatever way.
pub(crate) struct FolderLock {
    file: File,
}

impl Drop for FolderLock {
    fn drop(&mut self) {
        // By name and not by closing: a child process that is just being started holds copies of all
        // handles for a moment.
        let _ = self.file.unlock(); // The lock ends with the process at the latest.
    }
}

/// Creates the folder if it is missing and takes its lock.
pub(crate) fn lock(folder: &Path) -> Result<FolderLock, OpenError> {
    create_durably(folder)?;
    let path = folder.join(LOCK_FILE);
    let io_error = |error| OpenError::from_io(&path, error);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(io_error)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let pid = read_pid(&mut file);
            return Err(OpenError::Locked {
                path: folder.to_owned(),
                pid,
            });
        }
        Err(TryLockError::Error(error)) => return Err(io_error(error)),
    }
    file.set_len(0).map_err(io_error)?;
    write!(file, "{}", std::process::id()).map_err(io_error)?;
    Ok(FolderLock { file })
}

fn read_pid(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(16).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

fn create_durably(folder: &Path) -> Result<(), OpenError> {
    let mut missing: Vec<PathBuf> = Vec::new();
    let mut at = folder;
    while !at
        .try_exists()
        .map_err(|error| OpenError::from_io(at, error))?
    {
        missing.push(at.to_owned());
        match at.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => at = parent,
            _ => break,
        }
    }
    fs::create_dir_all(folder).map_err(|error| OpenError::from_io(folder, error))?;
    for made in missing.iter().rev() {
        let parent = match made.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        sync_folder(parent).map_err(|error| OpenError::from_io(parent, error))?;
    }
    Ok(())
}
