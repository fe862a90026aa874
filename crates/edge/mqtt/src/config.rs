//! What the operator decides about listeners and connections.

use std::net::SocketAddr;
use std::time::Duration;

use bifrust_model::TenantName;
use bifrust_plugin_api::{AuthMethod, PeerTls};

use crate::network::Network;
use crate::tls::Tls;

/// What is spoken below MQTT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ListenerKind {
    /// Plain TCP.
    Tcp,
    /// TLS over TCP.
    Tls,
    /// WebSocket over TCP, on `/mqtt` and `/`.
    Ws,
    /// WebSocket over TLS, on the same paths.
    Wss,
}

impl ListenerKind {
    /// Whether TLS is spoken there.
    pub fn has_tls(self) -> bool {
        matches!(self, Self::Tls | Self::Wss)
    }

    /// Whether WebSocket is spoken there.
    pub fn is_websocket(self) -> bool {
        matches!(self, Self::Ws | Self::Wss)
    }
}

/// Which name in a client's certificate is its tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateTenant {
    /// CN of the subject.
    CommonName,
    /// O of the subject.
    Organization,
    /// OU of the subject.
    OrganizationalUnit,
}

/// Proxies in front of a listener.
#[derive(Clone, Debug, Default)]
pub struct Proxies {
    /// Where they are. Nobody else is believed.
    pub trusted: Vec<Network>,
    /// Whether each connection begins with a PROXY header. One that does not come from a trusted
    /// proxy is closed.
    pub has_header: bool,
    /// Whether `X-Forwarded-For` of a WebSocket request names the client. One that has it and does
    /// not come from a trusted proxy is refused.
    pub has_forwarded_for: bool,
}

/// Which WebSocket requests are taken.
#[derive(Clone, Debug)]
pub struct WebSocketRules {
    /// Pages (`https://app.example.com`) whose scripts may connect; empty for all. A request
    /// that no page made has no origin and is taken.
    pub allowed_origins: Vec<String>,
    /// Whether a request without a sub-protocol is refused.
    pub needs_protocol: bool,
}

impl Default for WebSocketRules {
    fn default() -> Self {
        Self {
            allowed_origins: Vec::new(),
            needs_protocol: true,
        }
    }
}

/// Where clients come in.
#[derive(Clone, Debug)]
pub struct Listener {
    /// What is spoken below MQTT.
    pub kind: ListenerKind,
    /// Where to listen; port 0 takes any free one. An unspecified IPv6 address takes IPv4 too.
    pub address: SocketAddr,
    /// The tenant of every client that comes in here; `None` lets the fields below say it, then the
    /// user name.
    pub tenant: Option<TenantName>,
    /// The tenants of clients by the host that they ask for (SNI), in lower case.
    pub host_tenants: Vec<(String, TenantName)>,
    /// Where a client's certificate says its tenant; comes before `host_tenants`.
    pub certificate_tenant: Option<CertificateTenant>,
    /// What counts as a proof of who a client is, in order.
    pub auth: Vec<AuthMethod>,
    /// Connections at a time; one more is closed at once.
    pub max_connections: usize,
    /// What TLS shows and asks for; needed where it is spoken, without effect elsewhere.
    pub tls: Option<Tls>,
    /// Proxies in front of it.
    pub proxies: Proxies,
    /// Which WebSocket requests are taken.
    pub websocket: WebSocketRules,
}

impl Listener {
    /// A listener that leaves everything else at its default: up to a million connections, no
    /// tenant, passwords, no TLS, no proxies.
    pub fn new(kind: ListenerKind, address: SocketAddr) -> Self {
        Self {
            kind,
            address,
            tenant: None,
            host_tenants: Vec::new(),
            certificate_tenant: None,
            auth: vec![AuthMethod::Password],
            max_connections: 1_000_000,
            tls: None,
            proxies: Proxies::default(),
            websocket: WebSocketRules::default(),
        }
    }

    /// The tenant of clients that showed this, before their user name is looked at.
    pub(crate) fn tenant_of(&self, tls: Option<&PeerTls>) -> Option<TenantName> {
        if self.tenant.is_some() {
            return self.tenant.clone();
        }
        let tls = tls?;
        let certificate = tls.certificate.as_ref();
        let named = self.certificate_tenant.zip(certificate);
        let named = named.and_then(|(name, certificate)| match name {
            CertificateTenant::CommonName => certificate.common_name.as_deref(),
            CertificateTenant::Organization => certificate.organization.as_deref(),
            CertificateTenant::OrganizationalUnit => certificate.organizational_unit.as_deref(),
        });
        if let Some(tenant) = named.and_then(|name| TenantName::new(name).ok()) {
            return Some(tenant);
        }
        let host = tls.server_name.as_deref()?;
        let mut tenants = self.host_tenants.iter();
        tenants
            .find(|(name, _)| name.eq_ignore_ascii_case(host))
            .map(|(_, tenant)| tenant.clone())
    }
}

/// Everything about listeners and connection shards. The number of shards is that of the
/// [`Mailboxes`](crate::Mailboxes).
#[derive(Clone, Debug)]
pub struct Config {
    /// Where clients come in.
    pub listeners: Vec<Listener>,
    /// How long a peer may take to send a complete CONNECT and be let in. Less closes slow links,
    /// more lets half-open ones sit. 1 to 300 s.
    pub connect_timeout: Duration,
    /// How long an acknowledgement may wait for its durable effects before the connection is
    /// closed, so that the client sends again.
    pub publish_timeout: Duration,
    /// How long authentication or a permission answer may take before it counts as an error.
    pub auth_timeout: Duration,
    /// How long a socket may take nothing before its client counts as stalled, which is told and
    /// counted, no more.
    pub stall_after: Duration,
    /// Within which time each connected client is looked at again for being wanted on another
    /// server. Less moves clients sooner and asks the balancer more often.
    pub redirect_check: Duration,
    /// Bytes of a CONNECT packet, and of the WebSocket message that carries it. Its five longest
    /// fields take 320 KiB; the rest is room for properties.
    pub max_connect_bytes: usize,
    /// Bytes per shard that may be on their way to durable stores; above it publishers wait.
    pub max_store_bytes: usize,
    /// Bytes per shard that may wait in the queues of transient sessions, a message for many counted
    /// once; the fullest queues are full first.
    pub max_queue_bytes: usize,
    /// Bytes per shard of the sessions that recent topics lead to.
    pub max_result_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listeners: Vec::new(),
            connect_timeout: Duration::from_secs(10),
            publish_timeout: Duration::from_secs(10),
            auth_timeout: Duration::from_secs(5),
            stall_after: Duration::from_secs(30),
            redirect_check: Duration::from_secs(600),
            max_connect_bytes: 512 << 10,
            max_store_bytes: 32 << 20,
            max_queue_bytes: 128 << 20,
            max_result_bytes: 16 << 20,
        }
    }
}

#[cfg(test)]
mod tests {
    use bifrust_plugin_api::PeerCertificate;

    use super::*;

    #[test]
    fn the_listener_then_the_certificate_then_the_host_say_the_tenant() {
        let tenant = |name: &str| TenantName::new(name).unwrap();
        let mut listener = Listener::new(ListenerKind::Tls, ([127, 0, 0, 1], 0).into());
        listener.certificate_tenant = Some(CertificateTenant::Organization);
        listener.host_tenants = vec![("a.example".to_owned(), tenant("by-host"))];
        let mut tls = PeerTls {
            server_name: Some("A.example".to_owned()),
            ..PeerTls::default()
        };
        assert_eq!(listener.tenant_of(None), None);
        assert_eq!(listener.tenant_of(Some(&tls)), Some(tenant("by-host")));
        tls.certificate = Some(PeerCertificate {
            organization: Some("by-certificate".to_owned()),
            ..PeerCertificate::default()
        });
        assert_eq!(
            listener.tenant_of(Some(&tls)),
            Some(tenant("by-certificate"))
        );
        listener.tenant = Some(tenant("fixed"));
        assert_eq!(listener.tenant_of(Some(&tls)), Some(tenant("fixed")));
    }
}
