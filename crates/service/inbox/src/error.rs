//! Why an inbox did not do what it was asked.

use bifrust_kv::{ExecuteError, QueryError};

/// What became of a call, by what the caller can do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InboxError {
    /// The session belongs to another user (contract C4): refuse the client, nothing has changed.
    #[error("the session belongs to another user")]
    OtherUser,
    /// A newer connection owns the session, or it has ended: this one has no say any more.
    #[error("a newer connection owns the session")]
    Fenced,
    /// Known not to be done: busy, disk full, or over a bound. Trying again later may work.
    #[error("refused for now, nothing was changed")]
    Refused,
    /// Whether it is done is not known.
    #[error("the outcome is not known")]
    Unknown,
}

impl From<ExecuteError> for InboxError {
    fn from(error: ExecuteError) -> Self {
        if error.is_known_not_applied() {
            Self::Refused
        } else {
            Self::Unknown
        }
    }
}

impl From<QueryError> for InboxError {
    fn from(_: QueryError) -> Self {
        // A read changes nothing.
        Self::Refused
    }
}
