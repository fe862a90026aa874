//! Certificates of tests, made when they are needed.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams,
    SerialNumber,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// What a certificate is issued with.
#[derive(Clone, Debug, Default)]
pub struct Subject<'a> {
    /// CN.
    pub common_name: &'a str,
    /// O.
    pub organization: Option<&'a str>,
    /// Hosts and addresses.
    pub hosts: &'a [&'a str],
    /// Whether its time has passed.
    pub is_expired: bool,
    /// By which it is revoked.
    pub serial: u64,
}

/// A certificate with its key.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The certificate as PEM.
    pub cert: String,
    /// Its key as PEM.
    pub key: String,
    der: (CertificateDer<'static>, Vec<u8>),
}

impl Issued {
    /// As TLS takes it.
    pub fn identity(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let (cert, key) = &self.der;
        let key = PrivateKeyDer::try_from(key.clone()).expect("a key in PKCS#8");
        (vec![cert.clone()], key)
    }

    /// Writes both files; the second is the key.
    pub fn write(&self, folder: &Path, name: &str) -> (PathBuf, PathBuf) {
        let (cert, key) = (
            folder.join(format!("{name}.pem")),
            folder.join(format!("{name}.key")),
        );
        fs::write(&cert, &self.cert).expect("the certificate is written");
        fs::write(&key, &self.key).expect("the key is written");
        (cert, key)
    }
}

/// Somebody who signs certificates.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    /// A fresh one.
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key");
        Self {
            issuer: CertifiedIssuer::self_signed(params, key).expect("a certificate"),
        }
    }

    /// The one that the servers of this test process show certificates of.
    pub fn of_servers() -> &'static Self {
        static OF_SERVERS: OnceLock<Authority> = OnceLock::new();
        OF_SERVERS.get_or_init(|| Self::new("bifrust e2e"))
    }

    /// A certificate for this machine.
    pub fn of_localhost(&self) -> Issued {
        self.issue(&Subject {
            common_name: "localhost",
            hosts: &["localhost", "127.0.0.1", "::1"],
            ..Subject::default()
        })
    }

    /// Its own certificate as PEM.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// Its own certificate.
    pub fn der(&self) -> CertificateDer<'static> {
        self.issuer.der().clone()
    }

    /// Signs a certificate, for servers and clients alike.
    pub fn issue(&self, subject: &Subject<'_>) -> Issued {
        let hosts: Vec<String> = subject.hosts.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(hosts).expect("host names");
        let name = &mut params.distinguished_name;
        name.push(DnType::CommonName, subject.common_name);
        if let Some(organization) = subject.organization {
            name.push(DnType::OrganizationName, organization);
        }
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        params.use_authority_key_identifier_extension = true; // Python from 3.13 on asks for it
        params.serial_number = (subject.serial > 0).then(|| SerialNumber::from(subject.serial));
        if subject.is_expired {
            params.not_before = (SystemTime::now() - Duration::from_secs(7200)).into();
            params.not_after = (SystemTime::now() - Duration::from_secs(3600)).into();
        }
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        Issued {
            cert: certificate.pem(),
            key: key.serialize_pem(),
            der: (certificate.der().clone(), key.serialize_der()),
        }
    }

    /// A list of what it has revoked, as PEM.
    pub fn revoke(&self, serials: &[u64]) -> String {
        let now = SystemTime::now();
        let revoked = serials.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: (now - Duration::from_secs(60)).into(),
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: (now - Duration::from_secs(60)).into(),
            next_update: (now + Duration::from_secs(3600)).into(),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = params.signed_by(&self.issuer).expect("a list");
        list.pem().expect("a list as PEM")
    }
}
