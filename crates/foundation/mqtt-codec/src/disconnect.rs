//! DISCONNECT (3.14) and AUTH (3.15).

use std::fmt;

use bytes::Bytes;
use bytestring::ByteString;

use crate::ack::{reason_code, write_reason};
use crate::error::{DecodeError, EncodeError};
use crate::frame::PacketType;
use crate::packet::Version;
use crate::primitive::Reader;
use crate::properties::{
    AUTHENTICATION_DATA, AUTHENTICATION_METHOD, Kept, Properties, PropertySink, REASON_STRING,
    Rules, SERVER_REFERENCE, SESSION_EXPIRY_INTERVAL, USER_PROPERTY, set,
};
use crate::reason::ReasonCode;
use crate::user::{UserProperties, write_explanation};
use crate::wire::{Counter, Detail, Shape, Sink, WireProperties};

/// The end of a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Disconnect {
    /// Why; always [`ReasonCode::NORMAL_DISCONNECTION`] in version 3.
    pub reason: ReasonCode,
    /// What goes with it, v5 only.
    pub properties: Option<Box<DisconnectProperties>>,
}

impl Disconnect {
    /// A reason and nothing else.
    pub const fn with_reason(reason: ReasonCode) -> Self {
        Self {
            reason,
            properties: None,
        }
    }
}

/// The v5 properties of DISCONNECT.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DisconnectProperties {
    /// A new session expiry in seconds; only clients send it.
    pub session_expiry: Option<u32>,
    /// Text for a human.
    pub reason_string: Option<ByteString>,
    /// User properties.
    pub user_properties: UserProperties,
    /// Another server to go to; only servers send it.
    pub server_reference: Option<ByteString>,
}

static DISCONNECT: Rules = Rules {
    packet: PacketType::Disconnect,
    allowed: set(&[
        SESSION_EXPIRY_INTERVAL,
        REASON_STRING,
        USER_PROPERTY,
        SERVER_REFERENCE,
    ]),
    repeatable: set(&[USER_PROPERTY]),
};

impl Disconnect {
    pub(crate) fn decode(version: Version, body: &mut Reader<'_>) -> Result<Self, DecodeError> {
        // 3.14.2.1: an empty body is a normal disconnection; version 3 has no other.
        if version != Version::V5 || body.is_at_end() {
            return Ok(Self::default());
        }
        let reason = reason_code(PacketType::Disconnect, body)?;
        if body.is_at_end() {
            return Ok(Self::with_reason(reason));
        }
        Ok(Self {
            reason,
            properties: DisconnectProperties::decode(body)?,
        })
    }

    pub(crate) fn write<S: Sink>(&self, shape: Shape, out: &mut S) {
        if !shape.is_v5() {
            return;
        }
        let properties = self
            .properties
            .as_deref()
            .filter(|it| has_any(*it, shape.detail));
        if let Some(properties) = properties {
            write_reason(self.reason, PacketType::Disconnect, out);
            properties.write_section(shape.detail, out);
        } else if self.reason != ReasonCode::NORMAL_DISCONNECTION {
            write_reason(self.reason, PacketType::Disconnect, out);
        }
    }
}

/// Whether anything is written at all. What cannot be written counts, so that it is refused.
fn has_any<P: WireProperties>(properties: &P, detail: Detail) -> bool {
    let mut counter = Counter::default();
    properties.write(detail, &mut counter);
    counter.finish() != Ok(0)
}

impl DisconnectProperties {
    fn decode(body: &mut Reader<'_>) -> Result<Option<Box<Self>>, DecodeError> {
        let mut properties = Properties::open(body, &DISCONNECT)?;
        if properties.reader.is_at_end() {
            return Ok(None);
        }
        let mut decoded = Box::<Self>::default();
        let mut kept = Kept::default();
        while let Some(id) = properties.next_id()? {
            match id {
                SESSION_EXPIRY_INTERVAL => decoded.session_expiry = Some(properties.u32(id)?),
                REASON_STRING => decoded.reason_string = properties.string(id)?,
                SERVER_REFERENCE => decoded.server_reference = properties.string(id)?,
                USER_PROPERTY => properties.user_property(&mut kept)?,
                _ => return Err(properties.unexpected(id)),
            }
        }
        decoded.user_properties = UserProperties::from_wire(kept.finish(&properties.reader));
        Ok(Some(decoded))
    }
}

impl WireProperties for DisconnectProperties {
    fn write<S: Sink>(&self, detail: Detail, out: &mut S) {
        out.u32_property(SESSION_EXPIRY_INTERVAL, self.session_expiry);
        out.string_property(SERVER_REFERENCE, self.server_reference.as_deref());
        write_explanation(
            self.reason_string.as_ref(),
            &self.user_properties,
            detail,
            out,
        );
    }
}

/// A step of an extended authentication exchange.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Auth {
    /// Success, continue or re-authenticate.
    pub reason: ReasonCode,
    /// What goes with it; absent only in the empty AUTH that means success.
    pub properties: Option<Box<AuthProperties>>,
}

/// The properties of AUTH.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct AuthProperties {
    /// The authentication method.
    pub method: ByteString,
    /// The method's data.
    pub data: Option<Bytes>,
    /// Text for a human.
    pub reason_string: Option<ByteString>,
    /// User properties.
    pub user_properties: UserProperties,
}

/// Leaves out the data, which may be a secret.
impl fmt::Debug for AuthProperties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthProperties")
            .field("method", &self.method)
            .field("data_len", &self.data.as_ref().map(Bytes::len))
            .field("reason_string", &self.reason_string)
            .field("user_properties", &self.user_properties)
            .finish()
    }
}

static AUTH: Rules = Rules {
    packet: PacketType::Auth,
    allowed: set(&[
        AUTHENTICATION_METHOD,
        AUTHENTICATION_DATA,
        REASON_STRING,
        USER_PROPERTY,
    ]),
    repeatable: set(&[USER_PROPERTY]),
};

impl Auth {
    pub(crate) fn decode(version: Version, body: &mut Reader<'_>) -> Result<Self, DecodeError> {
        if version != Version::V5 {
            return Err(DecodeError::ReservedPacketType(PacketType::Auth as u8));
        }
        if body.is_at_end() {
            return Ok(Self::default());
        }
        let reason = reason_code(PacketType::Auth, body)?;
        let properties = AuthProperties::decode(body)?;
        Ok(Self {
            reason,
            properties: Some(properties),
        })
    }

    pub(crate) fn write<S: Sink>(&self, shape: Shape, out: &mut S) {
        if !shape.is_v5() {
            out.refuse(EncodeError::NotInVersion {
                packet: PacketType::Auth,
            });
            return;
        }
        if let Some(properties) = &self.properties {
            write_reason(self.reason, PacketType::Auth, out);
            properties.write_section(shape.detail, out);
        } else if self.reason != ReasonCode::SUCCESS {
            // 3.15.2.2.2: it is a protocol error to omit the method.
            out.refuse(EncodeError::InvalidValue {
                field: "authentication method",
            });
        }
    }
}

impl AuthProperties {
    fn decode(body: &mut Reader<'_>) -> Result<Box<Self>, DecodeError> {
        let mut properties = Properties::open(body, &AUTH)?;
        let mut decoded = Box::<Self>::default();
        let mut method = None;
        let mut kept = Kept::default();
        while let Some(id) = properties.next_id()? {
            match id {
                AUTHENTICATION_METHOD => method = properties.string(id)?,
                AUTHENTICATION_DATA => decoded.data = properties.binary(id)?,
                REASON_STRING => decoded.reason_string = properties.string(id)?,
                USER_PROPERTY => properties.user_property(&mut kept)?,
                _ => return Err(properties.unexpected(id)),
            }
        }
        decoded.method = method.ok_or(DecodeError::MissingAuthenticationMethod)?;
        decoded.user_properties = UserProperties::from_wire(kept.finish(&properties.reader));
        Ok(decoded)
    }
}

impl WireProperties for AuthProperties {
    fn write<S: Sink>(&self, detail: Detail, out: &mut S) {
        out.string_property(AUTHENTICATION_METHOD, Some(&*self.method));
        out.binary_property(AUTHENTICATION_DATA, self.data.as_deref());
        write_explanation(
            self.reason_string.as_ref(),
            &self.user_properties,
            detail,
            out,
        );
    }
}
