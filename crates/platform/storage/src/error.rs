//! What can go wrong, by what the caller can do about it.

use std::{io, path::PathBuf};

/// Why a read or a write failed. After a limit error nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The engine has no row with an empty key.
    #[error("the key is empty")]
    KeyEmpty,
    /// The key is longer than the engine can hold.
    #[error("the key has {len} bytes, the engine takes at most {max}", max = crate::KEY_BYTES_MAX)]
    KeyTooLong {
        /// Length of the offending key.
        len: usize,
    },
    /// The value is larger than the engine can hold.
    #[error("the value has {len} bytes, the engine takes at most {max}", max = crate::VALUE_BYTES_MAX)]
    ValueTooLarge {
        /// Length of the offending value.
        len: usize,
    },
    /// The keyspace was not named when the store was opened.
    #[error("keyspace {0:?} was not opened")]
    UnknownKeyspace(&'static str),
    /// The disk or the engine failed; of a write it is unknown whether it took place.
    #[error("the storage engine failed: {0}")]
    Engine(String),
    /// An earlier failure ended the store: nothing is written or acknowledged any more.
    #[error("the store has failed and takes no more writes")]
    Failed,
    /// The store was shut down.
    #[error("the store is shut down")]
    Closed,
}

impl StorageError {
    /// Whether the batch was refused for what it contains, with nothing written.
    pub fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::KeyEmpty
                | Self::KeyTooLong { .. }
                | Self::ValueTooLarge { .. }
                | Self::UnknownKeyspace(_)
        )
    }
}

/// Why a data folder could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process uses the folder.
    #[error(
        "data folder {path} is in use by another process{pid}; stop it or choose another folder",
        path = path.display(),
        pid = pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
    )]
    Locked {
        /// The folder.
        path: PathBuf,
        /// The process that holds it, where known.
        pid: Option<u32>,
    },
    /// A newer version of the program wrote the folder.
    #[error(
        "data folder has format version {found}, this program knows versions up to {supported}; \
         start it with the newer program that wrote it"
    )]
    NewerFormat {
        /// Version found in the manifest.
        found: u64,
        /// Highest version that this program knows.
        supported: u64,
    },
    /// The contents make no sense.
    #[error("data folder is damaged: {what}; {mend}")]
    Damaged {
        /// What is wrong.
        what: String,
        /// What an operator can do.
        mend: String,
    },
    /// The folder may not be written to.
    #[error("data folder: {path} cannot be written to: {source}", path = path.display())]
    ReadOnly {
        /// What was to be written.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// Any other answer of the system.
    #[error("data folder: {path}: {source}", path = path.display())]
    Io {
        /// What was to be read or written.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

impl OpenError {
    /// Sorts a system error into "may not write" and "anything else".
    pub(crate) fn from_io(path: impl Into<PathBuf>, source: io::Error) -> Self {
        let path = path.into();
        match source.kind() {
            io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
                Self::ReadOnly { path, source }
            }
            _ => Self::Io { path, source },
        }
    }
}
