//! What is sent.

use bifrust_e2e::carrier::Carrier;
use bifrust_e2e::websocket::{Opcode, WebSocket};
use bifrust_e2e::wire::{self, AckKind, Properties, string_field};
use bifrust_e2e::{Connect, Filter, Property, Publish, Version, Will};

/// What a connection has been through before the input.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Nothing: MQTT's first byte.
    Fresh,
    /// An accepted CONNECT of this version.
    Served(Version),
    /// Nothing at all, below MQTT: the bytes go onto the bare socket.
    Below,
    /// A WebSocket that is open; the bytes are frames.
    Frames,
}

use Stage::{Below, Frames, Fresh, Served};

const V3: Stage = Served(Version::V3);
const V5: Stage = Served(Version::V5);

/// One input.
pub(crate) struct Input {
    pub(crate) name: &'static str,
    pub(crate) stage: Stage,
    pub(crate) bytes: Vec<u8>,
    /// The connection stays: only the item is refused.
    pub(crate) stays: bool,
    /// What counts it besides the event's own counter.
    pub(crate) counted: Option<&'static str>,
}

const REFUSED: &str = "bifrust_messages_dropped_total{reason=\"refused\"}";

fn input(stage: Stage, name: &'static str, bytes: impl Into<Vec<u8>>) -> Input {
    Input {
        name,
        stage,
        bytes: bytes.into(),
        stays: false,
        counted: None,
    }
}

impl Input {
    fn stays(mut self) -> Self {
        self.stays = true;
        self
    }

    fn refused(mut self) -> Self {
        self.counted = Some(REFUSED);
        self
    }

    pub(crate) fn stage(&self) -> &'static str {
        match self.stage {
            Fresh => "first",
            Served(Version::V3) => "3.1.1",
            Served(Version::V5) => "5.0",
            Below => "bare",
            Frames => "frames",
        }
    }
}

fn raw_connect(name: &str, level: u8, flags: u8, rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    string_field(&mut body, name);
    body.extend_from_slice(&[level, flags, 0, 60]);
    body.extend_from_slice(rest);
    wire::packet(0x10, &body)
}

/// Instead of a CONNECT, or as one.
fn first_packets() -> Vec<Input> {
    let large = Connect::v5("c").will(Will::new("w", vec![0; 65_000]));
    let short = Connect::v3("cut").encode();
    vec![
        input(Fresh, "PINGREQ before CONNECT", wire::PINGREQ),
        input(
            Fresh,
            "PUBLISH before CONNECT",
            Publish::new("t", "x").encode(Version::V3),
        ),
        input(Fresh, "a request for a web page", "GET / HTTP/1.1\r\n\r\n"),
        input(Fresh, "the start of a TLS handshake", [0x16, 3, 1, 2, 0]),
        input(Fresh, "a packet type that is none", [0, 0]),
        input(
            Fresh,
            "a length of five bytes",
            [0x10, 0x80, 0x80, 0x80, 0x80, 1],
        ),
        input(
            Fresh,
            "a CONNECT larger than 512 KiB",
            [0x10, 0xFF, 0xFF, 0x7F],
        ),
        input(Fresh, "CONNECT with flags in its header", {
            let mut bytes = Connect::v3("c").encode();
            bytes[0] = 0x11;
            bytes
        }),
        input(
            Fresh,
            "another protocol's name",
            raw_connect("HTTP", 4, 2, &[0, 1, b'c']),
        ),
        input(
            Fresh,
            "an older level than there is",
            raw_connect("MQTT", 2, 2, &[0, 1, b'c']),
        ),
        input(
            Fresh,
            "a newer level than there is",
            raw_connect("MQTT", 6, 2, &[0, 0, 1, b'c']),
        ),
        input(
            Fresh,
            "3.1.1: the reserved flag",
            raw_connect("MQTT", 4, 3, &[0, 1, b'c']),
        ),
        input(
            Fresh,
            "5.0: the reserved flag",
            raw_connect("MQTT", 5, 3, &[0, 0, 1, b'c']),
        ),
        input(
            Fresh,
            "3.1.1: a password without a user",
            raw_connect("MQTT", 4, 0x42, &[0, 1, b'c', 0, 1, b'p']),
        ),
        input(
            Fresh,
            "3.1.1: a client identifier that is no UTF-8",
            raw_connect("MQTT", 4, 2, &[0, 1, 0xFF]),
        ),
        input(
            Fresh,
            "5.0: a client identifier with U+0000",
            raw_connect("MQTT", 5, 2, &[0, 0, 1, 0]),
        ),
        input(
            Fresh,
            "3.1.1: CONNECT cut short",
            wire::packet(0x10, &short[2..short.len() - 1]),
        ),
        input(
            Fresh,
            "3.1.1: CONNECT with more behind it",
            wire::packet(0x10, &[&short[2..], b"x"].concat()),
        ),
        input(
            Fresh,
            "3.1.1: no client identifier to resume",
            raw_connect("MQTT", 4, 0, &[0, 0]),
        ),
        input(
            Fresh,
            "5.0: a property twice",
            raw_connect("MQTT", 5, 2, &[6, 0x21, 0, 9, 0x21, 0, 9, 0, 1, b'c']),
        ),
        input(
            Fresh,
            "5.0: a property of no kind",
            raw_connect("MQTT", 5, 2, &[2, 0x7F, 0, 0, 1, b'c']),
        ),
        input(
            Fresh,
            "5.0: a Receive Maximum of 0",
            raw_connect("MQTT", 5, 2, &[3, 0x21, 0, 0, 0, 1, b'c']),
        ),
        input(
            Fresh,
            "5.0: an authentication method that is none",
            Connect::v5("c")
                .property(Property::AuthMethod("none".into()))
                .encode(),
        ),
        input(
            Fresh,
            "5.0: a client identifier that is too long",
            Connect::v5("x".repeat(1025)).encode(),
        ),
        input(
            Fresh,
            "3.1.1: a client identifier that is too long",
            Connect::v3("x".repeat(1025)).encode(),
        ),
        input(
            Fresh,
            "5.0: a will's topic with a wildcard",
            Connect::v5("c").will(Will::new("a/#", "x")).encode(),
        ),
        input(Fresh, "5.0: a will above MaxLastWillBytes", large.encode()),
        input(Fresh, "AUTH before CONNECT", [0xF0, 0]),
        input(Fresh, "nothing, until the time is over", []),
        input(
            Fresh,
            "half a CONNECT, until the time is over",
            &short[..short.len() / 2],
        ),
    ]
}

/// Packets that are malformed or break the protocol, for both versions.
fn broken_packets(stage: Stage, version: Version) -> Vec<Input> {
    let none = Properties::default();
    let publish = |first: u8, body: &[u8]| wire::packet(first, body);
    vec![
        input(
            stage,
            "a second CONNECT",
            Connect::new(version, "again").encode(),
        ),
        input(stage, "CONNACK, which servers send", [0x20, 2, 0, 0]),
        input(stage, "SUBACK, which servers send", [0x90, 3, 0, 1, 0]),
        input(stage, "a packet type that is none", [0, 0]),
        input(stage, "an AUTH nobody asked for", [0xF0, 0]),
        input(
            stage,
            "a length of five bytes",
            [0x30, 0x80, 0x80, 0x80, 0x80, 1],
        ),
        input(
            stage,
            "a packet above MaxUserPayloadBytes",
            [0x30, 0xFF, 0xFF, 0xFF, 0x7F],
        ),
        input(stage, "PINGREQ with flags", [0xC1, 0]),
        input(stage, "PINGREQ with a body", [0xC0, 1, 0]),
        input(
            stage,
            "PUBLISH of QoS 3",
            publish(0x36, &[0, 1, b't', 0, 1, 0]),
        ),
        input(
            stage,
            "PUBLISH of QoS 0 with DUP",
            publish(0x38, &[0, 1, b't', 0]),
        ),
        input(
            stage,
            "PUBLISH with identifier 0",
            publish(0x32, &[0, 1, b't', 0, 0, 0]),
        ),
        input(stage, "PUBLISH cut short", publish(0x30, &[0, 9, b't'])),
        input(
            stage,
            "PUBLISH to a wildcard",
            Publish::new("a/+", "x").encode(version),
        ),
        input(
            stage,
            "a topic that is no UTF-8",
            publish(0x30, &[0, 1, 0xFF, 0]),
        ),
        input(stage, "a topic with U+0000", publish(0x30, &[0, 1, 0, 0])),
        input(
            stage,
            "a topic with a surrogate",
            publish(0x30, &[0, 3, 0xED, 0xA0, 0x80, 0]),
        ),
        input(stage, "PUBACK cut short", [0x40, 1, 0]),
        input(stage, "PUBACK with flags", [0x42, 2, 0, 1]),
        input(stage, "PUBREL without its flags", [0x60, 2, 0, 1]),
        input(
            stage,
            "SUBSCRIBE without its flags",
            [
                &[0x80],
                &wire::subscribe(version, 1, &[Filter::new("a", 0)], &none)[1..],
            ]
            .concat(),
        ),
        input(
            stage,
            "SUBSCRIBE without filters",
            wire::subscribe(version, 1, &[], &none),
        ),
        input(
            stage,
            "SUBSCRIBE of QoS 3",
            wire::subscribe(version, 1, &[Filter::new("a", 3)], &none),
        ),
        input(
            stage,
            "SUBSCRIBE with identifier 0",
            wire::subscribe(version, 0, &[Filter::new("a", 0)], &none),
        ),
        input(
            stage,
            "UNSUBSCRIBE without filters",
            wire::unsubscribe(version, 1, &[]),
        ),
        input(stage, "DISCONNECT with flags", [0xE1, 0]),
    ]
}

/// Well-formed packets of which something is refused.
fn refused_items(stage: Stage, version: Version) -> Vec<Input> {
    let none = Properties::default();
    let is_v5 = version == Version::V5;
    let publish = |topic: &str| Publish::new(topic, "x").qos(1).id(1).encode(version);
    let refused = |name, bytes: Vec<u8>| {
        let input = input(stage, name, bytes).refused();
        if is_v5 { input.stays() } else { input }
    };
    vec![
        refused("PUBLISH to $SYS/", publish("$SYS/x")),
        refused("PUBLISH to $share/", publish("$share/g/x")),
        refused("a topic of too many levels", publish(&["a"; 257].join("/"))),
        input(
            stage,
            "a filter that is none",
            wire::subscribe(version, 1, &[Filter::new("a#", 0)], &none),
        )
        .stays(),
        input(
            stage,
            "a filter of too many levels",
            wire::subscribe(version, 1, &[Filter::new(["a"; 257].join("/"), 0)], &none),
        )
        .stays(),
        input(
            stage,
            "PUBREL of an unknown identifier",
            wire::ack(AckKind::Pubrel, 9),
        )
        .stays(),
        input(
            stage,
            "PUBACK of an unknown identifier",
            wire::ack(AckKind::Puback, 9),
        )
        .stays(),
    ]
}

/// What only 5.0 can get wrong.
fn broken_properties() -> Vec<Input> {
    let with = |property| Publish::new("t", "x").qos(1).id(1).property(property);
    let encode = |publish: Publish| publish.encode(Version::V5);
    let invalid = Publish::new("t", [0xFF]).property(Property::PayloadFormat(1));
    vec![
        input(V5, "an unknown topic alias", {
            encode(Publish::new("", "x").property(Property::TopicAlias(1)))
        }),
        input(V5, "topic alias 0", encode(with(Property::TopicAlias(0)))),
        input(
            V5,
            "a topic alias above the maximum",
            encode(with(Property::TopicAlias(33))),
        ),
        input(V5, "a subscription identifier in PUBLISH", {
            encode(with(Property::SubscriptionId(1)))
        }),
        input(V5, "a response topic with a wildcard", {
            encode(with(Property::ResponseTopic("a/#".into())))
        }),
        input(
            V5,
            "a payload format of 2",
            encode(with(Property::PayloadFormat(2))),
        ),
        input(
            V5,
            "QoS 0 payload that is not the UTF-8 it says",
            encode(invalid.clone()),
        ),
        input(
            V5,
            "QoS 1 payload that is not the UTF-8 it says",
            encode(invalid.qos(1).id(1)),
        )
        .stays()
        .refused(),
        input(
            V5,
            "SUBSCRIBE with Retain Handling 3",
            wire::subscribe(
                Version::V5,
                1,
                &[Filter::new("a", 0).retain_handling(3)],
                &Properties::default(),
            ),
        ),
        input(
            V5,
            "subscription identifier 0",
            wire::subscribe(
                Version::V5,
                1,
                &[Filter::new("a", 0)],
                &Properties(vec![Property::SubscriptionId(0)]),
            ),
        ),
        input(V5, "PUBACK with a code that is none", [0x40, 3, 0, 1, 0x33]),
        input(V5, "DISCONNECT with a code that is none", [0xE0, 1, 0x33]),
        input(
            V5,
            "DISCONNECT that prolongs a session of expiry 0",
            wire::disconnect(
                Version::V5,
                0,
                &Properties(vec![Property::SessionExpiry(9)]),
            ),
        ),
    ]
}

/// Below MQTT: bare bytes on the listener, and WebSocket frames.
fn carrier_inputs(carrier: Carrier) -> Vec<Input> {
    let has_frames = matches!(carrier, Carrier::Ws | Carrier::Wss);
    let mut inputs = Vec::new();
    if carrier.has_tls() {
        inputs.push(input(Below, "MQTT without TLS", Connect::v5("c").encode()));
        inputs.push(input(
            Below,
            "half a TLS handshake, until the time is over",
            [0x16, 3, 1, 0, 2, 9, 9],
        ));
    }
    if !has_frames {
        return inputs;
    }
    let upgrade = |path: &str, fields: &str| {
        format!("GET {path} HTTP/1.1\r\nHost: x\r\n{fields}\r\n").into_bytes()
    };
    let fields = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                  Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let mqtt = format!("{fields}Sec-WebSocket-Protocol: mqtt\r\n");
    if carrier == Carrier::Ws {
        inputs.extend([
            input(Below, "MQTT without WebSocket", Connect::v5("c").encode()),
            input(Below, "a request for a web page", upgrade("/", "")),
            input(
                Below,
                "an upgrade at another path",
                upgrade("/other", &mqtt),
            ),
            input(Below, "no sub-protocol", upgrade("/mqtt", fields)),
            input(
                Below,
                "another sub-protocol",
                upgrade(
                    "/mqtt",
                    &format!("{fields}Sec-WebSocket-Protocol: chat\r\n"),
                ),
            ),
            input(
                Below,
                "another version of WebSocket",
                upgrade("/mqtt", &mqtt.replace("Version: 13", "Version: 8")),
            ),
            input(
                Below,
                "another method",
                [b"POST", &upgrade("/mqtt", &mqtt)[3..]].concat(),
            ),
            input(
                Below,
                "half a request, until the time is over",
                "GET /mqtt HTTP/1.1\r\n",
            ),
        ]);
    }
    let connect = Connect::v5("c").encode();
    let mut unmasked = vec![0x82, connect.len() as u8];
    unmasked.extend_from_slice(&connect);
    inputs.extend([
        input(
            Frames,
            "a text frame",
            WebSocket::frame(Opcode::Text, true, &connect),
        ),
        input(Frames, "a frame without a mask", unmasked),
        input(
            Frames,
            "a frame with a reserved bit",
            [0xC2, 0x80, 1, 2, 3, 4],
        ),
        input(
            Frames,
            "a frame of a reserved kind",
            [0x83, 0x80, 1, 2, 3, 4],
        ),
        input(
            Frames,
            "a continuation of nothing",
            [0x80, 0x80, 1, 2, 3, 4],
        ),
        input(Frames, "a ping in fragments", [0x09, 0x80, 1, 2, 3, 4]),
        input(
            Frames,
            "a ping of more than 125 bytes",
            WebSocket::frame(Opcode::Ping, true, &[0; 126]),
        ),
        input(
            Frames,
            "a frame of 2^62 bytes",
            [0x82, 0xFF, 0x40, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4],
        ),
    ]);
    inputs
}

pub(crate) fn all(carrier: Carrier) -> Vec<Input> {
    let mut inputs = first_packets();
    for (stage, version) in [(V3, Version::V3), (V5, Version::V5)] {
        inputs.extend(broken_packets(stage, version));
        inputs.extend(refused_items(stage, version));
    }
    inputs.extend(broken_properties());
    inputs.extend(carrier_inputs(carrier));
    inputs
}
