//! A queued message: how this session gets it, then the body that all its receivers share.

use std::sync::Arc;

use bifrust_model::record::RecordError;
use bifrust_model::{Message, Qos, TopicFilter};
use bytes::{BufMut, Bytes, BytesMut};
use smallvec::SmallVec;

use super::{Body, Reader, put_bytes, put_varint};

const VERSION: u8 = 1;
const RETAIN: u8 = 1 << 2;
const GROUP: u8 = 1 << 3;

/// How one session gets a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EntryHeader {
    /// Delivery QoS.
    pub(crate) qos: Qos,
    /// The RETAIN flag to send.
    pub(crate) retain: bool,
    /// Identifiers of the subscriptions that matched.
    pub(crate) ids: SmallVec<[u32; 1]>,
    /// The whole filter of the group that this session was picked of.
    pub(crate) group: Option<TopicFilter>,
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
        let group = self.group.as_ref().map_or(0, |group| group.as_str().len());
        let capacity = 8 + 5 * self.ids.len() + group + body.len();
        let mut out = BytesMut::with_capacity(capacity);
        out.put_u8(VERSION);
        self.put(&mut out);
        out.put_slice(body);
        out.freeze()
    }

    /// Appends its form in rows and commands: flags, identifiers, group.
    pub(crate) fn put(&self, out: &mut BytesMut) {
        let retain = if self.retain { RETAIN } else { 0 };
        let group = if self.group.is_some() { GROUP } else { 0 };
        out.put_u8(self.qos.level() | retain | group);
        put_varint(out, self.ids.len() as u64);
        for id in &self.ids {
            put_varint(out, (*id).into());
        }
        if let Some(group) = &self.group {
            put_bytes(out, group.as_str().as_bytes());
        }
    }

    /// Reads what [`Self::put`] wrote.
    pub(crate) fn take(from: &mut Reader) -> Result<Self, RecordError> {
        let flags = from.u8()?;
        let count = from.count()?;
        let mut ids = SmallVec::with_capacity(count);
        for _ in 0..count {
            ids.push(from.number()?);
        }
        let group = match flags & GROUP {
            0 => None,
            // A copy: the text shares its memory with the whole row.
            _ => Some(TopicFilter::new((*from.text()?).into())),
        };
        Ok(Self {
            qos: Qos::from_level(flags & 3).ok_or(RecordError::Invalid("QoS"))?,
            retain: flags & RETAIN != 0,
            ids,
            group: group
                .transpose()
                .map_err(|_| RecordError::Invalid("group"))?,
        })
    }
}

impl Entry {
    /// Reads a row's value.
    pub(crate) fn decode(value: Bytes) -> Result<Self, RecordError> {
        let (_, rest) = bifrust_model::record::open(value, VERSION)?;
        let mut reader = Reader::new(rest);
        let header = EntryHeader::take(&mut reader)?;
        let body = Body::decode(reader.rest())?;
        Ok(Self {
            header,
            message: body.message,
        })
    }

    /// Whether the session got it as a member of a group, without reading the rest.
    pub(crate) fn peek_group(value: &[u8]) -> bool {
        value.get(1).is_some_and(|flags| flags & GROUP != 0)
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
            group in proptest::option::of("\\$(share|oshare)/[a-z]{1,4}/[a-z]{1,4}"),
        ) {
            let group = group.map(|group| TopicFilter::new(group.into()).unwrap());
            let header = EntryHeader {
                qos: Qos::from_level(level).unwrap(),
                retain,
                ids: ids.into(),
                group,
            };
            let body = Body::new(Arc::new(message));
            let value = header.with_body(&body.bytes);
            prop_assert_eq!(Entry::peek_qos(&value), Some(header.qos));
            prop_assert_eq!(Entry::peek_group(&value), header.group.is_some());
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
