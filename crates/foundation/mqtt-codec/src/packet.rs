//! All packets, and the way from a frame's bytes to one of them.

use std::fmt;
use std::num::NonZeroU16;

use bytes::Bytes;

use crate::ack::{self, Ack};
use crate::connack::Connack;
use crate::connect::{self, Connect};
use crate::disconnect::{Auth, Disconnect};
use crate::error::DecodeError;
use crate::frame::{PacketType, check_first};
use crate::primitive::Reader;
use crate::publish::Publish;
use crate::subscribe::{Suback, Subscribe, Unsuback, Unsubscribe};

/// The protocol versions that can be told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// MQTT 3.1, protocol name `MQIsdp`, level 3.
    V31,
    /// MQTT 3.1.1, level 4.
    V311,
    /// MQTT 5.0, level 5.
    V5,
}

impl Version {
    /// The protocol level in CONNECT.
    pub const fn level(self) -> u8 {
        match self {
            Self::V31 => 3,
            Self::V311 => 4,
            Self::V5 => 5,
        }
    }

    pub(crate) const fn protocol_name(self) -> &'static str {
        match self {
            Self::V31 => "MQIsdp",
            Self::V311 | Self::V5 => "MQTT",
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V31 => "3.1",
            Self::V311 => "3.1.1",
            Self::V5 => "5.0",
        })
    }
}

/// Quality of service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Qos {
    /// QoS 0.
    #[default]
    AtMostOnce = 0,
    /// QoS 1.
    AtLeastOnce = 1,
    /// QoS 2.
    ExactlyOnce = 2,
}

impl Qos {
    /// The level with this number.
    #[inline]
    pub const fn from_u8(level: u8) -> Option<Self> {
        Some(match level {
            0 => Self::AtMostOnce,
            1 => Self::AtLeastOnce,
            2 => Self::ExactlyOnce,
            _ => return None,
        })
    }
}

/// A packet identifier, never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PacketId(NonZeroU16);

impl PacketId {
    /// The identifier with this number; `None` for zero.
    #[inline]
    pub const fn new(id: u16) -> Option<Self> {
        match NonZeroU16::new(id) {
            Some(id) => Some(Self(id)),
            None => None,
        }
    }

    /// The number.
    #[inline]
    pub const fn get(self) -> u16 {
        self.0.get()
    }
}

impl From<NonZeroU16> for PacketId {
    fn from(id: NonZeroU16) -> Self {
        Self(id)
    }
}

impl fmt::Display for PacketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A control packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    /// Connection request.
    Connect(Box<Connect>),
    /// Connection answer.
    Connack(Connack),
    /// Message.
    Publish(Publish),
    /// QoS 1 acknowledgement.
    Puback(Ack),
    /// QoS 2, first answer.
    Pubrec(Ack),
    /// QoS 2, release.
    Pubrel(Ack),
    /// QoS 2, completion.
    Pubcomp(Ack),
    /// Subscribe request.
    Subscribe(Subscribe),
    /// Subscribe answer.
    Suback(Suback),
    /// Unsubscribe request.
    Unsubscribe(Unsubscribe),
    /// Unsubscribe answer.
    Unsuback(Unsuback),
    /// Ping request.
    Pingreq,
    /// Ping answer.
    Pingresp,
    /// Disconnect notification.
    Disconnect(Disconnect),
    /// Authentication exchange, v5 only.
    Auth(Auth),
}

impl Packet {
    /// The packet's type.
    pub const fn packet_type(&self) -> PacketType {
        match self {
            Self::Connect(_) => PacketType::Connect,
            Self::Connack(_) => PacketType::Connack,
            Self::Publish(_) => PacketType::Publish,
            Self::Puback(_) => PacketType::Puback,
            Self::Pubrec(_) => PacketType::Pubrec,
            Self::Pubrel(_) => PacketType::Pubrel,
            Self::Pubcomp(_) => PacketType::Pubcomp,
            Self::Subscribe(_) => PacketType::Subscribe,
            Self::Suback(_) => PacketType::Suback,
            Self::Unsubscribe(_) => PacketType::Unsubscribe,
            Self::Unsuback(_) => PacketType::Unsuback,
            Self::Pingreq => PacketType::Pingreq,
            Self::Pingresp => PacketType::Pingresp,
            Self::Disconnect(_) => PacketType::Disconnect,
            Self::Auth(_) => PacketType::Auth,
        }
    }
}

/// Decodes the body of a packet whose first byte is `first`, copying what it keeps.
///
/// Packets that carry text or payload get one exact-size allocation, which all their fields share
/// and which lives as long as any of them; acknowledgements without properties and pings get none.
/// CONNECT says its version itself: see [`decode_connect`](crate::decode_connect) to learn it
/// from a packet that is otherwise wrong.
#[inline]
pub fn decode(version: Version, first: u8, body: &[u8]) -> Result<Packet, DecodeError> {
    match check_first(version, first)? {
        PacketType::Publish
        | PacketType::Connect
        | PacketType::Subscribe
        | PacketType::Unsubscribe => decode_owned(version, first, Bytes::copy_from_slice(body)),
        packet => decode_answer(version, packet, Reader::borrowed(body)),
    }
}

/// Decodes a body that is already shared: kept fields are slices of it.
#[inline]
pub fn decode_owned(version: Version, first: u8, body: Bytes) -> Result<Packet, DecodeError> {
    match check_first(version, first)? {
        PacketType::Publish => Publish::decode(version, first, body).map(Packet::Publish),
        PacketType::Connect => connect::decode_connect_owned(body)
            .map(|connect| Packet::Connect(Box::new(connect)))
            .map_err(|error| error.source),
        PacketType::Subscribe => {
            Subscribe::decode(version, Reader::shared(&body)).map(Packet::Subscribe)
        }
        PacketType::Unsubscribe => {
            Unsubscribe::decode(version, Reader::shared(&body)).map(Packet::Unsubscribe)
        }
        packet => decode_answer(version, packet, Reader::shared(&body)),
    }
}

/// Decodes the packets that mostly have nothing to keep.
fn decode_answer(
    version: Version,
    packet: PacketType,
    mut reader: Reader<'_>,
) -> Result<Packet, DecodeError> {
    let body = &mut reader;
    let decoded = match packet {
        PacketType::Puback => Packet::Puback(ack::decode(version, packet, body)?),
        PacketType::Pubrec => Packet::Pubrec(ack::decode(version, packet, body)?),
        PacketType::Pubrel => Packet::Pubrel(ack::decode(version, packet, body)?),
        PacketType::Pubcomp => Packet::Pubcomp(ack::decode(version, packet, body)?),
        PacketType::Connack => Packet::Connack(Connack::decode(version, body)?),
        PacketType::Suback => Packet::Suback(Suback::decode(version, body)?),
        PacketType::Unsuback => Packet::Unsuback(Unsuback::decode(version, body)?),
        PacketType::Pingreq => Packet::Pingreq,
        PacketType::Pingresp => Packet::Pingresp,
        PacketType::Disconnect => Packet::Disconnect(Disconnect::decode(version, body)?),
        PacketType::Auth => Packet::Auth(Auth::decode(version, body)?),
        PacketType::Connect
        | PacketType::Publish
        | PacketType::Subscribe
        | PacketType::Unsubscribe => return Err(DecodeError::ReservedPacketType(packet as u8)),
    };
    if !reader.is_at_end() {
        return Err(DecodeError::TrailingBytes { packet });
    }
    Ok(decoded)
}
