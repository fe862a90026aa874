//! SUBSCRIBE, SUBACK, UNSUBSCRIBE and UNSUBACK (3.8 to 3.11).

use bytestring::ByteString;

use crate::ack::{self, AckProperties, reason_code, write_reason};
use crate::error::{DecodeError, EncodeError};
use crate::frame::PacketType;
use crate::packet::{PacketId, Qos, Version};
use crate::primitive::Reader;
use crate::properties::{
    Kept, Properties, PropertySink, Rules, SUBSCRIPTION_IDENTIFIER, USER_PROPERTY, set,
};
use crate::reason::ReasonCode;
use crate::user::UserProperties;
use crate::wire::{Detail, Shape, Sink, WireProperties};

/// Which retained messages a new subscription brings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RetainHandling {
    /// All that match, at each SUBSCRIBE.
    #[default]
    SendAtSubscribe = 0,
    /// All that match, if the subscription did not exist.
    SendIfNew = 1,
    /// None.
    DoNotSend = 2,
}

/// What a subscription asks for besides its filter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SubscriptionOptions {
    /// The highest QoS to send messages at.
    pub qos: Qos,
    /// Whether the subscriber's own messages are left out, v5 only.
    pub no_local: bool,
    /// Whether messages keep the RETAIN flag they were published with, v5 only.
    pub retain_as_published: bool,
    /// Which retained messages are wanted at once, v5 only.
    pub retain_handling: RetainHandling,
}

impl SubscriptionOptions {
    /// Options that ask for a QoS and nothing else.
    pub fn with_qos(qos: Qos) -> Self {
        Self {
            qos,
            ..Self::default()
        }
    }

    /// The options byte of SUBSCRIBE.
    pub const fn to_u8(self) -> u8 {
        self.qos as u8
            | (self.no_local as u8) << 2
            | (self.retain_as_published as u8) << 3
            | (self.retain_handling as u8) << 4
    }

    /// Reads the options byte of SUBSCRIBE (3.8.3.1; 3.1.1: MQTT-3.8.3-4).
    pub fn from_u8(version: Version, byte: u8) -> Result<Self, DecodeError> {
        let reserved = match version {
            Version::V5 => 0b1100_0000,
            Version::V31 if cfg!(planted_bugs) => 0b1000_0000,
            Version::V31 | Version::V311 => 0b1111_1100,
        };
        if byte & reserved != 0 {
            return Err(DecodeError::ReservedBits {
                field: "subscription options",
            });
        }
        let refused = |field, value: u8| DecodeError::InvalidValue {
            field,
            value: value.into(),
        };
        let qos = Qos::from_u8(byte & 0b11).ok_or_else(|| refused("requested QoS", 3))?;
        let retain_handling = match byte >> 4 & 0b11 {
            0 => RetainHandling::SendAtSubscribe,
            1 => RetainHandling::SendIfNew,
            2 => RetainHandling::DoNotSend,
            other => return Err(refused("retain handling", other)),
        };
        Ok(Self {
            qos,
            no_local: byte & 0b0100 != 0,
            retain_as_published: byte & 0b1000 != 0,
            retain_handling,
        })
    }
}

/// One entry of SUBSCRIBE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// The topic filter, as sent.
    pub filter: ByteString,
    /// What is asked for.
    pub options: SubscriptionOptions,
}

/// A request for subscriptions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribe {
    /// The request's packet identifier.
    pub packet_id: PacketId,
    /// What to subscribe to; at least one.
    pub subscriptions: Vec<Subscription>,
    /// The identifier all of them get, v5 only.
    pub subscription_id: Option<u32>,
    /// User properties, v5 only.
    pub user_properties: UserProperties,
}

static SUBSCRIBE: Rules = Rules {
    packet: PacketType::Subscribe,
    allowed: set(&[SUBSCRIPTION_IDENTIFIER, USER_PROPERTY]),
    repeatable: set(&[USER_PROPERTY]),
};

/// The properties of SUBSCRIBE and UNSUBSCRIBE.
struct RequestProperties<'a> {
    subscription_id: Option<u32>,
    user: &'a UserProperties,
}

impl WireProperties for RequestProperties<'_> {
    fn write<S: Sink>(&self, _: Detail, out: &mut S) {
        if let Some(id) = self.subscription_id {
            out.subscription_id_property(id);
        }
        self.user.write(out);
    }
}

fn decode_request_properties(
    version: Version,
    body: &mut Reader<'_>,
    rules: &'static Rules,
) -> Result<(Option<u32>, UserProperties), DecodeError> {
    if version != Version::V5 {
        return Ok((None, UserProperties::new()));
    }
    let mut properties = Properties::open(body, rules)?;
    let mut subscription_id = None;
    let mut kept = Kept::default();
    while let Some(id) = properties.next_id()? {
        match id {
            SUBSCRIPTION_IDENTIFIER => subscription_id = Some(properties.subscription_id()?),
            USER_PROPERTY => properties.user_property(&mut kept)?,
            _ => return Err(properties.unexpected(id)),
        }
    }
    Ok((
        subscription_id,
        UserProperties::from_wire(kept.finish(&properties.reader)),
    ))
}

/// How many entries follow, each a string and `extra` bytes, so that their list is sized once.
fn count_entries(body: &Reader<'_>, extra: usize) -> Result<usize, DecodeError> {
    let mut body = body.clone();
    let mut count = 0;
    while !body.is_at_end() {
        body.block("topic filter")?;
        body.section(extra, "subscription options")
            .map(|_| count += 1)?;
    }
    Ok(count)
}

impl Subscribe {
    pub(crate) fn decode(version: Version, mut body: Reader<'_>) -> Result<Self, DecodeError> {
        let packet_id = body.packet_id()?;
        let (subscription_id, user_properties) =
            decode_request_properties(version, &mut body, &SUBSCRIBE)?;
        let mut subscriptions = Vec::with_capacity(count_entries(&body, 1)?);
        while !body.is_at_end() {
            let filter = body.string("topic filter")?;
            let byte = body.u8("subscription options")?;
            let options = SubscriptionOptions::from_u8(version, byte)?;
            subscriptions.push(Subscription { filter, options });
        }
        // MQTT-3.8.3-2 (3.1.1: MQTT-3.8.3-3).
        if subscriptions.is_empty() {
            return Err(DecodeError::EmptyPayload {
                packet: PacketType::Subscribe,
            });
        }
        Ok(Self {
            packet_id,
            subscriptions,
            subscription_id,
            user_properties,
        })
    }

    pub(crate) fn write<S: Sink>(&self, shape: Shape, out: &mut S) {
        out.packet_id(self.packet_id);
        if shape.is_v5() {
            RequestProperties {
                subscription_id: self.subscription_id,
                user: &self.user_properties,
            }
            .write_section(shape.detail, out);
        }
        if self.subscriptions.is_empty() {
            out.refuse(EncodeError::InvalidValue {
                field: "SUBSCRIBE payload",
            });
        }
        for Subscription { filter, options } in &self.subscriptions {
            out.string("topic filter", filter);
            out.u8(if shape.is_v5() {
                options.to_u8()
            } else {
                options.qos as u8
            });
        }
    }
}

/// The answer to SUBSCRIBE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suback {
    /// The request's packet identifier.
    pub packet_id: PacketId,
    /// One outcome for each entry; version 3 is sent 0x80 for any failure.
    pub reasons: Vec<ReasonCode>,
    /// What explains the outcome, v5 only.
    pub properties: Option<Box<AckProperties>>,
}

static SUBACK: Rules = ack::rules(PacketType::Suback);

fn decode_reasons(
    version: Version,
    packet: PacketType,
    body: &mut Reader<'_>,
) -> Result<Vec<ReasonCode>, DecodeError> {
    if body.is_at_end() {
        return Err(DecodeError::EmptyPayload { packet });
    }
    let mut reasons = Vec::with_capacity(body.remaining());
    while !body.is_at_end() {
        let reason = reason_code(packet, body)?;
        // 3.1.1, MQTT-3.9.3-2: other codes are reserved.
        let is_free = version == Version::V5 || cfg!(planted_bugs);
        if !is_free && !matches!(reason.0, 0..=2 | 0x80) {
            return Err(DecodeError::InvalidReasonCode {
                packet,
                code: reason.0,
            });
        }
        reasons.push(reason);
    }
    Ok(reasons)
}

impl Suback {
    pub(crate) fn decode(version: Version, body: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let packet_id = body.packet_id()?;
        let properties = match version {
            Version::V5 => AckProperties::decode(body, &SUBACK)?,
            _ => None,
        };
        let reasons = decode_reasons(version, PacketType::Suback, body)?;
        Ok(Self {
            packet_id,
            reasons,
            properties,
        })
    }

    pub(crate) fn write<S: Sink>(&self, shape: Shape, out: &mut S) {
        out.packet_id(self.packet_id);
        if shape.is_v5() {
            ack::write_section(self.properties.as_deref(), shape.detail, out);
        }
        for reason in &self.reasons {
            let is_v3_failure = reason.is_error() && !shape.is_v5();
            let said = if is_v3_failure {
                ReasonCode::UNSPECIFIED_ERROR
            } else {
                *reason
            };
            write_reason(said, PacketType::Suback, out);
        }
    }
}

/// A request to end subscriptions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsubscribe {
    /// The request's packet identifier.
    pub packet_id: PacketId,
    /// The filters to unsubscribe from; at least one.
    pub filters: Vec<ByteString>,
    /// User properties, v5 only.
    pub user_properties: UserProperties,
}

static UNSUBSCRIBE: Rules = Rules {
    packet: PacketType::Unsubscribe,
    allowed: set(&[USER_PROPERTY]),
    repeatable: set(&[USER_PROPERTY]),
};

impl Unsubscribe {
    pub(crate) fn decode(version: Version, mut body: Reader<'_>) -> Result<Self, DecodeError> {
        let packet_id = body.packet_id()?;
        let (_, user_properties) = decode_request_properties(version, &mut body, &UNSUBSCRIBE)?;
        let mut filters = Vec::with_capacity(count_entries(&body, 0)?);
        while !body.is_at_end() {
            filters.push(body.string("topic filter")?);
        }
        // MQTT-3.10.3-2.
        if filters.is_empty() {
            return Err(DecodeError::EmptyPayload {
                packet: PacketType::Unsubscribe,
            });
        }
        Ok(Self {
            packet_id,
            filters,
            user_properties,
        })
    }

    pub(crate) fn write<S: Sink>(&self, shape: Shape, out: &mut S) {
        out.packet_id(self.packet_id);
        if shape.is_v5() {
            RequestProperties {
                subscription_id: None,
                user: &self.user_properties,
            }
            .write_section(shape.detail, out);
        }
        if self.filters.is_empty() {
            out.refuse(EncodeError::InvalidValue {
                field: "UNSUBSCRIBE payload",
            });
        }
        for filter in &self.filters {
            out.string("topic filter", filter);
        }
    }
}

/// The answer to UNSUBSCRIBE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsuback {
    /// The request's packet identifier.
    pub packet_id: PacketId,
    /// One outcome for each filter; version 3 has none.
    pub reasons: Vec<ReasonCode>,
    /// What explains the outcome, v5 only.
    pub properties: Option<Box<AckProperties>>,
}

static UNSUBACK: Rules = ack::rules(PacketType::Unsuback);

impl Unsuback {
    pub(crate) fn decode(version: Version, body: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let packet_id = body.packet_id()?;
        if version != Version::V5 {
            return Ok(Self {
                packet_id,
                reasons: Vec::new(),
                properties: None,
            });
        }
        let properties = AckProperties::decode(body, &UNSUBACK)?;
        let reasons = decode_reasons(version, PacketType::Unsuback, body)?;
        Ok(Self {
            packet_id,
            reasons,
            properties,
        })
    }

    pub(crate) fn write<S: Sink>(&self, shape: Shape, out: &mut S) {
        out.packet_id(self.packet_id);
        if shape.is_v5() {
            ack::write_section(self.properties.as_deref(), shape.detail, out);
            for reason in &self.reasons {
                write_reason(*reason, PacketType::Unsuback, out);
            }
        }
    }
}
