//! Takes back what was not synced.

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use crate::journal::{Change, FileUndo, Journal, NameKind, NameOp, Old, entries};

/// How much of what was not synced is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// All of it.
    All,
    /// Of each file's writes, and of the changes to names, a random number of the first survive; the
    /// last write to survive is torn at a random byte.
    Prefix,
    /// As `Prefix`, but within a file's durable length each page of 4 KiB survives or is lost by
    /// itself: a disk writes back in any order.
    Pages,
}

/// What was taken back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Changes to files' bytes and lengths.
    pub changes: usize,
    /// Creations, renames and removals.
    pub names: usize,
}

const PAGE: u64 = 4096;

/// Takes back the effects below `data` that the process which kept `journal` had not synced, and empties
/// the journal. The process must have ended. The same seed takes back the same.
pub fn discard(data: &Path, journal: &Path, seed: u64, mode: Mode) -> io::Result<Lost> {
    let read = Journal::read(journal)?;
    let mut random = fastrand::Rng::with_seed(seed);
    let mut lost = Lost::default();

    // Names first: a file is then found where it is after the crash.
    let survive = match mode {
        Mode::All => 0,
        Mode::Prefix | Mode::Pages => random.usize(..=read.names.len()),
    };
    for op in read.names[survive..].iter().rev() {
        undo_name(data, journal, op)?;
        lost.names += 1;
    }

    let mut files = HashMap::new();
    walk(data, &mut |path, meta| {
        if meta.is_file() {
            files.insert(meta.ino(), path.to_owned());
        }
    })?;
    for (inode, undo) in &read.files {
        if let Some(path) = files.get(inode) {
            lost.changes += undo_file(path, undo, &mut random, mode)?;
        }
    }
    empty(journal)?;
    Ok(lost)
}

fn undo_name(data: &Path, journal: &Path, op: &NameOp) -> io::Result<()> {
    // Its folder may be gone with a change that was itself taken back, or not durably made.
    let Some(folder) = find_folder(data, op.folder)? else {
        return Ok(());
    };
    let path = folder.join(&op.name);
    let kept = journal.join("kept").join(op.seq.to_string());
    match &op.kind {
        NameKind::Create => ignore_missing(fs::remove_file(path)),
        NameKind::MakeFolder => ignore_missing(fs::remove_dir_all(path)),
        NameKind::Remove => put_back(&kept, &path),
        NameKind::Rename {
            inode,
            folder,
            name,
            has_target,
        } => {
            let Some(folder) = find_folder(data, *folder)? else {
                return Ok(());
            };
            let new = folder.join(name);
            // Killed before the rename took place: the new name stands for something else.
            let took_place = fs::symlink_metadata(&new).is_ok_and(|meta| meta.ino() == *inode);
            if took_place {
                fs::rename(&new, &path)?;
            }
            if *has_target {
                put_back(&kept, &new)
            } else {
                Ok(())
            }
        }
    }
}

/// Gives a removed file or folder its name back, unless the removal did not take place.
fn put_back(kept: &Path, path: &Path) -> io::Result<()> {
    if !path.try_exists()? {
        return ignore_missing(fs::rename(kept, path));
    }
    Ok(())
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Returns how many changes were taken back.
fn undo_file(
    path: &Path,
    undo: &FileUndo,
    random: &mut fastrand::Rng,
    mode: Mode,
) -> io::Result<usize> {
    let file = OpenOptions::new().write(true).open(path)?;
    let changes = &undo.changes;
    let survive = match mode {
        Mode::All => 0,
        Mode::Prefix | Mode::Pages => random.usize(..=changes.len()),
    };
    let page_seed = random.u64(..);
    let is_lost = |page: u64| match mode {
        Mode::All | Mode::Prefix => true,
        Mode::Pages => fastrand::Rng::with_seed(page_seed ^ page).bool(),
    };
    let mut len = length_after(undo, survive);
    let has_lost_truncation = changes[survive..].iter().any(|change| change.is_truncation);
    if !has_lost_truncation {
        // Killed before the last write took place.
        len = len.min(file.metadata()?.len());
    }
    let first = if mode == Mode::Pages { 0 } else { survive };
    for change in changes[first..].iter().rev() {
        restore(&file, change, change.offset, is_lost)?;
    }
    if let Some(last) = survive.checked_sub(1).and_then(|last| changes.get(last))
        && !last.is_truncation
        && last.end > last.offset
    {
        let cut = random.u64(last.offset..=last.end);
        restore(&file, last, cut, |_| true)?;
        if len == last.end {
            len = cut.max(length_after(undo, survive - 1));
        }
    }
    file.set_len(len)?;
    Ok(changes.len() - survive)
}

/// The file's length when the first `survive` unsynced changes have taken place.
fn length_after(undo: &FileUndo, survive: usize) -> u64 {
    undo.changes[..survive]
        .iter()
        .fold(undo.base_len, |len, change| {
            if change.is_truncation {
                change.end
            } else {
                len.max(change.end)
            }
        })
}

/// Writes a change's old bytes from `from` on back, page by page as chosen.
fn restore(
    file: &File,
    change: &Change,
    from: u64,
    is_lost: impl Fn(u64) -> bool,
) -> io::Result<()> {
    let end = change.offset + change.old.len();
    let mut at = from.max(change.offset);
    while at < end {
        let page = at / PAGE;
        let to = ((page + 1) * PAGE).min(end);
        if is_lost(page) {
            match &change.old {
                Old::Bytes(old) => {
                    let range = (at - change.offset) as usize..(to - change.offset) as usize;
                    file.write_all_at(&old[range], at)?;
                }
                Old::Zeros(_) => {
                    file.write_all_at(&[0; PAGE as usize][..(to - at) as usize], at)?
                }
            }
        }
        at = to;
    }
    Ok(())
}

fn find_folder(data: &Path, inode: u64) -> io::Result<Option<PathBuf>> {
    let mut found = None;
    walk(data, &mut |path, meta| {
        if meta.is_dir() && meta.ino() == inode {
            found = Some(path.to_owned());
        }
    })?;
    Ok(found)
}

fn walk(path: &Path, visit: &mut dyn FnMut(&Path, &fs::Metadata)) -> io::Result<()> {
    let meta = fs::symlink_metadata(path)?;
    visit(path, &meta);
    if meta.is_dir() {
        for entry in entries(path)? {
            walk(&entry.path(), visit)?;
        }
    }
    Ok(())
}

fn empty(journal: &Path) -> io::Result<()> {
    for entry in entries(journal)? {
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
