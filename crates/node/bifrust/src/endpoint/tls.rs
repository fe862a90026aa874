//! TLS as a client speaks it.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme,
};

/// Where systems keep the authorities that they believe.
const SYSTEM_AUTHORITIES: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];

/// What all connections to one host have in common.
#[derive(Clone)]
pub(super) struct Config {
    shared: Arc<ClientConfig>,
    host: ServerName<'static>,
}

impl Config {
    pub(super) fn read(
        host: &str,
        alpn: &str,
        authorities: Option<&Path>,
        identity: Option<(&Path, &Path)>,
        is_insecure: bool,
    ) -> anyhow::Result<Self> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()?;
        let builder = match is_insecure {
            true => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(BelieveAll(provider))),
            false => builder.with_root_certificates(roots(authorities)?),
        };
        let mut shared = match identity {
            None => builder.with_no_client_auth(),
            Some((cert, key)) => {
                let key = PrivateKeyDer::from_pem_file(key).with_context(|| said(key))?;
                builder.with_client_auth_cert(certificates(cert)?, key)?
            }
        };
        shared.alpn_protocols = vec![alpn.as_bytes().to_vec()];
        Ok(Self {
            shared: Arc::new(shared),
            host: ServerName::try_from(host.to_owned())?,
        })
    }

    pub(super) fn connection(&self) -> anyhow::Result<ClientConnection> {
        let mut connection = ClientConnection::new(self.shared.clone(), self.host.clone())?;
        connection.set_buffer_limit(None);
        Ok(connection)
    }
}

fn roots(authorities: Option<&Path>) -> anyhow::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    match authorities {
        Some(path) => {
            for authority in certificates(path)? {
                roots.add(authority).with_context(|| said(path))?;
            }
        }
        None => {
            let there = SYSTEM_AUTHORITIES.map(Path::new);
            if let Some(path) = there.into_iter().find(|path| path.exists()) {
                // Systems list some that are of no use to us.
                roots.add_parsable_certificates(certificates(path)?);
            }
        }
    }
    ensure!(
        !roots.is_empty(),
        "there is no authority to check the broker's certificate by; name one with --cafile"
    );
    Ok(roots)
}

fn certificates(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path)
        .with_context(|| said(path))?
        .collect();
    let found = found.with_context(|| said(path))?;
    ensure!(!found.is_empty(), "{}: no certificate in it", said(path));
    Ok(found)
}

fn said(path: &Path) -> String {
    path.display().to_string()
}

/// Asks for a signature and nothing else.
#[derive(Debug)]
struct BelieveAll(Arc<CryptoProvider>);

impl ServerCertVerifier for BelieveAll {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _chain: &[CertificateDer<'_>],
        _host: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
