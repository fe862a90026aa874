//! What can go wrong, by what the caller can do about it.

use bifrust_kv::{ExecuteError, QueryError};

/// Why a message was not kept, or messages not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RetainError {
    /// Busy, or the disk is full; certainly not kept.
    #[error("nothing can be retained now: {0}")]
    Refused(ExecuteError),
    /// The topic is longer than a key can be; not kept.
    #[error("the topic is too long to be retained")]
    TooLong,
    /// The message may or may not be kept.
    #[error("the outcome is unknown")]
    Unknown,
    /// Too many scans wait.
    #[error("too many scans wait")]
    Busy,
    /// The node stops.
    #[error("no more scans are made")]
    Stopping,
    /// The messages could not be read; the log has more.
    #[error("retained messages could not be read")]
    Failed,
}

/// Why the service did not open.
#[derive(Debug, thiserror::Error)]
#[error("retained messages: {0}")]
pub struct OpenError(#[from] bifrust_kv::OpenError);

impl From<ExecuteError> for RetainError {
    fn from(error: ExecuteError) -> Self {
        if error.is_known_not_applied() {
            Self::Refused(error)
        } else {
            Self::Unknown
        }
    }
}

impl From<QueryError> for RetainError {
    fn from(error: QueryError) -> Self {
        match error {
            QueryError::Busy => Self::Busy,
            QueryError::Stopping => Self::Stopping,
            QueryError::Failed | QueryError::Storage(_) => Self::Failed,
        }
    }
}
