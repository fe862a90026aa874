//! PUBLISH (3.3).

use bytes::{Buf, Bytes};
use bytestring::ByteString;
use smallvec::SmallVec;

use crate::error::{DecodeError, EncodeError};
use crate::forward::{self, FORWARDED, ForwardProperties, ForwardProperty, validate_forward};
use crate::frame::PacketType;
use crate::packet::{PacketId, Qos, Version};
use crate::primitive::Reader;
use crate::properties::{
    Kept, MESSAGE_EXPIRY_INTERVAL, PAYLOAD_FORMAT_INDICATOR, Properties, PropertySink,
    RESPONSE_TOPIC, Rules, SUBSCRIPTION_IDENTIFIER, TOPIC_ALIAS, USER_PROPERTY, name, set,
};
use crate::wire::{Detail, Shape, Sink, WireProperties};

/// A message on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// Whether this may be a repetition.
    pub dup: bool,
    /// Quality of service.
    pub qos: Qos,
    /// The RETAIN flag.
    pub retain: bool,
    /// The topic name, as sent; empty only beside a topic alias.
    pub topic: ByteString,
    /// The packet identifier; there exactly when the QoS is 1 or 2.
    pub packet_id: Option<PacketId>,
    /// The application's bytes.
    pub payload: Bytes,
    /// The properties; all empty in version 3.
    pub properties: PublishProperties,
}

/// The v5 properties of PUBLISH.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublishProperties {
    /// Seconds until the message is worthless.
    pub message_expiry: Option<u32>,
    /// A number that stands for the topic on this connection; never zero.
    pub topic_alias: Option<u16>,
    /// The identifiers of the subscriptions that matched; only servers send them.
    pub subscription_ids: SmallVec<[u32; 1]>,
    /// What the payload format indicator in `forward` says; not written by itself.
    pub payload_format_utf8: Option<bool>,
    /// The response topic in `forward`; not written by itself.
    pub response_topic: Option<ByteString>,
    /// All other properties as validated wire bytes in their original order: payload format
    /// indicator, content type, response topic, correlation data, user properties.
    pub forward: Bytes,
}

static RULES: Rules = Rules {
    packet: PacketType::Publish,
    allowed: FORWARDED
        | set(&[
            MESSAGE_EXPIRY_INTERVAL,
            TOPIC_ALIAS,
            SUBSCRIPTION_IDENTIFIER,
        ]),
    repeatable: set(&[USER_PROPERTY, SUBSCRIPTION_IDENTIFIER]),
};

impl PublishProperties {
    /// Properties that are nothing but `forward`, which is checked.
    pub fn from_forward(forward: Bytes) -> Result<Self, DecodeError> {
        validate_forward(&forward)?;
        let mut built = Self::default();
        for property in ForwardProperties::new(&forward) {
            match property {
                ForwardProperty::PayloadFormatUtf8(utf8) => built.payload_format_utf8 = Some(utf8),
                ForwardProperty::ResponseTopic(topic) => built.response_topic = Some(topic.into()),
                _ => {}
            }
        }
        built.forward = forward;
        Ok(built)
    }

    /// The forwarded properties one by one.
    pub fn forwarded(&self) -> ForwardProperties<'_> {
        ForwardProperties::new(&self.forward)
    }

    /// What the payload is.
    pub fn content_type(&self) -> Option<&str> {
        self.forwarded().find_map(|property| match property {
            ForwardProperty::ContentType(text) => Some(text),
            _ => None,
        })
    }

    /// What an answer is to carry.
    pub fn correlation_data(&self) -> Option<&[u8]> {
        self.forwarded().find_map(|property| match property {
            ForwardProperty::CorrelationData(data) => Some(data),
            _ => None,
        })
    }

    /// The user properties in order.
    pub fn user_properties(&self) -> impl Iterator<Item = (&str, &str)> {
        self.forwarded().filter_map(|property| match property {
            ForwardProperty::UserProperty(name, value) => Some((name, value)),
            _ => None,
        })
    }

    #[inline]
    fn decode(body: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let properties = Properties::open(body, &RULES)?;
        // Most messages have none.
        if properties.reader.is_at_end() {
            return Ok(Self::default());
        }
        Self::decode_some(properties)
    }

    fn decode_some(mut properties: Properties<'_>) -> Result<Self, DecodeError> {
        let mut decoded = Self::default();
        let mut kept = Kept::default();
        while let Some(id) = properties.next_id()? {
            let start = properties.reader.at() - 1;
            match id {
                MESSAGE_EXPIRY_INTERVAL => decoded.message_expiry = Some(properties.u32(id)?),
                // MQTT-3.3.2-8.
                TOPIC_ALIAS => match properties.u16(id)? {
                    0 if !cfg!(planted_bugs) => return Err(DecodeError::ZeroTopicAlias),
                    alias => decoded.topic_alias = Some(alias),
                },
                SUBSCRIPTION_IDENTIFIER => {
                    decoded.subscription_ids.push(properties.subscription_id()?);
                }
                PAYLOAD_FORMAT_INDICATOR => {
                    decoded.payload_format_utf8 = Some(properties.flag(id)?);
                    kept.keep(&properties.reader, start);
                }
                RESPONSE_TOPIC => {
                    decoded.response_topic = properties.string(id)?;
                    kept.keep(&properties.reader, start);
                }
                _ => forward::take(&mut properties, id, &mut kept)?,
            }
        }
        decoded.forward = kept.finish(&properties.reader);
        Ok(decoded)
    }
}

impl Publish {
    #[inline]
    pub(crate) fn decode(
        version: Version,
        first: u8,
        mut body: Bytes,
    ) -> Result<Self, DecodeError> {
        let qos = Qos::from_u8(first >> 1 & 0b11).ok_or(DecodeError::QosThree {
            field: "PUBLISH QoS",
        })?;
        let mut reader = Reader::shared(&body);
        let topic = reader.string("topic name")?;
        let packet_id = match qos {
            Qos::AtMostOnce => None,
            Qos::AtLeastOnce | Qos::ExactlyOnce => Some(reader.packet_id()?),
        };
        let properties = match version {
            Version::V5 => PublishProperties::decode(&mut reader)?,
            Version::V31 | Version::V311 => PublishProperties::default(),
        };
        // 3.3.2.1; without aliases a topic has at least one character (MQTT-4.7.3-1).
        if topic.is_empty() && properties.topic_alias.is_none() {
            return Err(DecodeError::EmptyTopic);
        }
        let payload_at = reader.at();
        body.advance(payload_at);
        Ok(Self {
            dup: first & 0b1000 != 0,
            qos,
            retain: first & 0b0001 != 0,
            topic,
            packet_id,
            payload: body,
            properties,
        })
    }

    /// The first byte of the fixed header.
    pub(crate) fn first(&self) -> u8 {
        first(self.dup, self.qos, self.retain)
    }

    pub(crate) fn write<S: Sink>(&self, shape: Shape, out: &mut S) {
        out.string("topic name", &self.topic);
        if self.packet_id.is_some() != (self.qos != Qos::AtMostOnce) {
            out.refuse(EncodeError::PacketIdMismatch);
        }
        if let Some(id) = self.packet_id {
            out.packet_id(id);
        }
        if shape.is_v5() {
            self.properties.write_section(shape.detail, out);
        }
        if self.topic.is_empty() && (self.properties.topic_alias.is_none() || !shape.is_v5()) {
            out.refuse(EncodeError::InvalidValue {
                field: "topic name",
            });
        }
        out.raw(&self.payload);
    }
}

/// The first byte of a PUBLISH; DUP is never set at QoS 0 (MQTT-3.3.1-2).
#[inline]
pub(crate) const fn first(dup: bool, qos: Qos, retain: bool) -> u8 {
    let dup = dup && !matches!(qos, Qos::AtMostOnce);
    PacketType::Publish.first() | (dup as u8) << 3 | (qos as u8) << 1 | retain as u8
}

impl WireProperties for PublishProperties {
    fn write<S: Sink>(&self, _: Detail, out: &mut S) {
        out.u32_property(MESSAGE_EXPIRY_INTERVAL, self.message_expiry);
        if self.topic_alias == Some(0) {
            out.refuse(EncodeError::InvalidValue {
                field: name(TOPIC_ALIAS),
            });
        }
        out.u16_property(TOPIC_ALIAS, self.topic_alias);
        for &id in &self.subscription_ids {
            out.subscription_id_property(id);
        }
        out.raw(&self.forward);
    }
}
