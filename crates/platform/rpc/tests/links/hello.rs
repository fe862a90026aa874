//! Who is let in and who is not, by name on both sides.

use bifrust_cluster::{ClusterId, ClusterKey};
use bifrust_rpc::hello::{Identity, Reason, Refusal, Versions};
use bifrust_rpc::{CallError, Certificates, Config, Encryption};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::harness::*;

/// An authority for the nodes of one cluster.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    pub(crate) fn issue(&self, name: &str) -> Certificates {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Certificates {
            chain: certificate.pem().into_bytes(),
            key: key.serialize_pem().into_bytes(),
            authorities: self.0.pem().into_bytes(),
            name: name.to_owned(),
        }
    }
}

/// The second node calls the first; both name the reason and count it.
async fn refused(other: Identity, encryption: Encryption, reason: Reason) -> String {
    let config = Config {
        encryption,
        ..Config::default()
    };
    let a = Member::start(identity(1), config.clone()).await;
    let b = Member::start(other, config).await;
    let failed = b.to(&a).call(to(ECHO, "x"), LONG).await;
    assert_eq!(failed, Err(CallError::Unreachable));
    until("both know", || {
        !a.refusals().is_empty() && !b.refusals().is_empty()
    })
    .await;
    let (here, there) = (a.refusals().remove(0), b.refusals().remove(0));
    assert_eq!((here.reason(), there.reason()), (reason, reason));
    let name = reason.name();
    let counted = |member: &Member, by| member.numbers.of(&format!("bifrust_rpc_{by} {name}"));
    assert!(counted(&a, "refused") + counted(&b, "refused") >= 1);
    assert!(counted(&a, "refused_by_peer") + counted(&b, "refused_by_peer") >= 1);
    assert_eq!(a.numbers.gauge_of("bifrust_rpc_links accepted"), 0);
    match (here, there) {
        (Refusal::Own { text, .. }, Refusal::Theirs { text: same, .. })
        | (Refusal::Theirs { text: same, .. }, Refusal::Own { text, .. }) => {
            assert_eq!(text, same);
            text
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn strangers_are_refused_by_name_with_and_without_tls() {
    for encryption in [Encryption::Never, Encryption::Always] {
        let key = ClusterKey::new("the key of other nodes").expect("it is long");
        let other = Identity { key, ..identity(2) };
        refused(other, encryption, Reason::Key).await;
        let cluster = ClusterId::new(43);
        let other = Identity {
            cluster,
            ..identity(2)
        };
        refused(other, encryption, Reason::Cluster).await;
        let versions = Versions { min: 9, max: 12 };
        let other = Identity {
            versions,
            ..identity(2)
        };
        let text = refused(other, encryption, Reason::Version).await;
        assert!(text.contains("9 to 12"), "{text}");
    }
}

#[tokio::test]
async fn an_older_and_a_newer_node_call_each_other() {
    let newer = Identity {
        versions: Versions { min: 1, max: 7 },
        ..identity(2)
    };
    let a = Member::start(identity(1), Config::default()).await;
    let b = Member::start(newer, Config::default()).await;
    assert!(a.to(&b).call(to(ECHO, "x"), LONG).await.is_ok());
    assert!(b.to(&a).call(to(ECHO, "x"), LONG).await.is_ok());
}

#[tokio::test]
async fn a_node_that_has_started_anew_is_not_taken_for_its_former_self() {
    let (a, b) = pair(Config::default()).await;
    let former = a.rpc.node(node(2, 0), b.address).expect("there is room");
    let failed = former.call(to(ECHO, "x"), LONG).await;
    assert_eq!(failed, Err(CallError::Unreachable));
    assert_eq!(a.refusals()[0].reason(), Reason::Node);
}

#[tokio::test]
async fn certificates_of_another_authority_are_refused() {
    let config = |authority: &Authority| Config {
        encryption: Encryption::Always,
        certificates: Some(authority.issue("nodes.test")),
        ..Config::default()
    };
    let a = Member::start(identity(1), config(&Authority::new())).await;
    let b = Member::start(identity(2), config(&Authority::new())).await;
    let failed = b.to(&a).call(to(ECHO, "x"), LONG).await;
    assert_eq!(failed, Err(CallError::Unreachable));
    until("both know", || {
        !a.refusals().is_empty() && !b.refusals().is_empty()
    })
    .await;
    assert_eq!(a.refusals()[0].reason(), Reason::Tls);
    assert_eq!(b.refusals()[0].reason(), Reason::Tls);
}

#[tokio::test]
async fn plain_and_tls_are_not_mixed_up() {
    let with = |encryption| Config {
        encryption,
        ..Config::default()
    };
    let a = Member::start(identity(1), with(Encryption::Never)).await;
    let b = Member::start(identity(2), with(Encryption::Always)).await;
    assert!(b.to(&a).call(to(ECHO, "x"), LONG).await.is_err());
    assert!(a.to(&b).call(to(ECHO, "x"), LONG).await.is_err());
    let texts: Vec<_> = a.refusals().iter().map(Refusal::to_string).collect();
    assert!(
        texts.iter().any(|text| text.contains("speaks TLS")),
        "{texts:?}"
    );
}

#[tokio::test]
async fn garbage_is_refused_and_counted() {
    let a = Member::start(identity(1), Config::default()).await;
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; 100], &[0xff; 10_000]] {
        let mut stream = TcpStream::connect(a.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await; // it may be reset
        if !answer.is_empty() {
            assert!(answer.starts_with(b"bfRL"), "{answer:?}");
        }
    }
    until("all are counted", || {
        a.numbers.of("bifrust_rpc_refused malformed") == 3
    })
    .await;
    // It serves others as before.
    let b = Member::start(identity(2), Config::default()).await;
    assert!(b.to(&a).call(to(ECHO, "x"), LONG).await.is_ok());
}
