//! Versioned records: what is stored or sent starts with the version of its format.

use bytes::{BufMut, Bytes, BytesMut};

use crate::{ClientId, Hlc, Message, Qos, Topic};

/// Why bytes are not a record that this program reads.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// No bytes at all.
    #[error("record is empty")]
    Empty,
    /// Written by a newer program.
    #[error("record has format version {found}, this program reads up to {supported}")]
    Newer {
        /// The version found.
        found: u8,
        /// The newest version this program reads.
        supported: u8,
    },
    /// The body does not parse.
    #[error("record is damaged: {0}")]
    Damaged(#[from] prost::DecodeError),
    /// The body parses and makes no sense.
    #[error("record is damaged: {0}")]
    Invalid(&'static str),
}

/// A version byte, then the body.
pub fn encode(version: u8, body: &impl prost::Message) -> Bytes {
    let mut bytes = BytesMut::with_capacity(1 + body.encoded_len());
    bytes.put_u8(version);
    body.encode(&mut bytes)
        .expect("the buffer has room for the encoded length");
    bytes.freeze()
}

/// The version, if this program reads it, and the body's bytes.
pub fn open(mut bytes: Bytes, supported: u8) -> Result<(u8, Bytes), RecordError> {
    let Some(&found) = bytes.first() else {
        return Err(RecordError::Empty);
    };
    if found == 0 || found > supported {
        return Err(RecordError::Newer { found, supported });
    }
    let body = bytes.split_off(1);
    Ok((found, body))
}

/// Decodes a record that has had one version so far. `Bytes` fields share the input.
pub fn decode<T: prost::Message + Default>(bytes: Bytes, supported: u8) -> Result<T, RecordError> {
    let (_, body) = open(bytes, supported)?;
    Ok(T::decode(body)?)
}

/// A message as records and commands carry it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct MessageRecord {
    /// Topic name.
    #[prost(string, tag = "1")]
    pub topic: String,
    /// Payload.
    #[prost(bytes = "bytes", tag = "2")]
    pub payload: Bytes,
    /// QoS level, 0 to 2, in bits 0 and 1; RETAIN in bit 2.
    #[prost(uint32, tag = "3")]
    pub flags: u32,
    /// Stamp.
    #[prost(fixed64, tag = "4")]
    pub stamp: u64,
    /// Message expiry interval in seconds.
    #[prost(uint32, optional, tag = "5")]
    pub expiry_seconds: Option<u32>,
    /// Properties that are passed on, in wire format.
    #[prost(bytes = "bytes", tag = "6")]
    pub properties: Bytes,
    /// Client id of the publisher.
    #[prost(string, tag = "7")]
    pub publisher: String,
}

impl From<&Message> for MessageRecord {
    fn from(message: &Message) -> Self {
        Self {
            topic: message.topic.as_str().to_owned(),
            payload: message.payload.clone(),
            flags: u32::from(message.qos.level()) | u32::from(message.retain) << 2,
            stamp: message.stamp.0,
            expiry_seconds: message.expiry_seconds,
            properties: message.properties.clone(),
            publisher: message.publisher.as_str().to_owned(),
        }
    }
}

impl TryFrom<MessageRecord> for Message {
    type Error = RecordError;

    fn try_from(record: MessageRecord) -> Result<Self, RecordError> {
        let level = (record.flags & 3) as u8;
        Ok(Self {
            topic: Topic::new(record.topic.into()).map_err(|_| RecordError::Invalid("topic"))?,
            payload: record.payload,
            qos: Qos::from_level(level).ok_or(RecordError::Invalid("QoS"))?,
            retain: record.flags & 4 != 0,
            stamp: Hlc(record.stamp),
            expiry_seconds: record.expiry_seconds,
            properties: record.properties,
            publisher: ClientId::new(&record.publisher)
                .map_err(|_| RecordError::Invalid("publisher"))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_message_survives_its_record(
            topic in "[a-z/]{1,20}", payload: Vec<u8>, level in 0u8..3, retain: bool, stamp: u64,
            expiry_seconds: Option<u32>, properties: Vec<u8>, publisher in "[a-z]{1,9}",
        ) {
            let message = Message {
                topic: Topic::new(topic.into()).unwrap(),
                payload: payload.into(),
                qos: Qos::from_level(level).unwrap(),
                retain,
                stamp: Hlc(stamp),
                expiry_seconds,
                properties: properties.into(),
                publisher: ClientId::new(&publisher).unwrap(),
            };
            let bytes = encode(1, &MessageRecord::from(&message));
            let record: MessageRecord = decode(bytes, 1).unwrap();
            prop_assert_eq!(Message::try_from(record).unwrap(), message);
        }

        #[test]
        fn any_bytes_are_answered(bytes: Vec<u8>) {
            let _ = decode::<MessageRecord>(bytes.into(), 1).map(Message::try_from); // no panic
        }
    }

    #[test]
    fn a_newer_version_is_named() {
        let error = open(Bytes::from_static(&[9, 1]), 1).unwrap_err();
        assert_eq!(
            error.to_string(),
            "record has format version 9, this program reads up to 1"
        );
    }
}
