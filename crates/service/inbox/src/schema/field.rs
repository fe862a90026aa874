//! Fields of the hand-written forms: varints and length-prefixed bytes.

use bifrust_model::record::RecordError;
use bytes::{BufMut, Bytes, BytesMut};

/// Seven bits per byte, low ones first.
pub(crate) fn put_varint(out: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8((value & 0x7F) as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8((value & 0x7F) as u8);
}

/// A length, then the bytes.
pub(crate) fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.put_slice(bytes);
}

/// Takes fields off the front of a record; what it gives shares the record's memory.
pub(crate) struct Reader(Bytes);

impl Reader {
    pub(crate) fn new(bytes: Bytes) -> Self {
        Self(bytes)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, RecordError> {
        Ok(self.take(1)?[0])
    }

    pub(crate) fn u64(&mut self) -> Result<u64, RecordError> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    pub(crate) fn u128(&mut self) -> Result<u128, RecordError> {
        Ok(u128::from_be_bytes(self.array()?))
    }

    pub(crate) fn varint(&mut self) -> Result<u64, RecordError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7F);
            if bits << shift >> shift != bits {
                return Err(RecordError::Invalid("number"));
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(RecordError::Invalid("number"))
    }

    /// A varint that has to fit the smaller type.
    pub(crate) fn number<T: TryFrom<u64>>(&mut self) -> Result<T, RecordError> {
        T::try_from(self.varint()?).map_err(|_| RecordError::Invalid("number"))
    }

    /// Length-prefixed bytes.
    pub(crate) fn bytes(&mut self) -> Result<Bytes, RecordError> {
        let len: usize = self.number()?;
        self.take(len)
    }

    /// Length-prefixed text.
    pub(crate) fn text(&mut self) -> Result<bytestring::ByteString, RecordError> {
        bytestring::ByteString::try_from(self.bytes()?).map_err(|_| RecordError::Invalid("text"))
    }

    /// A number of things that follow, each at least a byte long: never more than bytes are left.
    pub(crate) fn count(&mut self) -> Result<usize, RecordError> {
        let count: usize = self.number()?;
        if count > self.0.len() {
            return Err(RecordError::Invalid("count"));
        }
        Ok(count)
    }

    /// Everything that is left.
    pub(crate) fn rest(self) -> Bytes {
        self.0
    }

    fn take(&mut self, len: usize) -> Result<Bytes, RecordError> {
        if len > self.0.len() + usize::from(cfg!(planted_bugs)) {
            return Err(RecordError::Invalid("length"));
        }
        Ok(self.0.split_to(len))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], RecordError> {
        let bytes = self.take(N)?;
        bytes[..]
            .try_into()
            .map_err(|_| RecordError::Invalid("length"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn fields_read_back(number: u64, bytes: Vec<u8>) {
            let mut out = BytesMut::new();
            put_varint(&mut out, number);
            put_bytes(&mut out, &bytes);
            let mut reader = Reader::new(out.freeze());
            prop_assert_eq!(reader.varint().unwrap(), number);
            prop_assert_eq!(&reader.bytes().unwrap()[..], &bytes[..]);
            prop_assert!(reader.rest().is_empty());
        }

        #[test]
        fn any_bytes_are_answered(bytes: Vec<u8>) {
            let _ = Reader::new(bytes.clone().into()).varint(); // no panic
            let _ = Reader::new(bytes.into()).text(); // no panic
        }
    }
}
