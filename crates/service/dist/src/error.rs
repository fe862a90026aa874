//! What can go wrong, by what the caller can do about it.

use bifrust_kv::{ExecuteError, QueryError};

/// Why a publication was not taken everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// A receiver's service is busy or its disk full; it holds nothing of this publication.
    #[error("a service is too busy or its disk is full")]
    Refused,
    /// A receiver's service may or may not hold it.
    #[error("the outcome is unknown")]
    Unknown,
}

/// Why a route was not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// Busy, or the disk is full; certainly not changed.
    #[error("routes cannot be changed now: {0}")]
    Refused(ExecuteError),
    /// No shard has this number.
    #[error("connection shard {0} cannot be told apart in a route, 0 to 63 can")]
    NoSuchShard(u16),
    /// Filter and client identifier together are longer than a key can be; not changed.
    #[error("topic filter and client identifier are too long for a route")]
    TooLong,
    /// The group has as many members as it may have; not changed.
    #[error("the group has as many members as it may have")]
    GroupFull,
    /// It could not be found out whether the group has room; not changed.
    #[error("the members of the group could not be counted")]
    Unread,
    /// The route may or may not be changed.
    #[error("the outcome is unknown")]
    Unknown,
}

/// Why a topic was not matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MatchError {
    /// Too many matches wait.
    #[error("too many matches wait")]
    Busy,
    /// The node stops.
    #[error("no more matches are made")]
    Stopping,
    /// The routes could not be read; the log has more.
    #[error("the routes could not be read")]
    Failed,
}

/// Why the service did not open.
#[derive(Debug, thiserror::Error)]
#[error("routes: {0}")]
pub struct OpenError(#[from] bifrust_kv::OpenError);

impl RouteError {
    /// Whether the same call may succeed a little later.
    pub fn is_busy(self) -> bool {
        self == Self::Refused(ExecuteError::Busy)
    }
}

impl From<ExecuteError> for RouteError {
    fn from(error: ExecuteError) -> Self {
        if error.is_known_not_applied() {
            Self::Refused(error)
        } else {
            Self::Unknown
        }
    }
}

impl From<QueryError> for MatchError {
    fn from(error: QueryError) -> Self {
        match error {
            QueryError::Busy => Self::Busy,
            QueryError::Stopping => Self::Stopping,
            QueryError::Failed | QueryError::Storage(_) => Self::Failed,
        }
    }
}

impl From<MatchError> for PublishError {
    /// What was not matched was handed to nobody.
    fn from(_: MatchError) -> Self {
        Self::Refused
    }
}
