//! Enhanced authentication: a conversation of several steps (MQTT-5 4.12).

use bytes::Bytes;

use crate::{AuthError, AuthRequest, Granted, Refusal};

/// One step of the client's. All that is known of the conversation is in it, so that a provider
/// keeps nothing between steps and may be anywhere.
#[derive(Clone)]
pub struct ExchangeRequest {
    /// The method that the client named at CONNECT.
    pub method: String,
    /// What it sent with this step.
    pub data: Option<Bytes>,
    /// What the provider gave with its last challenge; `None` in the first step.
    pub state: Option<Bytes>,
    /// The CONNECT that it began with.
    pub connect: AuthRequest,
    /// Whom the client has proved to be, if it authenticates once more. Another tenant or user is
    /// refused whatever the provider says.
    pub current: Option<Granted>,
}

impl std::fmt::Debug for ExchangeRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Data and state may be secrets.
        f.debug_struct("ExchangeRequest")
            .field("method", &self.method)
            .field("connect", &self.connect)
            .field("current", &self.current)
            .finish_non_exhaustive()
    }
}

/// What a step leads to.
#[derive(Clone, PartialEq, Eq)]
pub enum Exchanged {
    /// The client has to answer.
    Challenge {
        /// What it is sent.
        data: Bytes,
        /// Comes back with the client's answer; the client never sees it.
        state: Bytes,
    },
    /// The client has proved who it is.
    Granted {
        /// Who it is.
        granted: Granted,
        /// What it is sent with the success.
        data: Option<Bytes>,
    },
}

impl std::fmt::Debug for Exchanged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Challenge { .. } => f.debug_struct("Challenge").finish_non_exhaustive(),
            Self::Granted { granted, .. } => {
                let mut granted_only = f.debug_struct("Granted");
                granted_only
                    .field("granted", granted)
                    .finish_non_exhaustive()
            }
        }
    }
}

/// What became of a step.
pub type ExchangeAnswer = Result<Result<Exchanged, Refusal>, AuthError>;
