//! Clients and the sessions they own.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::{TenantName, TenantNumber};

/// A client identifier: 1 to 65,535 bytes of UTF-8 without U+0000 (MQTT-1.5.4-2).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId(Arc<str>);

/// Why a text is no client identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ClientIdError {
    /// An empty one has to be replaced by an assigned one first.
    #[error("client identifier is empty")]
    Empty,
    /// Longer than a length field can say.
    #[error("client identifier is longer than 65535 bytes")]
    TooLong,
    /// Holds U+0000.
    #[error("client identifier holds U+0000")]
    Nul,
}

impl ClientId {
    /// Checks `id`.
    pub fn new(id: &str) -> Result<Self, ClientIdError> {
        if id.is_empty() {
            return Err(ClientIdError::Empty);
        }
        if id.len() > usize::from(u16::MAX) {
            return Err(ClientIdError::TooLong);
        }
        if id.contains('\0') {
            return Err(ClientIdError::Nul);
        }
        Ok(Self(id.into()))
    }

    /// The identifier as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

/// What a session is known by across the cluster (contract C4).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionKey {
    /// The tenant it lives in.
    pub tenant: TenantNumber,
    /// The client it belongs to.
    pub client: ClientId,
}

/// The protocol version a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// MQTT 3.1.
    V31,
    /// MQTT 3.1.1.
    V311,
    /// MQTT 5.0.
    V5,
}

/// Who a client is, as authentication found it: fixed for the life of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientInfo {
    /// Its tenant's name.
    pub tenant: TenantName,
    /// The user it proved to be; `None` for an anonymous client.
    pub user: Option<Arc<str>>,
    /// Its client identifier.
    pub client: ClientId,
    /// Where it connects from; `None` for a will sent on behalf of a client that has gone.
    pub peer: Option<SocketAddr>,
    /// What it speaks.
    pub protocol: Protocol,
}
