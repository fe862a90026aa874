//! Properties (2.2.2): their identifiers, and walking through a section of them.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use bytestring::ByteString;

use crate::error::{DecodeError, EncodeError};
use crate::frame::PacketType;
use crate::primitive::Reader;
use crate::wire::Sink;

/// Property identifiers and names.
macro_rules! properties {
    ($($name:ident = $id:literal, $text:literal;)*) => {
        $(pub(crate) const $name: u8 = $id;)*

        /// The standard's name of a property.
        pub(crate) const fn name(id: u8) -> &'static str {
            match id {
                $($id => $text,)*
                _ => "unknown property",
            }
        }
    };
}

properties! {
    PAYLOAD_FORMAT_INDICATOR = 0x01, "payload format indicator";
    MESSAGE_EXPIRY_INTERVAL = 0x02, "message expiry interval";
    CONTENT_TYPE = 0x03, "content type";
    RESPONSE_TOPIC = 0x08, "response topic";
    CORRELATION_DATA = 0x09, "correlation data";
    SUBSCRIPTION_IDENTIFIER = 0x0b, "subscription identifier";
    SESSION_EXPIRY_INTERVAL = 0x11, "session expiry interval";
    ASSIGNED_CLIENT_IDENTIFIER = 0x12, "assigned client identifier";
    SERVER_KEEP_ALIVE = 0x13, "server keep alive";
    AUTHENTICATION_METHOD = 0x15, "authentication method";
    AUTHENTICATION_DATA = 0x16, "authentication data";
    REQUEST_PROBLEM_INFORMATION = 0x17, "request problem information";
    WILL_DELAY_INTERVAL = 0x18, "will delay interval";
    REQUEST_RESPONSE_INFORMATION = 0x19, "request response information";
    RESPONSE_INFORMATION = 0x1a, "response information";
    SERVER_REFERENCE = 0x1c, "server reference";
    REASON_STRING = 0x1f, "reason string";
    RECEIVE_MAXIMUM = 0x21, "receive maximum";
    TOPIC_ALIAS_MAXIMUM = 0x22, "topic alias maximum";
    TOPIC_ALIAS = 0x23, "topic alias";
    MAXIMUM_QOS = 0x24, "maximum QoS";
    RETAIN_AVAILABLE = 0x25, "retain available";
    USER_PROPERTY = 0x26, "user property";
    MAXIMUM_PACKET_SIZE = 0x27, "maximum packet size";
    WILDCARD_SUBSCRIPTION_AVAILABLE = 0x28, "wildcard subscription available";
    SUBSCRIPTION_IDENTIFIER_AVAILABLE = 0x29, "subscription identifier available";
    SHARED_SUBSCRIPTION_AVAILABLE = 0x2a, "shared subscription available";
}

/// A set of property identifiers, all of which are below 64.
pub(crate) const fn set(ids: &[u8]) -> u64 {
    let mut bits = 0;
    let mut at = 0;
    while at < ids.len() {
        bits |= 1 << ids[at];
        at += 1;
    }
    bits
}

/// Which properties a packet may have, and which of them more than once.
#[derive(Debug)]
pub(crate) struct Rules {
    pub(crate) packet: PacketType,
    pub(crate) allowed: u64,
    pub(crate) repeatable: u64,
}

/// A section of properties, read one after the other.
#[derive(Debug)]
pub(crate) struct Properties<'a> {
    pub(crate) reader: Reader<'a>,
    rules: &'static Rules,
    seen: u64,
}

impl<'a> Properties<'a> {
    /// Reads the section's length and stands before its first property.
    #[inline]
    pub(crate) fn open(body: &mut Reader<'a>, rules: &'static Rules) -> Result<Self, DecodeError> {
        let len = body.varint("property length")?;
        let reader = body.section(len as usize, "properties")?;
        Ok(Self {
            reader,
            rules,
            seen: 0,
        })
    }

    /// Walks bytes that hold nothing but properties.
    pub(crate) fn bare(reader: Reader<'a>, rules: &'static Rules) -> Self {
        Self {
            reader,
            rules,
            seen: 0,
        }
    }

    /// The next property's identifier, checked against the rules; its value is to be read next.
    #[inline]
    pub(crate) fn next_id(&mut self) -> Result<Option<u8>, DecodeError> {
        if self.reader.is_at_end() {
            return Ok(None);
        }
        let id = self.reader.varint("property identifier")?;
        let bit = 1u64.checked_shl(id).unwrap_or(0);
        if bit & self.rules.allowed == 0 {
            return Err(DecodeError::PropertyNotAllowed {
                id,
                packet: self.rules.packet,
            });
        }
        let id = id as u8; // below 64, else `bit` were 0
        if bit & self.seen & !self.rules.repeatable != 0 && !cfg!(planted_bugs) {
            return Err(DecodeError::DuplicateProperty { property: name(id) });
        }
        self.seen |= bit;
        Ok(Some(id))
    }

    /// The error for an identifier that the caller's rules allow but its `match` does not know.
    pub(crate) fn unexpected(&self, id: u8) -> DecodeError {
        DecodeError::PropertyNotAllowed {
            id: id.into(),
            packet: self.rules.packet,
        }
    }

    pub(crate) fn u16(&mut self, id: u8) -> Result<u16, DecodeError> {
        self.reader.u16(name(id))
    }

    pub(crate) fn u32(&mut self, id: u8) -> Result<u32, DecodeError> {
        self.reader.u32(name(id))
    }

    pub(crate) fn flag(&mut self, id: u8) -> Result<bool, DecodeError> {
        self.reader.flag(name(id))
    }

    pub(crate) fn string(&mut self, id: u8) -> Result<Option<ByteString>, DecodeError> {
        self.reader.string(name(id)).map(Some)
    }

    pub(crate) fn binary(&mut self, id: u8) -> Result<Option<Bytes>, DecodeError> {
        self.reader.binary(name(id)).map(Some)
    }

    /// A number that must not be zero, as `NonZero<T>`.
    pub(crate) fn non_zero<T, N>(&self, id: u8, value: T) -> Result<Option<N>, DecodeError>
    where
        N: TryFrom<T>,
    {
        let refused = DecodeError::InvalidValue {
            field: name(id),
            value: 0,
        };
        N::try_from(value).map(Some).map_err(|_| refused)
    }

    /// A subscription identifier, 1 to 268,435,455 (3.8.2.1.2).
    pub(crate) fn subscription_id(&mut self) -> Result<u32, DecodeError> {
        let field = name(SUBSCRIPTION_IDENTIFIER);
        match self.reader.varint(field)? {
            0 => Err(DecodeError::InvalidValue { field, value: 0 }),
            id => Ok(id),
        }
    }

    /// Checks a user property and keeps its bytes.
    pub(crate) fn user_property(&mut self, kept: &mut Kept) -> Result<(), DecodeError> {
        // The identifier was one byte: a longer form would have been refused.
        let start = self.reader.at() - 1;
        self.reader.str("user property name")?;
        self.reader.str("user property value")?;
        kept.keep(&self.reader, start);
        Ok(())
    }
}

/// Wire bytes of chosen properties: a slice while they are contiguous, a copy once they are not.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    range: Range<usize>,
    joined: Option<BytesMut>,
}

impl Kept {
    /// Keeps everything from `start` to where `reader` stands.
    #[inline]
    pub(crate) fn keep(&mut self, reader: &Reader<'_>, start: usize) {
        let end = reader.at();
        if let Some(joined) = &mut self.joined {
            joined.extend_from_slice(reader.bytes(start..end));
        } else if self.range.is_empty() {
            self.range = start..end;
        } else if self.range.end == start {
            self.range.end = end;
        } else {
            // One allocation: no more can follow than the section still holds.
            let most = self.range.len() + (end - start) + reader.remaining();
            let mut joined = BytesMut::with_capacity(most);
            joined.extend_from_slice(reader.bytes(self.range.clone()));
            joined.extend_from_slice(reader.bytes(start..end));
            self.joined = Some(joined);
        }
    }

    /// What was kept, in its original order.
    pub(crate) fn finish(self, reader: &Reader<'_>) -> Bytes {
        match self.joined {
            Some(joined) => joined.freeze(),
            None if self.range.is_empty() => Bytes::new(),
            None => reader.keep(self.range),
        }
    }
}

/// Writing of single properties; what is `None` is not written.
pub(crate) trait PropertySink: Sink {
    /// A boolean that differs from its default.
    fn flag_property(&mut self, id: u8, value: Option<bool>) {
        if let Some(value) = value {
            self.raw(&[id, u8::from(value)]);
        }
    }

    fn u16_property(&mut self, id: u8, value: Option<u16>) {
        if let Some(value) = value {
            self.u8(id);
            self.u16(value);
        }
    }

    #[inline]
    fn u32_property(&mut self, id: u8, value: Option<u32>) {
        if let Some(value) = value {
            self.u8(id);
            self.u32(value);
        }
    }

    fn string_property(&mut self, id: u8, value: Option<&str>) {
        if let Some(value) = value {
            self.u8(id);
            self.string(name(id), value);
        }
    }

    fn binary_property(&mut self, id: u8, value: Option<&[u8]>) {
        if let Some(value) = value {
            self.u8(id);
            self.binary(name(id), value);
        }
    }

    #[inline]
    fn subscription_id_property(&mut self, value: u32) {
        if value == 0 || value > crate::varint::MAX {
            self.refuse(EncodeError::InvalidValue {
                field: name(SUBSCRIPTION_IDENTIFIER),
            });
        }
        self.u8(SUBSCRIPTION_IDENTIFIER);
        self.varint(value);
    }
}

impl<S: Sink> PropertySink for S {}
