//! A queued message: how this session gets it, then the body that all its receivers share.

use std::sync::Arc;

use bifrust_model::record::RecordError;
use bifrust_model::{Message, Qos};
use bytes::{BufMut, Bytes, BytesMut};
use smallvec::SmallVec;

use super::{Body, Reader, put_varint};

const VERSION: u8 = 1;
const RETAIN: u8 = 1 << 2;

/// How one session gets a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EntryHeader {
    /// Delivery QoS.
    pub(crate) qos: Qos,
    /// The RETAIN flag to send.
    pub(crate) retain: bool,
    /// Identifiers of the subscriptions that matched.
    pub(crate) ids: SmallVec<[u32; 1]>,
}

/// A queued message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) header: EntryHeader,
    pub(crate) message: Arc<Message>,
}

impl EntryHeader {
    /// The row's value.
    pub(crate) fn with_body(&self, body: &Bytes) -> Bytes {
        let mut out = BytesMut::with_capacity(4 + 5 * self.ids.len() + body.len());
        out.put_u8(VERSION);
        out.put_u8(self.flags());
        put_varint(&mut out, self.ids.len() as u64);
        for id in &self.ids {
            put_varint(&mut out, (*id).into());
        }
        out.put_slice(body);
        out.freeze()
    }

    /// QoS and RETAIN in one byte.
    pub(crate) fn flags(&self) -> u8 {
        self.qos.level() | if self.retain { RETAIN } else { 0 }
    }

    /// Unpacks what [`Self::flags`] packed.
    pub(crate) fn from_flags(flags: u8, ids: SmallVec<[u32; 1]>) -> Result<Self, RecordError> {
        Ok(Self {
            qos: Qos::from_level(flags & 3).ok_or(RecordError::Invalid("QoS"))?,
            retain: flags & RETAIN != 0,
            ids,
        })
    }
}

impl Entry {
    /// Reads a row's value.
    pub(crate) fn decode(value: Bytes) -> Result<Self, RecordError> {
        let (_, rest) = bifrust_model::record::open(value, VERSION)?;
        let mut reader = Reader::new(rest);
        let flags = reader.u8()?;
        let count = reader.count()?;
        let mut ids = SmallVec::with_capacity(count);
        for _ in 0..count {
            ids.push(reader.number()?);
        }
        let body = Body::decode(reader.rest())?;
        Ok(Self {
            header: EntryHeader::from_flags(flags, ids)?,
            message: body.message,
        })
    }

    /// Delivery QoS, without reading the rest.
    pub(crate) fn peek_qos(value: &[u8]) -> Option<Qos> {
        Qos::from_level(value.get(1)? & 3)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::schema::any_message;

    proptest! {
        #[test]
        fn an_entry_survives_its_row(
            message in any_message(), level in 0u8..3, retain: bool, ids: Vec<u32>,
        ) {
            let header = EntryHeader {
                qos: Qos::from_level(level).unwrap(),
                retain,
                ids: ids.into(),
            };
            let body = Body::new(Arc::new(message));
            let value = header.with_body(&body.bytes);
            prop_assert_eq!(Entry::peek_qos(&value), Some(header.qos));
            let entry = Entry { header, message: body.message };
            prop_assert_eq!(Entry::decode(value).unwrap(), entry);
        }

        #[test]
        fn any_bytes_are_answered(bytes: Vec<u8>) {
            let _ = Entry::peek_qos(&bytes); // no panic
            let _ = Entry::decode(bytes.into()); // no panic
        }
    }
}
