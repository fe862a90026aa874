//! Each bad input on each transport: what is answered, which event is told, what is counted. The
//! table is kept in `docs/bad-input.md`; `BIFRUST_BLESS=1` writes it anew.

mod inputs;

use std::fmt::Write as _;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Instant;

use bifrust_e2e::authority::Authority;
use bifrust_e2e::carrier::Carrier;
use bifrust_e2e::client::{PATIENCE, Transport};
use bifrust_e2e::numbers::Numbers;
use bifrust_e2e::secure::Secure;
use bifrust_e2e::websocket::WebSocket;
use bifrust_e2e::{Broker, Connect, wire};
use tempfile::TempDir;

use inputs::Stage::{Below, Frames, Fresh, Served};
use inputs::{Input, Stage, all};

/// A connection at the input's stage.
fn open(carrier: Carrier, address: SocketAddr, stage: Stage) -> Box<dyn Transport> {
    let bare = || TcpStream::connect(address).expect("accepts");
    match stage {
        Fresh => carrier.dial(address),
        Below => Box::new(bare()),
        Frames => {
            let below: Box<dyn Transport> = match carrier {
                Carrier::Wss => Box::new(Secure::open(bare(), &["http/1.1"])),
                _ => Box::new(bare()),
            };
            let (socket, upgrade) = WebSocket::over(below, address, "/mqtt", Some("mqtt"));
            assert_eq!(upgrade.status, 101);
            Box::new(FramesOf(socket))
        }
        Served(version) => {
            let mut connection = carrier.dial(address);
            let connect = Connect::new(version, "bad input");
            connection.send(&connect.encode()).expect("open");
            let connack = next_packet(&mut *connection);
            assert_eq!(connack[0], 0x20, "{connack:?}");
            connection
        }
    }
}

/// Sends frames as they are.
struct FramesOf(WebSocket);

impl Transport for FramesOf {
    fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.0.send_raw(bytes)
    }

    fn receive(&mut self, into: &mut [u8], deadline: Instant) -> std::io::Result<usize> {
        self.0.receive(into, deadline)
    }

    fn socket(&self) -> &TcpStream {
        self.0.socket()
    }
}

/// One packet of less than 128 bytes.
fn next_packet(connection: &mut dyn Transport) -> Vec<u8> {
    let mut packet = Vec::new();
    while packet.len() < 2 || packet.len() < 2 + usize::from(packet[1]) {
        let mut byte = [0];
        let deadline = Instant::now() + PATIENCE;
        let count = connection.receive(&mut byte, deadline).expect("a packet");
        assert_eq!(count, 1, "closed after {packet:?}");
        packet.push(byte[0]);
    }
    packet
}

/// What came of an input.
struct Seen {
    answer: String,
    events: Vec<String>,
}

/// Events that belong to every connection.
const USUAL: [&str; 7] = [
    "CLIENT_CONNECTED",
    "MQTT_SESSION_START",
    "MQTT_SESSION_STOP",
    "BY_CLIENT",
    "SUB_ACKED",
    "UNSUB_ACKED",
    "KICKED",
];

fn events(before: &Numbers, after: &Numbers) -> Vec<String> {
    let risen = after.risen_since(before).into_iter();
    let kinds = risen.filter_map(|series| {
        let kind = series.strip_prefix("bifrust_events_total{type=\"")?;
        Some(kind.strip_suffix("\"}")?.to_owned())
    });
    kinds
        .filter(|kind| !USUAL.contains(&kind.as_str()))
        .collect()
}

fn try_input(broker: &Broker, carrier: Carrier, address: SocketAddr, input: &Input) -> Seen {
    let mut connection = open(carrier, address, input.stage);
    let before = broker.numbers();
    connection.send(&input.bytes).expect("open");
    let (bytes, is_closed) = match input.stays {
        true => {
            connection.send(wire::PINGREQ).expect("open");
            let mut bytes = Vec::new();
            loop {
                let packet = next_packet(&mut *connection);
                if packet == [0xD0, 0] {
                    break (bytes, false);
                }
                bytes.extend(packet);
            }
        }
        false => (read_to_end(&mut *connection), true),
    };
    let is_told = |numbers: &Numbers| {
        let is_counted = |series: &str| numbers.of(series) > before.of(series);
        let has_event = input.stays || !events(&before, numbers).is_empty();
        has_event && input.counted.is_none_or(is_counted)
    };
    let after = broker.await_numbers(input.name, is_told);
    if input.stays {
        connection.send(&[0xE0, 0]).expect("open");
        read_to_end(&mut *connection);
    }
    let mut answer = match input.stage {
        Below if bytes.starts_with(b"HTTP") => {
            let line = bytes
                .split(|byte| *byte == b'\r')
                .next()
                .unwrap_or_default();
            String::from_utf8_lossy(line).into_owned()
        }
        _ => hex(&bytes),
    };
    answer.push_str(match (is_closed, answer.is_empty()) {
        (true, true) => "closed",
        (true, false) => ", closed",
        (false, true) => "none, stays",
        (false, false) => ", stays",
    });
    Seen {
        answer,
        events: events(&before, &after),
    }
}

fn read_to_end(connection: &mut dyn Transport) -> Vec<u8> {
    let deadline = Instant::now() + PATIENCE;
    let mut bytes = Vec::new();
    let mut chunk = [0; 512];
    loop {
        match connection.receive(&mut chunk, deadline) {
            Ok(0) => return bytes,
            Ok(count) => bytes.extend_from_slice(&chunk[..count]),
            Err(error) if error.kind() == ErrorKind::TimedOut => {
                panic!("it does not close; it sent {bytes:?}")
            }
            Err(_) => return bytes,
        }
    }
}

/// Bytes as the table has them; long ones are cut.
fn hex(bytes: &[u8]) -> String {
    const SHOWN: usize = 16;
    let shown: Vec<String> = bytes
        .iter()
        .take(SHOWN)
        .map(|byte| format!("{byte:02X}"))
        .collect();
    let more = match bytes.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    shown.join(" ") + &more
}

const HEAD: &str = "# Bad input

What comes of each input that no client should send, on each transport: the answer as bytes, the event, and
what counts it besides `bifrust_events_total{type=\"EVENT\"}`. Written by a test that sends every one of
them (`tests/e2e/tests/bad_input_table/`; `BIFRUST_BLESS=1` writes it anew).

In the column *when*, `first` stands for the first bytes of MQTT on a connection, `3.1.1` and `5.0` for a client of
that version that is connected, `bare` for bytes on the socket below TLS and WebSocket, `frames` for WebSocket frames on an
open WebSocket. *Closed* is the end of the connection, *stays* says that only this one item was refused.
An answer is that of the layer the input is for: a TLS alert or the first line of HTTP where it is `bare`; the close frame that ends a
WebSocket in good order is not listed.
";

fn table() -> String {
    let mut text = String::from(HEAD);
    let folder = TempDir::new().expect("a folder");
    let issued = Authority::of_servers().of_localhost();
    let (cert, key) = issued.write(folder.path(), "table");
    let broker = Broker::builder()
        .config("[limits]\nconnect_timeout_seconds = 1\n")
        .setting("MaxLastWillBytes", 1000)
        .arg("--tls")
        .arg("127.0.0.1:0")
        .arg("--wss")
        .arg("127.0.0.1:0")
        .arg("--cert")
        .arg(cert.display().to_string())
        .arg("--key")
        .arg(key.display().to_string())
        .start();
    for carrier in Carrier::ALL {
        let address = match carrier {
            Carrier::Tcp => broker.tcp(),
            Carrier::Tls => broker.tls(),
            Carrier::Ws => broker.ws(),
            Carrier::Wss => broker.wss(),
        };
        let name = carrier.name().to_uppercase();
        let _ = write!(
            text,
            "\n## {name}\n\n| When | Input | Bytes | Answer | Event | Counter |\n\
             |---|---|---|---|---|---|\n"
        );
        for input in all(carrier) {
            let seen = try_input(&broker, carrier, address, &input);
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} | {} | {} |",
                input.stage(),
                input.name,
                hex(&input.bytes),
                seen.answer,
                seen.events.join(", "),
                input
                    .counted
                    .map(|name| format!("`{name}`"))
                    .unwrap_or_default(),
            );
        }
    }
    text
}

#[test]
fn the_table_of_bad_inputs_is_true() {
    if Carrier::under_test() != Carrier::Tcp {
        return; // the table has all transports already
    }
    let seen = table();
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/bad-input.md");
    if std::env::var_os("BIFRUST_BLESS").is_some() {
        std::fs::write(&file, &seen).expect("docs are written");
    }
    let known = std::fs::read_to_string(&file).unwrap_or_default();
    for (line, (seen, known)) in seen.lines().zip(known.lines()).enumerate() {
        assert_eq!(seen, known, "line {} of docs/bad-input.md", line + 1);
    }
    assert_eq!(seen.lines().count(), known.lines().count());
}
