//! Whether a CONNECT is acceptable, and what becomes of its wishes.

use std::num::NonZeroU16;
use std::sync::Arc;

use bifrust_inbox::InboxError;
use bifrust_model::{ClientInfo, EventKind, Settings, Tenant, Topic};
use bifrust_mqtt_codec::{Connect, ForwardProperties, ForwardProperty, ReasonCode, Version, Will};
use bifrust_plugin_api::{AuthError, Redirect, Resource};

use super::{Refusal, Refused, model_qos};
use crate::fault::{Fault, planted};
use crate::services::Services;
use crate::shard::DURABLE_MAX;

/// What the packet itself says, whoever sent it.
pub(super) fn packet(connect: &Connect) -> Result<(), Refused> {
    let needs_id = match connect.version {
        // MQTT 3.1 knows no empty identifiers.
        Version::V31 => true,
        Version::V311 => !connect.clean_start,
        Version::V5 => false,
    };
    if needs_id && connect.client_id.is_empty() {
        // MQTT-3.1.3-8.
        return Err(Refused::new(
            ReasonCode::CLIENT_IDENTIFIER_NOT_VALID,
            EventKind::IdentifierRejected,
            "no client identifier",
        ));
    }
    match &connect.will {
        Some(will) => will_packet(will),
        None => Ok(()),
    }
}

fn will_packet(will: &Will) -> Result<(), Refused> {
    if let Err(error) = Topic::new(will.topic.clone()) {
        return Err(Refused::new(
            ReasonCode::TOPIC_NAME_INVALID,
            EventKind::InvalidTopic,
            format!("will: {error}"),
        ));
    }
    for property in ForwardProperties::new(&will.forward) {
        if let ForwardProperty::ResponseTopic(topic) = property
            && topic.contains(['+', '#'])
        {
            return Err(Refused::new(
                ReasonCode::PROTOCOL_ERROR,
                EventKind::ProtocolError,
                "will: a wildcard in the response topic",
            ));
        }
    }
    Ok(())
}

fn version_refused(detail: &'static str) -> Refused {
    Refused::new(
        ReasonCode::UNSUPPORTED_PROTOCOL_VERSION,
        EventKind::UnacceptedProtocolVer,
        detail,
    )
}

/// What the tenant's settings say.
pub(super) fn settings(
    connect: &Connect,
    packet_len: usize,
    settings: &Settings,
) -> Result<(), Refused> {
    let is_served = match connect.version {
        Version::V31 => settings.mqtt3_enabled,
        Version::V311 => settings.mqtt4_enabled,
        Version::V5 => settings.mqtt5_enabled,
    };
    if !is_served {
        return Err(version_refused("the tenant does not use this version"));
    }
    if connect.client_id.len() > settings.max_client_id_length as usize {
        return Err(Refused::new(
            ReasonCode::CLIENT_IDENTIFIER_NOT_VALID,
            EventKind::IdentifierRejected,
            "client identifier is too long",
        ));
    }
    if packet_len > settings.max_user_payload_bytes as usize {
        return Err(throttled(
            ReasonCode::PACKET_TOO_LARGE,
            "CONNECT is too large",
        ));
    }
    match &connect.will {
        Some(will) => will_settings(will, settings),
        None => Ok(()),
    }
}

fn will_settings(will: &Will, settings: &Settings) -> Result<(), Refused> {
    let bytes = will.topic.len() + will.payload.len() + will.forward.len();
    // A will is a row, whatever the packet may weigh.
    if bytes > DURABLE_MAX.min(settings.max_last_will_bytes as usize) {
        return Err(throttled(
            ReasonCode::PACKET_TOO_LARGE,
            "the will is too large",
        ));
    }
    if u32::from(model_qos(will.qos).level()) > settings.maximum_qos {
        // MQTT-3.2.2-12.
        return Err(throttled(
            ReasonCode::QOS_NOT_SUPPORTED,
            "the will's QoS is too high",
        ));
    }
    if will.retain && !settings.retain_enabled {
        // MQTT-3.2.2-13.
        return Err(throttled(
            ReasonCode::RETAIN_NOT_SUPPORTED,
            "the will is retained",
        ));
    }
    if let Err(error) = settings.topic_limits().check(&will.topic) {
        return Err(Refused::new(
            ReasonCode::TOPIC_NAME_INVALID,
            EventKind::InvalidTopic,
            format!("will: {error}"),
        ));
    }
    let says_utf8 = ForwardProperties::new(&will.forward)
        .any(|property| property == ForwardProperty::PayloadFormatUtf8(true));
    if says_utf8
        && settings.payload_format_validation_enabled
        && std::str::from_utf8(&will.payload).is_err()
    {
        return Err(throttled(
            ReasonCode::PAYLOAD_FORMAT_INVALID,
            "the will's payload is not UTF-8",
        ));
    }
    Ok(())
}

fn throttled(reason: ReasonCode, detail: &'static str) -> Refused {
    Refused::new(reason, EventKind::ResourceThrottled, detail)
}

/// What is left of the tenant's resources, and whether the client should be elsewhere.
pub(super) fn quotas(
    services: &Services,
    tenant: &Tenant,
    client: &Arc<ClientInfo>,
) -> Result<(), Refused> {
    let out = |reason, detail| Refused::new(reason, EventKind::OutOfTenantResource, detail);
    if !services.quotas.has(tenant, Resource::TotalConnections) {
        return Err(out(ReasonCode::QUOTA_EXCEEDED, "connections"));
    }
    if !services.quotas.has(tenant, Resource::TotalConnectPerSecond) {
        return Err(out(
            ReasonCode::CONNECTION_RATE_EXCEEDED,
            "connections per second",
        ));
    }
    match services.balancer.redirect(client) {
        None => Ok(()),
        Some(redirect) => Err(redirected(&redirect)),
    }
}

/// "Use another server" is said only with an address that can be told. DISCONNECT has 0x8B for
/// the rest, which CONNACK does not know (MQTT-3.2.2-8): there it is 0x88. v3 gets 0x03.
fn redirected(redirect: &Redirect) -> Refused {
    let reference = redirect.told_reference();
    let reason = match (reference, redirect.is_permanent) {
        (None, _) => ReasonCode::SERVER_UNAVAILABLE,
        (Some(_), true) => ReasonCode::SERVER_MOVED,
        (Some(_), false) => ReasonCode::USE_ANOTHER_SERVER,
    };
    let detail = reference.unwrap_or("no address to tell");
    Refused {
        reference: reference.map(str::to_owned),
        ..Refused::new(reason, EventKind::ServerRedirected, detail)
    }
}

/// Seconds the session outlives its connection.
pub(super) fn session_expiry(connect: &Connect, settings: &Settings) -> u32 {
    let asked = match connect.version {
        Version::V5 => connect.properties.session_expiry.unwrap_or(0),
        // Clean Session is both: a new session, and none that stays.
        Version::V31 | Version::V311 if connect.clean_start => 0,
        Version::V31 | Version::V311 => settings.v3_session_expiry_seconds,
    };
    settings.clamp_session_expiry(asked)
}

/// Seconds the client may be silent. Only v5 can be told another number than it asked for, so a
/// v3 client is never given less.
pub(super) fn keep_alive(connect: &Connect, settings: &Settings) -> u16 {
    let clamp = |seconds: u32| u16::try_from(seconds).unwrap_or(u16::MAX);
    let min = clamp(settings.min_keep_alive_seconds);
    let max = clamp(settings.max_keep_alive_seconds);
    let asked = match connect.keep_alive {
        0 => 0,
        asked => asked.max(min),
    };
    let has_cap = connect.version == Version::V5 && max > 0;
    match asked {
        0 if has_cap => max,
        asked if has_cap => asked.min(max),
        asked => asked,
    }
}

/// Messages in flight to the client.
pub(super) fn window(connect: &Connect, settings: &Settings) -> u16 {
    match connect.version {
        Version::V5 => connect
            .properties
            .receive_maximum
            .filter(|_| !planted(Fault::WindowIgnored))
            .map_or(u16::MAX, NonZeroU16::get),
        Version::V31 | Version::V311 => u16::try_from(settings.max_inflight).unwrap_or(u16::MAX),
    }
}

pub(super) fn refusal(refusal: Refusal) -> Refused {
    let (reason, event) = match refusal {
        Refusal::BadUserOrPassword => (
            ReasonCode::BAD_USER_NAME_OR_PASSWORD,
            EventKind::UnauthenticatedClient,
        ),
        Refusal::NotAuthorized => (ReasonCode::NOT_AUTHORIZED, EventKind::NotAuthorizedClient),
        Refusal::Banned => (ReasonCode::BANNED, EventKind::NotAuthorizedClient),
        Refusal::BadMethod => (
            ReasonCode::BAD_AUTHENTICATION_METHOD,
            EventKind::NotAuthorizedClient,
        ),
    };
    Refused::new(reason, event, refusal.to_string())
}

pub(super) fn auth_error(error: &AuthError) -> Refused {
    let reason = match error {
        AuthError::Busy => ReasonCode::SERVER_UNAVAILABLE,
        AuthError::Failed(_) => ReasonCode::UNSPECIFIED_ERROR,
    };
    Refused::new(reason, EventKind::AuthError, error.to_string())
}

pub(super) fn other_user() -> Refused {
    Refused::new(
        ReasonCode::NOT_AUTHORIZED,
        EventKind::NotAuthorizedClient,
        "the session belongs to another user",
    )
}

pub(super) fn inbox_error(error: InboxError) -> Refused {
    match error {
        InboxError::OtherUser => other_user(),
        InboxError::Refused => Refused::new(
            ReasonCode::SERVER_BUSY,
            EventKind::InboxTransientError,
            error.to_string(),
        ),
        InboxError::Fenced | InboxError::Unknown => Refused::new(
            ReasonCode::SERVER_UNAVAILABLE,
            EventKind::InboxTransientError,
            error.to_string(),
        ),
    }
}
