//! What v5 clients are told in words besides the code (MQTT-5 4.13): always with CONNACK and
//! DISCONNECT, with acknowledgements unless they asked for none (MQTT-3.1.2-29).

use bifrust_mqtt_codec::{AckProperties, ReasonCode};

use crate::session::acks::AckKind;

/// The explanation of an acknowledgement that is a failure.
pub(super) fn properties(kind: &AckKind, reason: ReasonCode) -> Option<Box<AckProperties>> {
    let text = match kind {
        AckKind::Suback(reasons) | AckKind::Unsuback(reasons) => {
            filter(*reasons.iter().find(|reason| reason.is_error())?)
        }
        AckKind::Puback | AckKind::Pubrec => publish(reason)?,
        AckKind::Pubcomp | AckKind::Pingresp => return None,
    };
    Some(Box::new(AckProperties {
        reason_string: Some(text.into()),
        ..AckProperties::default()
    }))
}

fn filter(reason: ReasonCode) -> &'static str {
    match reason {
        ReasonCode::NOT_AUTHORIZED => "no permission for a topic filter",
        ReasonCode::TOPIC_FILTER_INVALID => "a topic filter is not valid or beyond a limit",
        ReasonCode::QUOTA_EXCEEDED => "the session has as many topic filters as it may",
        ReasonCode::SHARED_SUBSCRIPTIONS_NOT_SUPPORTED => "shared subscriptions are not available",
        ReasonCode::WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED => "wildcards are not available",
        ReasonCode::IMPLEMENTATION_SPECIFIC_ERROR => {
            "a subscription could not be stored; try again later"
        }
        _ => "a topic filter was refused",
    }
}

fn publish(reason: ReasonCode) -> Option<&'static str> {
    Some(match reason {
        ReasonCode::NOT_AUTHORIZED => "no permission to publish to this topic",
        ReasonCode::TOPIC_NAME_INVALID => "the topic is beyond a limit",
        ReasonCode::PAYLOAD_FORMAT_INVALID => "the payload is not the UTF-8 that it says it is",
        ReasonCode::QUOTA_EXCEEDED => "the stores cannot take the message; it was not published",
        reason if reason.is_error() => "the message was not published",
        _ => return None,
    })
}
