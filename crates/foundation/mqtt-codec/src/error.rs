//! What can be wrong with bytes, and with packets that are to become bytes.

use crate::frame::PacketType;
use crate::packet::Version;
use crate::reason::ReasonCode;

/// Why bytes are not a valid packet; `field` and `packet` say where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The packet type does not exist in the version that is spoken.
    #[error("packet type {0} is reserved")]
    ReservedPacketType(u8),
    /// The flags nibble of the fixed header is not the one the packet type asks for.
    #[error("flags {flags:#06b} are not allowed in {packet}")]
    InvalidFlags {
        /// The packet type of the fixed header.
        packet: PacketType,
        /// The low nibble of the first byte.
        flags: u8,
    },
    /// A variable byte integer is longer than four bytes or than it needs to be.
    #[error("{field} is not a valid variable byte integer")]
    InvalidVarint {
        /// What was being read.
        field: &'static str,
    },
    /// The packet ends before the field does.
    #[error("packet ends within {field}")]
    Truncated {
        /// What was being read.
        field: &'static str,
    },
    /// Bytes follow the last field.
    #[error("{packet} has bytes after its last field")]
    TrailingBytes {
        /// The packet type.
        packet: PacketType,
    },
    /// A string is not well-formed UTF-8.
    #[error("{field} is not well-formed UTF-8")]
    InvalidUtf8 {
        /// Which string.
        field: &'static str,
    },
    /// A string holds U+0000.
    #[error("{field} contains U+0000")]
    NulCharacter {
        /// Which string.
        field: &'static str,
    },
    /// DUP is set on a QoS 0 PUBLISH.
    #[error("DUP is set on a QoS 0 PUBLISH")]
    DupWithQos0,
    /// Both QoS bits are set.
    #[error("{field} is 3")]
    QosThree {
        /// Whose quality of service.
        field: &'static str,
    },
    /// A bit that must be zero is one.
    #[error("a reserved bit of the {field} is set")]
    ReservedBits {
        /// Which byte of flags.
        field: &'static str,
    },
    /// The packet identifier is zero.
    #[error("packet identifier is zero")]
    ZeroPacketId,
    /// A PUBLISH has neither a topic name nor a topic alias.
    #[error("topic name is empty and there is no topic alias")]
    EmptyTopic,
    /// A packet that needs at least one entry in its payload has none.
    #[error("{packet} has no payload")]
    EmptyPayload {
        /// The packet type.
        packet: PacketType,
    },
    /// A value the standard forbids.
    #[error("{field} must not be {value}")]
    InvalidValue {
        /// Which field.
        field: &'static str,
        /// Its value.
        value: u32,
    },
    /// The topic alias is zero.
    #[error("topic alias is zero")]
    ZeroTopicAlias,
    /// A property that is unknown or does not belong into this packet.
    #[error("property {id:#04x} is not allowed in {packet}")]
    PropertyNotAllowed {
        /// The property identifier.
        id: u32,
        /// The packet type.
        packet: PacketType,
    },
    /// A property that may appear once appears again.
    #[error("{property} appears more than once")]
    DuplicateProperty {
        /// The property's name.
        property: &'static str,
    },
    /// A reason code that the packet's table does not list.
    #[error("reason code {code:#04x} is not allowed in {packet}")]
    InvalidReasonCode {
        /// The packet type.
        packet: PacketType,
        /// The code.
        code: u8,
    },
    /// Will QoS or Will Retain are set although the will flag is not.
    #[error("will QoS or will retain without the will flag")]
    WillFlagsWithoutWill,
    /// A 3.x CONNECT has a password but no user name.
    #[error("password without a user name")]
    PasswordWithoutUserName,
    /// Authentication data without the method it belongs to, or an AUTH without a method.
    #[error("authentication method is missing")]
    MissingAuthenticationMethod,
    /// A refusing CONNACK says that a session is present.
    #[error("session present in a CONNACK that refuses")]
    SessionPresentOnError,
    /// The protocol name of CONNECT is not that of MQTT.
    #[error("unknown protocol name")]
    UnknownProtocol,
    /// The protocol level of CONNECT is none that this codec speaks.
    #[error("unsupported protocol level {level}")]
    UnsupportedVersion {
        /// The level the client asked for.
        level: u8,
    },
}

impl DecodeError {
    /// The v5 reason code that tells the peer.
    pub fn reason(&self) -> ReasonCode {
        match self {
            Self::ZeroTopicAlias => ReasonCode::TOPIC_ALIAS_INVALID,
            Self::UnknownProtocol | Self::UnsupportedVersion { .. } => {
                ReasonCode::UNSUPPORTED_PROTOCOL_VERSION
            }
            // The standard's own words: parseable, but "not allowed by the protocol" (1.2).
            Self::ZeroPacketId
            | Self::EmptyTopic
            | Self::EmptyPayload { .. }
            | Self::InvalidValue { .. }
            | Self::DuplicateProperty { .. }
            | Self::InvalidReasonCode { .. }
            | Self::MissingAuthenticationMethod
            | Self::SessionPresentOnError => ReasonCode::PROTOCOL_ERROR,
            Self::ReservedPacketType(_)
            | Self::InvalidFlags { .. }
            | Self::InvalidVarint { .. }
            | Self::Truncated { .. }
            | Self::TrailingBytes { .. }
            | Self::InvalidUtf8 { .. }
            | Self::NulCharacter { .. }
            | Self::DupWithQos0
            | Self::QosThree { .. }
            | Self::ReservedBits { .. }
            | Self::PropertyNotAllowed { .. }
            | Self::WillFlagsWithoutWill
            | Self::PasswordWithoutUserName => ReasonCode::MALFORMED_PACKET,
        }
    }
}

/// Why a CONNECT is not valid, and in which version to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{source}")]
pub struct ConnectError {
    /// The version the client asked for, if the packet got that far and the version is known.
    pub version: Option<Version>,
    /// What is wrong.
    pub source: DecodeError,
}

/// Why a packet cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The packet is longer than the peer accepts, or than MQTT can say.
    #[error("packet of {len} bytes exceeds the limit of {max}")]
    TooLarge {
        /// Length of the whole packet.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// A string or binary field is longer than 65,535 bytes.
    #[error("{field} is longer than 65,535 bytes")]
    FieldTooLong {
        /// Which field.
        field: &'static str,
    },
    /// A string holds U+0000.
    #[error("{field} contains U+0000")]
    NulCharacter {
        /// Which string.
        field: &'static str,
    },
    /// The version has no way to say this.
    #[error("{packet} cannot be said in this version")]
    NotInVersion {
        /// The packet type.
        packet: PacketType,
    },
    /// A reason code that the packet's table does not list.
    #[error("reason code {code:#04x} is not allowed in {packet}")]
    InvalidReasonCode {
        /// The packet type.
        packet: PacketType,
        /// The code.
        code: u8,
    },
    /// A packet identifier where there must be none, or none where there must be one.
    #[error("packet identifier does not go with the QoS")]
    PacketIdMismatch,
    /// A value the standard forbids.
    #[error("{field} has a forbidden value")]
    InvalidValue {
        /// Which field.
        field: &'static str,
    },
}
