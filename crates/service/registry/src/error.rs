//! What can go wrong, by what the caller can do about it.

use bifrust_kv::ExecuteError;

/// Why a tenant was not found or made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// As many tenants as allowed are there already.
    #[error("there are {max} tenants already")]
    Full {
        /// Tenants allowed.
        max: u64,
    },
    /// Busy, or the disk is full; no number was given.
    #[error("no tenant can be added now: {0}")]
    Refused(ExecuteError),
    /// The tenant's row does not parse; the log has more.
    #[error("the tenant's row is damaged")]
    Damaged,
    /// A number may or may not have been given; asking again finds out.
    #[error("the outcome is unknown")]
    Unknown,
}

/// Why the service did not open.
#[derive(Debug, thiserror::Error)]
#[error("registry: {0}")]
pub struct OpenError(#[from] bifrust_kv::OpenError);

impl From<ExecuteError> for RegistryError {
    fn from(error: ExecuteError) -> Self {
        if error.is_known_not_applied() {
            Self::Refused(error)
        } else {
            Self::Unknown
        }
    }
}
