//! Reading the data types of section 1.5 out of a packet's body.

use std::ops::Range;

use bytes::Bytes;
use bytestring::ByteString;

use crate::error::DecodeError;
use crate::packet::PacketId;
use crate::varint::{self, Varint};

/// A position in a body. Positions count from the body's start, also in a section.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'a> {
    data: &'a [u8],
    at: usize,
    /// The allocation that `data` lies in; without it, what is kept is copied field by field.
    source: Option<&'a Bytes>,
}

impl<'a> Reader<'a> {
    /// Reads borrowed bytes; kept fields are copied.
    pub(crate) fn borrowed(data: &'a [u8]) -> Self {
        Self {
            data,
            at: 0,
            source: None,
        }
    }

    /// Reads a shared body; kept fields are slices of it.
    pub(crate) fn shared(source: &'a Bytes) -> Self {
        Self {
            data: source,
            at: 0,
            source: Some(source),
        }
    }

    pub(crate) fn at(&self) -> usize {
        self.at
    }

    pub(crate) fn remaining(&self) -> usize {
        self.data.len() - self.at
    }

    pub(crate) fn is_at_end(&self) -> bool {
        self.remaining() == 0
    }

    #[inline]
    fn advance(&mut self, len: usize, field: &'static str) -> Result<Range<usize>, DecodeError> {
        if len > self.remaining() {
            return Err(DecodeError::Truncated { field });
        }
        let start = self.at;
        self.at += len;
        Ok(start..self.at)
    }

    #[inline]
    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        let bytes = self.data[self.at..]
            .first_chunk()
            .ok_or(DecodeError::Truncated { field })?;
        self.at += N;
        Ok(*bytes)
    }

    #[inline]
    pub(crate) fn u8(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        self.array(field).map(|[byte]| byte)
    }

    #[inline]
    pub(crate) fn u16(&mut self, field: &'static str) -> Result<u16, DecodeError> {
        self.array(field).map(u16::from_be_bytes)
    }

    #[inline]
    pub(crate) fn u32(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        self.array(field).map(u32::from_be_bytes)
    }

    #[inline]
    pub(crate) fn varint(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        match varint::read(&self.data[self.at..]) {
            Varint::Value(value, used) => {
                self.at += used;
                Ok(value)
            }
            Varint::Incomplete => Err(DecodeError::Truncated { field }),
            Varint::Invalid => Err(DecodeError::InvalidVarint { field }),
        }
    }

    /// A packet identifier, which is never zero (MQTT-2.2.1-3).
    #[inline]
    pub(crate) fn packet_id(&mut self) -> Result<PacketId, DecodeError> {
        PacketId::new(self.u16("packet identifier")?).ok_or(DecodeError::ZeroPacketId)
    }

    /// Splits off the next `len` bytes as a section with an end of its own.
    pub(crate) fn section(&mut self, len: usize, field: &'static str) -> Result<Self, DecodeError> {
        let range = self.advance(len, field)?;
        Ok(Self {
            data: &self.data[..range.end],
            at: range.start,
            source: self.source,
        })
    }

    /// The range of a field with a two-byte length in front.
    #[inline]
    pub(crate) fn block(&mut self, field: &'static str) -> Result<Range<usize>, DecodeError> {
        let len = self.u16(field)?;
        self.advance(usize::from(len), field)
    }

    /// The bytes of a range that this reader handed out.
    pub(crate) fn bytes(&self, range: Range<usize>) -> &'a [u8] {
        &self.data[range]
    }

    /// Keeps a range: a slice of the body's allocation if there is one, else a copy.
    #[inline]
    pub(crate) fn keep(&self, range: Range<usize>) -> Bytes {
        match self.source {
            Some(source) => source.slice(range),
            None => Bytes::copy_from_slice(&self.data[range]),
        }
    }

    /// A UTF-8 string (MQTT-1.5.4-1, MQTT-1.5.4-2) that is kept.
    #[inline]
    pub(crate) fn string(&mut self, field: &'static str) -> Result<ByteString, DecodeError> {
        let range = self.block(field)?;
        if self.data[range.clone()].contains(&0) {
            return Err(DecodeError::NulCharacter { field });
        }
        ByteString::try_from(self.keep(range)).map_err(|_| DecodeError::InvalidUtf8 { field })
    }

    /// A UTF-8 string that is only looked at.
    #[inline]
    pub(crate) fn str(&mut self, field: &'static str) -> Result<&'a str, DecodeError> {
        let range = self.block(field)?;
        let bytes = &self.data[range];
        if bytes.contains(&0) {
            return Err(DecodeError::NulCharacter { field });
        }
        std::str::from_utf8(bytes).map_err(|_| DecodeError::InvalidUtf8 { field })
    }

    /// Binary data (1.5.6) that is kept.
    pub(crate) fn binary(&mut self, field: &'static str) -> Result<Bytes, DecodeError> {
        let range = self.block(field)?;
        Ok(self.keep(range))
    }

    /// A byte that is 0 or 1.
    pub(crate) fn flag(&mut self, field: &'static str) -> Result<bool, DecodeError> {
        match self.u8(field)? {
            0 => Ok(false),
            1 => Ok(true),
            value => Err(DecodeError::InvalidValue {
                field,
                value: value.into(),
            }),
        }
    }
}
