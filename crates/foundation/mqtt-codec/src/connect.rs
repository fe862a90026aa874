//! CONNECT (3.1).

use std::fmt;
use std::num::{NonZeroU16, NonZeroU32};

use bytes::Bytes;
use bytestring::ByteString;

use crate::error::{ConnectError, DecodeError, EncodeError};
use crate::forward::{self, FORWARDED};
use crate::frame::PacketType;
use crate::packet::{Qos, Version};
use crate::primitive::Reader;
use crate::properties::{
    AUTHENTICATION_DATA, AUTHENTICATION_METHOD, Kept, MAXIMUM_PACKET_SIZE, MESSAGE_EXPIRY_INTERVAL,
    Properties, PropertySink, RECEIVE_MAXIMUM, REQUEST_PROBLEM_INFORMATION,
    REQUEST_RESPONSE_INFORMATION, Rules, SESSION_EXPIRY_INTERVAL, TOPIC_ALIAS_MAXIMUM,
    USER_PROPERTY, WILL_DELAY_INTERVAL, set,
};
use crate::user::UserProperties;
use crate::wire::{Detail, Shape, Sink, WireProperties};

/// A client's request to be served.
///
/// All fields are slices of one allocation: whoever keeps one for long copies it.
#[derive(Clone, PartialEq, Eq)]
pub struct Connect {
    /// The version the client speaks.
    pub version: Version,
    /// Clean Start, in version 3 Clean Session.
    pub clean_start: bool,
    /// Seconds the client may be silent; 0 for ever.
    pub keep_alive: u16,
    /// The client identifier, which may be empty.
    pub client_id: ByteString,
    /// The message to publish when the client is gone.
    pub will: Option<Box<Will>>,
    /// The user name.
    pub user_name: Option<ByteString>,
    /// The password, never shown by `Debug`.
    pub password: Option<Bytes>,
    /// The properties; defaults in version 3.
    pub properties: ConnectProperties,
}

impl Connect {
    /// A clean CONNECT without will or credentials.
    pub fn new(version: Version, client_id: impl Into<ByteString>) -> Self {
        Self {
            version,
            clean_start: true,
            keep_alive: 60,
            client_id: client_id.into(),
            will: None,
            user_name: None,
            password: None,
            properties: ConnectProperties::default(),
        }
    }
}

/// Leaves out the password.
impl fmt::Debug for Connect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connect")
            .field("version", &self.version)
            .field("clean_start", &self.clean_start)
            .field("keep_alive", &self.keep_alive)
            .field("client_id", &self.client_id)
            .field("will", &self.will)
            .field("user_name", &self.user_name)
            .field("has_password", &self.password.is_some())
            .field("properties", &self.properties)
            .finish()
    }
}

/// The v5 properties of CONNECT; defaults are those of the standard.
#[derive(Clone, PartialEq, Eq)]
pub struct ConnectProperties {
    /// Seconds the session outlives its connection; absent means 0, `u32::MAX` for ever.
    pub session_expiry: Option<u32>,
    /// How many QoS 1 and 2 messages the client takes at once; absent means 65,535.
    pub receive_maximum: Option<NonZeroU16>,
    /// The longest packet the client takes.
    pub maximum_packet_size: Option<NonZeroU32>,
    /// The highest topic alias the client takes; 0 for none.
    pub topic_alias_maximum: u16,
    /// Whether CONNACK may carry response information.
    pub request_response_information: bool,
    /// Whether reason strings and user properties may be sent on failures.
    pub request_problem_information: bool,
    /// User properties.
    pub user_properties: UserProperties,
    /// The extended authentication method.
    pub authentication_method: Option<ByteString>,
    /// The method's data, never shown by `Debug`.
    pub authentication_data: Option<Bytes>,
}

impl Default for ConnectProperties {
    fn default() -> Self {
        Self {
            session_expiry: None,
            receive_maximum: None,
            maximum_packet_size: None,
            topic_alias_maximum: 0,
            request_response_information: false,
            request_problem_information: true,
            user_properties: UserProperties::new(),
            authentication_method: None,
            authentication_data: None,
        }
    }
}

/// Leaves out the authentication data.
impl fmt::Debug for ConnectProperties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectProperties")
            .field("session_expiry", &self.session_expiry)
            .field("receive_maximum", &self.receive_maximum)
            .field("maximum_packet_size", &self.maximum_packet_size)
            .field("topic_alias_maximum", &self.topic_alias_maximum)
            .field(
                "request_response_information",
                &self.request_response_information,
            )
            .field(
                "request_problem_information",
                &self.request_problem_information,
            )
            .field("user_properties", &self.user_properties)
            .field("authentication_method", &self.authentication_method)
            .field(
                "authentication_data_len",
                &self.authentication_data.as_ref().map(Bytes::len),
            )
            .finish()
    }
}

/// The message to publish when the client is gone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Will {
    /// The topic name, as sent.
    pub topic: ByteString,
    /// The application's bytes.
    pub payload: Bytes,
    /// Quality of service.
    pub qos: Qos,
    /// The RETAIN flag.
    pub retain: bool,
    /// Seconds to wait before publishing; 0 in version 3.
    pub delay: u32,
    /// Seconds until the published message is worthless.
    pub message_expiry: Option<u32>,
    /// The properties to publish it with, as in
    /// [`PublishProperties::forward`](crate::PublishProperties::forward).
    pub forward: Bytes,
}

const USER_NAME: u8 = 0b1000_0000;
const PASSWORD: u8 = 0b0100_0000;
const WILL_RETAIN: u8 = 0b0010_0000;
const WILL_QOS: u8 = 0b0001_1000;
const WILL: u8 = 0b0000_0100;
const CLEAN_START: u8 = 0b0000_0010;

static RULES: Rules = Rules {
    packet: PacketType::Connect,
    allowed: set(&[
        SESSION_EXPIRY_INTERVAL,
        RECEIVE_MAXIMUM,
        MAXIMUM_PACKET_SIZE,
        TOPIC_ALIAS_MAXIMUM,
        REQUEST_RESPONSE_INFORMATION,
        REQUEST_PROBLEM_INFORMATION,
        USER_PROPERTY,
        AUTHENTICATION_METHOD,
        AUTHENTICATION_DATA,
    ]),
    repeatable: set(&[USER_PROPERTY]),
};

static WILL_RULES: Rules = Rules {
    packet: PacketType::Connect,
    allowed: FORWARDED | set(&[WILL_DELAY_INTERVAL, MESSAGE_EXPIRY_INTERVAL]),
    repeatable: set(&[USER_PROPERTY]),
};

/// The version a CONNECT body asks for, as far as it can be read and is known.
pub fn connect_version(body: &[u8]) -> Option<Version> {
    decode_version(&mut Reader::borrowed(body)).ok()
}

/// Decodes the body of a CONNECT into one allocation of its own.
pub fn decode_connect(body: &[u8]) -> Result<Connect, ConnectError> {
    decode_connect_owned(Bytes::copy_from_slice(body))
}

/// Decodes the body of a CONNECT into slices of it.
pub fn decode_connect_owned(body: Bytes) -> Result<Connect, ConnectError> {
    let mut reader = Reader::shared(&body);
    let version = decode_version(&mut reader).map_err(|source| ConnectError {
        version: None,
        source,
    })?;
    Connect::decode(version, &mut reader).map_err(|source| ConnectError {
        version: Some(version),
        source,
    })
}

/// Protocol name and level (MQTT-3.1.2-1, MQTT-3.1.2-2).
fn decode_version(body: &mut Reader<'_>) -> Result<Version, DecodeError> {
    let range = body.block("protocol name")?;
    let name = body.bytes(range);
    if name != b"MQTT" && name != b"MQIsdp" {
        return Err(DecodeError::UnknownProtocol);
    }
    match (name, body.u8("protocol level")?) {
        (b"MQIsdp", 3) => Ok(Version::V31),
        (b"MQTT", 4) => Ok(Version::V311),
        (b"MQTT", 5) => Ok(Version::V5),
        (_, level) => Err(DecodeError::UnsupportedVersion { level }),
    }
}

impl Connect {
    fn decode(version: Version, body: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let flags = body.u8("connect flags")?;
        check_flags(version, flags)?;
        let keep_alive = body.u16("keep alive")?;
        let properties = match version {
            Version::V5 => ConnectProperties::decode(body)?,
            Version::V31 | Version::V311 => ConnectProperties::default(),
        };
        let client_id = body.string("client identifier")?;
        let will = match flags & WILL {
            0 => None,
            _ => Some(Box::new(Will::decode(version, flags, body)?)),
        };
        let user_name = match flags & USER_NAME {
            0 => None,
            _ => Some(body.string("user name")?),
        };
        let password = match flags & PASSWORD {
            0 => None,
            _ => Some(body.binary("password")?),
        };
        if !body.is_at_end() {
            return Err(DecodeError::TrailingBytes {
                packet: PacketType::Connect,
            });
        }
        let clean_start = flags & CLEAN_START != 0;
        Ok(Self {
            version,
            clean_start,
            keep_alive,
            client_id,
            will,
            user_name,
            password,
            properties,
        })
    }

    fn flags(&self) -> u8 {
        let mut flags = 0;
        if let Some(will) = &self.will {
            flags |= WILL | (will.qos as u8) << 3;
            flags |= if will.retain { WILL_RETAIN } else { 0 };
        }
        flags |= if self.clean_start { CLEAN_START } else { 0 };
        flags |= if self.user_name.is_some() {
            USER_NAME
        } else {
            0
        };
        flags | if self.password.is_some() { PASSWORD } else { 0 }
    }

    pub(crate) fn write<S: Sink>(&self, out: &mut S) {
        let shape = Shape::full(self.version);
        out.string("protocol name", self.version.protocol_name());
        out.u8(self.version.level());
        out.u8(self.flags());
        out.u16(self.keep_alive);
        if shape.is_v5() {
            self.properties.write_section(shape.detail, out);
        }
        out.string("client identifier", &self.client_id);
        if let Some(will) = &self.will {
            if shape.is_v5() {
                will.write_section(shape.detail, out);
            }
            out.string("will topic", &will.topic);
            out.binary("will payload", &will.payload);
        }
        if let Some(user_name) = &self.user_name {
            out.string("user name", user_name);
        }
        if let Some(password) = &self.password {
            if self.user_name.is_none() && !shape.is_v5() {
                out.refuse(EncodeError::NotInVersion {
                    packet: PacketType::Connect,
                });
            }
            out.binary("password", password);
        }
    }
}

fn check_flags(version: Version, flags: u8) -> Result<(), DecodeError> {
    // MQTT-3.1.2-3.
    if flags & 1 != 0 {
        return Err(DecodeError::ReservedBits {
            field: "connect flags",
        });
    }
    // MQTT-3.1.2-11, MQTT-3.1.2-13.
    if flags & WILL == 0 && flags & (WILL_QOS | WILL_RETAIN) != 0 {
        return Err(DecodeError::WillFlagsWithoutWill);
    }
    // MQTT-3.1.2-12.
    if flags & WILL_QOS == WILL_QOS {
        return Err(DecodeError::QosThree { field: "will QoS" });
    }
    // 3.1.1, MQTT-3.1.2-22; v5 allows it.
    if version != Version::V5 && flags & PASSWORD != 0 && flags & USER_NAME == 0 {
        return Err(DecodeError::PasswordWithoutUserName);
    }
    Ok(())
}

impl ConnectProperties {
    fn decode(body: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut from = Properties::open(body, &RULES)?;
        let mut decoded = Self::default();
        let mut kept = Kept::default();
        while let Some(id) = from.next_id()? {
            match id {
                SESSION_EXPIRY_INTERVAL => decoded.session_expiry = Some(from.u32(id)?),
                RECEIVE_MAXIMUM => {
                    let value = from.u16(id)?;
                    decoded.receive_maximum = from.non_zero(id, value)?;
                }
                MAXIMUM_PACKET_SIZE => {
                    let value = from.u32(id)?;
                    decoded.maximum_packet_size = from.non_zero(id, value)?;
                }
                TOPIC_ALIAS_MAXIMUM => decoded.topic_alias_maximum = from.u16(id)?,
                REQUEST_RESPONSE_INFORMATION => {
                    decoded.request_response_information = from.flag(id)?;
                }
                REQUEST_PROBLEM_INFORMATION => {
                    decoded.request_problem_information = from.flag(id)?;
                }
                USER_PROPERTY => from.user_property(&mut kept)?,
                AUTHENTICATION_METHOD => decoded.authentication_method = from.string(id)?,
                AUTHENTICATION_DATA => decoded.authentication_data = from.binary(id)?,
                _ => return Err(from.unexpected(id)),
            }
        }
        decoded.user_properties = UserProperties::from_wire(kept.finish(&from.reader));
        // 3.1.2.11.10: data without a method is a protocol error.
        if decoded.authentication_data.is_some() && decoded.authentication_method.is_none() {
            return Err(DecodeError::MissingAuthenticationMethod);
        }
        Ok(decoded)
    }
}

impl WireProperties for ConnectProperties {
    fn write<S: Sink>(&self, _: Detail, out: &mut S) {
        out.u32_property(SESSION_EXPIRY_INTERVAL, self.session_expiry);
        out.u16_property(RECEIVE_MAXIMUM, self.receive_maximum.map(NonZeroU16::get));
        out.u32_property(
            MAXIMUM_PACKET_SIZE,
            self.maximum_packet_size.map(NonZeroU32::get),
        );
        let alias_maximum = Some(self.topic_alias_maximum).filter(|&maximum| maximum != 0);
        out.u16_property(TOPIC_ALIAS_MAXIMUM, alias_maximum);
        let response = self.request_response_information.then_some(true);
        out.flag_property(REQUEST_RESPONSE_INFORMATION, response);
        let problem = (!self.request_problem_information).then_some(false);
        out.flag_property(REQUEST_PROBLEM_INFORMATION, problem);
        self.user_properties.write(out);
        out.string_property(AUTHENTICATION_METHOD, self.authentication_method.as_deref());
        out.binary_property(AUTHENTICATION_DATA, self.authentication_data.as_deref());
    }
}

impl Will {
    fn decode(version: Version, flags: u8, body: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut will = Self {
            qos: Qos::from_u8((flags & WILL_QOS) >> 3)
                .ok_or(DecodeError::QosThree { field: "will QoS" })?,
            retain: flags & WILL_RETAIN != 0,
            ..Self::default()
        };
        if version == Version::V5 {
            will.decode_properties(body)?;
        }
        will.topic = body.string("will topic")?;
        will.payload = body.binary("will payload")?;
        Ok(will)
    }

    fn decode_properties(&mut self, body: &mut Reader<'_>) -> Result<(), DecodeError> {
        let mut properties = Properties::open(body, &WILL_RULES)?;
        let mut kept = Kept::default();
        while let Some(id) = properties.next_id()? {
            match id {
                WILL_DELAY_INTERVAL => self.delay = properties.u32(id)?,
                MESSAGE_EXPIRY_INTERVAL => self.message_expiry = Some(properties.u32(id)?),
                _ => forward::take(&mut properties, id, &mut kept)?,
            }
        }
        self.forward = kept.finish(&properties.reader);
        Ok(())
    }
}

impl WireProperties for Will {
    fn write<S: Sink>(&self, _: Detail, out: &mut S) {
        out.u32_property(
            WILL_DELAY_INTERVAL,
            Some(self.delay).filter(|&delay| delay != 0),
        );
        out.u32_property(MESSAGE_EXPIRY_INTERVAL, self.message_expiry);
        out.raw(&self.forward);
    }
}
