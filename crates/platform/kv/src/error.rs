//! What can go wrong, by what the caller can do about it.

use bifrust_model::record::RecordError;
use bifrust_storage::StorageError;

/// Why a command has no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExecuteError {
    /// The range's queue, or this lane's share of it, is full; not applied.
    #[error("the range has too much to do")]
    Busy,
    /// The disk is below its free-space floor; not applied.
    #[error("the disk is nearly full")]
    Full,
    /// The node stops, or the range has stopped; not applied.
    #[error("the range takes no more commands")]
    Stopping,
    /// It may or may not be applied.
    #[error("the outcome is unknown")]
    Unknown,
}

impl ExecuteError {
    /// Whether the command certainly has no effect, now or later.
    pub fn is_known_not_applied(self) -> bool {
        self != Self::Unknown
    }
}

/// Why a query has no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// Too many queries wait.
    #[error("too many queries wait")]
    Busy,
    /// The node stops.
    #[error("no more queries are taken")]
    Stopping,
    /// The coprocessor failed on this query; the log has more.
    #[error("the query failed")]
    Failed,
    /// The rows could not be read.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Why ranges could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The rows could not be read or written.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A record does not parse.
    #[error("{what}: {source}")]
    Record {
        /// Which record.
        what: String,
        /// What is wrong with it.
        source: RecordError,
    },
    /// The records contradict each other.
    #[error("data folder is damaged: {0}; restore it from a backup")]
    Damaged(String),
    /// The service is hosted already.
    #[error("service {0:?} is hosted already")]
    AlreadyHosted(&'static str),
    /// The node stops.
    #[error("the node stops")]
    Stopping,
    /// The system refused a thread.
    #[error("a thread could not be started: {0}")]
    Thread(#[from] std::io::Error),
}
