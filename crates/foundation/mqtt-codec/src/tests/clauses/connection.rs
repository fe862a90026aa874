//! CONNECT, CONNACK, pings, DISCONNECT and AUTH.

use super::*;

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
