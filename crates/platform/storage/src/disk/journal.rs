//! Waiting for the disk without holding the engine's journal lock.
//!
//! Why this is enough: `fjall` writes to the journal with the highest number only. When it moves on to
//! the next one it first syncs the old file, then creates the new one and syncs the folder, all under
//! the journal lock. So when `persist(Buffer)` has returned, each byte written before it lies either in
//! an older journal, which is synced, or in the newest one at any later time, which is synced here; a
//! file's sync covers it whichever handle asks for it.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

pub(super) struct JournalSync {
    folder: PathBuf,
    /// Kept open while it is the newest: a failed write-back is reported to handles that were open then.
    active: Mutex<Option<(u64, File)>>,
}

impl JournalSync {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            active: Mutex::new(None),
        }
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        let mut active = self.active.lock().unwrap_or_else(PoisonError::into_inner);
        let (number, file) = match active.take() {
            Some((number, file)) if self.is_newest(number, &file)? => (number, file),
            _ => {
                let (number, path) = active_journal(&self.folder)?
                    .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no journal file"))?;
                (number, File::open(path)?)
            }
        };
        file.sync_data()?;
        *active = Some((number, file));
        Ok(())
    }

    /// Whether no journal came after this one. Journals are removed oldest first, so while this one has
    /// a name the next one has its own, if there is a next one.
    fn is_newest(&self, number: u64, file: &File) -> io::Result<bool> {
        let next = self.folder.join(format!("{}.jnl", number + 1));
        Ok(!next.try_exists()? && file.metadata()?.nlink() > 0)
    }
}

/// The journal with the highest number in `folder`: the one being written.
pub(super) fn active_journal(folder: &Path) -> io::Result<Option<(u64, PathBuf)>> {
    let mut newest = None;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if let Some(number) = journal_number(&path)
            && newest.as_ref().is_none_or(|(highest, _)| number > *highest)
        {
            newest = Some((number, path));
        }
    }
    Ok(newest)
}

fn journal_number(path: &Path) -> Option<u64> {
    path.file_name()?
        .to_str()?
        .strip_suffix(".jnl")?
        .parse()
        .ok()
}
