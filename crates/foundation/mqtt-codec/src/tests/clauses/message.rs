//! PUBLISH and its acknowledgements.

use super::*;

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
