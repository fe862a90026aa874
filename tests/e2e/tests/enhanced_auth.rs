//! Enhanced authentication in raw bytes (MQTT-5 4.12), by SCRAM-SHA-256.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::io::{Read as _, Write as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bifrust_e2e::broker::run_cli;
use bifrust_e2e::carrier::Stream;
use bifrust_e2e::{Broker, Client, Connect, Version};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

const METHOD: &str = "SCRAM-SHA-256";
const CONTINUE: u8 = 0x18;
const AGAIN: u8 = 0x19;
const PROTOCOL_ERROR: u8 = 0x82;
const NOT_AUTHORIZED: u8 = 0x87;
const WRONG_USER_OR_PASSWORD: u8 = 0x86;
const BAD_METHOD: u8 = 0x8c;

/// A broker with users that may use SCRAM.
struct Bed {
    _folder: TempDir,
    broker: Broker,
}

fn bed() -> Bed {
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("users.toml").display().to_string();
    for (user, scram) in [("alice", true), ("bob", true), ("plain", false)] {
        let mut args = vec![
            "user", "add", "--file", &file, "--tenant", "acme", "--user", user,
        ];
        if scram {
            args.push("--scram");
        }
        let output = run_cli(&args, "pencil\n");
        assert_eq!(output.code, 0, "{output:?}");
    }
    let broker = Broker::builder()
        .strict()
        .config(format!("[auth]\nfile = {file:?}\n"))
        .start();
    Bed {
        _folder: folder,
        broker,
    }
}

/// Bytes and nothing else.
struct Peer(Stream);

impl Peer {
    fn dial(broker: &Broker) -> Self {
        Self(Stream::dial(broker.tcp()))
    }

    fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).expect("sent");
    }

    /// The next packet: its first byte and its body.
    fn packet(&mut self) -> (u8, Vec<u8>) {
        let mut head = [0; 2];
        self.0.read_exact(&mut head).expect("a packet");
        assert!(head[1] < 0x80, "a short packet");
        let mut body = vec![0; usize::from(head[1])];
        self.0.read_exact(&mut body).expect("its body");
        (head[0], body)
    }

    /// An AUTH with this reason; its data.
    fn auth(&mut self, reason: u8) -> Vec<u8> {
        let (first, body) = self.packet();
        assert_eq!((first, body.first()), (0xf0, Some(&reason)), "{body:02x?}");
        data_of(&body[1..])
    }

    /// A CONNACK that lets in; its data.
    fn let_in(&mut self) -> Vec<u8> {
        let (first, body) = self.packet();
        assert_eq!((first, &body[..2]), (0x20, &[0, 0][..]), "{body:02x?}");
        data_of(&body[2..])
    }

    fn refused(&mut self, reason: u8) {
        let (first, body) = self.packet();
        assert_eq!((first, &body[..2]), (0x20, &[0, reason][..]), "{body:02x?}");
        self.closed();
    }

    fn told_to_go(&mut self, reason: u8) {
        let (first, body) = self.packet();
        assert_eq!((first, body.first()), (0xe0, Some(&reason)), "{body:02x?}");
        self.closed();
    }

    fn closed(&mut self) {
        let mut rest = Vec::new();
        match self.0.read_to_end(&mut rest) {
            Ok(_) => assert!(rest.is_empty(), "{rest:02x?}"),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
        }
    }

    fn ping(&mut self) {
        self.send(&[0xc0, 0]);
        assert_eq!(self.packet(), (0xd0, vec![]));
    }
}

fn string(text: &[u8]) -> Vec<u8> {
    let mut out = u16::try_from(text.len()).unwrap().to_be_bytes().to_vec();
    out.extend_from_slice(text);
    out
}

fn method_and_data(method: Option<&str>, data: Option<&[u8]>) -> Vec<u8> {
    let mut properties = Vec::new();
    if let Some(method) = method {
        properties.push(0x15);
        properties.extend(string(method.as_bytes()));
    }
    if let Some(data) = data {
        properties.push(0x16);
        properties.extend(string(data));
    }
    properties.insert(0, u8::try_from(properties.len()).unwrap());
    properties
}

fn framed(first: u8, body: &[u8]) -> Vec<u8> {
    let len = u8::try_from(body.len()).unwrap();
    let mut packet = match len {
        0..0x80 => vec![first, len],
        _ => vec![first, len, 1],
    };
    packet.extend_from_slice(body);
    packet
}

fn connect(id: &str, method: Option<&str>, data: Option<&[u8]>) -> Vec<u8> {
    let mut body = [&string(b"MQTT")[..], &[5, 2, 0, 60]].concat();
    body.extend(method_and_data(method, data));
    body.extend(string(id.as_bytes()));
    framed(0x10, &body)
}

fn auth(reason: u8, method: &str, data: &[u8]) -> Vec<u8> {
    let properties = method_and_data(Some(method), Some(data));
    framed(0xf0, &[&[reason][..], &properties].concat())
}

/// The data among the properties; the method has to be the one of CONNECT (MQTT-4.12.0-5).
fn data_of(properties: &[u8]) -> Vec<u8> {
    let mut at = 1;
    let (mut method, mut data) = (None, None);
    while at < properties.len() {
        let id = properties[at];
        let len = |at: usize| usize::from(u16::from_be_bytes([properties[at], properties[at + 1]]));
        match id {
            0x15 | 0x16 => {
                let value = properties[at + 3..at + 3 + len(at + 1)].to_vec();
                at += 3 + value.len();
                *(if id == 0x15 { &mut method } else { &mut data }) = Some(value);
            }
            0x1f => at += 3 + len(at + 1),
            0x11 | 0x27 => at += 5,
            0x13 | 0x21 | 0x22 => at += 3,
            0x24 | 0x25 | 0x28 | 0x29 | 0x2a => at += 2,
            other => panic!("property {other:#04x}"),
        }
    }
    assert_eq!(method.as_deref(), Some(METHOD.as_bytes()));
    data.unwrap_or_default()
}

/// The client's side of SCRAM.
struct Scram {
    first: String,
    password: &'static str,
    expected: Vec<u8>,
}

fn sign(key: &[u8], message: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(message);
    mac.finalize().into_bytes().to_vec()
}

impl Scram {
    fn new(user: &str, password: &'static str) -> Self {
        Self {
            first: format!("n={user},r=fyko+d2lbbFgONRv9qkxdawL"),
            password,
            expected: Vec::new(),
        }
    }

    fn first(&self) -> Vec<u8> {
        format!("n,,{}", self.first).into_bytes()
    }

    fn answer(&mut self, challenge: &[u8]) -> Vec<u8> {
        let challenge = std::str::from_utf8(challenge).unwrap();
        let field = |name: &str| {
            challenge
                .split(',')
                .find_map(|field| field.strip_prefix(name))
        };
        let (nonce, salt) = (field("r=").unwrap(), field("s=").unwrap());
        assert!(nonce.len() > 40, "the server adds to the nonce: {nonce}");
        let iterations = field("i=").unwrap().parse().unwrap();
        let salt = STANDARD.decode(salt).unwrap();
        let salted =
            pbkdf2::pbkdf2_hmac_array::<Sha256, 32>(self.password.as_bytes(), &salt, iterations);
        let key = sign(&salted, b"Client Key");
        let plain = format!("c=biws,r={nonce}");
        let signed = format!("{},{challenge},{plain}", self.first);
        let signature = sign(&Sha256::digest(&key), signed.as_bytes());
        let proof: Vec<u8> = key.iter().zip(signature).map(|(a, b)| a ^ b).collect();
        self.expected = sign(&sign(&salted, b"Server Key"), signed.as_bytes());
        format!("{plain},p={}", STANDARD.encode(proof)).into_bytes()
    }

    fn check(&self, last: &[u8]) {
        let expected = format!("v={}", STANDARD.encode(&self.expected));
        assert_eq!(std::str::from_utf8(last).unwrap(), expected);
    }
}

/// Goes through CONNECT.
fn let_in(broker: &Broker, id: &str, user: &str) -> Peer {
    let mut peer = Peer::dial(broker);
    let mut scram = Scram::new(user, "pencil");
    peer.send(&connect(id, Some(METHOD), Some(&scram.first())));
    let challenge = peer.auth(CONTINUE);
    peer.send(&auth(CONTINUE, METHOD, &scram.answer(&challenge)));
    scram.check(&peer.let_in());
    peer
}

#[test]
fn a_password_is_proved_without_being_sent() {
    let bed = bed();
    let mut peer = let_in(&bed.broker, "c1", "acme/alice");
    peer.ping();
    // The user is the same whichever way it came in (contract C4).
    let mut same = Client::dial(bed.broker.tcp(), Version::V5);
    let taking = Connect::new(Version::V5, "c1")
        .user("acme/alice")
        .password("pencil");
    assert_eq!(same.greet(&taking), 0);
    peer.told_to_go(0x8e);
    let mut other = Peer::dial(&bed.broker);
    let mut scram = Scram::new("acme/bob", "pencil");
    other.send(&connect("c1", Some(METHOD), Some(&scram.first())));
    let challenge = other.auth(CONTINUE);
    other.send(&auth(CONTINUE, METHOD, &scram.answer(&challenge)));
    other.refused(NOT_AUTHORIZED);
}

#[test]
fn a_wrong_password_is_refused_and_names_cannot_be_tried_out() {
    let bed = bed();
    for (user, password) in [
        ("acme/alice", "pen"),
        ("acme/nobody", "pencil"),
        ("other/alice", "pencil"),
        // This one has no verifier.
        ("acme/plain", "pencil"),
    ] {
        let mut peer = Peer::dial(&bed.broker);
        let mut scram = Scram::new(user, password);
        peer.send(&connect("c", Some(METHOD), Some(&scram.first())));
        let challenge = peer.auth(CONTINUE);
        peer.send(&auth(CONTINUE, METHOD, &scram.answer(&challenge)));
        peer.refused(WRONG_USER_OR_PASSWORD);
    }
}

#[test]
fn methods_and_data_at_connect_are_judged() {
    let bed = bed();
    let mut peer = Peer::dial(&bed.broker);
    peer.send(&connect("c", Some("KERBEROS"), Some(b"x")));
    peer.refused(BAD_METHOD);
    for data in [
        None,
        Some(&b"p=tls-unique,,n=acme/alice,r=x"[..]),
        Some(b"\0\xff"),
    ] {
        let mut peer = Peer::dial(&bed.broker);
        peer.send(&connect("c", Some(METHOD), data));
        peer.refused(NOT_AUTHORIZED);
    }
    // MQTT-5 3.1.2.11.10: data without a method is a protocol error.
    let mut peer = Peer::dial(&bed.broker);
    peer.send(&connect("c", None, Some(b"x")));
    peer.refused(PROTOCOL_ERROR);
}

#[test]
fn between_connect_and_connack_only_auth_and_disconnect_may_come() {
    let bed = bed();
    let scram = Scram::new("acme/alice", "pencil");
    let challenged = || {
        let mut peer = Peer::dial(&bed.broker);
        peer.send(&connect("c", Some(METHOD), Some(&scram.first())));
        peer.auth(CONTINUE);
        peer
    };
    for bytes in [
        vec![0xc0, 0],
        connect("c", None, None),
        auth(AGAIN, METHOD, b"x"),
        auth(0, METHOD, b"x"),
        auth(CONTINUE, "OTHER", b"x"),
        vec![0xf0, 0],
        vec![0xe0, 0],
    ] {
        let mut peer = challenged();
        peer.send(&bytes);
        peer.closed();
    }
    let mut peer = challenged();
    peer.send(&auth(CONTINUE, METHOD, b"garbage"));
    peer.refused(NOT_AUTHORIZED);
}

#[test]
fn a_client_authenticates_again_while_it_is_served() {
    let bed = bed();
    let mut peer = let_in(&bed.broker, "c", "acme/alice");
    for _ in 0..2 {
        let mut scram = Scram::new("acme/alice", "pencil");
        peer.send(&auth(AGAIN, METHOD, &scram.first()));
        let challenge = peer.auth(CONTINUE);
        peer.ping();
        peer.send(&auth(CONTINUE, METHOD, &scram.answer(&challenge)));
        scram.check(&peer.auth(0));
        peer.ping();
    }
}

#[test]
fn whoever_fails_to_authenticate_again_is_told_to_go() {
    let bed = bed();
    for (user, password) in [("acme/alice", "wrong"), ("acme/bob", "pencil")] {
        let mut peer = let_in(&bed.broker, "c", "acme/alice");
        let mut scram = Scram::new(user, password);
        peer.send(&auth(AGAIN, METHOD, &scram.first()));
        let challenge = peer.auth(CONTINUE);
        peer.send(&auth(CONTINUE, METHOD, &scram.answer(&challenge)));
        peer.told_to_go(NOT_AUTHORIZED);
    }
    let first = Scram::new("acme/alice", "pencil").first();
    for bytes in [
        auth(AGAIN, "OTHER", &first),
        auth(CONTINUE, METHOD, &first),
        auth(0, METHOD, &first),
        vec![0xf0, 0],
        [auth(AGAIN, METHOD, &first), auth(AGAIN, METHOD, &first)].concat(),
    ] {
        let mut peer = let_in(&bed.broker, "c", "acme/alice");
        peer.send(&bytes);
        let (mut kind, mut body) = peer.packet();
        if kind == 0xf0 {
            (kind, body) = peer.packet();
        }
        assert_eq!((kind, body.first()), (0xe0, Some(&PROTOCOL_ERROR)));
        peer.closed();
    }
    // AUTH from a client that named no method.
    let mut plain = Client::dial(bed.broker.tcp(), Version::V5);
    let connecting = Connect::new(Version::V5, "p")
        .user("acme/plain")
        .password("pencil");
    assert_eq!(plain.greet(&connecting), 0);
    plain.send(&auth(AGAIN, METHOD, &first));
    plain.expect_disconnect(PROTOCOL_ERROR);
}

#[test]
fn whoever_does_not_answer_in_time_is_left() {
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("users.toml").display().to_string();
    let args = [
        "user", "add", "--file", &file, "--tenant", "acme", "--user", "alice", "--scram",
    ];
    assert_eq!(run_cli(&args, "pencil\n").code, 0);
    let broker = Broker::builder()
        .strict()
        .config(format!(
            "[auth]\nfile = {file:?}\n[limits]\n\
             connect_timeout_seconds = 1\n"
        ))
        .start();
    let first = Scram::new("acme/alice", "pencil").first();
    let mut peer = Peer::dial(&broker);
    peer.send(&connect("c", Some(METHOD), Some(&first)));
    peer.auth(CONTINUE);
    peer.closed();
    let mut peer = let_in(&broker, "c", "acme/alice");
    peer.send(&auth(AGAIN, METHOD, &first));
    peer.auth(CONTINUE);
    peer.told_to_go(NOT_AUTHORIZED);
}
