//! Every packet that can be said, by version.

use std::num::{NonZeroU16, NonZeroU32};

use bytes::Bytes;
use bytestring::ByteString;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use crate::{
    Ack, AckProperties, Auth, AuthProperties, Connack, ConnackProperties, Connect,
    ConnectProperties, Disconnect, DisconnectProperties, ForwardBuilder, Packet, PacketId,
    PacketType, Publish, PublishProperties, Qos, ReasonCode, RetainHandling, Suback, Subscribe,
    Subscription, SubscriptionOptions, Unsuback, Unsubscribe, UserProperties, Version, Will,
};

pub(crate) fn version() -> impl Strategy<Value = Version> {
    select(&[Version::V31, Version::V311, Version::V5][..])
}

pub(crate) fn text() -> impl Strategy<Value = ByteString> {
    vec(
        any::<char>().prop_filter("U+0000 is refused", |&c| c != '\0'),
        0..12,
    )
    .prop_map(|chars| chars.into_iter().collect::<String>().into())
}

pub(crate) fn topic() -> impl Strategy<Value = ByteString> {
    text().prop_map(|text| format!("t/{text}").into())
}

fn blob() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..300).prop_map(Bytes::from)
}

pub(crate) fn qos() -> impl Strategy<Value = Qos> {
    select(&[Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce][..])
}

pub(crate) fn packet_id() -> impl Strategy<Value = PacketId> {
    any::<NonZeroU16>().prop_map(PacketId::from)
}

fn pairs() -> impl Strategy<Value = Vec<(ByteString, ByteString)>> {
    vec((text(), text()), 0..4)
}

fn user() -> impl Strategy<Value = UserProperties> {
    pairs().prop_map(|pairs| {
        UserProperties::from_pairs(pairs.iter().map(|(name, value)| (&**name, &**value)))
            .expect("short texts")
    })
}

pub(crate) fn forward() -> impl Strategy<Value = Bytes> {
    (
        option::of(any::<bool>()),
        option::of(text()),
        option::of(text()),
        option::of(blob()),
        pairs(),
    )
        .prop_map(|(utf8, content_type, response_topic, correlation, pairs)| {
            let mut builder = ForwardBuilder::new();
            if let Some(utf8) = utf8 {
                builder = builder.payload_format_utf8(utf8);
            }
            if let Some(text) = &content_type {
                builder = builder.content_type(text);
            }
            if let Some(topic) = &response_topic {
                builder = builder.response_topic(topic);
            }
            if let Some(data) = &correlation {
                builder = builder.correlation_data(data);
            }
            for (name, value) in &pairs {
                builder = builder.user_property(name, value);
            }
            builder.build().expect("short fields")
        })
}

/// A reason the packet may carry; in version 3 only what that can say.
fn reason(packet: PacketType) -> impl Strategy<Value = ReasonCode> {
    let codes: Vec<_> = (0..=255)
        .map(ReasonCode)
        .filter(|reason| reason.is_allowed_in(packet))
        .collect();
    select(codes)
}

fn explanation() -> impl Strategy<Value = Option<Box<AckProperties>>> {
    (option::of(text()), user()).prop_map(|(reason_string, user_properties)| {
        (reason_string.is_some() || !user_properties.is_empty()).then(|| {
            Box::new(AckProperties {
                reason_string,
                user_properties,
            })
        })
    })
}

fn ack(version: Version, packet: PacketType) -> BoxedStrategy<Ack> {
    if version != Version::V5 {
        return packet_id().prop_map(Ack::success).boxed();
    }
    (packet_id(), reason(packet), explanation())
        .prop_map(|(packet_id, reason, properties)| Ack {
            packet_id,
            reason,
            properties,
        })
        .boxed()
}

fn will(version: Version) -> impl Strategy<Value = Will> {
    let v5 = version == Version::V5;
    (
        topic(),
        blob(),
        qos(),
        any::<bool>(),
        any::<u32>(),
        option::of(any::<u32>()),
        forward(),
    )
        .prop_map(
            move |(topic, payload, qos, retain, delay, message_expiry, forward)| {
                let plain = Will {
                    topic,
                    payload,
                    qos,
                    retain,
                    ..Will::default()
                };
                if v5 {
                    Will {
                        delay,
                        message_expiry,
                        forward,
                        ..plain
                    }
                } else {
                    plain
                }
            },
        )
}

fn connect_properties() -> impl Strategy<Value = ConnectProperties> {
    (
        option::of(any::<u32>()),
        option::of(any::<NonZeroU16>()),
        option::of(any::<NonZeroU32>()),
        any::<u16>(),
        any::<bool>(),
        any::<bool>(),
        user(),
        option::of((text(), option::of(blob()))),
    )
        .prop_map(
            |(expiry, receive, size, alias, response, problem, user, authentication)| {
                let (method, data) = authentication.unzip();
                ConnectProperties {
                    session_expiry: expiry,
                    receive_maximum: receive,
                    maximum_packet_size: size,
                    topic_alias_maximum: alias,
                    request_response_information: response,
                    request_problem_information: problem,
                    user_properties: user,
                    authentication_method: method,
                    authentication_data: data.flatten(),
                }
            },
        )
}

fn connect(version: Version) -> impl Strategy<Value = Packet> {
    (
        any::<bool>(),
        any::<u16>(),
        text(),
        option::of(will(version)),
        option::of(text()),
        option::of(blob()),
        connect_properties(),
    )
        .prop_map(
            move |(clean_start, keep_alive, client_id, will, user, password, properties)| {
                let v5 = version == Version::V5;
                Packet::Connect(Box::new(Connect {
                    version,
                    clean_start,
                    keep_alive,
                    client_id,
                    will: will.map(Box::new),
                    password: password.filter(|_| v5 || user.is_some()),
                    user_name: user,
                    properties: if v5 {
                        properties
                    } else {
                        ConnectProperties::default()
                    },
                }))
            },
        )
}

fn connack_properties() -> impl Strategy<Value = ConnackProperties> {
    let limits = (
        option::of(any::<u32>()),
        option::of(any::<NonZeroU16>()),
        qos(),
        any::<bool>(),
        option::of(any::<NonZeroU32>()),
        any::<u16>(),
    );
    let switches = (
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
        option::of(any::<u16>()),
    );
    let texts = (
        option::of(text()),
        option::of(text()),
        option::of(text()),
        option::of(text()),
    );
    let authentication = option::of((text(), option::of(blob())));
    (limits, switches, texts, user(), authentication).prop_map(
        |(limits, switches, texts, user_properties, authentication)| {
            let (method, data) = authentication.unzip();
            ConnackProperties {
                session_expiry: limits.0,
                receive_maximum: limits.1,
                maximum_qos: limits.2,
                retain_available: limits.3,
                maximum_packet_size: limits.4,
                topic_alias_maximum: limits.5,
                wildcard_subscription_available: switches.0,
                subscription_ids_available: switches.1,
                shared_subscription_available: switches.2,
                server_keep_alive: switches.3,
                assigned_client_id: texts.0,
                reason_string: texts.1,
                response_information: texts.2,
                server_reference: texts.3,
                user_properties,
                authentication_method: method,
                authentication_data: data.flatten(),
            }
        },
    )
}

fn connack(version: Version) -> BoxedStrategy<Packet> {
    if version != Version::V5 {
        return (any::<bool>(), 0u8..=5)
            .prop_map(move |(present, code)| {
                Packet::Connack(Connack {
                    session_present: present && code == 0 && version != Version::V31,
                    reason: ReasonCode::from_v3_connack(code).expect("a return code"),
                    properties: None,
                })
            })
            .boxed();
    }
    (
        any::<bool>(),
        reason(PacketType::Connack),
        connack_properties(),
    )
        .prop_map(|(present, reason, properties)| {
            let is_default = properties == ConnackProperties::default();
            Packet::Connack(Connack {
                session_present: present && reason == ReasonCode::SUCCESS,
                reason,
                properties: (!is_default).then(|| Box::new(properties)),
            })
        })
        .boxed()
}

fn publish_properties() -> impl Strategy<Value = PublishProperties> {
    (
        option::of(any::<u32>()),
        option::of(1..=u16::MAX),
        vec(1..=crate::varint::MAX, 0..4),
        forward(),
    )
        .prop_map(
            |(message_expiry, topic_alias, ids, forward)| PublishProperties {
                message_expiry,
                topic_alias,
                subscription_ids: ids.into(),
                ..PublishProperties::from_forward(forward).expect("built, thus valid")
            },
        )
}

pub(crate) fn publish(version: Version) -> impl Strategy<Value = Publish> {
    let flags = (any::<bool>(), qos(), any::<bool>());
    (flags, topic(), packet_id(), blob(), publish_properties()).prop_map(
        move |((dup, qos, retain), topic, id, payload, properties)| Publish {
            dup: dup && qos != Qos::AtMostOnce,
            qos,
            retain,
            topic,
            packet_id: (qos != Qos::AtMostOnce).then_some(id),
            payload,
            properties: match version {
                Version::V5 => properties,
                _ => PublishProperties::default(),
            },
        },
    )
}

fn options(version: Version) -> impl Strategy<Value = SubscriptionOptions> {
    let handling = select(
        &[
            RetainHandling::SendAtSubscribe,
            RetainHandling::SendIfNew,
            RetainHandling::DoNotSend,
        ][..],
    );
    (qos(), any::<bool>(), any::<bool>(), handling).prop_map(
        move |(qos, no_local, retain_as_published, retain_handling)| match version {
            Version::V5 => SubscriptionOptions {
                qos,
                no_local,
                retain_as_published,
                retain_handling,
            },
            _ => SubscriptionOptions::with_qos(qos),
        },
    )
}

fn subscribe(version: Version) -> impl Strategy<Value = Packet> {
    let entry =
        (text(), options(version)).prop_map(|(filter, options)| Subscription { filter, options });
    (
        packet_id(),
        vec(entry, 1..6),
        option::of(1..=crate::varint::MAX),
        user(),
    )
        .prop_map(move |(packet_id, subscriptions, id, user)| {
            let v5 = version == Version::V5;
            Packet::Subscribe(Subscribe {
                packet_id,
                subscriptions,
                subscription_id: id.filter(|_| v5),
                user_properties: if v5 { user } else { UserProperties::new() },
            })
        })
}

fn unsubscribe(version: Version) -> impl Strategy<Value = Packet> {
    (packet_id(), vec(text(), 1..6), user()).prop_map(move |(packet_id, filters, user)| {
        let user_properties = if version == Version::V5 {
            user
        } else {
            UserProperties::new()
        };
        Packet::Unsubscribe(Unsubscribe {
            packet_id,
            filters,
            user_properties,
        })
    })
}

fn suback(version: Version) -> BoxedStrategy<Packet> {
    let v3 = select(&[0u8, 1, 2, 0x80][..]).prop_map(ReasonCode);
    let (reasons, properties) = match version {
        Version::V5 => (
            vec(reason(PacketType::Suback), 1..6).boxed(),
            explanation().boxed(),
        ),
        _ => (vec(v3, 1..6).boxed(), Just(None).boxed()),
    };
    (packet_id(), reasons, properties)
        .prop_map(|(packet_id, reasons, properties)| {
            Packet::Suback(Suback {
                packet_id,
                reasons,
                properties,
            })
        })
        .boxed()
}

fn unsuback(version: Version) -> BoxedStrategy<Packet> {
    let (reasons, properties) = match version {
        Version::V5 => (
            vec(reason(PacketType::Unsuback), 1..6).boxed(),
            explanation().boxed(),
        ),
        _ => (Just(Vec::new()).boxed(), Just(None).boxed()),
    };
    (packet_id(), reasons, properties)
        .prop_map(|(packet_id, reasons, properties)| {
            Packet::Unsuback(Unsuback {
                packet_id,
                reasons,
                properties,
            })
        })
        .boxed()
}

fn disconnect(version: Version) -> BoxedStrategy<Packet> {
    if version != Version::V5 {
        return Just(Packet::Disconnect(Disconnect::default())).boxed();
    }
    let properties = (
        option::of(any::<u32>()),
        option::of(text()),
        user(),
        option::of(text()),
    );
    (reason(PacketType::Disconnect), properties)
        .prop_map(
            |(reason, (session_expiry, reason_string, user_properties, reference))| {
                let properties = DisconnectProperties {
                    session_expiry,
                    reason_string,
                    user_properties,
                    server_reference: reference,
                };
                let has_any = properties != DisconnectProperties::default();
                let properties = has_any.then(|| Box::new(properties));
                Packet::Disconnect(Disconnect { reason, properties })
            },
        )
        .boxed()
}

fn auth() -> impl Strategy<Value = Packet> {
    let properties = (text(), option::of(blob()), option::of(text()), user());
    let full = (reason(PacketType::Auth), properties).prop_map(
        |(reason, (method, data, reason_string, user_properties))| Auth {
            reason,
            properties: Some(Box::new(AuthProperties {
                method,
                data,
                reason_string,
                user_properties,
            })),
        },
    );
    prop_oneof![Just(Auth::default()), full].prop_map(Packet::Auth)
}

/// Any packet of a version.
pub(crate) fn packet(version: Version) -> BoxedStrategy<Packet> {
    let common = prop_oneof![
        connect(version),
        connack(version),
        publish(version).prop_map(Packet::Publish),
        ack(version, PacketType::Puback).prop_map(Packet::Puback),
        ack(version, PacketType::Pubrec).prop_map(Packet::Pubrec),
        ack(version, PacketType::Pubrel).prop_map(Packet::Pubrel),
        ack(version, PacketType::Pubcomp).prop_map(Packet::Pubcomp),
        subscribe(version),
        suback(version),
    ];
    let rest = prop_oneof![
        unsubscribe(version),
        unsuback(version),
        Just(Packet::Pingreq),
        Just(Packet::Pingresp),
        disconnect(version),
    ];
    match version {
        Version::V5 => prop_oneof![9 => common, 5 => rest, 1 => auth()].boxed(),
        _ => prop_oneof![9 => common, 5 => rest].boxed(),
    }
}

/// A version and any packet of it.
pub(crate) fn versioned() -> impl Strategy<Value = (Version, Packet)> {
    version().prop_flat_map(|version| (Just(version), packet(version)))
}
