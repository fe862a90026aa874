//! Why a node does not start.

use std::error::Error;

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data folder cannot be used.
    #[error(transparent)]
    Storage(#[from] bifrust_storage::OpenError),
    /// A service cannot use what is in the data folder.
    #[error("{service} cannot start: {cause}")]
    Service {
        /// Which service.
        service: &'static str,
        /// Why.
        cause: Box<dyn Error + Send + Sync>,
    },
    /// The users file is not valid.
    #[error(transparent)]
    Users(#[from] bifrust_providers::UserFileError),
    /// Certificate files cannot be used.
    #[error(transparent)]
    Certificates(#[from] crate::certificates::CertificateError),
    /// A listener cannot be opened.
    #[error(transparent)]
    Listener(#[from] bifrust_mqtt::StartError),
    /// The HTTP port cannot be opened.
    #[error(transparent)]
    Api(#[from] bifrust_api::StartError),
}

impl StartError {
    /// Names the service that failed.
    pub(crate) fn service<E>(service: &'static str) -> impl FnOnce(E) -> Self
    where
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        move |cause| Self::Service {
            service,
            cause: cause.into(),
        }
    }

    /// Whether another process uses the data folder.
    pub fn is_locked(&self) -> bool {
        matches!(
            self,
            Self::Storage(bifrust_storage::OpenError::Locked { .. })
        )
    }

    /// Whether another process listens where this node should.
    pub fn is_address_in_use(&self) -> bool {
        matches!(
            self,
            Self::Listener(bifrust_mqtt::StartError::AddressInUse(_))
                | Self::Api(bifrust_api::StartError::AddressInUse(_))
        )
    }

    /// Whether the operator's files are to blame.
    pub fn is_config(&self) -> bool {
        matches!(self, Self::Users(_) | Self::Certificates(_))
    }
}
