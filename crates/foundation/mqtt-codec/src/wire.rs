//! Writing the data types of section 1.5, twice: once to count, once for real.
//!
//! Each packet has one `write` for any [`Sink`]. The counting pass gives the exact length that the
//! fixed header needs and finds what cannot be written; the second pass then cannot fail.

use bytes::BytesMut;

use crate::error::EncodeError;
use crate::packet::{PacketId, Version};
use crate::varint;

/// The longest string or binary field.
pub(crate) const FIELD_MAX: usize = 65_535;

/// What takes encoded bytes.
pub(crate) trait Sink {
    fn raw(&mut self, bytes: &[u8]);

    /// Notes that something cannot be written; the first note wins.
    fn refuse(&mut self, error: EncodeError);

    #[inline]
    fn u8(&mut self, value: u8) {
        self.raw(&[value]);
    }

    #[inline]
    fn u16(&mut self, value: u16) {
        self.raw(&value.to_be_bytes());
    }

    #[inline]
    fn u32(&mut self, value: u32) {
        self.raw(&value.to_be_bytes());
    }

    #[inline]
    fn varint(&mut self, value: u32) {
        let (bytes, used) = varint::bytes(value);
        self.raw(&bytes[..used]);
    }

    fn packet_id(&mut self, id: PacketId) {
        self.u16(id.get());
    }

    /// Bytes with their two-byte length in front.
    fn binary(&mut self, field: &'static str, bytes: &[u8]) {
        let Ok(len) = u16::try_from(bytes.len()) else {
            self.refuse(EncodeError::FieldTooLong { field });
            return;
        };
        self.u16(len);
        self.raw(bytes);
    }

    fn string(&mut self, field: &'static str, text: &str) {
        self.binary(field, text.as_bytes());
    }
}

/// The counting pass.
#[derive(Debug, Default)]
pub(crate) struct Counter {
    len: usize,
    error: Option<EncodeError>,
}

impl Counter {
    /// The number of bytes, or the first reason why they cannot be written.
    pub(crate) fn finish(self) -> Result<usize, EncodeError> {
        match self.error {
            Some(error) => Err(error),
            None => Ok(self.len),
        }
    }
}

impl Sink for Counter {
    #[inline]
    fn raw(&mut self, bytes: &[u8]) {
        self.len += bytes.len();
    }

    fn refuse(&mut self, error: EncodeError) {
        self.error.get_or_insert(error);
    }

    fn string(&mut self, field: &'static str, text: &str) {
        if text.as_bytes().contains(&0) {
            self.refuse(EncodeError::NulCharacter { field });
        }
        self.binary(field, text.as_bytes());
    }
}

impl Sink for BytesMut {
    #[inline]
    fn raw(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    fn refuse(&mut self, error: EncodeError) {
        debug_assert!(false, "the counting pass did not see: {error}");
    }
}

/// How much of the optional explanation a packet keeps (MQTT-3.2.2-19, MQTT-3.4.2-2 and alike).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Detail {
    /// Reason string and user properties.
    Full,
    /// User properties only.
    UserProperties,
    /// Neither.
    Bare,
}

/// What a packet is written for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) version: Version,
    pub(crate) detail: Detail,
}

impl Shape {
    pub(crate) const fn full(version: Version) -> Self {
        Self {
            version,
            detail: Detail::Full,
        }
    }

    pub(crate) fn is_v5(self) -> bool {
        self.version == Version::V5
    }
}

/// A run of properties.
pub(crate) trait WireProperties {
    /// Writes the properties without their length.
    fn write<S: Sink>(&self, detail: Detail, out: &mut S);

    /// Writes length and properties.
    fn write_section<S: Sink>(&self, detail: Detail, out: &mut S) {
        let mut counter = Counter::default();
        self.write(detail, &mut counter);
        match counter.finish() {
            Ok(len) => match u32::try_from(len) {
                Ok(len) if len <= varint::MAX => out.varint(len),
                _ => out.refuse(EncodeError::TooLarge {
                    len,
                    max: varint::MAX as usize,
                }),
            },
            Err(error) => out.refuse(error),
        }
        self.write(detail, out);
    }
}
