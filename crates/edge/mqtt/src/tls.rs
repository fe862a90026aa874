//! What a TLS listener shows and asks for. It can be replaced while the listener serves:
//! handshakes that begin later see the new one.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::server::{
    ClientHello, NoServerSessionStorage, ResolvesServerCert, VerifierBuilderError,
    WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};

use crate::config::ListenerKind;

/// A certificate with its key, both as PEM.
#[derive(Clone)]
pub struct Identity {
    /// The certificate, and those between it and its authority.
    pub chain: Vec<u8>,
    /// The private key of the first certificate.
    pub key: Vec<u8>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The key never reaches a log.
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}

/// Which certificates of clients are believed; all fields are PEM.
#[derive(Clone, Debug)]
pub struct ClientCertificates {
    /// The authorities that may have signed them.
    pub authorities: Vec<u8>,
    /// Lists of those that were revoked; `None` revokes nothing. With lists, a certificate that
    /// none of them speaks for is refused.
    pub revoked: Option<Vec<u8>>,
    /// Whether a client without a certificate is refused.
    pub is_required: bool,
}

/// Everything a listener needs for TLS.
#[derive(Clone, Debug)]
pub struct TlsMaterial {
    /// Shown to clients that name no host, or none of `hosts`.
    pub default: Identity,
    /// Shown to clients that name this host (SNI).
    pub hosts: Vec<(String, Identity)>,
    /// Clients' certificates; `None` asks for none.
    pub clients: Option<ClientCertificates>,
    /// Whether TLS 1.2 is refused.
    pub is_tls13_only: bool,
}

/// Why material cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A certificate is not PEM.
    #[error("the certificate cannot be read: {0}")]
    Certificate(rustls::pki_types::pem::Error),
    /// There is no certificate in it.
    #[error("there is no certificate in the certificate file")]
    NoCertificate,
    /// A key is not PEM.
    #[error("the key cannot be read: {0}")]
    Key(rustls::pki_types::pem::Error),
    /// The key is of no known kind, or of another certificate.
    #[error("certificate and key do not fit: {0}")]
    Identity(rustls::Error),
    /// The authorities cannot be used.
    #[error("the client CA cannot be used: {0}")]
    Authorities(String),
    /// The revocation lists cannot be used.
    #[error("the revocation list cannot be used: {0}")]
    Revoked(String),
    /// The parameters contradict each other.
    #[error("TLS cannot be set up: {0}")]
    Setup(rustls::Error),
}

/// The TLS side of a listener. Clones are the same one.
#[derive(Clone)]
pub struct Tls {
    shared: Arc<Shared>,
}

struct Shared {
    alpn: Vec<Vec<u8>>,
    config: ArcSwap<ServerConfig>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

impl Tls {
    /// Checks the material.
    pub fn new(kind: ListenerKind, material: &TlsMaterial) -> Result<Self, TlsError> {
        let protocol: &[u8] = match kind.is_websocket() {
            true => b"http/1.1",
            false => b"mqtt",
        };
        let alpn = vec![protocol.to_vec()];
        let config = ArcSwap::from_pointee(build(material, &alpn)?);
        Ok(Self {
            shared: Arc::new(Shared { alpn, config }),
        })
    }

    /// Handshakes from now on use this material; nothing changes if it cannot be used.
    pub fn replace(&self, material: &TlsMaterial) -> Result<(), TlsError> {
        let config = build(material, &self.shared.alpn)?;
        self.shared.config.store(Arc::new(config));
        Ok(())
    }

    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        self.shared.config.load_full()
    }
}

fn build(material: &TlsMaterial, alpn: &[Vec<u8>]) -> Result<ServerConfig, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let mut hosts = HashMap::new();
    for (name, host) in &material.hosts {
        let certified = Arc::new(identity(host, &provider)?);
        hosts.insert(name.to_ascii_lowercase(), certified);
    }
    let certificates = Certificates {
        default: Arc::new(identity(&material.default, &provider)?),
        hosts,
    };
    let versions: &[&'static SupportedProtocolVersion] = match material.is_tls13_only {
        true => &[&rustls::version::TLS13],
        false => rustls::ALL_VERSIONS,
    };
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(versions)
        .map_err(TlsError::Setup)?;
    let verified = match &material.clients {
        None => builder.with_no_client_auth(),
        Some(clients) => builder.with_client_cert_verifier(verifier(clients, provider)?),
    };
    let mut config = verified.with_cert_resolver(Arc::new(certificates));
    config.alpn_protocols = alpn.to_vec();
    if material.clients.is_some() {
        // A resumed session would skip the look at the client's certificate, which may have
        // expired or been revoked since.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    } else {
        config.send_tls13_tickets = 1;
    }
    Ok(config)
}

fn identity(identity: &Identity, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
    let chain = CertificateDer::pem_slice_iter(&identity.chain)
        .collect::<Result<Vec<_>, _>>()
        .map_err(TlsError::Certificate)?;
    if chain.is_empty() {
        return Err(TlsError::NoCertificate);
    }
    let key = PrivateKeyDer::from_pem_slice(&identity.key).map_err(TlsError::Key)?;
    CertifiedKey::from_der(chain, key, provider).map_err(TlsError::Identity)
}

fn verifier(
    clients: &ClientCertificates,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    for authority in CertificateDer::pem_slice_iter(&clients.authorities) {
        let authority = authority.map_err(|error| TlsError::Authorities(error.to_string()))?;
        let added = roots.add(authority);
        added.map_err(|error| TlsError::Authorities(error.to_string()))?;
    }
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    if let Some(revoked) = &clients.revoked {
        let lists = CertificateRevocationListDer::pem_slice_iter(revoked)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| TlsError::Revoked(error.to_string()))?;
        if lists.is_empty() {
            return Err(TlsError::Revoked("there is no list in the file".to_owned()));
        }
        builder = builder.with_crls(lists);
    }
    if !clients.is_required {
        builder = builder.allow_unauthenticated();
    }
    builder.build().map_err(|error| match error {
        VerifierBuilderError::NoRootAnchors => {
            TlsError::Authorities("there is no certificate in the file".to_owned())
        }
        error => TlsError::Revoked(error.to_string()),
    })
}

/// The certificate by the name that a client asks for.
#[derive(Debug)]
struct Certificates {
    default: Arc<CertifiedKey>,
    hosts: HashMap<String, Arc<CertifiedKey>>,
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let named = hello
            .server_name()
            .and_then(|name| self.hosts.get(&name.to_ascii_lowercase()));
        Some(named.unwrap_or(&self.default).clone())
    }
}
