//! MQTT over TLS: what is agreed on, whose certificates are believed, and when they change.

use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use bifrust_e2e::authority::{Authority, Issued, Subject};
use bifrust_e2e::broker::run_cli;
use bifrust_e2e::client::Transport;
use bifrust_e2e::secure::{Options, Secure};
use bifrust_e2e::websocket::WebSocket;
use bifrust_e2e::{Broker, Carrier, Client, Connect, Publish, VERSIONS, Version};
use tempfile::TempDir;

/// How long a changed file may take until it is in force.
const RELOAD_WITHIN: Duration = Duration::from_secs(10);

/// A broker with one listener per TLS transport, each with these options.
struct Secured {
    broker: Broker,
    folder: TempDir,
}

impl Secured {
    fn start(more: impl FnOnce(&Path) -> String) -> Self {
        Carrier::none_is_asked_for();
        let folder = TempDir::with_prefix("bifrust-tls-").expect("a folder");
        let path = folder.path();
        Authority::of_servers().of_localhost().write(path, "server");
        let more = more(path);
        let config = format!(
            "[log]\nlevel = \"debug\"\n[listen]\ncert = {:?}\nkey = {:?}\ntls = \"127.0.0.1:0\"\n\
             wss = \"127.0.0.1:0\"\n{more}\n",
            path.join("server.pem"),
            path.join("server.key"),
        );
        let broker = Broker::builder().config(config).start();
        Self { broker, folder }
    }

    fn open(&self, options: &Options<'_>) -> std::io::Result<Secure> {
        let stream = TcpStream::connect(self.broker.tls()).expect("accepts");
        Secure::try_open(stream, options)
    }

    /// Whether a client with this certificate gets its CONNACK.
    fn lets_in(&self, identity: Option<&Issued>, is_old: bool) -> bool {
        let options = Options {
            identity,
            is_old,
            ..Options::default()
        };
        let Ok(mut secure) = self.open(&options) else {
            return false;
        };
        if secure.send(&Connect::v5("c").encode()).is_err() {
            return false;
        }
        let mut answer = [0; 64];
        let deadline = Instant::now() + Duration::from_secs(20);
        matches!(secure.receive(&mut answer, deadline), Ok(count) if count > 4 && answer[3] == 0)
    }

    /// The certificate shown now.
    fn shown(&self, host: &str) -> Vec<u8> {
        let options = Options {
            host: Some(host),
            ..Options::default()
        };
        let secure = self.open(&options).expect("the handshake succeeds");
        secure.server_certificate()
    }

    /// Waits until so many connections were refused for what their TLS was.
    fn wait_refused(&self, count: f64) {
        let name = "bifrust_connections_refused_total{reason=\"tls\"}";
        self.broker.wait_metric(name, count);
    }
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + RELOAD_WITHIN;
    while !is_so() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn greet(transport: Box<dyn Transport>, version: Version, id: &str) -> Client {
    let mut client = Client::over(transport, version);
    assert_eq!(client.greet(&Connect::new(version, id)), 0);
    client
}

#[test]
fn messages_flow_between_all_transports() {
    let secured = Secured::start(|_| String::new());
    let broker = &secured.broker;
    for version in VERSIONS {
        let mut over_tls = greet(Carrier::Tls.dial(broker.tls()), version, "tls");
        let mut over_wss = greet(Carrier::Wss.dial(broker.wss()), version, "wss");
        over_tls.subscribe("to/tls", 1);
        over_wss.subscribe("to/wss", 1);
        for size in [0, 1, 5_000, 70_000, 700_000] {
            let payload = vec![b'x'; size];
            over_wss.publish(&Publish::new("to/tls", &payload).qos(1));
            assert_eq!(over_tls.receive().payload, payload);
            over_tls.publish(&Publish::new("to/wss", &payload).qos(1));
            assert_eq!(over_wss.receive().payload, payload);
        }
        over_tls.disconnect();
        over_wss.disconnect();
    }
}

#[test]
fn versions_and_protocols_are_agreed_on() {
    let secured = Secured::start(|_| String::new());
    let agreed = |alpn: &[&str], is_old| {
        let options = Options {
            alpn,
            is_old,
            ..Options::default()
        };
        secured.open(&options).map(|secure| secure.alpn())
    };
    let mqtt = Some("mqtt".to_owned());
    for is_old in [false, true] {
        assert_eq!(agreed(&[], is_old).unwrap(), None);
        assert_eq!(agreed(&["mqtt"], is_old).unwrap(), mqtt);
        assert_eq!(agreed(&["h2", "mqtt"], is_old).unwrap(), mqtt);
        assert!(agreed(&["h2"], is_old).is_err());
    }
    assert!(secured.lets_in(None, true), "TLS 1.2");
    let stream = TcpStream::connect(secured.broker.wss()).expect("accepts");
    let options = Options {
        alpn: &["mqtt"],
        ..Options::default()
    };
    assert!(Secure::try_open(stream, &options).is_err());
    secured.wait_refused(3.0);
    let secured = Secured::start(|_| "min_version = \"1.3\"".to_owned());
    assert!(secured.lets_in(None, false));
    assert!(!secured.lets_in(None, true));
}

#[test]
fn certificates_of_clients_are_checked() {
    let ours = Authority::new("clients");
    let others = Authority::new("others");
    let client = |authority: &Authority, serial, is_expired| {
        authority.issue(&Subject {
            common_name: "device",
            serial,
            is_expired,
            ..Subject::default()
        })
    };
    let good = client(&ours, 7, false);
    let refused = [
        ("expired", client(&ours, 8, true)),
        ("revoked", client(&ours, 9, false)),
        ("of another authority", client(&others, 7, false)),
    ];
    for auth in ["required", "optional"] {
        let secured = Secured::start(|path| {
            fs::write(path.join("ca.pem"), ours.pem()).expect("written");
            fs::write(path.join("crl.pem"), ours.revoke(&[9])).expect("written");
            format!(
                "client_ca = {:?}\nclient_crl = {:?}\nclient_auth = {auth:?}",
                path.join("ca.pem"),
                path.join("crl.pem")
            )
        });
        for is_old in [false, true] {
            assert!(secured.lets_in(Some(&good), is_old));
            assert_eq!(secured.lets_in(None, is_old), auth == "optional");
            for (what, certificate) in &refused {
                assert!(!secured.lets_in(Some(certificate), is_old), "{what}");
            }
        }
        let failures = if auth == "required" { 8.0 } else { 6.0 };
        secured.wait_refused(failures);
        // A list that is replaced holds for the next handshake.
        let list = secured.folder.path().join("crl.pem");
        fs::write(&list, ours.revoke(&[7, 9])).expect("written");
        wait_until("the list is in force", || {
            !secured.lets_in(Some(&good), false)
        });
    }
}

#[test]
fn changed_certificates_are_taken_and_broken_ones_are_not() {
    let secured = Secured::start(|_| String::new());
    let broker = &secured.broker;
    let mut kept = greet(Carrier::Tls.dial(broker.tls()), Version::V5, "kept");
    let first = secured.shown("localhost");
    let cert = secured.folder.path().join("server.pem");
    fs::write(&cert, "no certificate").expect("written");
    // One for each listener.
    broker.wait_metric("bifrust_tls_reloads_total{outcome=\"failed\"}", 2.0);
    assert_eq!(secured.shown("localhost"), first);
    assert!(
        broker
            .log()
            .contains("the certificates read last stay in force")
    );
    let second = Authority::of_servers().of_localhost();
    second.write(secured.folder.path(), "server");
    wait_until("the new certificate is shown", || {
        secured.shown("localhost") != first
    });
    assert_eq!(secured.shown("localhost"), second.identity().0[0].to_vec());
    kept.ping();
}

#[test]
fn hosts_have_their_certificates_and_tenants() {
    Carrier::none_is_asked_for();
    let folder = TempDir::with_prefix("bifrust-tls-").expect("a folder");
    let path = folder.path();
    let servers = Authority::of_servers();
    let default = servers.of_localhost();
    let (cert, key) = default.write(path, "server");
    let host = servers.issue(&Subject {
        common_name: "a",
        hosts: &["a.example"],
        ..Subject::default()
    });
    let (host_cert, host_key) = host.write(path, "a");
    let clients = Authority::new("clients");
    fs::write(path.join("ca.pem"), clients.pem()).expect("written");
    let config = format!(
        "[[listeners]]\nkind = \"tls\"\naddress = \"127.0.0.1:0\"\ncert = {cert:?}\nkey = {key:?}\n\
         client_ca = {:?}\nclient_auth = \"optional\"\ncertificate_tenant = \"organization\"\n\
         [[listeners.hosts]]\nname = \"a.example\"\ncert = {host_cert:?}\nkey = {host_key:?}\n\
         tenant = \"host-a\"\n",
        path.join("ca.pem")
    );
    let broker = Broker::builder().config(config).start();
    let dial = |host, identity: Option<&Issued>, id: &str| {
        let stream = TcpStream::connect(broker.tls()).expect("accepts");
        let options = Options {
            host: Some(host),
            identity,
            ..Options::default()
        };
        let secure = Secure::try_open(stream, &options).expect("the handshake succeeds");
        let shown = secure.server_certificate();
        (greet(Box::new(secure), Version::V5, id), shown)
    };
    let (mut by_host, shown) = dial("a.example", None, "by host");
    assert_eq!(shown, host.identity().0[0].to_vec());
    let device = clients.issue(&Subject {
        common_name: "device",
        organization: Some("by-certificate"),
        ..Subject::default()
    });
    let (mut by_certificate, shown) = dial("localhost", Some(&device), "by certificate");
    assert_eq!(shown, default.identity().0[0].to_vec());
    let (mut by_name, _) = dial("localhost", None, "by name");
    for client in [&mut by_host, &mut by_certificate, &mut by_name] {
        client.subscribe("t", 1);
    }
    let plain = |user: &str, text: &str| {
        let mut client = broker.connect(&Connect::v5("p").user(user));
        client.publish(&Publish::new("t", text).qos(1));
    };
    plain("host-a/x", "to host-a");
    plain("by-certificate/x", "to by-certificate");
    plain("x", "to dev");
    assert_eq!(by_host.receive().text(), "to host-a");
    assert_eq!(by_certificate.receive().text(), "to by-certificate");
    assert_eq!(by_name.receive().text(), "to dev");
}

#[test]
fn a_websocket_over_tls_keeps_the_rules_of_websocket() {
    let secured = Secured::start(|_| String::new());
    let address = secured.broker.wss();
    let below = || {
        let stream = TcpStream::connect(address).expect("accepts");
        Box::new(Secure::open(stream, &["http/1.1"]))
    };
    let (_, upgrade) = WebSocket::over(below(), address, "/elsewhere", Some("mqtt"));
    assert_eq!(upgrade.status, 404);
    let (_, upgrade) = WebSocket::over(below(), address, "/mqtt", Some("chat"));
    assert_eq!(upgrade.status, 400);
    let (_, upgrade) = WebSocket::over(below(), address, "/", Some("mqttv3.1"));
    assert_eq!(upgrade.header("sec-websocket-protocol"), Some("mqttv3.1"));
}

#[test]
fn certificates_stand_for_users() {
    Carrier::none_is_asked_for();
    let folder = TempDir::with_prefix("bifrust-tls-").expect("a folder");
    let path = folder.path();
    let (cert, key) = Authority::of_servers().of_localhost().write(path, "server");
    let clients = Authority::new("clients");
    fs::write(path.join("ca.pem"), clients.pem()).expect("written");
    let users = path.join("users.toml").display().to_string();
    for (name, filter) in [("pump", "pumps/%u/#"), ("anonymous", "public/#")] {
        let user = ["--tenant", "acme", "--user", name, "--publish", filter];
        let added = run_cli(
            &[&["user", "add", "--file", &users], &user[..]].concat(),
            "secret",
        );
        assert_eq!(added.code, 0, "{}", added.stderr);
    }
    let config = format!(
        "[auth]\nfile = {users:?}\n[[listeners]]\nkind = \"tls\"\naddress = \"127.0.0.1:0\"\n\
         tenant = \"acme\"\nauth = [\"certificate\", \"anonymous\"]\ncert = {cert:?}\nkey = {key:?}\n\
         client_ca = {:?}\nclient_auth = \"optional\"\n",
        path.join("ca.pem")
    );
    let broker = Broker::builder().strict().config(config).start();
    let greet = |common_name: Option<&str>, connect: &Connect| {
        let identity = common_name.map(|common_name| {
            clients.issue(&Subject {
                common_name,
                ..Subject::default()
            })
        });
        let options = Options {
            identity: identity.as_ref(),
            ..Options::default()
        };
        let stream = TcpStream::connect(broker.tls()).expect("accepts");
        let secure = Secure::try_open(stream, &options).expect("the handshake succeeds");
        let mut client = Client::over(Box::new(secure), Version::V5);
        let code = client.greet(connect);
        (client, code)
    };
    let (mut pump, code) = greet(Some("pump"), &Connect::v5("p"));
    assert_eq!(code, 0);
    let publish =
        |client: &mut Client, topic: &str| client.publish(&Publish::new(topic, "x").qos(1)) < 0x80;
    assert!(publish(&mut pump, "pumps/pump/up"));
    assert!(!publish(&mut pump, "public/a"));
    let (mut anonymous, code) = greet(None, &Connect::v5("a"));
    assert_eq!(code, 0);
    assert!(publish(&mut anonymous, "public/a"));
    assert!(!publish(&mut anonymous, "pumps/pump/up"));
    assert_eq!(greet(Some("unknown"), &Connect::v5("u")).1, 0x87);
    // No password counts here, and nothing but one does on the listener beside it.
    let with_password = Connect::v5("w").user("pump").password("secret");
    assert_eq!(greet(None, &with_password).1, 0x86);
    assert_eq!(broker.refuse(&Connect::v5("x")), 0x86);
    broker.connect(&Connect::v5("y").user("acme/pump").password("secret"));
}
