//! What our packets say.

use bifrust_mqtt_codec::{
    Ack, AckProperties, Auth, Connack, Connect, Disconnect, ForwardProperties, ForwardProperty,
    Packet, Publish, Suback, Subscribe, Unsuback, Unsubscribe, UserProperties, Will,
};

use super::meaning::Meaning;

pub(super) fn meaning(packet: &Packet) -> Meaning {
    let said = Meaning::of(packet.packet_type().name());
    match packet {
        Packet::Connect(connect) => self::connect(said, connect),
        Packet::Connack(connack) => self::connack(said, connack),
        Packet::Publish(publish) => self::publish(said, publish),
        Packet::Puback(ack) | Packet::Pubrec(ack) | Packet::Pubrel(ack) | Packet::Pubcomp(ack) => {
            self::ack(said, ack)
        }
        Packet::Subscribe(subscribe) => self::subscribe(said, subscribe),
        Packet::Suback(Suback {
            packet_id,
            reasons,
            properties,
        })
        | Packet::Unsuback(Unsuback {
            packet_id,
            reasons,
            properties,
        }) => {
            let said = said
                .and("id", packet_id.get())
                .list("reasons", reasons.iter().map(|reason| reason.0));
            explanation(said, properties.as_deref())
        }
        Packet::Unsubscribe(Unsubscribe {
            packet_id,
            filters,
            user_properties,
        }) => {
            let said = said.and("id", packet_id.get()).and(
                "filters",
                filters.iter().map(|text| &**text).collect::<Vec<_>>(),
            );
            user(said, user_properties)
        }
        Packet::Pingreq | Packet::Pingresp => said,
        Packet::Disconnect(disconnect) => self::disconnect(said, disconnect),
        Packet::Auth(auth) => self::auth(said, auth),
    }
}

fn user(said: Meaning, user: &UserProperties) -> Meaning {
    said.list("user", user.iter())
}

fn explanation(said: Meaning, properties: Option<&AckProperties>) -> Meaning {
    let Some(properties) = properties else {
        return said;
    };
    user(
        said.maybe("reason string", properties.reason_string.as_deref()),
        &properties.user_properties,
    )
}

fn ack(said: Meaning, ack: &Ack) -> Meaning {
    let said = said
        .and("id", ack.packet_id.get())
        .and("reason", ack.reason.0);
    explanation(said, ack.properties.as_deref())
}

fn connect(said: Meaning, connect: &Connect) -> Meaning {
    let properties = &connect.properties;
    let said = said
        .and("level", connect.version.level())
        .and("clean", connect.clean_start)
        .and("keep alive", connect.keep_alive)
        .and("client", &*connect.client_id)
        .maybe("user name", connect.user_name.as_deref())
        .maybe("password", connect.password.as_deref())
        .maybe("session expiry", properties.session_expiry)
        .maybe("receive maximum", properties.receive_maximum)
        .maybe("maximum packet size", properties.maximum_packet_size)
        .and("topic alias maximum", properties.topic_alias_maximum)
        .and("request response", properties.request_response_information)
        .and("request problem", properties.request_problem_information)
        .maybe("method", properties.authentication_method.as_deref())
        .maybe("data", properties.authentication_data.as_deref());
    let said = user(said, &properties.user_properties);
    match &connect.will {
        Some(will) => said.and("will", self::will(will)),
        None => said,
    }
}

fn will(will: &Will) -> Meaning {
    let said = Meaning::of("will")
        .and("topic", &*will.topic)
        .and("payload", &will.payload[..])
        .and("qos", will.qos as u8)
        .and("retain", will.retain)
        .and("delay", will.delay)
        .maybe("expiry", will.message_expiry);
    forwarded(said, ForwardProperties::new(&will.forward))
}

fn forwarded(mut said: Meaning, properties: ForwardProperties<'_>) -> Meaning {
    let mut user = Vec::new();
    for property in properties {
        said = match property {
            ForwardProperty::PayloadFormatUtf8(utf8) => said.and("utf8", utf8),
            ForwardProperty::ContentType(text) => said.and("content type", text),
            ForwardProperty::ResponseTopic(topic) => said.and("response topic", topic),
            ForwardProperty::CorrelationData(data) => said.and("correlation", data),
            ForwardProperty::UserProperty(name, value) => {
                user.push((name, value));
                said
            }
        };
    }
    said.list("user", user)
}

fn connack(said: Meaning, connack: &Connack) -> Meaning {
    let said = said
        .and("session present", connack.session_present)
        .and("reason", connack.reason.0);
    let properties = connack.properties.clone().unwrap_or_default();
    let said = said
        .maybe("session expiry", properties.session_expiry)
        .maybe("receive maximum", properties.receive_maximum)
        .and("maximum qos", properties.maximum_qos as u8)
        .and("retain available", properties.retain_available)
        .maybe("maximum packet size", properties.maximum_packet_size)
        .maybe("assigned client", properties.assigned_client_id.as_deref())
        .and("topic alias maximum", properties.topic_alias_maximum)
        .maybe("reason string", properties.reason_string.as_deref())
        .and("wildcards", properties.wildcard_subscription_available)
        .and("subscription ids", properties.subscription_ids_available)
        .and("shared", properties.shared_subscription_available)
        .maybe("server keep alive", properties.server_keep_alive)
        .maybe(
            "response information",
            properties.response_information.as_deref(),
        )
        .maybe("server reference", properties.server_reference.as_deref())
        .maybe("method", properties.authentication_method.as_deref())
        .maybe("data", properties.authentication_data.as_deref());
    user(said, &properties.user_properties)
}

fn publish(said: Meaning, publish: &Publish) -> Meaning {
    let properties = &publish.properties;
    let said = said
        .and("dup", publish.dup)
        .and("retain", publish.retain)
        .and("qos", publish.qos as u8)
        .maybe("id", publish.packet_id.map(|id| id.get()))
        .and("topic", &*publish.topic)
        .and("payload", &publish.payload[..])
        .maybe("expiry", properties.message_expiry)
        .maybe("alias", properties.topic_alias)
        .list("subscription ids", properties.subscription_ids.iter());
    forwarded(said, properties.forwarded())
}

fn subscribe(said: Meaning, subscribe: &Subscribe) -> Meaning {
    let filters = subscribe.subscriptions.iter().map(|subscription| {
        let options = subscription.options;
        (
            &*subscription.filter,
            options.qos as u8,
            options.no_local,
            options.retain_as_published,
            options.retain_handling as u8,
        )
    });
    let said = said
        .and("id", subscribe.packet_id.get())
        .list("filters", filters)
        .maybe("subscription id", subscribe.subscription_id);
    user(said, &subscribe.user_properties)
}

fn disconnect(said: Meaning, disconnect: &Disconnect) -> Meaning {
    let said = said.and("reason", disconnect.reason.0);
    let Some(properties) = &disconnect.properties else {
        return said;
    };
    let said = said
        .maybe("session expiry", properties.session_expiry)
        .maybe("reason string", properties.reason_string.as_deref())
        .maybe("server reference", properties.server_reference.as_deref());
    user(said, &properties.user_properties)
}

fn auth(said: Meaning, auth: &Auth) -> Meaning {
    let said = said.and("reason", auth.reason.0);
    let Some(properties) = &auth.properties else {
        return said;
    };
    let said = said
        .and("method", &*properties.method)
        .maybe("data", properties.data.as_deref())
        .maybe("reason string", properties.reason_string.as_deref());
    user(said, &properties.user_properties)
}
