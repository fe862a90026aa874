//! CONNACK (3.2).

use std::num::{NonZeroU16, NonZeroU32};

use bytes::Bytes;
use bytestring::ByteString;

use crate::ack::{reason_code, write_reason};
use crate::error::DecodeError;
use crate::frame::PacketType;
use crate::packet::{Qos, Version};
use crate::primitive::Reader;
use crate::properties::{
    ASSIGNED_CLIENT_IDENTIFIER, AUTHENTICATION_DATA, AUTHENTICATION_METHOD, Kept,
    MAXIMUM_PACKET_SIZE, MAXIMUM_QOS, Properties, PropertySink, REASON_STRING, RECEIVE_MAXIMUM,
    RESPONSE_INFORMATION, RETAIN_AVAILABLE, Rules, SERVER_KEEP_ALIVE, SERVER_REFERENCE,
    SESSION_EXPIRY_INTERVAL, SHARED_SUBSCRIPTION_AVAILABLE, SUBSCRIPTION_IDENTIFIER_AVAILABLE,
    TOPIC_ALIAS_MAXIMUM, USER_PROPERTY, WILDCARD_SUBSCRIPTION_AVAILABLE, set,
};
use crate::reason::ReasonCode;
use crate::user::{UserProperties, write_explanation};
use crate::wire::{Detail, Shape, Sink, WireProperties};

/// A server's answer to CONNECT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connack {
    /// Whether the server goes on with a session it had.
    pub session_present: bool,
    /// The outcome as a v5 code; version 3 return codes are translated both ways.
    pub reason: ReasonCode,
    /// What the server says beyond that, v5 only.
    pub properties: Option<Box<ConnackProperties>>,
}

impl Connack {
    /// A refusal.
    pub const fn refusal(reason: ReasonCode) -> Self {
        Self {
            session_present: false,
            reason,
            properties: None,
        }
    }
}

/// The v5 properties of CONNACK; defaults are those of the standard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnackProperties {
    /// Session expiry in seconds, if other than the client asked for.
    pub session_expiry: Option<u32>,
    /// How many QoS 1 and 2 messages the server takes at once.
    pub receive_maximum: Option<NonZeroU16>,
    /// The highest QoS the server takes.
    pub maximum_qos: Qos,
    /// Whether the server keeps retained messages.
    pub retain_available: bool,
    /// The longest packet the server takes.
    pub maximum_packet_size: Option<NonZeroU32>,
    /// The client identifier the server gave.
    pub assigned_client_id: Option<ByteString>,
    /// The highest topic alias the server takes; 0 for none.
    pub topic_alias_maximum: u16,
    /// Text for a human.
    pub reason_string: Option<ByteString>,
    /// User properties.
    pub user_properties: UserProperties,
    /// Whether filters may have wildcards.
    pub wildcard_subscription_available: bool,
    /// Whether subscription identifiers may be used.
    pub subscription_ids_available: bool,
    /// Whether shared subscriptions may be used.
    pub shared_subscription_available: bool,
    /// The keep alive in seconds that the client is to use instead of its own.
    pub server_keep_alive: Option<u16>,
    /// What response topics may be made of.
    pub response_information: Option<ByteString>,
    /// Another server to go to.
    pub server_reference: Option<ByteString>,
    /// The authentication method.
    pub authentication_method: Option<ByteString>,
    /// The method's data.
    pub authentication_data: Option<Bytes>,
}

impl Default for ConnackProperties {
    fn default() -> Self {
        Self {
            session_expiry: None,
            receive_maximum: None,
            maximum_qos: Qos::ExactlyOnce,
            retain_available: true,
            maximum_packet_size: None,
            assigned_client_id: None,
            topic_alias_maximum: 0,
            reason_string: None,
            user_properties: UserProperties::new(),
            wildcard_subscription_available: true,
            subscription_ids_available: true,
            shared_subscription_available: true,
            server_keep_alive: None,
            response_information: None,
            server_reference: None,
            authentication_method: None,
            authentication_data: None,
        }
    }
}

static RULES: Rules = Rules {
    packet: PacketType::Connack,
    allowed: set(&[
        SESSION_EXPIRY_INTERVAL,
        RECEIVE_MAXIMUM,
        MAXIMUM_QOS,
        RETAIN_AVAILABLE,
        MAXIMUM_PACKET_SIZE,
        ASSIGNED_CLIENT_IDENTIFIER,
        TOPIC_ALIAS_MAXIMUM,
        REASON_STRING,
        USER_PROPERTY,
        WILDCARD_SUBSCRIPTION_AVAILABLE,
        SUBSCRIPTION_IDENTIFIER_AVAILABLE,
        SHARED_SUBSCRIPTION_AVAILABLE,
        SERVER_KEEP_ALIVE,
        RESPONSE_INFORMATION,
        SERVER_REFERENCE,
        AUTHENTICATION_METHOD,
        AUTHENTICATION_DATA,
    ]),
    repeatable: set(&[USER_PROPERTY]),
};

impl Connack {
    pub(crate) fn decode(version: Version, body: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let flags = body.u8("connect acknowledge flags")?;
        // MQTT-3.2.2-1; in 3.1 the whole byte is reserved and unused.
        let session_present = version != Version::V31 && flags & 1 != 0;
        if version != Version::V31 && flags & 0xfe != 0 {
            return Err(DecodeError::ReservedBits {
                field: "connect acknowledge flags",
            });
        }
        let packet = PacketType::Connack;
        let (reason, properties) = if version == Version::V5 {
            (reason_code(packet, body)?, ConnackProperties::decode(body)?)
        } else {
            let code = body.u8("return code")?;
            let refused = DecodeError::InvalidReasonCode { packet, code };
            (ReasonCode::from_v3_connack(code).ok_or(refused)?, None)
        };
        // MQTT-3.2.2-6 (3.1.1: MQTT-3.2.2-4).
        if session_present && reason != ReasonCode::SUCCESS {
            return Err(DecodeError::SessionPresentOnError);
        }
        Ok(Self {
            session_present,
            reason,
            properties,
        })
    }

    pub(crate) fn write<S: Sink>(&self, shape: Shape, out: &mut S) {
        let present = self.session_present
            && self.reason == ReasonCode::SUCCESS
            && shape.version != Version::V31;
        out.u8(u8::from(present));
        if !shape.is_v5() {
            out.u8(self.reason.to_v3_connack());
            return;
        }
        write_reason(self.reason, PacketType::Connack, out);
        match &self.properties {
            Some(properties) => properties.write_section(shape.detail, out),
            None => out.u8(0),
        }
    }
}

impl ConnackProperties {
    fn decode(body: &mut Reader<'_>) -> Result<Option<Box<Self>>, DecodeError> {
        let mut properties = Properties::open(body, &RULES)?;
        if properties.reader.is_at_end() {
            return Ok(None);
        }
        let mut decoded = Box::<Self>::default();
        let mut kept = Kept::default();
        while let Some(id) = properties.next_id()? {
            decoded.take(&mut properties, id, &mut kept)?;
        }
        decoded.user_properties = UserProperties::from_wire(kept.finish(&properties.reader));
        if decoded.authentication_data.is_some() && decoded.authentication_method.is_none() {
            return Err(DecodeError::MissingAuthenticationMethod);
        }
        // Defaults that are spelt out say nothing.
        Ok((*decoded != Self::default()).then_some(decoded))
    }

    fn take(
        &mut self,
        from: &mut Properties<'_>,
        id: u8,
        kept: &mut Kept,
    ) -> Result<(), DecodeError> {
        match id {
            SESSION_EXPIRY_INTERVAL => self.session_expiry = Some(from.u32(id)?),
            RECEIVE_MAXIMUM => {
                let value = from.u16(id)?;
                self.receive_maximum = from.non_zero(id, value)?;
            }
            MAXIMUM_QOS => {
                let high = from.flag(id)?;
                self.maximum_qos = if high {
                    Qos::AtLeastOnce
                } else {
                    Qos::AtMostOnce
                };
            }
            RETAIN_AVAILABLE => self.retain_available = from.flag(id)?,
            MAXIMUM_PACKET_SIZE => {
                let value = from.u32(id)?;
                self.maximum_packet_size = from.non_zero(id, value)?;
            }
            ASSIGNED_CLIENT_IDENTIFIER => self.assigned_client_id = from.string(id)?,
            TOPIC_ALIAS_MAXIMUM => self.topic_alias_maximum = from.u16(id)?,
            REASON_STRING => self.reason_string = from.string(id)?,
            USER_PROPERTY => from.user_property(kept)?,
            WILDCARD_SUBSCRIPTION_AVAILABLE => {
                self.wildcard_subscription_available = from.flag(id)?;
            }
            SUBSCRIPTION_IDENTIFIER_AVAILABLE => self.subscription_ids_available = from.flag(id)?,
            SHARED_SUBSCRIPTION_AVAILABLE => self.shared_subscription_available = from.flag(id)?,
            SERVER_KEEP_ALIVE => self.server_keep_alive = Some(from.u16(id)?),
            RESPONSE_INFORMATION => self.response_information = from.string(id)?,
            SERVER_REFERENCE => self.server_reference = from.string(id)?,
            AUTHENTICATION_METHOD => self.authentication_method = from.string(id)?,
            AUTHENTICATION_DATA => self.authentication_data = from.binary(id)?,
            _ => return Err(from.unexpected(id)),
        }
        Ok(())
    }
}

impl WireProperties for ConnackProperties {
    fn write<S: Sink>(&self, detail: Detail, out: &mut S) {
        let refused = |available: bool| (!available).then_some(false);
        out.u32_property(SESSION_EXPIRY_INTERVAL, self.session_expiry);
        out.u16_property(RECEIVE_MAXIMUM, self.receive_maximum.map(NonZeroU16::get));
        out.flag_property(
            MAXIMUM_QOS,
            match self.maximum_qos {
                Qos::AtMostOnce => Some(false),
                Qos::AtLeastOnce => Some(true),
                Qos::ExactlyOnce => None,
            },
        );
        out.flag_property(RETAIN_AVAILABLE, refused(self.retain_available));
        out.u32_property(
            MAXIMUM_PACKET_SIZE,
            self.maximum_packet_size.map(NonZeroU32::get),
        );
        out.string_property(
            ASSIGNED_CLIENT_IDENTIFIER,
            self.assigned_client_id.as_deref(),
        );
        let alias_maximum = Some(self.topic_alias_maximum).filter(|&maximum| maximum != 0);
        out.u16_property(TOPIC_ALIAS_MAXIMUM, alias_maximum);
        out.flag_property(
            WILDCARD_SUBSCRIPTION_AVAILABLE,
            refused(self.wildcard_subscription_available),
        );
        out.flag_property(
            SUBSCRIPTION_IDENTIFIER_AVAILABLE,
            refused(self.subscription_ids_available),
        );
        out.flag_property(
            SHARED_SUBSCRIPTION_AVAILABLE,
            refused(self.shared_subscription_available),
        );
        out.u16_property(SERVER_KEEP_ALIVE, self.server_keep_alive);
        out.string_property(RESPONSE_INFORMATION, self.response_information.as_deref());
        out.string_property(SERVER_REFERENCE, self.server_reference.as_deref());
        out.string_property(AUTHENTICATION_METHOD, self.authentication_method.as_deref());
        out.binary_property(AUTHENTICATION_DATA, self.authentication_data.as_deref());
        write_explanation(
            self.reason_string.as_ref(),
            &self.user_properties,
            detail,
            out,
        );
    }
}
