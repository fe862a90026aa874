//! Reads the undo journal; the format is that of `preload/journal.h`.

use std::{collections::BTreeMap, fs, io, path::Path};

const DATA_MAGIC: u64 = 0x3141_5441_445f_5346;
const NAME_MAGIC: u64 = 0x3145_4d41_4e5f_5346;
const NAME_BYTES: usize = 256;

/// One change to a file's bytes, with what was there before.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) is_truncation: bool,
    /// Where the old bytes were.
    pub(crate) offset: u64,
    /// The old bytes, as far as they were there when their generation began.
    pub(crate) old: Old,
    /// End of the write, or the new length.
    pub(crate) end: u64,
}

#[derive(Debug)]
pub(crate) enum Old {
    Bytes(Vec<u8>),
    Zeros(u64),
}

impl Old {
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Zeros(len) => *len,
        }
    }
}

/// The unsynced changes of one file, oldest first.
#[derive(Debug)]
pub(crate) struct FileUndo {
    /// Length that is durable.
    pub(crate) base_len: u64,
    pub(crate) changes: Vec<Change>,
}

/// One change to a folder's names.
#[derive(Debug)]
pub(crate) struct NameOp {
    pub(crate) seq: u64,
    pub(crate) folder: u64,
    pub(crate) name: String,
    pub(crate) kind: NameKind,
}

#[derive(Debug)]
pub(crate) enum NameKind {
    /// A file or a link.
    Create,
    MakeFolder,
    Remove,
    Rename {
        inode: u64,
        folder: u64,
        name: String,
        has_target: bool,
    },
}

/// A journal's whole contents.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    pub(crate) files: BTreeMap<u64, FileUndo>,
    /// Not yet durable, in order.
    pub(crate) names: Vec<NameOp>,
}

impl Journal {
    pub(crate) fn read(folder: &Path) -> io::Result<Self> {
        Ok(Self {
            files: read_files(&folder.join("data"))?,
            names: read_names(folder)?,
        })
    }
}

fn read_files(folder: &Path) -> io::Result<BTreeMap<u64, FileUndo>> {
    let mut generations = BTreeMap::new();
    for entry in entries(folder)? {
        let name = entry.file_name();
        let parsed = name.to_str().and_then(|name| {
            let (inode, generation) = name.split_once('.')?;
            Some((inode.parse().ok()?, generation.parse().ok()?))
        });
        let key: (u64, u64) = parsed.ok_or_else(|| senseless("an undo file's name"))?;
        generations.insert(key, fs::read(entry.path())?);
    }
    let mut files = BTreeMap::<u64, FileUndo>::new();
    for ((inode, _), text) in generations {
        let mut reader = Reader(&text);
        // Killed before the header was complete: the change never began.
        let (Some(magic), Some(base_len)) = (reader.u64(), reader.u64()) else {
            continue;
        };
        if magic != DATA_MAGIC {
            return Err(senseless("an undo file"));
        }
        let file = files.entry(inode).or_insert_with(|| FileUndo {
            base_len,
            changes: Vec::new(),
        });
        while let Some(change) = reader.change() {
            file.changes.push(change);
        }
    }
    Ok(files)
}

fn read_names(folder: &Path) -> io::Result<Vec<NameOp>> {
    let text = match fs::read(folder.join("names")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        text => text?,
    };
    let mut synced = BTreeMap::<u64, u64>::new();
    let mut ops = Vec::new();
    let mut reader = Reader(&text);
    while let Some(record) = reader.name_record() {
        if record.magic != NAME_MAGIC {
            return Err(senseless("the names"));
        }
        let kind = match record.kind {
            1 => NameKind::Create,
            2 => NameKind::MakeFolder,
            3 => NameKind::Remove,
            4 => NameKind::Rename {
                inode: record.inode,
                folder: record.dir2,
                name: record.name2,
                has_target: record.target != 0,
            },
            5 => {
                let up_to = synced.entry(record.dir1).or_default();
                *up_to = record.seq.max(*up_to);
                continue;
            }
            _ => return Err(senseless("the names")),
        };
        ops.push(NameOp {
            seq: record.seq,
            folder: record.dir1,
            name: record.name1,
            kind,
        });
    }
    let is_synced = |folder: u64, seq| synced.get(&folder).is_some_and(|up_to| *up_to >= seq);
    ops.retain(|op| {
        let other = match &op.kind {
            NameKind::Rename { folder, .. } => *folder,
            _ => op.folder,
        };
        !is_synced(op.folder, op.seq) || !is_synced(other, op.seq)
    });
    Ok(ops)
}

struct NameRecord {
    magic: u64,
    kind: u64,
    seq: u64,
    dir1: u64,
    dir2: u64,
    inode: u64,
    target: u64,
    name1: String,
    name2: String,
}

/// Reads fields as the shim wrote them; `None` where a kill cut the text short.
struct Reader<'t>(&'t [u8]);

impl Reader<'_> {
    fn bytes(&mut self, len: usize) -> Option<&[u8]> {
        let (bytes, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.bytes(8)?.try_into().ok().map(u64::from_ne_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.bytes(4)?.try_into().ok().map(u32::from_ne_bytes)
    }

    fn name(&mut self) -> Option<String> {
        let bytes = self.bytes(NAME_BYTES)?;
        let len = bytes.iter().position(|byte| *byte == 0)?;
        Some(String::from_utf8_lossy(&bytes[..len]).into_owned())
    }

    fn change(&mut self) -> Option<Change> {
        let (kind, zero) = (self.u32()?, self.u32()?);
        let (offset, saved, end) = (self.u64()?, self.u64()?, self.u64()?);
        let old = match zero {
            0 => Old::Bytes(self.bytes(usize::try_from(saved).ok()?)?.to_vec()),
            _ => Old::Zeros(saved),
        };
        Some(Change {
            is_truncation: kind == 2,
            offset,
            old,
            end,
        })
    }

    fn name_record(&mut self) -> Option<NameRecord> {
        Some(NameRecord {
            magic: self.u64()?,
            kind: self.u64()?,
            seq: self.u64()?,
            dir1: self.u64()?,
            dir2: self.u64()?,
            inode: self.u64()?,
            target: self.u64()?,
            name1: self.name()?,
            name2: self.name()?,
        })
    }
}

/// A folder's entries; none if it is missing.
pub(crate) fn entries(folder: &Path) -> io::Result<Vec<fs::DirEntry>> {
    match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        entries => entries?.collect(),
    }
}

fn senseless(what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("{what} of the undo journal make no sense"),
    )
}
