//! The program's own commands, its exit codes and how it stops.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bifrust_e2e::broker::{Builder, Output, bifrust, run_cli, wait};
use bifrust_e2e::{Broker, Carrier, Connect, Packet, Publish};
use tempfile::TempDir;

/// A broker over TCP, whatever is asked for: TLS and WebSocket need other flags.
fn builder() -> Builder {
    Carrier::none_is_asked_for();
    Broker::builder()
}

fn cli(broker: &Broker, command: &str, args: &[&str], input: &str) -> Output {
    let port = broker.tcp().port().to_string();
    let mut all = vec![command, "-h", "127.0.0.1", "-p", &port];
    all.extend_from_slice(args);
    run_cli(&all, input)
}

/// An HTTP/1.1 GET: status and body.
fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).expect("the API accepts");
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("open");
    let mut answer = String::new();
    stream
        .read_to_string(&mut answer)
        .expect("an answer in text");
    let (head, body) = answer.split_once("\r\n\r\n").expect("an HTTP answer");
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    (status.expect("a status"), body.to_owned())
}

#[test]
fn ready_file_says_where_it_serves() {
    let broker = builder().start();
    let text = fs::read_to_string(broker.home().join("ready.json")).expect("a ready file");
    let ready: serde_json::Value = serde_json::from_str(&text).expect("one JSON object");
    let mut keys: Vec<&str> = ready
        .as_object()
        .expect("an object")
        .keys()
        .map(String::as_str)
        .collect();
    keys.sort_unstable();
    assert_eq!(keys, ["api", "pid", "tcp", "tls", "version", "ws", "wss"]);
    assert_eq!(ready["pid"], broker.pid());
    assert_eq!(ready["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(ready["tcp"], broker.tcp().to_string());
    assert!(ready["tls"].is_null() && ready["wss"].is_null());
    assert!(broker.log().contains("ready"), "{}", broker.log());
}

#[test]
fn listeners_can_be_off() {
    let broker = builder()
        .arg("--ws")
        .arg("off")
        .arg("--api")
        .arg("off")
        .start();
    assert!(broker.addresses().ws.is_none() && broker.addresses().api.is_none());
    broker.connect(&Connect::v3("x")).ping();
}

#[test]
fn pub_and_sub_speak_to_each_other() {
    let broker = builder().start();
    for version in ["mqttv311", "mqttv5"] {
        for qos in ["0", "1", "2"] {
            let topic = format!("cli/{version}/{qos}");
            let sent = cli(
                &broker,
                "pub",
                &["-V", version, "-q", qos, "-t", &topic, "-m", "hello", "-r"],
                "",
            );
            assert_eq!(sent.code, 0, "{sent:?}");
            let got = cli(
                &broker,
                "sub",
                &[
                    "-V", version, "-q", qos, "-t", &topic, "-C", "1", "-W", "10",
                ],
                "",
            );
            assert_eq!((got.code, got.stdout.as_str()), (0, "hello\n"), "{got:?}");
            let got = cli(
                &broker,
                "sub",
                &["-t", &topic, "-C", "1", "-W", "10", "-v"],
                "",
            );
            assert_eq!(got.stdout, format!("{topic} hello\n"), "{got:?}");
        }
    }
}

#[test]
fn pub_sends_each_line_and_sub_prints_each() {
    let broker = builder().start();
    let port = broker.tcp().port().to_string();
    let mut sub = Command::new(bifrust());
    sub.args(["sub", "-h", "127.0.0.1", "-p", &port, "-i", "reader"]);
    sub.args(["-q", "1", "-t", "lines/#", "-W", "60"])
        .stdout(Stdio::piped());
    let mut sub = sub.spawn().expect("started");
    let lines = BufReader::new(sub.stdout.take().expect("a pipe")).lines();
    let is_there = AtomicBool::new(false);
    thread::scope(|scope| {
        // Its first line shows that the subscription stands.
        scope.spawn(|| {
            let mut writer = broker.connect(&Connect::v5("writer"));
            while !is_there.load(Ordering::Relaxed) {
                writer.publish(&Publish::new("lines/first", "first").qos(1));
            }
        });
        let mut lines = lines.map(|line| line.expect("text"));
        assert_eq!(lines.next().as_deref(), Some("first"));
        is_there.store(true, Ordering::Relaxed);
        let sent = cli(
            &broker,
            "pub",
            &["-t", "lines/more", "-q", "1", "-l"],
            "a\nb c\nd\n",
        );
        assert_eq!(sent.code, 0, "{sent:?}");
        let more: Vec<String> = lines.filter(|line| line != "first").take(3).collect();
        assert_eq!(more, ["a", "b c", "d"]);
    });
    sub.kill().expect("our own child");
    sub.wait().expect("our own child");
}

#[test]
fn sub_ends_with_its_time() {
    let broker = builder().start();
    let start = Instant::now();
    let got = cli(&broker, "sub", &["-t", "silent", "-W", "1"], "");
    assert!(start.elapsed() < Duration::from_secs(5));
    assert_ne!(got.code, 0, "like mosquitto_sub's 27: {got:?}");
    assert!(got.stdout.is_empty());
}

#[test]
fn refusals_reach_the_command_line() {
    let broker = builder().start();
    let refused = cli(&broker, "pub", &["-t", "a/#", "-m", "x", "-q", "1"], "");
    assert!(
        refused.code != 0 && !refused.stderr.is_empty(),
        "{refused:?}"
    );
    let nobody = run_cli(&["pub", "-p", "1", "-t", "a", "-m", "x"], "");
    assert!(
        nobody.code != 0 && nobody.stderr.contains("127.0.0.1:1"),
        "{nobody:?}"
    );
    let nonsense = run_cli(&["pub", "--nonsense"], "");
    assert!(
        nonsense.code != 0 && nonsense.stderr.contains("--nonsense"),
        "{nonsense:?}"
    );
}

#[test]
fn config_check_names_every_mistake() {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("bifrust.toml");
    let name = path.display().to_string();
    let text = "[listen]\ntcp = \"127.0.0.1:1883\"\ntpc = \"x\"\n\n[settings]\n\
                MaxTopicLevels = 0\nMaxTopicLenght = 5\nQoS0OfflineQueue = \"yes\"\n";
    fs::write(&path, text).expect("written");
    let output = run_cli(&["config", "check", &name], "");
    assert_eq!(output.code, 2, "{output:?}");
    let said = output.stdout + &output.stderr;
    for (line, key, hint) in [
        (3, "tpc", "did you mean tcp?"),
        (6, "MaxTopicLevels", "1024"),
        (7, "MaxTopicLenght", "MaxTopicLength"),
        (8, "QoS0OfflineQueue", "true"),
    ] {
        let place = format!("{name}:{line}");
        let told = said
            .lines()
            .find(|told| told.contains(&place))
            .unwrap_or_default();
        assert!(
            told.contains(key) && told.contains(hint),
            "{place} {key} {hint} in:\n{said}"
        );
    }
    let (status, log) = Builder::default().config(text).run_to_end();
    assert_eq!(status.code(), Some(2), "{log}");
    assert!(log.contains("MaxTopicLenght"), "{log}");
    fs::write(&path, "[settings]\nMaxTopicLevels = 10\n").expect("written");
    let output = run_cli(&["config", "check", &name], "");
    assert_eq!(output.code, 0, "{output:?}");
    let missing = run_cli(&["config", "check", "/nowhere.toml"], "");
    assert!(
        missing.code == 2 && missing.stderr.contains("/nowhere.toml"),
        "{missing:?}"
    );
}

#[test]
fn taken_port_has_its_own_exit_code() {
    let broker = builder().start();
    for flag in ["--tcp", "--ws", "--api"] {
        let taken = broker.tcp().to_string();
        let (status, log) = Builder::default().arg(flag).arg(&taken).run_to_end();
        assert_eq!(status.code(), Some(4), "{flag}: {log}");
        assert!(log.contains(&taken), "{log}");
    }
}

#[test]
fn dev_mode_stays_on_loopback() {
    let (status, log) = Builder::default()
        .arg("--tcp")
        .arg("0.0.0.0:0")
        .run_to_end();
    assert_eq!(status.code(), Some(2), "{log}");
    assert!(log.contains("--dev-insecure"), "{log}");
    let broker = builder()
        .arg("--tcp")
        .arg("0.0.0.0:0")
        .arg("--dev-insecure")
        .start();
    let port = broker.tcp().port();
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    bifrust_e2e::Client::connect(address, &Connect::v5("x")).ping();
}

#[test]
fn environment_overrides_the_config() {
    let broker = builder()
        .config("[settings]\nReceivingMaximum = 5\n")
        .env("BIFRUST__SETTINGS__RECEIVINGMAXIMUM", "7")
        .start();
    let client = broker.connect(&Connect::v5("x"));
    assert!(
        client
            .connack
            .has(&bifrust_e2e::Property::ReceiveMaximum(7))
    );
}

#[test]
fn sigterm_stops_gracefully_and_a_second_one_at_once() {
    let mut broker = builder().start();
    let mut five = broker.connect(&Connect::v5("five"));
    let mut three = broker.connect(&Connect::v3("three"));
    broker.signal_term();
    match five.next_packet() {
        Packet::Disconnect { code: 0x8B, .. } => five.expect_closed(),
        other => panic!("DISCONNECT 0x8B (server shutting down) expected, got {other:?}"),
    }
    three.expect_closed();
    let status = broker.wait_end(Duration::from_secs(20));
    assert!(status.success(), "{status}: {}", broker.log());
    // A second one: the end is not waited for any longer.
    let mut broker = builder().start();
    let clients: Vec<_> = (0..200)
        .map(|n| broker.connect(&Connect::v5(format!("c{n}"))))
        .collect();
    broker.signal_term();
    broker.signal_term();
    let start = Instant::now();
    broker.wait_end(Duration::from_secs(20));
    assert!(start.elapsed() < Duration::from_secs(5));
    drop(clients);
}

#[test]
fn version_and_help_are_told() {
    let version = run_cli(&["--version"], "");
    assert_eq!(version.code, 0);
    assert!(
        version.stdout.contains(env!("CARGO_PKG_VERSION")),
        "{version:?}"
    );
    let help = run_cli(&["--help"], "");
    for command in ["start", "pub", "sub", "user", "config", "bench"] {
        assert!(
            help.stdout.contains(command),
            "{command} in {}",
            help.stdout
        );
    }
}

#[test]
fn api_tells_health_and_meters() {
    let broker = builder().start();
    for path in ["/healthz", "/readyz"] {
        assert_eq!(get(broker.api(), path).0, 200, "{path}");
    }
    let mut client = broker.connect(&Connect::v5("metered"));
    client.publish(&Publish::new("metered", "x").qos(1));
    let (status, text) = get(broker.api(), "/metrics");
    assert_eq!(status, 200);
    assert!(text.contains("bifrust_"), "{text}");
    let is_prometheus = |line: &str| {
        line.is_empty()
            || line.starts_with('#')
            || line
                .rsplit_once(' ')
                .is_some_and(|(_, value)| value.parse::<f64>().is_ok())
    };
    assert!(text.lines().all(is_prometheus), "{text}");
    assert_eq!(get(broker.api(), "/nowhere").0, 404);
    let (status, text) = get(broker.api(), "/");
    assert!(status == 200 && text.contains("/metrics"), "{text}");
}

#[test]
fn api_survives_what_is_no_http() {
    let broker = builder().start();
    for bytes in [&b"\0\0\0\0\r\n\r\n"[..], b"GET", b"GET / HTTP/9.9\r\n\r\n"] {
        let mut stream = TcpStream::connect(broker.api()).expect("accepts");
        stream.write_all(bytes).expect("open");
    }
    assert_eq!(get(broker.api(), "/healthz").0, 200);
}

#[test]
fn a_stopped_start_leaves_no_process() {
    let mut child = Command::new(bifrust())
        .args([
            "start",
            "--dev",
            "--tcp",
            "127.0.0.1:0",
            "--data",
            "/proc/bifrust",
        ])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("started");
    let status = wait(&mut child, Duration::from_secs(10)).expect("it ends");
    assert!(!status.success());
}

#[test]
fn passwords_are_read_from_a_file_or_the_environment() {
    let broker = builder().start();
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("password");
    fs::write(&file, "secret\n").expect("written");
    let file = file.display().to_string();
    let args = ["-t", "p", "-m", "x", "-u", "red/u"];
    let sent = cli(
        &broker,
        "pub",
        &[&args[..], &["--password-file", &file]].concat(),
        "",
    );
    assert_eq!(sent.code, 0, "{sent:?}");
    let sent = cli(&broker, "pub", &[&args[..], &["-P", "secret"]].concat(), "");
    assert_eq!(sent.code, 0, "{sent:?}");
    assert!(
        sent.stderr.contains("-P"),
        "a password in argv is warned of: {sent:?}"
    );
}

#[test]
fn sub_prints_json_where_asked() {
    let broker = builder().start();
    let mut writer = broker.connect(&Connect::v5("writer"));
    writer.publish(&Publish::new("json", "\"x\"\n").qos(1).retain());
    let got = cli(
        &broker,
        "sub",
        &["-t", "json", "-C", "1", "-W", "10", "--json"],
        "",
    );
    let value: serde_json::Value = serde_json::from_str(got.stdout.trim()).expect("JSON");
    assert_eq!(value["topic"], "json");
    assert_eq!(value["payload"], "\"x\"\n");
}
