//! SUBSCRIBE, UNSUBSCRIBE and their answers.

use super::*;

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
        "3.1.1 MQTT-3.8.3-4",
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
