//! One wrong packet for each thing the standard forbids, by clause.

mod connection;
mod message;
mod subscription;

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
fn what_3_1_sends_again_has_dup() {
    let subscribe = [0x8A, 6, 0, 1, 0, 1, b'a', 1];
    let unsubscribe = [0xAA, 5, 0, 1, 0, 1, b'a'];
    let pubrel = [0x6A, 2, 0, 1];
    for again in [&subscribe[..], &unsubscribe, &pubrel] {
        let first = [again[0] & !0b1000];
        assert!(peek(again).is_ok_and(|frame| frame.is_some()));
        let of = |first: u8, version| decode(version, first, &again[2..]);
        assert_eq!(of(again[0], V31), of(first[0], V31), "3.1, 2.1");
        assert!(of(again[0], V31).is_ok());
        assert!(of(again[0], V311).is_err(), "MQTT-2.2.2-2");
        assert!(of(again[0], V5).is_err(), "MQTT-2.1.3-1");
    }
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
        let is_repeated = packet.flags() != 0 && first & 0x0f == packet.flags() | 0b1000;
        for version in [V31, V311, V5] {
            let is_allowed = is_repeated && version == V31;
            let refused = decode(version, first, &[]) == Err(error);
            assert_eq!(refused, !is_allowed, "MQTT-2.1.3-1");
        }
        if !is_repeated {
            assert_eq!(peek(&[first]), Err(error), "MQTT-2.1.3-1");
        }
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
