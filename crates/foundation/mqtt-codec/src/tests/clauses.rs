//! One wrong packet for each thing the standard forbids, by clause.

use super::{decoded, packet};
use crate::DecodeError as E;
use crate::{
    DecodeError, PacketType, ReasonCode, Version, connect_version, decode, decode_connect, peek,
};
use Version::{V5, V31, V311};

const MALFORMED: ReasonCode = ReasonCode::MALFORMED_PACKET;
const PROTOCOL: ReasonCode = ReasonCode::PROTOCOL_ERROR;

#[track_caller]
fn refused(clause: &str, version: Version, bytes: &[u8], error: DecodeError, reason: ReasonCode) {
    assert_eq!(decoded(version, bytes), Err(error), "{clause}");
    assert_eq!(error.reason(), reason, "{clause}");
}

#[track_caller]
fn accepted(version: Version, bytes: &[u8]) {
    decoded(version, bytes).expect("valid");
}

/// A v5 CONNECT with the given flags, properties and payload.
fn connect5(flags: u8, properties: &[u8], payload: &[u8]) -> Vec<u8> {
    let head = [
        0,
        4,
        b'M',
        b'Q',
        b'T',
        b'T',
        5,
        flags,
        0,
        60,
        properties.len() as u8,
    ];
    packet(0x10, &[&head, properties, payload].concat())
}

fn connect4(flags: u8, payload: &[u8]) -> Vec<u8> {
    packet(
        0x10,
        &[&[0, 4, b'M', b'Q', b'T', b'T', 4, flags, 0, 60], payload].concat(),
    )
}

/// A v5 QoS 0 PUBLISH to `t` with the given properties.
fn publish5(properties: &[u8]) -> Vec<u8> {
    packet(
        0x30,
        &[&[0, 1, b't', properties.len() as u8], properties].concat(),
    )
}

#[test]
fn fixed_header() {
    let length = E::InvalidVarint {
        field: "remaining length",
    };
    assert_eq!(
        peek(&[0x30, 0xff, 0xff, 0xff, 0xff, 0x01]),
        Err(length),
        "1.5.5: five bytes"
    );
    assert_eq!(
        peek(&[0x30, 0xff, 0xff, 0xff, 0xff]),
        Err(length),
        "1.5.5: known early"
    );
    assert_eq!(
        peek(&[0x30, 0x80, 0x00]),
        Err(length),
        "MQTT-1.5.5-1: not minimal"
    );
    assert_eq!(peek(&[0x00]), Err(E::ReservedPacketType(0)), "2.1.2");
    assert_eq!(
        peek(&[0x36]),
        Err(E::QosThree {
            field: "PUBLISH QoS"
        }),
        "MQTT-3.3.1-4"
    );
    assert_eq!(peek(&[0x38]), Err(E::DupWithQos0), "MQTT-3.3.1-2");
    for first in 0x10..=0xff_u8 {
        let Some(packet) = PacketType::of(first) else {
            continue;
        };
        if packet == PacketType::Publish || first & 0x0f == packet.flags() {
            continue;
        }
        let error = E::InvalidFlags {
            packet,
            flags: first & 0x0f,
        };
        assert_eq!(peek(&[first]), Err(error), "MQTT-2.1.3-1");
        assert_eq!(decode(V5, first, &[]), Err(error), "MQTT-2.1.3-1");
        assert_eq!(error.reason(), MALFORMED);
    }
    assert_eq!(peek(&[]), Ok(None));
    assert_eq!(peek(&[0x30]), Ok(None));
    assert_eq!(peek(&[0x30, 0x80]), Ok(None));
}

#[test]
fn strings() {
    let field = "topic name";
    let publish = |topic: &[u8]| packet(0x30, &[&[0, topic.len() as u8], topic].concat());
    let ill_formed: [(&str, &[u8]); 6] = [
        ("MQTT-1.5.4-1: surrogate D800", &[0xed, 0xa0, 0x80]),
        ("MQTT-1.5.4-1: surrogate DFFF", &[0xed, 0xbf, 0xbf]),
        ("MQTT-1.5.4-1: overlong slash", &[0xc0, 0xaf]),
        ("MQTT-1.5.4-1: lone continuation", &[0x80]),
        ("MQTT-1.5.4-1: cut short", &[0xe2, 0x82]),
        ("MQTT-1.5.4-1: beyond U+10FFFF", &[0xf4, 0x90, 0x80, 0x80]),
    ];
    for (clause, topic) in ill_formed {
        refused(
            clause,
            V311,
            &publish(topic),
            E::InvalidUtf8 { field },
            MALFORMED,
        );
    }
    refused(
        "MQTT-1.5.4-2",
        V311,
        &publish(b"a\0b"),
        E::NulCharacter { field },
        MALFORMED,
    );
    // Everything else may be there: control and non-characters, a BOM (MQTT-1.5.4-3), emoji.
    for topic in [
        "\u{1}",
        "\u{9f}",
        "\u{ffff}",
        "\u{feff}a",
        "🦀",
        "\u{10ffff}",
    ] {
        accepted(V311, &publish(topic.as_bytes()));
    }
    refused(
        "1.5.4",
        V311,
        &packet(0x30, &[0, 5, b'a']),
        E::Truncated { field },
        MALFORMED,
    );
    refused(
        "1.5.4",
        V311,
        &packet(0x30, &[0]),
        E::Truncated { field },
        MALFORMED,
    );
    let name = E::NulCharacter {
        field: "user property name",
    };
    refused(
        "MQTT-1.5.4-2",
        V5,
        &publish5(&[0x26, 0, 1, 0, 0, 0]),
        name,
        MALFORMED,
    );
    let value = E::InvalidUtf8 {
        field: "user property value",
    };
    refused(
        "MQTT-1.5.4-1",
        V5,
        &publish5(&[0x26, 0, 0, 0, 1, 0xff]),
        value,
        MALFORMED,
    );
}

#[test]
fn connect_header() {
    let level = |name: &[u8], level: u8| {
        packet(
            0x10,
            &[&[0, name.len() as u8], name, &[level, 2, 0, 0, 0, 0]].concat(),
        )
    };
    let version = ReasonCode::UNSUPPORTED_PROTOCOL_VERSION;
    for name in [&b"MQTt"[..], b"HTTP", b"", b"MQIsdp2"] {
        refused(
            "MQTT-3.1.2-1",
            V5,
            &level(name, 4),
            E::UnknownProtocol,
            version,
        );
    }
    for (name, number) in [
        (&b"MQTT"[..], 3),
        (b"MQTT", 6),
        (b"MQTT", 0x84),
        (b"MQIsdp", 4),
    ] {
        let error = E::UnsupportedVersion { level: number };
        refused("MQTT-3.1.2-2", V5, &level(name, number), error, version);
    }
    accepted(V5, &level(b"MQIsdp", 3));
    accepted(V5, &level(b"MQTT", 4));

    let empty = &[0, 0][..];
    let bits = E::ReservedBits {
        field: "connect flags",
    };
    refused(
        "MQTT-3.1.2-3",
        V311,
        &connect4(0x03, empty),
        bits,
        MALFORMED,
    );
    for flags in [0x08, 0x10, 0x18, 0x20] {
        let error = E::WillFlagsWithoutWill;
        refused(
            "MQTT-3.1.2-11",
            V311,
            &connect4(flags, empty),
            error,
            MALFORMED,
        );
        refused(
            "MQTT-3.1.2-13",
            V5,
            &connect5(flags, &[], empty),
            error,
            MALFORMED,
        );
    }
    let qos = E::QosThree { field: "will QoS" };
    refused(
        "MQTT-3.1.2-12",
        V5,
        &connect5(0x1c, &[], empty),
        qos,
        MALFORMED,
    );
    let password = E::PasswordWithoutUserName;
    let payload = [0, 0, 0, 1, b'p'];
    refused(
        "3.1.1 MQTT-3.1.2-22",
        V311,
        &connect4(0x40, &payload),
        password,
        MALFORMED,
    );
    accepted(V5, &connect5(0x40, &[], &payload));
}

#[test]
fn connect_payload() {
    let cut = |field| E::Truncated { field };
    let empty = &[0, 0][..];
    refused(
        "3.1.3.1",
        V311,
        &connect4(2, &[]),
        cut("client identifier"),
        MALFORMED,
    );
    refused(
        "MQTT-3.1.3-1",
        V311,
        &connect4(0x04, empty),
        cut("will topic"),
        MALFORMED,
    );
    refused(
        "MQTT-3.1.3-1",
        V5,
        &connect5(0x04, &[], empty),
        cut("property length"),
        MALFORMED,
    );
    refused(
        "MQTT-3.1.3-1",
        V311,
        &connect4(0x80, empty),
        cut("user name"),
        MALFORMED,
    );
    let user = [0, 0, 0, 1, b'u'];
    refused(
        "MQTT-3.1.3-1",
        V311,
        &connect4(0xc0, &user),
        cut("password"),
        MALFORMED,
    );
    let trailing = E::TrailingBytes {
        packet: PacketType::Connect,
    };
    refused("3.1.3", V311, &connect4(2, &[0, 0, 7]), trailing, MALFORMED);
    let nul = E::NulCharacter { field: "user name" };
    refused(
        "MQTT-3.1.3-12",
        V311,
        &connect4(0x80, &[0, 0, 0, 1, 0]),
        nul,
        MALFORMED,
    );
    let id = E::InvalidUtf8 {
        field: "client identifier",
    };
    refused(
        "MQTT-3.1.3-4",
        V311,
        &connect4(2, &[0, 1, 0xff]),
        id,
        MALFORMED,
    );
}

#[test]
fn connect_properties() {
    let connect = |properties: &[u8]| connect5(2, properties, &[0, 0]);
    let zero = |field| E::InvalidValue { field, value: 0 };
    let two = |field| E::InvalidValue { field, value: 2 };
    let cases: [(&str, &[u8], DecodeError); 9] = [
        ("3.1.2.11.3", &[0x21, 0, 0], zero("receive maximum")),
        (
            "3.1.2.11.4",
            &[0x27, 0, 0, 0, 0],
            zero("maximum packet size"),
        ),
        (
            "3.1.2.11.6",
            &[0x19, 2],
            two("request response information"),
        ),
        ("3.1.2.11.7", &[0x17, 2], two("request problem information")),
        ("3.1.2.11.10", &[0x16, 0, 0], E::MissingAuthenticationMethod),
        (
            "3.1.2.11.2",
            &[0x11, 0, 0, 0, 1, 0x11, 0, 0, 0, 1],
            E::DuplicateProperty {
                property: "session expiry interval",
            },
        ),
        (
            "3.1.2.11.5",
            &[0x22, 0, 1, 0x22, 0, 1],
            E::DuplicateProperty {
                property: "topic alias maximum",
            },
        ),
        (
            "3.1.2.11.3",
            &[0x21, 0, 1, 0x21, 0, 1],
            E::DuplicateProperty {
                property: "receive maximum",
            },
        ),
        (
            "3.1.2.11.9",
            &[0x15, 0, 0, 0x15, 0, 0],
            E::DuplicateProperty {
                property: "authentication method",
            },
        ),
    ];
    for (clause, properties, error) in cases {
        refused(clause, V5, &connect(properties), error, PROTOCOL);
    }
    let foreign = E::PropertyNotAllowed {
        id: 0x18,
        packet: PacketType::Connect,
    };
    refused(
        "2.2.2.2",
        V5,
        &connect(&[0x18, 0, 0, 0, 1]),
        foreign,
        MALFORMED,
    );
    let will = |properties: &[u8]| {
        let payload = [
            &[0, 0, properties.len() as u8],
            properties,
            &[0, 1, b't', 0, 0],
        ]
        .concat();
        connect5(0x06, &[], &payload)
    };
    accepted(V5, &will(&[0x18, 0, 0, 0, 1, 0x26, 0, 0, 0, 0]));
    let foreign = E::PropertyNotAllowed {
        id: 0x11,
        packet: PacketType::Connect,
    };
    refused(
        "3.1.3.2",
        V5,
        &will(&[0x11, 0, 0, 0, 1]),
        foreign,
        MALFORMED,
    );
    let twice = E::DuplicateProperty {
        property: "will delay interval",
    };
    refused(
        "3.1.3.2.2",
        V5,
        &will(&[0x18, 0, 0, 0, 1, 0x18, 0, 0, 0, 1]),
        twice,
        PROTOCOL,
    );
}

#[test]
fn connect_errors_tell_the_version() {
    let body = |bytes: &[u8]| bytes[2..].to_vec();
    let v5 = body(&connect5(0x03, &[], &[0, 0]));
    assert_eq!(
        decode_connect(&v5).map_err(|error| error.version),
        Err(Some(V5))
    );
    assert_eq!(connect_version(&v5), Some(V5));
    let v4 = body(&connect4(0x03, &[0, 0]));
    assert_eq!(
        decode_connect(&v4).map_err(|error| error.version),
        Err(Some(V311))
    );
    let v9 = [0, 4, b'M', b'Q', b'T', b'T', 9];
    assert_eq!(
        decode_connect(&v9).map_err(|error| error.version),
        Err(None)
    );
    assert_eq!(connect_version(&v9), None);
}

#[test]
fn connack() {
    let packet = PacketType::Connack;
    let bits = E::ReservedBits {
        field: "connect acknowledge flags",
    };
    refused("MQTT-3.2.2-1", V311, &[0x20, 2, 2, 0], bits, MALFORMED);
    refused("MQTT-3.2.2-1", V5, &[0x20, 3, 0x80, 0, 0], bits, MALFORMED);
    let code = |code| E::InvalidReasonCode { packet, code };
    refused("3.1.1 3.2.2.3", V311, &[0x20, 2, 0, 6], code(6), PROTOCOL);
    refused(
        "MQTT-3.2.2-8",
        V5,
        &[0x20, 3, 0, 0x01, 0],
        code(1),
        PROTOCOL,
    );
    let present = E::SessionPresentOnError;
    refused(
        "3.1.1 MQTT-3.2.2-4",
        V311,
        &[0x20, 2, 1, 5],
        present,
        PROTOCOL,
    );
    refused(
        "MQTT-3.2.2-6",
        V5,
        &[0x20, 3, 1, 0x87, 0],
        present,
        PROTOCOL,
    );
    let length = E::Truncated {
        field: "property length",
    };
    refused("3.2.2.3.1", V5, &[0x20, 2, 0, 0], length, MALFORMED);
    let value = |field| E::InvalidValue { field, value: 2 };
    for (id, field) in [
        (0x24, "maximum QoS"),
        (0x25, "retain available"),
        (0x28, "wildcard subscription available"),
        (0x29, "subscription identifier available"),
        (0x2a, "shared subscription available"),
    ] {
        refused(
            "3.2.2.3",
            V5,
            &[0x20, 5, 0, 0, 2, id, 2],
            value(field),
            PROTOCOL,
        );
    }
    refused(
        "3.2.2",
        V311,
        &[0x20, 3, 0, 0, 0],
        E::TrailingBytes { packet },
        MALFORMED,
    );
    accepted(V31, &[0x20, 2, 1, 0]);
}

#[test]
fn publish() {
    refused(
        "MQTT-2.2.1-3",
        V311,
        &packet(0x32, &[0, 1, b't', 0, 0]),
        E::ZeroPacketId,
        PROTOCOL,
    );
    let id = E::Truncated {
        field: "packet identifier",
    };
    refused(
        "2.2.1",
        V311,
        &packet(0x32, &[0, 1, b't', 0]),
        id,
        MALFORMED,
    );
    refused(
        "MQTT-4.7.3-1",
        V311,
        &packet(0x30, &[0, 0, b'x']),
        E::EmptyTopic,
        PROTOCOL,
    );
    refused(
        "3.3.2.1",
        V5,
        &packet(0x30, &[0, 0, 0]),
        E::EmptyTopic,
        PROTOCOL,
    );
    accepted(V5, &packet(0x30, &[0, 0, 3, 0x23, 0, 1]));

    let alias = ReasonCode::TOPIC_ALIAS_INVALID;
    refused(
        "MQTT-3.3.2-8",
        V5,
        &publish5(&[0x23, 0, 0]),
        E::ZeroTopicAlias,
        alias,
    );
    let zero = E::InvalidValue {
        field: "subscription identifier",
        value: 0,
    };
    refused("3.3.2.3.8", V5, &publish5(&[0x0b, 0]), zero, PROTOCOL);
    accepted(V5, &publish5(&[0x0b, 1, 0x0b, 1]));
    let format = E::InvalidValue {
        field: "payload format indicator",
        value: 2,
    };
    refused("3.3.2.3.2", V5, &publish5(&[0x01, 2]), format, PROTOCOL);
    let once: [&[u8]; 6] = [
        &[0x01, 0],
        &[0x02, 0, 0, 0, 1],
        &[0x23, 0, 1],
        &[0x08, 0, 0],
        &[0x09, 0, 0],
        &[0x03, 0, 0],
    ];
    for property in once {
        accepted(V5, &publish5(property));
        let property_name = crate::properties::name(property[0]);
        let twice = E::DuplicateProperty {
            property: property_name,
        };
        refused(
            "3.3.2.3",
            V5,
            &publish5(&[property, property].concat()),
            twice,
            PROTOCOL,
        );
    }
}

#[test]
fn property_sections() {
    let packet_type = PacketType::Publish;
    let unknown = |id| E::PropertyNotAllowed {
        id,
        packet: packet_type,
    };
    refused("2.2.2.2", V5, &publish5(&[0x04]), unknown(4), MALFORMED);
    refused("2.2.2.2", V5, &publish5(&[0x7f]), unknown(0x7f), MALFORMED);
    refused(
        "2.2.2.2",
        V5,
        &publish5(&[0x80, 0x01]),
        unknown(128),
        MALFORMED,
    );
    let padded = E::InvalidVarint {
        field: "property identifier",
    };
    refused(
        "MQTT-1.5.5-1",
        V5,
        &publish5(&[0x81, 0x00, 1]),
        padded,
        MALFORMED,
    );
    // A value may not reach beyond the section, though the packet goes on.
    let expiry = E::Truncated {
        field: "message expiry interval",
    };
    let beyond = packet(0x30, &[0, 1, b't', 2, 0x02, 0, 0, 0, 1]);
    refused("2.2.2", V5, &beyond, expiry, MALFORMED);
    let section = E::Truncated {
        field: "properties",
    };
    refused(
        "2.2.2.1",
        V5,
        &packet(0x30, &[0, 1, b't', 9, 1]),
        section,
        MALFORMED,
    );
    let length = E::Truncated {
        field: "property length",
    };
    refused(
        "MQTT-2.2.2-1",
        V5,
        &packet(0x30, &[0, 1, b't']),
        length,
        MALFORMED,
    );
}

#[test]
fn acknowledgements() {
    for (first, packet_type) in [
        (0x40, PacketType::Puback),
        (0x50, PacketType::Pubrec),
        (0x62, PacketType::Pubrel),
        (0x70, PacketType::Pubcomp),
    ] {
        let of = |body: &[u8]| packet(first, body);
        let id = E::Truncated {
            field: "packet identifier",
        };
        refused("2.2.1", V5, &of(&[1]), id, MALFORMED);
        refused("MQTT-2.2.1-3", V5, &of(&[0, 0]), E::ZeroPacketId, PROTOCOL);
        let code = E::InvalidReasonCode {
            packet: packet_type,
            code: 0x82,
        };
        refused("MQTT-3.4.2-1", V5, &of(&[0, 1, 0x82]), code, PROTOCOL);
        let trailing = E::TrailingBytes {
            packet: packet_type,
        };
        refused("3.1.1 3.4.1", V311, &of(&[0, 1, 0]), trailing, MALFORMED);
        refused("3.4.2", V5, &of(&[0, 1, 0, 0, 9]), trailing, MALFORMED);
        let foreign = E::PropertyNotAllowed {
            id: 0x0b,
            packet: packet_type,
        };
        refused(
            "2.2.2.2",
            V5,
            &of(&[0, 1, 0, 2, 0x0b, 1]),
            foreign,
            MALFORMED,
        );
        let twice = E::DuplicateProperty {
            property: "reason string",
        };
        let body = [0, 1, 0, 6, 0x1f, 0, 0, 0x1f, 0, 0];
        refused("3.4.2.2.2", V5, &of(&body), twice, PROTOCOL);
        accepted(V5, &of(&[0, 1]));
        accepted(V5, &of(&[0, 1, 0]));
        accepted(V5, &of(&[0, 1, 0, 0]));
    }
}

#[test]
fn subscribe() {
    let v4 = |entries: &[u8]| packet(0x82, &[&[0, 1], entries].concat());
    let v5 = |properties: &[u8], entries: &[u8]| {
        packet(
            0x82,
            &[&[0, 1, properties.len() as u8], properties, entries].concat(),
        )
    };
    let empty = E::EmptyPayload {
        packet: PacketType::Subscribe,
    };
    refused("3.1.1 MQTT-3.8.3-3", V311, &v4(&[]), empty, PROTOCOL);
    refused("MQTT-3.8.3-2", V5, &v5(&[], &[]), empty, PROTOCOL);
    refused(
        "MQTT-2.2.1-3",
        V311,
        &packet(0x82, &[0, 0, 0, 1, b't', 0]),
        E::ZeroPacketId,
        PROTOCOL,
    );
    let options = E::Truncated {
        field: "subscription options",
    };
    refused("MQTT-3.8.3-1", V311, &v4(&[0, 1, b't']), options, MALFORMED);
    let bits = E::ReservedBits {
        field: "subscription options",
    };
    for byte in [0x04, 0x08, 0x10, 0x40, 0x80] {
        refused(
            "3.1.1 MQTT-3.8.3-4",
            V311,
            &v4(&[0, 1, b't', byte]),
            bits,
            MALFORMED,
        );
    }
    for byte in [0x40, 0x80] {
        refused(
            "MQTT-3.8.3-5",
            V5,
            &v5(&[], &[0, 1, b't', byte]),
            bits,
            MALFORMED,
        );
    }
    let qos = E::InvalidValue {
        field: "requested QoS",
        value: 3,
    };
    refused("3.8.3.1", V5, &v5(&[], &[0, 1, b't', 3]), qos, PROTOCOL);
    refused(
        "3.1.1 MQTT-3-8.3-4",
        V311,
        &v4(&[0, 1, b't', 3]),
        qos,
        PROTOCOL,
    );
    let handling = E::InvalidValue {
        field: "retain handling",
        value: 3,
    };
    refused(
        "3.8.3.1",
        V5,
        &v5(&[], &[0, 1, b't', 0x30]),
        handling,
        PROTOCOL,
    );
    let zero = E::InvalidValue {
        field: "subscription identifier",
        value: 0,
    };
    refused(
        "3.8.2.1.2",
        V5,
        &v5(&[0x0b, 0], &[0, 1, b't', 0]),
        zero,
        PROTOCOL,
    );
    let twice = E::DuplicateProperty {
        property: "subscription identifier",
    };
    refused(
        "3.8.2.1.2",
        V5,
        &v5(&[0x0b, 1, 0x0b, 2], &[0, 1, b't', 0]),
        twice,
        PROTOCOL,
    );
    let utf8 = E::InvalidUtf8 {
        field: "topic filter",
    };
    refused("MQTT-3.8.3-1", V311, &v4(&[0, 1, 0xff, 0]), utf8, MALFORMED);
}

#[test]
fn unsubscribe() {
    let empty = E::EmptyPayload {
        packet: PacketType::Unsubscribe,
    };
    refused(
        "MQTT-3.10.3-2",
        V311,
        &packet(0xa2, &[0, 1]),
        empty,
        PROTOCOL,
    );
    refused(
        "MQTT-3.10.3-2",
        V5,
        &packet(0xa2, &[0, 1, 0]),
        empty,
        PROTOCOL,
    );
    let foreign = E::PropertyNotAllowed {
        id: 0x0b,
        packet: PacketType::Unsubscribe,
    };
    refused(
        "2.2.2.2",
        V5,
        &packet(0xa2, &[0, 1, 2, 0x0b, 1, 0, 1, b't']),
        foreign,
        MALFORMED,
    );
    let cut = E::Truncated {
        field: "topic filter",
    };
    refused(
        "MQTT-3.10.3-1",
        V311,
        &packet(0xa2, &[0, 1, 0, 1, b't', 0]),
        cut,
        MALFORMED,
    );
}

#[test]
fn subscribe_answers() {
    let code = |packet, code| E::InvalidReasonCode { packet, code };
    let suback = PacketType::Suback;
    refused(
        "3.1.1 MQTT-3.9.3-2",
        V311,
        &[0x90, 3, 0, 1, 3],
        code(suback, 3),
        PROTOCOL,
    );
    refused(
        "3.1.1 MQTT-3.9.3-2",
        V311,
        &[0x90, 3, 0, 1, 0x87],
        code(suback, 0x87),
        PROTOCOL,
    );
    refused(
        "MQTT-3.9.3-2",
        V5,
        &[0x90, 4, 0, 1, 0, 0x11],
        code(suback, 0x11),
        PROTOCOL,
    );
    let empty = E::EmptyPayload { packet: suback };
    refused("MQTT-3.8.4-6", V311, &[0x90, 2, 0, 1], empty, PROTOCOL);
    let unsuback = PacketType::Unsuback;
    refused(
        "MQTT-3.11.3-2",
        V5,
        &[0xb0, 4, 0, 1, 0, 0x01],
        code(unsuback, 1),
        PROTOCOL,
    );
    let empty = E::EmptyPayload { packet: unsuback };
    refused("MQTT-3.11.3-1", V5, &[0xb0, 3, 0, 1, 0], empty, PROTOCOL);
    let trailing = E::TrailingBytes { packet: unsuback };
    refused(
        "3.1.1 3.11.3",
        V311,
        &[0xb0, 3, 0, 1, 0],
        trailing,
        MALFORMED,
    );
}

#[test]
fn pings_disconnect_and_auth() {
    for (first, packet_type) in [(0xc0, PacketType::Pingreq), (0xd0, PacketType::Pingresp)] {
        let trailing = E::TrailingBytes {
            packet: packet_type,
        };
        refused("3.12.2", V5, &[first, 1, 0], trailing, MALFORMED);
    }
    let disconnect = PacketType::Disconnect;
    let trailing = E::TrailingBytes { packet: disconnect };
    refused("3.1.1 3.14.1", V311, &[0xe0, 1, 0], trailing, MALFORMED);
    let code = |packet, code| E::InvalidReasonCode { packet, code };
    refused(
        "MQTT-3.14.2-1",
        V5,
        &[0xe0, 1, 0x01],
        code(disconnect, 1),
        PROTOCOL,
    );
    refused(
        "MQTT-3.14.2-1",
        V5,
        &[0xe0, 1, 0x86],
        code(disconnect, 0x86),
        PROTOCOL,
    );
    let cut = E::Truncated {
        field: "session expiry interval",
    };
    refused(
        "3.14.2.2.2",
        V5,
        &[0xe0, 5, 0, 3, 0x11, 0, 0],
        cut,
        MALFORMED,
    );
    accepted(V5, &[0xe0, 0]);
    accepted(V5, &[0xe0, 1, 0x04]);
    accepted(V5, &[0xe0, 2, 0x04, 0]);

    refused(
        "3.1.1 2.2.1",
        V311,
        &[0xf0, 0],
        E::ReservedPacketType(15),
        MALFORMED,
    );
    refused(
        "MQTT-3.15.2-1",
        V5,
        &[0xf0, 2, 1, 0],
        code(PacketType::Auth, 1),
        PROTOCOL,
    );
    let method = E::MissingAuthenticationMethod;
    refused("3.15.2.2.2", V5, &[0xf0, 2, 0x18, 0], method, PROTOCOL);
    let length = E::Truncated {
        field: "property length",
    };
    refused("3.15.2.2.1", V5, &[0xf0, 1, 0x18], length, MALFORMED);
    accepted(V5, &[0xf0, 0]);
}
