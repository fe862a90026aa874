//! Exact bytes, limits, shared allocations.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::{decoded, encoded, packet, strategy};
use crate::{
    Ack, AckProperties, Auth, AuthProperties, Connack, Connect, Disconnect, EncodeError,
    ForwardBuilder, ForwardProperty, Packet, PacketId, PacketType, Publish, PublishHead,
    PublishProperties, PublishTemplate, Qos, ReasonCode, Suback, Subscribe, Subscription,
    SubscriptionOptions, Unsubscribe, UserProperties, Version, decode_owned, encode,
    encode_publish, encode_within,
};
use Version::{V5, V31, V311};

fn id(number: u16) -> PacketId {
    PacketId::new(number).expect("not zero")
}

fn message(qos: Qos) -> Publish {
    Publish {
        dup: false,
        qos,
        retain: false,
        topic: "a/b".into(),
        packet_id: (qos != Qos::AtMostOnce).then(|| id(0x1234)),
        payload: Bytes::from_static(b"xyz"),
        properties: PublishProperties::default(),
    }
}

fn explained() -> Packet {
    let user_properties = UserProperties::from_pairs([("k", "v")]).expect("short");
    let reason_string = Some("because".into());
    Packet::Puback(Ack {
        packet_id: id(1),
        reason: ReasonCode::NOT_AUTHORIZED,
        properties: Some(Box::new(AckProperties {
            reason_string,
            user_properties,
        })),
    })
}

#[test]
fn bytes_are_those_of_the_standard() {
    let cases: [(Packet, Version, &[u8]); 12] = [
        (Packet::Pingreq, V5, &[0xc0, 0]),
        (Packet::Pingresp, V311, &[0xd0, 0]),
        (Packet::Puback(Ack::success(id(2))), V5, &[0x40, 2, 0, 2]),
        (
            Packet::Pubrec(Ack::with_reason(id(2), ReasonCode::NO_MATCHING_SUBSCRIBERS)),
            V5,
            &[0x50, 3, 0, 2, 0x10],
        ),
        (Packet::Pubrel(Ack::success(id(2))), V311, &[0x62, 2, 0, 2]),
        (
            Packet::Pubcomp(Ack::with_reason(
                id(2),
                ReasonCode::PACKET_IDENTIFIER_NOT_FOUND,
            )),
            V311,
            &[0x70, 2, 0, 2],
        ),
        (Packet::Disconnect(Disconnect::default()), V5, &[0xe0, 0]),
        (
            Packet::Disconnect(Disconnect::with_reason(ReasonCode::SESSION_TAKEN_OVER)),
            V5,
            &[0xe0, 1, 0x8e],
        ),
        (
            Packet::Connack(Connack::refusal(ReasonCode::NOT_AUTHORIZED)),
            V31,
            &[0x20, 2, 0, 5],
        ),
        (
            Packet::Connack(Connack::refusal(ReasonCode::NOT_AUTHORIZED)),
            V5,
            &[0x20, 3, 0, 0x87, 0],
        ),
        (
            Packet::Suback(Suback {
                packet_id: id(3),
                reasons: vec![
                    ReasonCode::GRANTED_QOS_1,
                    ReasonCode::SHARED_SUBSCRIPTIONS_NOT_SUPPORTED,
                ],
                properties: None,
            }),
            V311,
            &[0x90, 4, 0, 3, 1, 0x80],
        ),
        (
            Packet::Publish(message(Qos::AtLeastOnce)),
            V311,
            &[
                0x32, 10, 0, 3, b'a', b'/', b'b', 0x12, 0x34, b'x', b'y', b'z',
            ],
        ),
    ];
    for (packet, version, expected) in cases {
        assert_eq!(&encoded(&packet, version)[..], expected, "{packet:?}");
    }
    let mut connect = Connect::new(V311, "c");
    connect.user_name = Some("u".into());
    connect.password = Some(Bytes::from_static(b"p"));
    let expected = b"\x10\x13\0\x04MQTT\x04\xc2\0\x3c\0\x01c\0\x01u\0\x01p";
    assert_eq!(
        &encoded(&Packet::Connect(Box::new(connect)), V311)[..],
        expected
    );
}

#[test]
fn explanations_are_dropped_in_the_order_of_the_standard() {
    let full = encoded(&explained(), V5);
    let sizes: Vec<usize> = (0..=full.len() as u32)
        .map(|max| {
            let mut out = BytesMut::new();
            match encode_within(&explained(), V5, max, &mut out) {
                Ok(()) => assert!(out.len() <= max as usize),
                Err(error) => {
                    assert_eq!(
                        error,
                        EncodeError::TooLarge {
                            len: 5,
                            max: max as usize
                        }
                    );
                    assert!(out.is_empty());
                }
            }
            out.len()
        })
        .collect();
    // Bare is 5 bytes; a user property adds 1 + 7, the reason string 10.
    assert_eq!(full.len(), 23);
    for (max, &size) in sizes.iter().enumerate() {
        let expected = match max {
            0..=4 => 0,
            5..=12 => 5,
            13..=22 => 13,
            _ => 23,
        };
        assert_eq!(size, expected, "limit {max}");
    }
}

#[test]
fn an_overlong_reason_string_is_dropped_rather_than_the_packet() {
    let reason_string = Some("x".repeat(70_000).into());
    let properties = AckProperties {
        reason_string,
        ..AckProperties::default()
    };
    let ack = Ack {
        properties: Some(Box::new(properties)),
        ..Ack::success(id(1))
    };
    let mut out = BytesMut::new();
    let error = EncodeError::FieldTooLong {
        field: "reason string",
    };
    assert_eq!(
        encode(&Packet::Puback(ack.clone()), V5, &mut out),
        Err(error)
    );
    assert_eq!(
        encode_within(&Packet::Puback(ack), V5, 1000, &mut out),
        Ok(())
    );
    assert_eq!(&out[..], &[0x40, 2, 0, 1]);
}

#[test]
fn content_is_never_dropped() {
    let forward = ForwardBuilder::new()
        .user_property("k", "v")
        .build()
        .expect("short");
    let publish = Publish {
        properties: PublishProperties::from_forward(forward).expect("built"),
        ..message(Qos::AtMostOnce)
    };
    let packet = Packet::Publish(publish);
    let len = encoded(&packet, V5).len();
    let mut out = BytesMut::new();
    let error = EncodeError::TooLarge { len, max: len - 1 };
    assert_eq!(
        encode_within(&packet, V5, len as u32 - 1, &mut out),
        Err(error)
    );
    assert_eq!(encode_within(&packet, V5, len as u32, &mut out), Ok(()));
}

#[test]
fn what_cannot_be_said_is_refused_and_writes_nothing() {
    let nack = Ack::with_reason(id(1), ReasonCode::QUOTA_EXCEEDED);
    let subscription = Subscription {
        filter: "a\0b".into(),
        options: SubscriptionOptions::default(),
    };
    let subscribe = Subscribe {
        packet_id: id(1),
        subscriptions: vec![subscription],
        subscription_id: None,
        user_properties: UserProperties::new(),
    };
    let with_id = Subscribe {
        subscription_id: Some(0),
        ..subscribe.clone()
    };
    let unsubscribe = Unsubscribe {
        packet_id: id(1),
        filters: Vec::new(),
        user_properties: UserProperties::new(),
    };
    let mut connect = Connect::new(V311, "c");
    connect.password = Some(Bytes::new());
    let auth = Auth {
        reason: ReasonCode::SUCCESS,
        properties: Some(Box::default()),
    };
    let value = |field| EncodeError::InvalidValue { field };
    let not_in = |packet| EncodeError::NotInVersion { packet };
    let cases = [
        (
            Packet::Puback(nack.clone()),
            V311,
            not_in(PacketType::Puback),
        ),
        (Packet::Pubrec(nack), V31, not_in(PacketType::Pubrec)),
        (
            Packet::Pubrel(Ack::with_reason(id(1), ReasonCode::NOT_AUTHORIZED)),
            V5,
            EncodeError::InvalidReasonCode {
                packet: PacketType::Pubrel,
                code: 0x87,
            },
        ),
        (
            Packet::Connack(Connack::refusal(ReasonCode::KEEP_ALIVE_TIMEOUT)),
            V5,
            EncodeError::InvalidReasonCode {
                packet: PacketType::Connack,
                code: 0x8d,
            },
        ),
        (Packet::Auth(auth), V311, not_in(PacketType::Auth)),
        (
            Packet::Connect(Box::new(connect)),
            V311,
            not_in(PacketType::Connect),
        ),
        (
            Packet::Subscribe(subscribe),
            V5,
            EncodeError::NulCharacter {
                field: "topic filter",
            },
        ),
        (
            Packet::Subscribe(with_id),
            V5,
            value("subscription identifier"),
        ),
        (
            Packet::Unsubscribe(unsubscribe),
            V5,
            value("UNSUBSCRIBE payload"),
        ),
        (
            Packet::Publish(Publish {
                packet_id: None,
                ..message(Qos::AtLeastOnce)
            }),
            V5,
            EncodeError::PacketIdMismatch,
        ),
        (
            Packet::Publish(Publish {
                topic: "".into(),
                ..message(Qos::AtMostOnce)
            }),
            V5,
            value("topic name"),
        ),
    ];
    for (packet, version, error) in cases {
        let mut out = BytesMut::from(&b"kept"[..]);
        assert_eq!(encode(&packet, version, &mut out), Err(error), "{packet:?}");
        assert_eq!(&out[..], b"kept");
    }
}

#[test]
fn template_parts_are_checked() {
    let long = "t".repeat(65_536);
    let head = PublishHead::new(V5, Qos::AtMostOnce, false, &long);
    let error = EncodeError::FieldTooLong {
        field: "topic name",
    };
    let payload = Bytes::new();
    assert_eq!(
        PublishTemplate::from_head(&head, &payload).map(|_| ()),
        Err(error)
    );
    let head = PublishHead::new(V5, Qos::AtMostOnce, false, "");
    let error = EncodeError::InvalidValue {
        field: "topic name",
    };
    assert_eq!(
        PublishTemplate::from_head(&head, &payload).map(|_| ()),
        Err(error)
    );
    let head = PublishHead {
        subscription_ids: &[0],
        ..PublishHead::new(V5, Qos::AtMostOnce, false, "t")
    };
    let error = EncodeError::InvalidValue {
        field: "subscription identifier",
    };
    assert_eq!(
        PublishTemplate::from_head(&head, &payload).map(|_| ()),
        Err(error)
    );
    let mut out = BytesMut::new();
    let head = PublishHead::new(V5, Qos::AtLeastOnce, false, "t");
    let error = EncodeError::PacketIdMismatch;
    assert_eq!(
        encode_publish(&head, false, None, b"", &mut out),
        Err(error)
    );
}

#[test]
fn a_connack_that_spells_the_defaults_out_says_nothing() {
    for property in [&[0x25, 1][..], &[0x22, 0, 0], &[0x2a, 1]] {
        let section = [&[0, 0, property.len() as u8], property].concat();
        let spelt = decoded(V5, &packet(0x20, &section)).expect("valid");
        assert_eq!(spelt, decoded(V5, &[0x20, 3, 0, 0, 0]).expect("valid"));
    }
}

#[test]
fn aliases_may_replace_the_topic() {
    let head = PublishHead {
        topic_alias: Some(7),
        ..PublishHead::new(V5, Qos::AtMostOnce, false, "")
    };
    let mut out = BytesMut::new();
    encode_publish(&head, true, None, b"x", &mut out).expect("valid");
    assert_eq!(&out[..], &[0x30, 7, 0, 0, 3, 0x23, 0, 7, b'x']);
}

#[test]
#[should_panic(expected = "packet id goes with QoS 1 and 2")]
fn a_template_never_writes_a_zero_packet_id() {
    let head = PublishHead::new(V311, Qos::AtLeastOnce, false, "t");
    let template = PublishTemplate::from_head(&head, &Bytes::new()).expect("valid");
    template.write(false, None, &mut BytesMut::new());
}

#[test]
fn a_decoded_publish_shares_one_allocation() {
    let forward = ForwardBuilder::new()
        .content_type("text")
        .user_property("k", "v");
    let publish = Publish {
        properties: PublishProperties {
            message_expiry: Some(9),
            ..PublishProperties::from_forward(forward.build().expect("short")).expect("built")
        },
        ..message(Qos::AtLeastOnce)
    };
    let bytes = encoded(&Packet::Publish(publish.clone()), V5);
    let body = bytes.slice(2..);
    let Ok(Packet::Publish(shared)) = decode_owned(V5, bytes[0], body.clone()) else {
        panic!("a PUBLISH");
    };
    assert_eq!(shared, publish);
    let range = body.as_ptr_range();
    for part in [
        shared.topic.as_bytes(),
        &shared.properties.forward,
        &shared.payload,
    ] {
        assert!(range.contains(&part.as_ptr()), "not a slice of the body");
    }
}

#[test]
fn forwarded_properties_between_others_keep_their_order() {
    let properties: [&[u8]; 9] = [
        &[0x26, 0, 1, b'a', 0, 1, b'1'],
        &[0x02, 0, 0, 0, 9],
        &[0x09, 0, 2, 7, 8],
        &[0x01, 1],
        &[0x0b, 5],
        &[0x08, 0, 1, b'r'],
        &[0x23, 0, 3],
        &[0x26, 0, 1, b'a', 0, 1, b'0'],
        &[0x03, 0, 1, b'c'],
    ];
    let section = properties.concat();
    let bytes = packet(
        0x30,
        &[&[0, 1, b't', section.len() as u8], &section[..], b"pay"].concat(),
    );
    let Ok(Packet::Publish(publish)) = decoded(V5, &bytes) else {
        panic!("a PUBLISH")
    };
    let it = &publish.properties;
    let kept: Vec<u8> = [0, 2, 3, 5, 7, 8]
        .iter()
        .flat_map(|&at| properties[at])
        .copied()
        .collect();
    assert_eq!(&it.forward[..], kept);
    assert_eq!((it.message_expiry, it.topic_alias), (Some(9), Some(3)));
    assert_eq!(&it.subscription_ids[..], &[5]);
    assert_eq!(
        (it.payload_format_utf8, it.response_topic.as_deref()),
        (Some(true), Some("r"))
    );
    assert_eq!(it.content_type(), Some("c"));
    assert_eq!(it.correlation_data(), Some(&[7, 8][..]));
    assert_eq!(
        it.user_properties().collect::<Vec<_>>(),
        [("a", "1"), ("a", "0")]
    );
    assert_eq!(
        it.forwarded().nth(1),
        Some(ForwardProperty::CorrelationData(&[7, 8]))
    );
    assert_eq!(&publish.payload[..], b"pay");
}

#[test]
fn user_properties_between_others_keep_their_order() {
    let section = [
        0x26, 0, 0, 0, 1, b'1', 0x1f, 0, 1, b'r', 0x26, 0, 0, 0, 1, b'2', 0x26, 0, 0, 0, 1, b'3',
    ];
    let body = [&[0, 1, 0, section.len() as u8], &section[..]].concat();
    let Ok(Packet::Puback(ack)) = decoded(V5, &packet(0x40, &body)) else {
        panic!("a PUBACK")
    };
    let properties = ack.properties.expect("there are some");
    assert_eq!(properties.reason_string.as_deref(), Some("r"));
    let pairs: Vec<_> = properties.user_properties.iter().collect();
    assert_eq!(pairs, [("", "1"), ("", "2"), ("", "3")]);
}

#[test]
fn secrets_are_not_shown() {
    let mut connect = Connect::new(V5, "c");
    connect.password = Some(Bytes::from_static(b"hunter2"));
    connect.properties.authentication_data = Some(Bytes::from_static(b"hunter2"));
    let auth = AuthProperties {
        data: connect.password.clone(),
        ..AuthProperties::default()
    };
    assert!(!format!("{connect:?} {auth:?}").contains("hunter2"));
}

#[test]
fn packets_stay_small_enough_to_be_moved() {
    assert!(size_of::<Packet>() <= 232, "{}", size_of::<Packet>());
    assert!(size_of::<Ack>() <= 16, "{}", size_of::<Ack>());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..Default::default() })]

    #[test]
    fn a_limit_is_kept_and_never_changes_the_outcome(
        packet in strategy::packet(V5),
        max in 0u32..400,
    ) {
        let full = encoded(&packet, V5);
        let mut out = BytesMut::new();
        match encode_within(&packet, V5, max, &mut out) {
            Ok(()) => {
                prop_assert!(out.len() <= max as usize);
                let shorter = decoded(V5, &out).expect("valid");
                prop_assert_eq!(shorter.packet_type(), packet.packet_type());
                if full.len() <= max as usize {
                    prop_assert_eq!(out.freeze(), full);
                }
            }
            Err(EncodeError::TooLarge { len, .. }) => {
                prop_assert!(len > max as usize && full.len() >= len);
                prop_assert!(out.is_empty());
            }
            Err(error) => prop_assert!(false, "{error}"),
        }
    }
}
