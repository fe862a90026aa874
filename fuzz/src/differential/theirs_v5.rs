//! What `mqtt-proto` reads in a packet of version 5.

use std::sync::Arc;

use mqtt_proto::v5::{
    Auth, Connack, Connect, Disconnect, ErrorV5, Header, LastWill, Packet, Publish, Subscribe,
    UserProperty,
};
use mqtt_proto::{Error, PollHeader as _, QoS};

use super::meaning::Meaning;

/// Decodes exactly one packet.
pub(super) fn decode(first: u8, body: &[u8]) -> Result<Meaning, ErrorV5> {
    let length = u32::try_from(body.len()).map_err(|_| Error::InvalidRemainingLength)?;
    let header = Header::new_with(first, length, length)?;
    let mut used = 0;
    let packet = match header.build_empty_packet() {
        Some(packet) => packet,
        None => header.decode_buffer(body, &mut used)?,
    };
    if used != body.len() {
        // A stream would go on with these bytes as another packet.
        return Err(Error::InvalidRemainingLength.into());
    }
    Ok(meaning(&packet))
}

/// The four acknowledgements, and the two of subscriptions, differ only in their types.
macro_rules! acknowledged {
    ($name:literal, $packet:expr) => {
        explained(
            Meaning::of($name)
                .and("id", $packet.pid.value())
                .and("reason", $packet.reason_code as u8),
            $packet.properties.reason_string.as_ref(),
            &$packet.properties.user_properties,
        )
    };
}
macro_rules! answered {
    ($name:literal, $packet:expr) => {
        explained(
            Meaning::of($name)
                .and("id", $packet.pid.value())
                .list("reasons", $packet.topics.iter().map(|reason| *reason as u8)),
            $packet.properties.reason_string.as_ref(),
            &$packet.properties.user_properties,
        )
    };
}

fn meaning(packet: &Packet) -> Meaning {
    match packet {
        Packet::Connect(connect) => self::connect(connect),
        Packet::Connack(connack) => self::connack(connack),
        Packet::Publish(publish) => self::publish(publish),
        Packet::Puback(ack) => acknowledged!("PUBACK", ack),
        Packet::Pubrec(ack) => acknowledged!("PUBREC", ack),
        Packet::Pubrel(ack) => acknowledged!("PUBREL", ack),
        Packet::Pubcomp(ack) => acknowledged!("PUBCOMP", ack),
        Packet::Subscribe(subscribe) => self::subscribe(subscribe),
        Packet::Suback(suback) => answered!("SUBACK", suback),
        Packet::Unsubscribe(unsubscribe) => {
            let filters = unsubscribe.topics.iter().map(|filter| &**filter);
            let said = Meaning::of("UNSUBSCRIBE")
                .and("id", unsubscribe.pid.value())
                .list("filters", filters);
            user(said, &unsubscribe.properties.user_properties)
        }
        Packet::Unsuback(unsuback) => answered!("UNSUBACK", unsuback),
        Packet::Pingreq => Meaning::of("PINGREQ"),
        Packet::Pingresp => Meaning::of("PINGRESP"),
        Packet::Disconnect(disconnect) => self::disconnect(disconnect),
        Packet::Auth(auth) => self::auth(auth),
    }
}

fn user(said: Meaning, user: &[UserProperty]) -> Meaning {
    said.list(
        "user",
        user.iter()
            .map(|property| (&*property.name, &*property.value)),
    )
}

fn explained(said: Meaning, reason: Option<&Arc<str>>, user: &[UserProperty]) -> Meaning {
    self::user(
        said.maybe("reason string", reason.map(|text| &**text)),
        user,
    )
}

fn connect(connect: &Connect) -> Meaning {
    let properties = &connect.properties;
    let said = Meaning::of("CONNECT")
        .and("level", connect.protocol as u8)
        .and("clean", connect.clean_start)
        .and("keep alive", connect.keep_alive)
        .and("client", &*connect.client_id)
        .maybe("user name", connect.username.as_deref())
        .maybe("password", connect.password.as_deref())
        .maybe("session expiry", properties.session_expiry_interval)
        .maybe("receive maximum", properties.receive_max)
        .maybe("maximum packet size", properties.max_packet_size)
        .and(
            "topic alias maximum",
            properties.topic_alias_max.unwrap_or(0),
        )
        .and(
            "request response",
            properties.request_response_info.unwrap_or(false),
        )
        .and(
            "request problem",
            properties.request_problem_info.unwrap_or(true),
        )
        .maybe("method", properties.auth_method.as_deref())
        .maybe("data", properties.auth_data.as_deref());
    let said = user(said, &properties.user_properties);
    match &connect.last_will {
        Some(will) => said.and("will", self::will(will)),
        None => said,
    }
}

fn will(will: &LastWill) -> Meaning {
    let properties = &will.properties;
    let said = Meaning::of("will")
        .and("topic", &*will.topic_name)
        .and("payload", &will.payload[..])
        .and("qos", will.qos as u8)
        .and("retain", will.retain)
        .and("delay", properties.delay_interval.unwrap_or(0))
        .maybe("expiry", properties.message_expiry_interval)
        .maybe("utf8", properties.payload_is_utf8)
        .maybe("content type", properties.content_type.as_deref())
        .maybe("response topic", properties.response_topic.as_deref())
        .maybe("correlation", properties.correlation_data.as_deref());
    user(said, &properties.user_properties)
}

fn connack(connack: &Connack) -> Meaning {
    let properties = &connack.properties;
    let said = Meaning::of("CONNACK")
        .and("session present", connack.session_present)
        .and("reason", connack.reason_code as u8)
        .maybe("session expiry", properties.session_expiry_interval)
        .maybe("receive maximum", properties.receive_max)
        .and(
            "maximum qos",
            properties.max_qos.unwrap_or(QoS::Level2) as u8,
        )
        .and(
            "retain available",
            properties.retain_available.unwrap_or(true),
        )
        .maybe("maximum packet size", properties.max_packet_size)
        .maybe("assigned client", properties.assigned_client_id.as_deref())
        .and(
            "topic alias maximum",
            properties.topic_alias_max.unwrap_or(0),
        )
        .and(
            "wildcards",
            properties.wildcard_subscription_available.unwrap_or(true),
        )
        .and(
            "subscription ids",
            properties.subscription_id_available.unwrap_or(true),
        )
        .and(
            "shared",
            properties.shared_subscription_available.unwrap_or(true),
        )
        .maybe("server keep alive", properties.server_keep_alive)
        .maybe("response information", properties.response_info.as_deref())
        .maybe("server reference", properties.server_reference.as_deref())
        .maybe("method", properties.auth_method.as_deref())
        .maybe("data", properties.auth_data.as_deref());
    explained(
        said,
        properties.reason_string.as_ref(),
        &properties.user_properties,
    )
}

fn publish(publish: &Publish) -> Meaning {
    let properties = &publish.properties;
    let said = Meaning::of("PUBLISH")
        .and("dup", publish.dup)
        .and("retain", publish.retain)
        .and("qos", publish.qos_pid.qos() as u8)
        .maybe("id", publish.qos_pid.pid().map(|id| id.value()))
        .and("topic", &*publish.topic_name)
        .and("payload", &publish.payload[..])
        .maybe("expiry", properties.message_expiry_interval)
        .maybe("alias", properties.topic_alias)
        .list(
            "subscription ids",
            properties.subscription_id.map(|id| id.value()),
        )
        .maybe("utf8", properties.payload_is_utf8)
        .maybe("content type", properties.content_type.as_deref())
        .maybe("response topic", properties.response_topic.as_deref())
        .maybe("correlation", properties.correlation_data.as_deref());
    user(said, &properties.user_properties)
}

fn subscribe(subscribe: &Subscribe) -> Meaning {
    let filters = subscribe.topics.iter().map(|(filter, options)| {
        (
            &**filter,
            options.max_qos as u8,
            options.no_local,
            options.retain_as_published,
            options.retain_handling as u8,
        )
    });
    let properties = &subscribe.properties;
    let said = Meaning::of("SUBSCRIBE")
        .and("id", subscribe.pid.value())
        .list("filters", filters)
        .maybe(
            "subscription id",
            properties.subscription_id.map(|id| id.value()),
        );
    user(said, &properties.user_properties)
}

fn disconnect(disconnect: &Disconnect) -> Meaning {
    let properties = &disconnect.properties;
    let said = Meaning::of("DISCONNECT")
        .and("reason", disconnect.reason_code as u8)
        .maybe("session expiry", properties.session_expiry_interval)
        .maybe("server reference", properties.server_reference.as_deref());
    explained(
        said,
        properties.reason_string.as_ref(),
        &properties.user_properties,
    )
}

fn auth(auth: &Auth) -> Meaning {
    let properties = &auth.properties;
    let said = Meaning::of("AUTH")
        .and("reason", auth.reason_code as u8)
        .maybe("method", properties.auth_method.as_deref())
        .maybe("data", properties.auth_data.as_deref());
    explained(
        said,
        properties.reason_string.as_ref(),
        &properties.user_properties,
    )
}
