//! `bifrust pub`, `sub` and `bench` over TLS, WebSocket and both.

use std::fs;

use bifrust_e2e::authority::{Authority, Subject};
use bifrust_e2e::broker::{Output, run_cli};
use bifrust_e2e::{Broker, Carrier};
use tempfile::TempDir;

struct Served {
    broker: Broker,
    folder: TempDir,
}

impl Served {
    fn start(client_auth: &str) -> Self {
        Carrier::none_is_asked_for();
        let folder = TempDir::with_prefix("bifrust-cli-").expect("a folder");
        let path = folder.path();
        let servers = Authority::of_servers();
        let (cert, key) = servers.of_localhost().write(path, "server");
        fs::write(path.join("ca.pem"), servers.pem()).expect("written");
        let clients = Authority::new("clients");
        fs::write(path.join("clients.pem"), clients.pem()).expect("written");
        let device = clients.issue(&Subject {
            common_name: "device",
            ..Subject::default()
        });
        device.write(path, "device");
        let config = format!(
            "[listen]\ntls = \"127.0.0.1:0\"\nwss = \"127.0.0.1:0\"\ncert = {cert:?}\nkey = {key:?}\n\
             client_ca = {:?}\nclient_auth = {client_auth:?}\n",
            path.join("clients.pem")
        );
        let broker = Broker::builder().config(config).start();
        Self { broker, folder }
    }

    fn file(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn urls(&self) -> [String; 4] {
        let broker = &self.broker;
        [
            format!("mqtt://{}", broker.tcp()),
            format!("ws://{}/", broker.ws()),
            format!("mqtts://localhost:{}", broker.tls().port()),
            format!("wss://localhost:{}/mqtt", broker.wss().port()),
        ]
    }

    /// Runs a command with what TLS needs, where the URL asks for it.
    fn run(&self, command: &[&str], url: &str, more: &[&str]) -> Output {
        let ca = self.file("ca.pem");
        let mut args = command.to_vec();
        args.extend(["-L", url]);
        if url.contains("s://") && !url.starts_with("ws://") {
            args.extend(["--cafile", &ca]);
        }
        args.extend(more);
        run_cli(&args, "")
    }
}

#[test]
fn messages_go_over_every_transport() {
    let served = Served::start("optional");
    for from in served.urls() {
        let text = format!("over {from}");
        let sent = served.run(&["pub"], &from, &["-t", "t", "-m", &text, "-q", "1", "-r"]);
        assert_eq!(sent.code, 0, "{from}: {}", sent.stderr);
        for to in served.urls() {
            let seen = served.run(&["sub"], &to, &["-t", "t", "-C", "1", "-W", "20"]);
            assert_eq!(seen.stdout.trim_end(), text, "{to}: {}", seen.stderr);
        }
    }
    // Large ones, in many records and frames.
    let large = served.file("large");
    fs::write(&large, "x".repeat(900_000)).expect("written");
    for url in served.urls() {
        let sent = served.run(&["pub"], &url, &["-t", "t", "-f", &large, "-q", "2", "-r"]);
        assert_eq!(sent.code, 0, "{url}: {}", sent.stderr);
        let seen = served.run(&["sub"], &url, &["-t", "t", "-C", "1", "-W", "20"]);
        assert_eq!(seen.stdout.len(), 900_001, "{url}: {}", seen.stderr);
    }
}

#[test]
fn load_goes_over_every_transport() {
    let served = Served::start("optional");
    let load = [
        "--clients",
        "4",
        "--qos",
        "1",
        "--messages",
        "2000",
        "--quiet",
    ];
    for url in served.urls() {
        let report = served.run(&["bench", "p2p"], &url, &load);
        assert_eq!(report.code, 0, "{url}: {}{}", report.stdout, report.stderr);
    }
}

#[test]
fn brokers_and_clients_prove_who_they_are() {
    let served = Served::start("required");
    let url = format!("mqtts://localhost:{}", served.broker.tls().port());
    let publish = ["-t", "t", "-m", "x", "-q", "1"];
    let refused = served.run(&["pub"], &url, &publish);
    assert_ne!(refused.code, 0, "without a certificate");
    let (cert, key) = (served.file("device.pem"), served.file("device.key"));
    let shown = [&publish[..], &["--cert", &cert, "--key", &key]].concat();
    let sent = served.run(&["pub"], &url, &shown);
    assert_eq!(sent.code, 0, "{}", sent.stderr);
    // A broker that an unknown authority signed for, or that has another name.
    let other = Authority::new("another");
    fs::write(served.file("other.pem"), other.pem()).expect("written");
    let unknown = served.file("other.pem");
    let args = |more: &[&str]| {
        let mut args = vec!["pub", "-L", &url];
        args.extend_from_slice(&shown);
        args.extend_from_slice(more);
        run_cli(&args, "")
    };
    let refused = args(&["--cafile", &unknown]);
    assert!(
        refused.code != 0 && refused.stderr.contains("certificate"),
        "{}",
        refused.stderr
    );
    assert_eq!(args(&["--insecure"]).code, 0);
}
