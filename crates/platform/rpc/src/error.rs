//! What can become of a call, as far as the caller is concerned.

use bytes::Bytes;

/// Statuses of answers and ends of streams. From [`FIRST_OF_SERVICES`](Self::FIRST_OF_SERVICES) on
/// they are the services' own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Status(pub u16);

impl Status {
    /// Done.
    pub const DONE: Self = Self(0);
    /// Nobody waited any more.
    pub const CANCELLED: Self = Self(1);
    /// No such service or instance on that node.
    pub const NO_SERVICE: Self = Self(2);
    /// The service has no such method.
    pub const NO_METHOD: Self = Self(3);
    /// The node had no room for it.
    pub const OVERLOADED: Self = Self(4);
    /// The service gave it up without an answer.
    pub const DROPPED: Self = Self(5);
    /// The node is about to leave and takes nothing new.
    pub const LEAVING: Self = Self(6);
    /// The service could not read the header.
    pub const MALFORMED: Self = Self(7);
    /// The answer is larger than the asking side takes.
    pub const TOO_LARGE: Self = Self(8);
    /// The first one that the services give meaning to.
    pub const FIRST_OF_SERVICES: u16 = 256;
}

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// It was not sent: as much as may wait for the peer already does.
    #[error("the link is full")]
    Full,
    /// It was not sent: no peer takes a message of this size.
    #[error("the message is too large")]
    TooLarge,
    /// It was not sent: there is no connection to the peer.
    #[error("the peer cannot be reached")]
    Unreachable,
    /// It was not sent: no server fits the call.
    #[error("no server of this service is in sight")]
    NoServer,
    /// The deadline passed before it was sent.
    #[error("no connection or no room within the deadline; the call was not sent")]
    NotSent,
    /// The deadline passed; the service may or may not have done it.
    #[error("no answer within the deadline; the outcome is unknown")]
    Unknown,
    /// The connection was lost; the service may or may not have done it.
    #[error("the connection was lost; the outcome is unknown")]
    Lost,
    /// The other side answered that it did not do it, or the service that it failed.
    #[error("refused with status {}", .status.0)]
    Refused {
        /// Why.
        status: Status,
        /// What the service said about it.
        header: Bytes,
    },
}

impl CallError {
    /// Whether the call certainly had no effect, so that another server may be asked.
    pub fn is_without_effect(&self) -> bool {
        match self {
            Self::Full | Self::TooLarge | Self::Unreachable | Self::NoServer | Self::NotSent => {
                true
            }
            Self::Unknown | Self::Lost => false,
            Self::Refused { status, .. } => matches!(
                *status,
                Status::NO_SERVICE
                    | Status::NO_METHOD
                    | Status::LEAVING
                    | Status::OVERLOADED
                    | Status::MALFORMED
            ),
        }
    }
}

/// Why a link ends, when its peer is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// Its bytes are no frames.
    #[error(transparent)]
    Frame(#[from] crate::frame::FrameError),
    /// It sent more than it had credit for.
    #[error("the peer sent more than it had credit for")]
    Overrun,
    /// More requests or streams at once than it may have.
    #[error("the peer has more requests or streams open than it may")]
    TooMany,
    /// An id that is in use, or a part of nothing.
    #[error("a frame does not fit what the link is doing")]
    OutOfPlace,
    /// It gave credit beyond every window.
    #[error("the peer gave more credit than there is")]
    Credit,
    /// Nothing came for too long.
    #[error("the peer is silent")]
    Silent,
}
