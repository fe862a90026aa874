//! PUBACK, PUBREC, PUBREL and PUBCOMP (3.4 to 3.7), which differ only in their reason codes.

use bytestring::ByteString;

use crate::error::{DecodeError, EncodeError};
use crate::frame::PacketType;
use crate::packet::{PacketId, Version};
use crate::primitive::Reader;
use crate::properties::{Kept, Properties, REASON_STRING, Rules, USER_PROPERTY, set};
use crate::reason::ReasonCode;
use crate::user::{UserProperties, write_explanation};
use crate::wire::{Detail, Shape, Sink, WireProperties};

/// One step of the handshake for a QoS 1 or 2 message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ack {
    /// The message's packet identifier.
    pub packet_id: PacketId,
    /// The outcome; always [`ReasonCode::SUCCESS`] in version 3.
    pub reason: ReasonCode,
    /// What explains the outcome, v5 only.
    pub properties: Option<Box<AckProperties>>,
}

impl Ack {
    /// A success without explanation.
    #[inline]
    pub const fn success(packet_id: PacketId) -> Self {
        Self::with_reason(packet_id, ReasonCode::SUCCESS)
    }

    /// An outcome without explanation.
    #[inline]
    pub const fn with_reason(packet_id: PacketId, reason: ReasonCode) -> Self {
        Self {
            packet_id,
            reason,
            properties: None,
        }
    }
}

/// The explanation that acknowledgements of all kinds may carry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AckProperties {
    /// Text for a human.
    pub reason_string: Option<ByteString>,
    /// User properties.
    pub user_properties: UserProperties,
}

impl AckProperties {
    /// Reads a section; `None` if it is empty.
    pub(crate) fn decode(
        body: &mut Reader<'_>,
        rules: &'static Rules,
    ) -> Result<Option<Box<Self>>, DecodeError> {
        let mut properties = Properties::open(body, rules)?;
        if properties.reader.is_at_end() {
            return Ok(None);
        }
        let mut decoded = Self::default();
        let mut kept = Kept::default();
        while let Some(id) = properties.next_id()? {
            match id {
                REASON_STRING => decoded.reason_string = properties.string(id)?,
                USER_PROPERTY => properties.user_property(&mut kept)?,
                _ => return Err(properties.unexpected(id)),
            }
        }
        decoded.user_properties = UserProperties::from_wire(kept.finish(&properties.reader));
        Ok(Some(Box::new(decoded)))
    }

    fn has_any(&self, detail: Detail) -> bool {
        match detail {
            Detail::Full => self.reason_string.is_some() || !self.user_properties.is_empty(),
            Detail::UserProperties => !self.user_properties.is_empty(),
            Detail::Bare => false,
        }
    }
}

impl WireProperties for AckProperties {
    fn write<S: Sink>(&self, detail: Detail, out: &mut S) {
        write_explanation(
            self.reason_string.as_ref(),
            &self.user_properties,
            detail,
            out,
        );
    }
}

/// Writes the section of an acknowledgement that always has one (SUBACK, UNSUBACK).
pub(crate) fn write_section<S: Sink>(
    properties: Option<&AckProperties>,
    detail: Detail,
    out: &mut S,
) {
    match properties {
        Some(properties) => properties.write_section(detail, out),
        None => out.u8(0),
    }
}

/// The rules of a packet that carries nothing but an explanation.
pub(crate) const fn rules(packet: PacketType) -> Rules {
    Rules {
        packet,
        allowed: set(&[REASON_STRING, USER_PROPERTY]),
        repeatable: set(&[USER_PROPERTY]),
    }
}

static PUBACK: Rules = rules(PacketType::Puback);
static PUBREC: Rules = rules(PacketType::Pubrec);
static PUBREL: Rules = rules(PacketType::Pubrel);
static PUBCOMP: Rules = rules(PacketType::Pubcomp);

#[inline]
pub(crate) fn decode(
    version: Version,
    packet: PacketType,
    body: &mut Reader<'_>,
) -> Result<Ack, DecodeError> {
    let packet_id = body.packet_id()?;
    // 3.4.2.1: without a reason code it is success; without a property length there are none.
    if version != Version::V5 || body.is_at_end() {
        return Ok(Ack::success(packet_id));
    }
    let reason = reason_code(packet, body)?;
    if body.is_at_end() {
        return Ok(Ack::with_reason(packet_id, reason));
    }
    let rules = match packet {
        PacketType::Pubrec => &PUBREC,
        PacketType::Pubrel => &PUBREL,
        PacketType::Pubcomp => &PUBCOMP,
        _ => &PUBACK,
    };
    let properties = AckProperties::decode(body, rules)?;
    Ok(Ack {
        packet_id,
        reason,
        properties,
    })
}

/// Reads a reason code that the packet's table lists (MQTT-3.4.2-1 and alike).
pub(crate) fn reason_code(
    packet: PacketType,
    body: &mut Reader<'_>,
) -> Result<ReasonCode, DecodeError> {
    let reason = ReasonCode(body.u8("reason code")?);
    if !reason.is_allowed_in(packet) {
        return Err(DecodeError::InvalidReasonCode {
            packet,
            code: reason.0,
        });
    }
    Ok(reason)
}

/// Writes a reason code, refusing one that the peer would refuse.
#[inline]
pub(crate) fn write_reason<S: Sink>(reason: ReasonCode, packet: PacketType, out: &mut S) {
    if !reason.is_allowed_in(packet) {
        out.refuse(EncodeError::InvalidReasonCode {
            packet,
            code: reason.0,
        });
    }
    out.u8(reason.0);
}

pub(crate) fn write<S: Sink>(ack: &Ack, packet: PacketType, shape: Shape, out: &mut S) {
    out.packet_id(ack.packet_id);
    if !shape.is_v5() {
        // A version 3 PUBACK or PUBREC always means success: a refusal must not become one.
        if ack.reason.is_error() && matches!(packet, PacketType::Puback | PacketType::Pubrec) {
            out.refuse(EncodeError::NotInVersion { packet });
        }
        return;
    }
    let properties = ack
        .properties
        .as_deref()
        .filter(|it| it.has_any(shape.detail));
    if let Some(properties) = properties {
        write_reason(ack.reason, packet, out);
        properties.write_section(shape.detail, out);
    } else if ack.reason != ReasonCode::SUCCESS {
        write_reason(ack.reason, packet, out);
    }
}
