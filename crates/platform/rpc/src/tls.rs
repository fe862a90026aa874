//! TLS between nodes: with a certificate per start that only encrypts, or with the operator's that also
//! say who may come.

use std::fmt;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{
    ClientConfig, ClientConnection, Connection, DigitallySignedStruct, RootCertStore, ServerConfig,
    ServerConnection, SignatureScheme,
};

use crate::hello::BINDING_BYTES;

/// What both ends speak within TLS.
const ALPN: &[u8] = b"bifrust-rpc";

/// The name that certificates made here have.
const OWN_NAME: &str = "bifrust-node";

/// What the proof of the hello is bound to.
const EXPORTER_LABEL: &[u8] = b"EXPORTER-bifrust-rpc-hello";

/// Certificates of the operator, all as PEM.
#[derive(Clone)]
pub struct Certificates {
    /// This node's certificate, and those between it and its authority.
    pub chain: Vec<u8>,
    /// Its private key.
    pub key: Vec<u8>,
    /// The authorities that sign the nodes of this cluster, and nothing else.
    pub authorities: Vec<u8>,
    /// The name that all nodes' certificates are for.
    pub name: String,
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The key never reaches a log.
        let name = &self.name;
        f.debug_struct("Certificates")
            .field("name", name)
            .finish_non_exhaustive()
    }
}

/// Why TLS between nodes cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is not PEM, or has not in it what it should.
    #[error("the cluster's {what} cannot be read: {error}")]
    Pem {
        /// Which.
        what: &'static str,
        /// What is wrong.
        error: rustls::pki_types::pem::Error,
    },
    /// The name is none.
    #[error("{0:?} is no name for a certificate")]
    Name(String),
    /// The authorities cannot be used.
    #[error("the cluster's authorities cannot be used: {0}")]
    Authorities(String),
    /// Certificate and key do not fit, or cannot be used.
    #[error("the cluster's certificate cannot be used: {0}")]
    Identity(rustls::Error),
    /// No certificate could be made.
    #[error("no certificate could be made: {0}")]
    Made(rcgen::Error),
}

/// Both roles of one node.
#[derive(Clone)]
pub(crate) struct Tls {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Tls {
    /// With the operator's certificates, or one made now.
    pub(crate) fn new(certificates: Option<&Certificates>) -> Result<Self, TlsError> {
        let provider = Arc::new(ring::default_provider());
        match certificates {
            Some(certificates) => mutual(certificates, &provider),
            None => own(&provider),
        }
    }

    pub(crate) fn dial(&self) -> Result<Connection, rustls::Error> {
        let connection = ClientConnection::new(self.client.clone(), self.name.clone())?;
        Ok(connection.into())
    }

    pub(crate) fn accept(&self) -> Result<Connection, rustls::Error> {
        Ok(ServerConnection::new(self.server.clone())?.into())
    }
}

/// What the proof of the hello is bound to, once the handshake is through.
pub(crate) fn binding(connection: &Connection) -> Result<[u8; BINDING_BYTES], rustls::Error> {
    connection.export_keying_material([0; BINDING_BYTES], EXPORTER_LABEL, None)
}

fn mutual(certificates: &Certificates, provider: &Arc<CryptoProvider>) -> Result<Tls, TlsError> {
    let read = |what, pem: &[u8]| {
        let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
        all.map_err(|error| TlsError::Pem { what, error })
    };
    let chain = read("certificate", &certificates.chain)?;
    let key = PrivateKeyDer::from_pem_slice(&certificates.key);
    let key = key.map_err(|error| TlsError::Pem { what: "key", error })?;
    let mut roots = RootCertStore::empty();
    for authority in read("authorities", &certificates.authorities)? {
        let added = roots.add(authority);
        added.map_err(|error| TlsError::Authorities(error.to_string()))?;
    }
    let roots = Arc::new(roots);
    let name = ServerName::try_from(certificates.name.clone());
    let name = name.map_err(|_| TlsError::Name(certificates.name.clone()))?;
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone());
    let verifier = verifier.build();
    let verifier = verifier.map_err(|error| TlsError::Authorities(error.to_string()))?;
    let server = server_builder(provider)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain.clone(), key.clone_key());
    let client = client_builder(provider)?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key);
    let (server, client) = (
        server.map_err(TlsError::Identity)?,
        client.map_err(TlsError::Identity)?,
    );
    Ok(finish(server, client, name))
}

fn own(provider: &Arc<CryptoProvider>) -> Result<Tls, TlsError> {
    let made = rcgen::generate_simple_self_signed([OWN_NAME.to_owned()]).map_err(TlsError::Made)?;
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der());
    let key = key.map_err(|text| TlsError::Identity(rustls::Error::General(text.to_owned())))?;
    let server = server_builder(provider)?
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .map_err(TlsError::Identity)?;
    let client = client_builder(provider)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider.clone())))
        .with_no_client_auth();
    let name = ServerName::try_from(OWN_NAME).map_err(|_| TlsError::Name(OWN_NAME.to_owned()))?;
    Ok(finish(server, client, name))
}

fn server_builder(
    provider: &Arc<CryptoProvider>,
) -> Result<rustls::ConfigBuilder<ServerConfig, rustls::WantsVerifier>, TlsError> {
    ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsError::Identity)
}

fn client_builder(
    provider: &Arc<CryptoProvider>,
) -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, TlsError> {
    ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsError::Identity)
}

/// No session is resumed: each proves the key, and with certificates looks at them, anew.
fn finish(mut server: ServerConfig, mut client: ClientConfig, name: ServerName<'static>) -> Tls {
    server.alpn_protocols = vec![ALPN.to_vec()];
    server.session_storage = Arc::new(NoServerSessionStorage {});
    server.send_tls13_tickets = 0;
    client.alpn_protocols = vec![ALPN.to_vec()];
    client.resumption = Resumption::disabled();
    Tls {
        server: Arc::new(server),
        client: Arc::new(client),
        name,
    }
}

/// Takes any certificate whose key the peer holds: who the peer is, the hello proves over this very
/// session.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
