use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use argon2::Version;
use bifrust_model::{ClientId, Protocol, Qos, TenantName};
use bifrust_plugin_api::{Credentials, PeerCertificate, PeerTls};

use super::*;
use crate::user_file::User;

/// A hash that costs next to nothing to check.
pub(crate) fn quick_hash(password: &str) -> String {
    let params = Params::new(8, 1, 1, None).unwrap();
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password(password.as_bytes())
        .unwrap()
        .to_string()
}

struct Bed {
    _folder: tempfile::TempDir,
    auth: PasswordAuth,
}

fn bed(users: &[(&str, &str, &str)]) -> Bed {
    bed_with(users, 1, 1000)
}

fn bed_with(users: &[(&str, &str, &str)], threads: usize, queue_max: usize) -> Bed {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("users.toml");
    let file = UserFile::new(&path);
    for (tenant, name, password) in users {
        file.put(user(tenant, name, password)).unwrap();
    }
    let config = PasswordConfig {
        file: path,
        threads,
        queue_max,
    };
    let auth = PasswordAuth::open(&config).unwrap();
    Bed {
        _folder: folder,
        auth,
    }
}

fn user(tenant: &str, name: &str, password: &str) -> User {
    User {
        tenant: tenant.to_owned(),
        name: name.to_owned(),
        password: quick_hash(password),
        scram: None,
        publish: None,
        subscribe: None,
    }
}

fn request(user_name: Option<&str>, password: Option<&str>) -> AuthRequest {
    AuthRequest {
        credentials: Credentials {
            user_name: user_name.map(str::to_owned),
            password: password.map(|text| text.to_owned().into()),
        },
        client_id: "c".to_owned(),
        peer: ([127, 0, 0, 1], 1).into(),
        protocol: Protocol::V5,
        listener_tenant: None,
        tls: None,
        methods: vec![AuthMethod::Password],
    }
}

fn wait<T>(answer: Answer<T>) -> T {
    let mut future = match answer {
        Answer::Now(now) => return now,
        Answer::Later(later) => later,
    };
    loop {
        match Pin::new(&mut future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(ready) => return ready,
            Poll::Pending => std::thread::yield_now(),
        }
    }
}

fn ask(auth: &PasswordAuth, user: &str, password: &str) -> AuthAnswer {
    wait(auth.authenticate(request(Some(user), Some(password))))
}

#[test]
fn the_right_password_is_granted_and_then_known() {
    let bed = bed(&[("acme", "bob", "secret")]);
    let first = bed
        .auth
        .authenticate(request(Some("acme/bob"), Some("secret")));
    assert!(matches!(first, Answer::Later(_)));
    let granted = wait(first).unwrap().unwrap();
    assert_eq!(granted.tenant.as_str(), "acme");
    assert_eq!(granted.user.as_deref(), Some("bob"));
    let again = bed
        .auth
        .authenticate(request(Some("acme/bob"), Some("secret")));
    assert!(matches!(again, Answer::Now(Ok(Ok(_)))));
}

#[test]
fn everything_else_is_refused() {
    let bed = bed(&[("acme", "bob", "secret"), ("default", "eve", "x")]);
    for (user, password) in [
        ("acme/bob", "Secret"),
        ("acme/bob", ""),
        ("bob", "secret"),
        ("acme/eve", "x"),
        ("a b/bob", "secret"),
        ("", ""),
    ] {
        assert_eq!(ask(&bed.auth, user, password), REFUSED, "{user} {password}");
    }
    for request in [
        request(None, None),
        request(Some("acme/bob"), None),
        request(None, Some("secret")),
    ] {
        assert_eq!(wait(bed.auth.authenticate(request)), REFUSED);
    }
    assert!(ask(&bed.auth, "eve", "x").unwrap().is_ok());
}

#[test]
fn an_unknown_user_waits_for_a_hash_like_a_known_one() {
    let bed = bed(&[("acme", "bob", "secret")]);
    let answer = bed
        .auth
        .authenticate(request(Some("acme/nobody"), Some("secret")));
    assert!(matches!(answer, Answer::Later(_)));
    assert_eq!(wait(answer), REFUSED);
}

#[test]
fn a_full_queue_is_busy() {
    let bed = bed_with(&[("acme", "bob", "secret")], 1, 0);
    assert_eq!(ask(&bed.auth, "acme/bob", "secret"), Err(AuthError::Busy));
}

#[test]
fn whoever_waits_at_the_stop_is_refused() {
    let bed = bed(&[("acme", "bob", "secret")]);
    bed.auth.stop();
    assert_eq!(ask(&bed.auth, "acme/bob", "secret"), Err(AuthError::Busy));
}

#[test]
fn a_changed_password_ends_the_old_one_and_an_edit_keeps_the_cache() {
    let bed = bed(&[("acme", "bob", "old"), ("acme", "eve", "same")]);
    assert!(ask(&bed.auth, "acme/bob", "old").unwrap().is_ok());
    assert!(ask(&bed.auth, "acme/eve", "same").unwrap().is_ok());
    let version = bed.auth.version();
    bed.auth
        .shared
        .file
        .put(user("acme", "bob", "new"))
        .unwrap();
    bed.auth.shared.reload();
    assert_ne!(bed.auth.version(), version);
    assert_eq!(ask(&bed.auth, "acme/bob", "old"), REFUSED);
    assert!(ask(&bed.auth, "acme/bob", "new").unwrap().is_ok());
    let eve = bed
        .auth
        .authenticate(request(Some("acme/eve"), Some("same")));
    assert!(matches!(eve, Answer::Now(Ok(Ok(_)))));
}

#[test]
fn a_broken_edit_keeps_the_last_good_users() {
    let bed = bed(&[("acme", "bob", "secret")]);
    std::fs::write(bed.auth.shared.file.path(), "[[user]\n").unwrap();
    bed.auth.shared.reload();
    assert_eq!(bed.auth.user_count(), 1);
    std::fs::remove_file(bed.auth.shared.file.path()).unwrap();
    bed.auth.shared.reload();
    assert!(ask(&bed.auth, "acme/bob", "secret").unwrap().is_ok());
}

#[test]
fn an_edit_is_noticed_without_being_told() {
    let bed = bed(&[]);
    assert_eq!(bed.auth.user_count(), 0);
    let version = bed.auth.version();
    bed.auth
        .shared
        .file
        .put(user("acme", "bob", "secret"))
        .unwrap();
    let started = std::time::Instant::now();
    while bed.auth.version() == version {
        assert!(started.elapsed().as_secs() < 30, "the edit went unnoticed");
        std::thread::yield_now();
    }
    assert!(ask(&bed.auth, "acme/bob", "secret").unwrap().is_ok());
}

#[test]
fn rules_decide_what_a_user_may_do() {
    let bed = bed(&[("acme", "free", "x")]);
    let ruled = User {
        publish: Some(vec!["up/%c".to_owned()]),
        subscribe: Some(vec!["down/%u/#".to_owned()]),
        ..user("acme", "bob", "x")
    };
    bed.auth.shared.file.put(ruled).unwrap();
    bed.auth.shared.reload();
    let client = |user: &str| {
        Arc::new(ClientInfo {
            tenant: TenantName::new("acme").unwrap(),
            user: Some(user.into()),
            client: ClientId::new("c1").unwrap(),
            peer: None,
            protocol: Protocol::V5,
        })
    };
    let publish = |user: &str, topic| {
        let (qos, retain) = (Qos::AtMostOnce, false);
        let action = Action::Publish { topic, qos, retain };
        wait(bed.auth.access(&client(user), action)).unwrap()
    };
    let subscribe = |user: &str, filter| {
        let qos = Qos::AtMostOnce;
        wait(
            bed.auth
                .access(&client(user), Action::Subscribe { filter, qos }),
        )
        .unwrap()
    };
    assert!(publish("bob", "up/c1") && !publish("bob", "up/c2"));
    assert!(subscribe("bob", "down/bob/+") && !subscribe("bob", "#"));
    assert!(publish("free", "$any/thing") && subscribe("free", "#"));
    assert!(!publish("gone", "up/c1") && !subscribe("gone", "down/gone/x"));
}

#[test]
fn the_first_way_that_is_tried_decides() {
    use AuthMethod::{Anonymous, Certificate, Password};
    let bed = bed(&[
        ("acme", "pump", "unused"),
        ("acme", "bob", "right"),
        ("acme", "anonymous", "unused"),
    ]);
    let listener = TenantName::new("acme").unwrap();
    let ask = |methods: &[AuthMethod], common_name: Option<&str>, user: Option<&str>| {
        let certificate = common_name.map(|name| PeerCertificate {
            common_name: Some(name.to_owned()),
            ..PeerCertificate::default()
        });
        let answer = wait(bed.auth.authenticate(AuthRequest {
            tls: Some(PeerTls {
                certificate,
                ..PeerTls::default()
            }),
            methods: methods.to_vec(),
            listener_tenant: Some(listener.clone()),
            ..request(user, Some("right"))
        }));
        let granted = answer.unwrap();
        granted.map(|granted| granted.user.unwrap().to_string())
    };
    let all = [Certificate, Password, Anonymous];
    let user = |name: &str| Ok(name.to_owned());
    assert_eq!(ask(&all, Some("pump"), Some("bob")), user("pump"));
    assert_eq!(
        ask(&all, Some("nobody"), Some("bob")),
        Err(Refusal::NotAuthorized)
    );
    assert_eq!(ask(&all, None, Some("bob")), user("bob"));
    assert_eq!(ask(&all, None, None), user("anonymous"));
    let names_first = [Password, Certificate];
    assert_eq!(ask(&names_first, Some("pump"), Some("bob")), user("bob"));
    assert_eq!(ask(&names_first, Some("pump"), None), user("pump"));
    let refused = Err(Refusal::BadUserOrPassword);
    assert_eq!(ask(&names_first, None, None), refused);
    assert_eq!(ask(&[Certificate], None, Some("bob")), refused);
    assert_eq!(ask(&[Password], Some("pump"), None), refused);
    assert_eq!(ask(&[], Some("pump"), Some("bob")), refused);
}
