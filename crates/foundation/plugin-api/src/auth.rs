//! Who may connect, and what a client may publish and subscribe to.

use std::net::SocketAddr;
use std::sync::Arc;

use bifrust_model::{ClientId, ClientInfo, Protocol, Qos, TenantName};
use bytes::Bytes;

use crate::{Answer, ExchangeAnswer, ExchangeRequest};

/// What a client showed.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// The user name field of CONNECT.
    pub user_name: Option<String>,
    /// The password field of CONNECT.
    pub password: Option<Bytes>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The password never reaches a log.
        f.debug_struct("Credentials")
            .field("user_name", &self.user_name)
            .finish_non_exhaustive()
    }
}

/// A way to prove who one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthMethod {
    /// The certificate that TLS verified.
    Certificate,
    /// User name and password, or enhanced authentication by a password.
    Password,
    /// Nothing at all.
    Anonymous,
}

/// One CONNECT to be judged.
#[derive(Clone, Debug)]
pub struct AuthRequest {
    /// What the client showed.
    pub credentials: Credentials,
    /// The client id it asked for; empty if the server is to assign one.
    pub client_id: String,
    /// Where it connects from.
    pub peer: SocketAddr,
    /// What it speaks.
    pub protocol: Protocol,
    /// The tenant that the listener is fixed to, or that the client's certificate or the host name
    /// it asked for leads to.
    pub listener_tenant: Option<TenantName>,
    /// What its TLS handshake showed; `None` without TLS.
    pub tls: Option<PeerTls>,
    /// What the listener lets count, in order: the first way that the client tries decides.
    pub methods: Vec<AuthMethod>,
}

/// What a TLS handshake showed of a client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerTls {
    /// The host name that it asked for (SNI).
    pub server_name: Option<String>,
    /// The protocol version, as `TLSv1_3`.
    pub version: String,
    /// The cipher suite, by its name in the standard.
    pub cipher: String,
    /// Its certificate, verified against the listener's authorities; `None` if it showed none.
    pub certificate: Option<PeerCertificate>,
}

/// A verified certificate of a client. Names are given as they stand in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerCertificate {
    /// CN of the subject; the last one if there are several, as with the next two.
    pub common_name: Option<String>,
    /// O of the subject.
    pub organization: Option<String>,
    /// OU of the subject.
    pub organizational_unit: Option<String>,
    /// Alternative names: hosts.
    pub dns_names: Vec<String>,
    /// Alternative names: mail addresses.
    pub emails: Vec<String>,
    /// Alternative names: URIs.
    pub uris: Vec<String>,
    /// All of it.
    pub der: Bytes,
}

/// A client that may connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    /// The tenant it belongs to.
    pub tenant: TenantName,
    /// The user it proved to be; `None` for an anonymous one.
    pub user: Option<Arc<str>>,
}

/// Why a client may not connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// v5 0x86, v3 0x04.
    #[error("user name or password is wrong or missing")]
    BadUserOrPassword,
    /// v5 0x87, v3 0x05.
    #[error("not authorised")]
    NotAuthorized,
    /// v5 0x8A, v3 0x05.
    #[error("banned")]
    Banned,
    /// v5 0x8C: enhanced authentication by a method that is not served.
    #[error("the authentication method is not served")]
    BadMethod,
}

/// The check itself failed: the client is refused (v5 0x80 or 0x88, v3 0x03).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// Too many checks are waiting.
    #[error("authentication is busy")]
    Busy,
    /// Anything else, said in words.
    #[error("authentication failed: {0}")]
    Failed(String),
}

/// What became of a CONNECT.
pub type AuthAnswer = Result<Result<Granted, Refusal>, AuthError>;

/// What a client wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action<'a> {
    /// Publish to this topic.
    Publish {
        /// The topic name.
        topic: &'a str,
        /// With this QoS.
        qos: Qos,
        /// With RETAIN.
        retain: bool,
    },
    /// Subscribe to this filter, shared prefix taken off.
    Subscribe {
        /// The topic filter.
        filter: &'a str,
        /// With this QoS.
        qos: Qos,
    },
    /// Unsubscribe from this filter.
    Unsubscribe {
        /// The topic filter.
        filter: &'a str,
    },
}

/// Whether it may.
pub type Access = Result<bool, AuthError>;

/// Judges connections and actions. Errors deny.
pub trait Auth: Send + Sync {
    /// Whether this client may connect, and as whom.
    fn authenticate(&self, request: AuthRequest) -> Answer<AuthAnswer>;

    /// One step of enhanced authentication (MQTT-5 4.12).
    fn exchange(&self, _request: ExchangeRequest) -> Answer<ExchangeAnswer> {
        Answer::Now(Ok(Err(Refusal::BadMethod)))
    }

    /// Whether this client may do this. Called for each publish whose answer is not cached, so it
    /// should know the answer without waiting.
    fn access(&self, client: &Arc<ClientInfo>, action: Action<'_>) -> Answer<Access>;

    /// Answers of [`Auth::access`] may be kept while this number stays the same.
    fn version(&self) -> u64;

    /// Whether the client's id is free for it to use beyond the user check; `%c` rules and the like.
    fn accepts_client_id(&self, _granted: &Granted, _client: &ClientId) -> bool {
        true
    }
}
