//! The fixed header: which packet comes, and how long it is.

use std::fmt;

use crate::error::DecodeError;
use crate::packet::Version;
use crate::varint::{self, Varint};

/// The largest remaining length a fixed header can announce.
pub const REMAINING_LENGTH_MAX: usize = varint::MAX as usize;

/// The flag of what is sent again.
const DUP: u8 = 0b1000;

/// The control packet types, by their numbers on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum PacketType {
    /// Connection request.
    Connect = 1,
    /// Connection answer.
    Connack = 2,
    /// Message.
    Publish = 3,
    /// QoS 1 acknowledgement.
    Puback = 4,
    /// QoS 2, first answer.
    Pubrec = 5,
    /// QoS 2, release.
    Pubrel = 6,
    /// QoS 2, completion.
    Pubcomp = 7,
    /// Subscribe request.
    Subscribe = 8,
    /// Subscribe answer.
    Suback = 9,
    /// Unsubscribe request.
    Unsubscribe = 10,
    /// Unsubscribe answer.
    Unsuback = 11,
    /// Ping request.
    Pingreq = 12,
    /// Ping answer.
    Pingresp = 13,
    /// Disconnect notification.
    Disconnect = 14,
    /// Authentication exchange, v5 only.
    Auth = 15,
}

impl PacketType {
    /// The type that the first byte of a packet names; `None` for the reserved type 0.
    #[inline]
    pub const fn of(first: u8) -> Option<Self> {
        Some(match first >> 4 {
            1 => Self::Connect,
            2 => Self::Connack,
            3 => Self::Publish,
            4 => Self::Puback,
            5 => Self::Pubrec,
            6 => Self::Pubrel,
            7 => Self::Pubcomp,
            8 => Self::Subscribe,
            9 => Self::Suback,
            10 => Self::Unsubscribe,
            11 => Self::Unsuback,
            12 => Self::Pingreq,
            13 => Self::Pingresp,
            14 => Self::Disconnect,
            15 => Self::Auth,
            _ => return None,
        })
    }

    /// The flags nibble every packet of this type carries; PUBLISH has its own.
    pub(crate) const fn flags(self) -> u8 {
        match self {
            Self::Pubrel | Self::Subscribe | Self::Unsubscribe => 0b0010,
            _ => 0,
        }
    }

    /// The first byte of a packet of this type; for PUBLISH without its flags.
    pub(crate) const fn first(self) -> u8 {
        (self as u8) << 4 | self.flags()
    }

    /// The name as the standard writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connect => "CONNECT",
            Self::Connack => "CONNACK",
            Self::Publish => "PUBLISH",
            Self::Puback => "PUBACK",
            Self::Pubrec => "PUBREC",
            Self::Pubrel => "PUBREL",
            Self::Pubcomp => "PUBCOMP",
            Self::Subscribe => "SUBSCRIBE",
            Self::Suback => "SUBACK",
            Self::Unsubscribe => "UNSUBSCRIBE",
            Self::Unsuback => "UNSUBACK",
            Self::Pingreq => "PINGREQ",
            Self::Pingresp => "PINGRESP",
            Self::Disconnect => "DISCONNECT",
            Self::Auth => "AUTH",
        }
    }
}

impl fmt::Display for PacketType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A complete fixed header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The first byte: packet type and flags.
    pub first: u8,
    /// Bytes of the fixed header.
    pub header_len: usize,
    /// Bytes that follow it.
    pub body_len: usize,
}

impl Frame {
    /// Bytes of the whole packet, which is what Maximum Packet Size counts.
    pub const fn total_len(&self) -> usize {
        self.header_len + self.body_len
    }

    /// The packet type; a frame from [`peek`] always has one.
    pub const fn packet_type(&self) -> Option<PacketType> {
        PacketType::of(self.first)
    }
}

/// Reads the fixed header at the start of `buf`; `None` asks for more bytes.
///
/// A first byte that is wrong in every version is reported as soon as it is there; decoding knows
/// the version and reports the rest. The body need not have arrived.
#[inline]
pub fn peek(buf: &[u8]) -> Result<Option<Frame>, DecodeError> {
    let Some((&first, rest)) = buf.split_first() else {
        return Ok(None);
    };
    check_first(Version::V31, first)?;
    match varint::read(rest) {
        Varint::Value(body_len, used) => Ok(Some(Frame {
            first,
            header_len: 1 + used,
            body_len: body_len as usize,
        })),
        Varint::Incomplete => Ok(None),
        Varint::Invalid => Err(DecodeError::InvalidVarint {
            field: "remaining length",
        }),
    }
}

/// Checks packet type and flags nibble (MQTT-2.1.3-1, MQTT-3.3.1-2, MQTT-3.3.1-4).
#[inline]
pub(crate) fn check_first(version: Version, first: u8) -> Result<PacketType, DecodeError> {
    let packet = PacketType::of(first).ok_or(DecodeError::ReservedPacketType(0))?;
    let flags = first & 0x0f;
    if packet == PacketType::Publish {
        return match flags >> 1 & 0b11 {
            3 => Err(DecodeError::QosThree {
                field: "PUBLISH QoS",
            }),
            0 if flags & DUP != 0 => Err(DecodeError::DupWithQos0),
            _ => Ok(packet),
        };
    }
    // MQTT 3.1, 2.1: whatever has QoS 1 is sent again with DUP.
    let is_repeated = version == Version::V31 && flags == packet.flags() | DUP;
    if flags != packet.flags() && !(is_repeated && packet.flags() != 0) {
        return Err(DecodeError::InvalidFlags { packet, flags });
    }
    Ok(packet)
}
