//! What each transport answers to what it is not for: the table of docs/transports.md, row by row.
//! `BIFRUST_BLESS=1` writes the table anew.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bifrust_e2e::authority::{Authority, Subject};
use bifrust_e2e::client::Transport;
use bifrust_e2e::secure::{Options, Secure};
use bifrust_e2e::websocket::{Opcode, WebSocket};
use bifrust_e2e::{Broker, Carrier, Client, Connect, Packet, Version};
use tempfile::TempDir;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Start and end of the table in the docs.
const MARKS: [&str; 2] = ["<!-- bad input -->\n", "<!-- end of bad input -->\n"];

fn start(more: &str) -> (Broker, TempDir) {
    Carrier::none_is_asked_for();
    let folder = TempDir::with_prefix("bifrust-transports-").expect("a folder");
    let (cert, key) = Authority::of_servers()
        .of_localhost()
        .write(folder.path(), "server");
    let config = format!(
        "[limits]\nconnect_timeout_seconds = 1\n[log]\nlevel = \"debug\"\nconnections = true\n\
         [listen]\ntls = \"127.0.0.1:0\"\nwss = \"127.0.0.1:0\"\ncert = {cert:?}\nkey = {key:?}\n{more}"
    );
    (Broker::builder().config(config).start(), folder)
}

fn dial(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("accepts");
    stream.set_read_timeout(Some(PATIENCE)).expect("an option");
    stream
}

/// Everything until the end of the connection.
fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 1024];
    loop {
        match stream.read(&mut chunk) {
            Ok(count) if count > 0 => bytes.extend_from_slice(&chunk[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                panic!("it is not closed after {bytes:?}")
            }
            _ => return bytes,
        }
    }
}

fn answer_to(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = dial(address);
    stream.write_all(bytes).expect("open");
    rest(&mut stream)
}

/// The first bytes of a client of TLS.
fn client_hello() -> Vec<u8> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    let client = std::thread::spawn(move || {
        let stream = dial(address);
        Secure::try_open(stream, &Options::default()).is_err()
    });
    let (mut stream, _) = listener.accept().expect("our own client");
    let mut bytes = vec![0; 64];
    stream.read_exact(&mut bytes).expect("a hello is longer");
    drop(stream);
    assert!(client.join().expect("our own thread"));
    bytes
}

fn upgrade(address: SocketAddr, path: &str, more: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{more}\r\n"
    )
    .into_bytes()
}

/// The raw answer to frames after the upgrade.
fn answer_to_frames(address: SocketAddr, frames: &[u8]) -> Vec<u8> {
    let mut stream = dial(address);
    let request = upgrade(address, "/mqtt", "Sec-WebSocket-Protocol: mqtt\r\n");
    stream
        .write_all(&[&request, frames].concat())
        .expect("open");
    let answer = rest(&mut stream);
    let head = answer.windows(4).position(|window| window == b"\r\n\r\n");
    answer[head.expect("the upgrade is answered") + 4..].to_vec()
}

/// The alert that a handshake ends with, as it is on the wire before anything is encrypted.
fn alert(address: SocketAddr, options: &Options<'_>) -> Vec<u8> {
    let Err(error) = Secure::try_open(dial(address), options) else {
        panic!("the handshake succeeds");
    };
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    let Some(rustls::Error::AlertReceived(alert)) = inner else {
        panic!("no alert: {error}");
    };
    vec![0x15, 3, 3, 0, 2, 2, u8::from(*alert)]
}

/// The head of the last record of TLS: a ticket may come before it.
fn last_record(mut records: &[u8]) -> Vec<u8> {
    let mut head = Vec::new();
    while let Some((first, rest)) = records.split_first_chunk::<5>() {
        head = first.to_vec();
        let length = usize::from(u16::from_be_bytes([first[3], first[4]]));
        records = rest.get(length..).unwrap_or_default();
    }
    head
}

/// As the table shows it: text as it is, all else as hexadecimal.
fn shown(answer: &[u8]) -> String {
    if answer.is_empty() {
        return "closed".to_owned();
    }
    let line = answer
        .split(|byte| *byte == b'\r')
        .next()
        .unwrap_or_default();
    match std::str::from_utf8(line) {
        Ok(line) if line.starts_with("HTTP") => format!("`{line}`"),
        _ => {
            let mut hex = String::new();
            for byte in answer.iter().take(8) {
                let _ = write!(hex, "{}{byte:02x}", if hex.is_empty() { "" } else { " " });
            }
            format!("`{hex}`")
        }
    }
}

/// The rows, as far as they have been seen.
#[derive(Default)]
struct Table(Vec<String>);

impl Table {
    /// Does something bad and sees what is answered, told and counted.
    fn row(
        &mut self,
        broker: &Broker,
        (transport, input): (&str, &str),
        (event, reason): (&str, Option<&str>),
        act: impl FnOnce() -> Vec<u8>,
    ) {
        let event_name = format!("bifrust_events_total{{type=\"{event}\"}}");
        let reason_name = reason
            .map(|reason| format!("bifrust_connections_refused_total{{reason=\"{reason}\"}}"));
        let names: Vec<&str> = std::iter::once(event_name.as_str())
            .chain(reason_name.as_deref())
            .collect();
        let before: Vec<f64> = names.iter().map(|name| broker.metric(name)).collect();
        let answer = act();
        for (name, before) in names.iter().zip(before) {
            broker.wait_metric(name, before + 1.0);
        }
        let counted = reason.map_or_else(|| "-".to_owned(), |reason| format!("`{reason}`"));
        self.0.push(format!(
            "| {transport} | {input} | {} | `{event}` | {counted} |\n",
            shown(&answer)
        ));
    }
}

fn without_tls(broker: &Broker, table: &mut Table) {
    let hello = client_hello();
    let tcp = broker.tcp();
    let protocol = ("PROTOCOL_ERROR", None);
    table.row(broker, ("tcp", "a TLS handshake"), protocol, || {
        answer_to(tcp, &hello)
    });
    table.row(broker, ("tcp", "an HTTP request"), protocol, || {
        answer_to(tcp, &upgrade(tcp, "/mqtt", ""))
    });
    let late = ("CONNECT_TIMEOUT", None);
    table.row(broker, ("tcp", "nothing"), late, || answer_to(tcp, b""));
}

fn tls(broker: &Broker, table: &mut Table) {
    let tls = broker.tls();
    let refused = ("CHANNEL_ERROR", Some("tls"));
    let late = ("CONNECT_TIMEOUT", None);
    table.row(broker, ("tls", "CONNECT without TLS"), refused, || {
        answer_to(tls, &Connect::v5("c").encode())
    });
    table.row(broker, ("tls", "an HTTP request"), refused, || {
        answer_to(tls, &upgrade(tls, "/mqtt", ""))
    });
    let half = client_hello();
    table.row(broker, ("tls", "half a handshake"), late, || {
        answer_to(tls, &half)
    });
    table.row(broker, ("tls", "only another ALPN"), refused, || {
        let options = Options {
            alpn: &["h2"],
            ..Options::default()
        };
        alert(tls, &options)
    });
    table.row(broker, ("tls", "a handshake, then silence"), late, || {
        let mut secure = Secure::open(dial(tls), &["mqtt"]);
        let deadline = Instant::now() + PATIENCE;
        assert!(matches!(secure.receive(&mut [0; 8], deadline), Ok(0)));
        Vec::new()
    });
    table.row(
        broker,
        ("tls", "a record that was changed"),
        refused,
        || {
            let secure = Secure::open(dial(tls), &["mqtt"]);
            let mut stream = secure.socket().try_clone().expect("a handle");
            stream.write_all(b"\x17\x03\x03\x00\x20").expect("open");
            stream.write_all(&[7; 32]).expect("open");
            last_record(&rest(&mut stream))
        },
    );
}

fn client_certificates(table: &mut Table) {
    let clients = Authority::new("clients");
    let files = TempDir::with_prefix("bifrust-transports-").expect("a folder");
    let file = |name: &str, text: String| {
        let path = files.path().join(name);
        fs::write(&path, text).expect("written");
        path
    };
    let (broker, _folder) = start(&format!(
        "client_ca = {:?}\nclient_crl = {:?}\n",
        file("ca.pem", clients.pem()),
        file("crl.pem", clients.revoke(&[9]))
    ));
    let issue = |authority: &Authority, serial, is_expired| {
        authority.issue(&Subject {
            common_name: "device",
            serial,
            is_expired,
            ..Subject::default()
        })
    };
    let others = Authority::new("others");
    let bad = [
        ("no certificate where one is required", None),
        ("an expired certificate", Some(issue(&clients, 8, true))),
        ("a revoked certificate", Some(issue(&clients, 9, false))),
        (
            "a certificate of another authority",
            Some(issue(&others, 7, false)),
        ),
    ];
    for (input, identity) in &bad {
        let refused = ("CHANNEL_ERROR", Some("tls"));
        table.row(&broker, ("tls", input), refused, || {
            let options = Options {
                identity: identity.as_ref(),
                // Before 1.3 the server judges within the handshake.
                is_old: true,
                ..Options::default()
            };
            alert(broker.tls(), &options)
        });
    }
}

fn websocket(broker: &Broker, table: &mut Table) {
    let ws = broker.ws();
    let protocol = "Sec-WebSocket-Protocol: mqtt\r\n";
    let http = ("PROTOCOL_ERROR", Some("http"));
    let request = |path: &str, more: &str| answer_to(ws, &upgrade(ws, path, more));
    table.row(broker, ("ws", "CONNECT without WebSocket"), http, || {
        let line = [&Connect::v5("c").encode()[..], b"\r\n\r\n"].concat();
        answer_to(ws, &line)
    });
    table.row(broker, ("ws", "a TLS handshake"), http, || {
        answer_to(ws, &client_hello())
    });
    table.row(broker, ("ws", "another path"), http, || {
        request("/other", protocol)
    });
    table.row(broker, ("ws", "no upgrade"), http, || {
        answer_to(ws, b"GET /mqtt HTTP/1.1\r\nHost: b\r\n\r\n")
    });
    table.row(broker, ("ws", "no sub-protocol"), http, || {
        request("/mqtt", "")
    });
    table.row(broker, ("ws", "another sub-protocol"), http, || {
        request("/mqtt", "Sec-WebSocket-Protocol: chat\r\n")
    });
    table.row(broker, ("ws", "17 KiB of header fields"), http, || {
        request("/mqtt", &format!("X: {}\r\n", "x".repeat(17 << 10)))
    });
    let forbidden = ("NOT_AUTHORIZED_CLIENT", Some("forbidden"));
    table.row(
        broker,
        ("ws", "a page of another origin"),
        forbidden,
        || request("/mqtt", &format!("{protocol}Origin: https://b.example\r\n")),
    );
    let late = ("CONNECT_TIMEOUT", None);
    table.row(broker, ("ws", "half a request"), late, || {
        answer_to(ws, b"GET /mqtt HTTP/1.1\r\nHost: b\r\n")
    });
    let framing = ("PROTOCOL_ERROR", Some("websocket"));
    table.row(broker, ("ws", "a text frame"), framing, || {
        answer_to_frames(ws, &WebSocket::frame(Opcode::Text, true, b"hello"))
    });
    table.row(broker, ("ws", "a frame without a mask"), framing, || {
        answer_to_frames(ws, &[0x82, 2, 0xc0, 0])
    });
    table.row(
        broker,
        ("ws", "a frame of 2 MiB before CONNECT"),
        framing,
        || answer_to_frames(ws, &[0x82, 0xff, 0, 0, 0, 0, 0, 0x20, 0, 0, 1, 2, 3, 4]),
    );
    table.row(broker, ("ws", "reserved bits"), framing, || {
        answer_to_frames(ws, &[0xf2, 0x80, 1, 2, 3, 4])
    });
}

fn websocket_over_tls(broker: &Broker, table: &mut Table) {
    let wss = broker.wss();
    let refused = ("CHANNEL_ERROR", Some("tls"));
    table.row(
        broker,
        ("wss", "an HTTP request without TLS"),
        refused,
        || answer_to(wss, &upgrade(wss, "/mqtt", "")),
    );
    let http = ("PROTOCOL_ERROR", Some("http"));
    table.row(broker, ("wss", "another path"), http, || {
        let mut secure = Secure::open(dial(wss), &["http/1.1"]);
        let request = upgrade(wss, "/other", "Sec-WebSocket-Protocol: mqtt\r\n");
        secure.send(&request).expect("open");
        let mut answer = [0; 256];
        let deadline = Instant::now() + PATIENCE;
        let count = secure.receive(&mut answer, deadline).expect("an answer");
        answer[..count].to_vec()
    });
}

fn proxies(table: &mut Table) {
    let (broker, _folder) = start("proxy_protocol = true\ntrusted_proxies = [\"127.0.0.0/8\"]\n");
    let tcp = broker.tcp();
    let header = ("PROTOCOL_ERROR", Some("proxy-header"));
    table.row(
        &broker,
        ("PROXY", "CONNECT without a header"),
        header,
        || answer_to(tcp, &Connect::v5("c").encode()),
    );
    table.row(
        &broker,
        ("PROXY", "a line that cannot be read"),
        header,
        || answer_to(tcp, b"PROXY TCP4 somebody else 1 2\r\n"),
    );
    table.row(&broker, ("PROXY", "a line without an end"), header, || {
        answer_to(tcp, &[b"PROXY TCP4 ".as_slice(), &[b'1'; 200]].concat())
    });
    table.row(&broker, ("PROXY", "a header of version 3"), header, || {
        answer_to(tcp, b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\x0c")
    });
    let late = ("CONNECT_TIMEOUT", None);
    table.row(&broker, ("PROXY", "half a header"), late, || {
        answer_to(tcp, b"\r\n\r\n\0\r\nQUIT\n")
    });
    let (broker, _folder) = start("proxy_protocol = true\ntrusted_proxies = [\"192.0.2.0/24\"]\n");
    let untrusted = ("NOT_AUTHORIZED_CLIENT", Some("untrusted-proxy"));
    table.row(
        &broker,
        ("PROXY", "a header of somebody else"),
        untrusted,
        || rest(&mut dial(broker.tcp())),
    );
    let (broker, _folder) = start("forwarded_for = true\ntrusted_proxies = [\"192.0.2.0/24\"]\n");
    let forbidden = ("NOT_AUTHORIZED_CLIENT", Some("forbidden"));
    table.row(
        &broker,
        ("ws", "X-Forwarded-For of somebody else"),
        forbidden,
        || {
            let fields = "Sec-WebSocket-Protocol: mqtt\r\nX-Forwarded-For: 192.0.2.7\r\n";
            answer_to(broker.ws(), &upgrade(broker.ws(), "/mqtt", fields))
        },
    );
}

fn full(table: &mut Table) {
    let config = "[limits]\nmax_connections = 1\n";
    let broker = Broker::builder().config(config).start();
    let _first = broker.connect(&Connect::v5("first"));
    let busy = ("SERVER_BUSY", Some("full"));
    table.row(&broker, ("any", "one connection too many"), busy, || {
        rest(&mut dial(broker.tcp()))
    });
}

#[test]
fn each_bad_input_is_answered_told_and_counted() {
    let mut table = Table::default();
    let (broker, _folder) = start("allowed_origins = [\"https://a.example\"]\n");
    without_tls(&broker, &mut table);
    tls(&broker, &mut table);
    client_certificates(&mut table);
    websocket(&broker, &mut table);
    websocket_over_tls(&broker, &mut table);
    // It serves as before.
    broker.connect(&Connect::v5("after")).ping();
    proxies(&mut table);
    full(&mut table);
    let head = "| Transport | Input | Answer | Event | Refused as |\n|---|---|---|---|---|\n";
    check_docs(&format!("{head}{}", table.0.concat()));
}

fn check_docs(table: &str) {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/transports.md");
    let text = fs::read_to_string(&path).expect("the docs");
    let [begin, end] = MARKS;
    let (before, rest) = text.split_once(begin).expect("the start of the table");
    let (found, after) = rest.split_once(end).expect("the end of the table");
    if std::env::var_os("BIFRUST_BLESS").is_some() {
        fs::write(&path, format!("{before}{begin}{table}{end}{after}")).expect("the docs");
        return;
    }
    assert_eq!(found, table, "BIFRUST_BLESS=1 writes the docs anew");
}

#[test]
fn proxies_name_the_client() {
    let (broker, _folder) = start(
        "proxy_protocol = true\nforwarded_for = true\ntrusted_proxies = [\"127.0.0.0/8\", \"::1\"]\n",
    );
    let v1 = b"PROXY TCP4 192.0.2.7 192.0.2.1 56324 1883\r\n".to_vec();
    let v2 =
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x08\xc0\0\x02\x01\x12\x34\x07\x5b".to_vec();
    let is_told = |peer: &str| {
        let deadline = Instant::now() + PATIENCE;
        while !broker.log().contains(peer) {
            assert!(Instant::now() < deadline, "{peer} is not in the log");
            std::thread::yield_now();
        }
    };
    for (header, peer) in [(&v1, "192.0.2.7:56324"), (&v2, "192.0.2.8:4660")] {
        // Header and CONNECT in one segment, and byte by byte.
        for step in [usize::MAX, 1] {
            let mut stream = dial(broker.tcp());
            stream.set_nodelay(true).expect("an option");
            let bytes = [&header[..], &Connect::v5("c").encode()].concat();
            for chunk in bytes.chunks(step.min(bytes.len())) {
                stream.write_all(chunk).expect("open");
            }
            let mut client = Client::over(Box::new(stream), Version::V5);
            assert!(matches!(
                client.next_packet(),
                Packet::Connack { code: 0, .. }
            ));
        }
        is_told(peer);
    }
    // Below TLS, and a field of HTTP above it.
    let mut stream = dial(broker.wss());
    stream.write_all(&v1).expect("open");
    let mut secure = Secure::open(stream, &["http/1.1"]);
    let fields = "Sec-WebSocket-Protocol: mqtt\r\nX-Forwarded-For: 198.51.100.9, 127.0.0.1\r\n";
    secure
        .send(&upgrade(broker.wss(), "/mqtt", fields))
        .expect("open");
    let mut answer = [0; 512];
    let count = secure.receive(&mut answer, Instant::now() + PATIENCE);
    // The proxy said that somebody else asks, who is not trusted to name others.
    assert!(answer[..count.expect("an answer")].starts_with(b"HTTP/1.1 403"));
    let mut stream = dial(broker.ws());
    stream.write_all(b"PROXY UNKNOWN\r\n").expect("open");
    stream
        .write_all(&upgrade(broker.ws(), "/mqtt", fields))
        .expect("open");
    let connect = WebSocket::frame(Opcode::Binary, true, &Connect::v5("x").encode());
    stream.write_all(&connect).expect("open");
    is_told("198.51.100.9:0");
}
