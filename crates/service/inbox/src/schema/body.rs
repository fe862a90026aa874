//! A message as entries and commands carry it: written once, read without copying the payload.

use std::sync::Arc;

use bifrust_model::record::{self, RecordError};
use bifrust_model::{ClientId, Hlc, Message, Qos, Topic};
use bytes::{BufMut, Bytes, BytesMut};

use super::{Reader, put_bytes, put_varint};

const VERSION: u8 = 1;
const RETAIN: u8 = 1 << 2;
const EXPIRES: u8 = 1 << 3;

/// A message beside its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Body {
    pub(crate) message: Arc<Message>,
    pub(crate) bytes: Bytes,
}

impl Body {
    /// Writes the message down.
    pub(crate) fn new(message: Arc<Message>) -> Self {
        let bytes = encode(&message);
        Self { message, bytes }
    }

    /// Reads a message.
    pub(crate) fn decode(bytes: Bytes) -> Result<Self, RecordError> {
        let (_, body) = record::open(bytes.clone(), VERSION)?;
        let message = Arc::new(read(Reader::new(body))?);
        Ok(Self { message, bytes })
    }
}

fn encode(message: &Message) -> Bytes {
    let mut flags = message.qos.level();
    if message.retain {
        flags |= RETAIN;
    }
    if message.expiry_seconds.is_some() {
        flags |= EXPIRES;
    }
    let mut out = BytesMut::with_capacity(message.weight() + message.publisher.as_str().len() + 32);
    out.put_u8(VERSION);
    out.put_u8(flags);
    out.put_u64(message.stamp.0);
    if let Some(seconds) = message.expiry_seconds {
        put_varint(&mut out, seconds.into());
    }
    put_bytes(&mut out, message.topic.as_str().as_bytes());
    put_bytes(&mut out, message.publisher.as_str().as_bytes());
    put_bytes(&mut out, &message.properties);
    out.put_slice(&message.payload);
    out.freeze()
}

fn read(mut reader: Reader) -> Result<Message, RecordError> {
    let flags = reader.u8()?;
    let stamp = Hlc(reader.u64()?);
    let expiry_seconds = match flags & EXPIRES {
        0 => None,
        _ => Some(reader.number()?),
    };
    let topic = Topic::new(reader.text()?).map_err(|_| RecordError::Invalid("topic"))?;
    let publisher =
        ClientId::new(&reader.text()?).map_err(|_| RecordError::Invalid("publisher"))?;
    let properties = reader.bytes()?;
    Ok(Message {
        topic,
        payload: reader.rest(),
        qos: Qos::from_level(flags & 3).ok_or(RecordError::Invalid("QoS"))?,
        retain: flags & RETAIN != 0,
        stamp,
        expiry_seconds,
        properties,
        publisher,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn any_message() -> impl Strategy<Value = Message> {
        (
            "[a-z/]{1,20}",
            proptest::collection::vec(any::<u8>(), 0..40),
            0u8..3,
            any::<bool>(),
            any::<u64>(),
            any::<Option<u32>>(),
            proptest::collection::vec(any::<u8>(), 0..20),
            "[a-z]{1,9}",
        )
            .prop_map(
                |(topic, payload, level, retain, stamp, expiry_seconds, properties, publisher)| {
                    Message {
                        topic: Topic::new(topic.into()).unwrap(),
                        payload: payload.into(),
                        qos: Qos::from_level(level).unwrap(),
                        retain,
                        stamp: Hlc(stamp),
                        expiry_seconds,
                        properties: properties.into(),
                        publisher: ClientId::new(&publisher).unwrap(),
                    }
                },
            )
    }

    proptest! {
        #[test]
        fn a_message_survives_its_body(message in any_message()) {
            let body = Body::new(Arc::new(message));
            prop_assert_eq!(Body::decode(body.bytes.clone()).unwrap(), body);
        }

        #[test]
        fn any_bytes_are_answered(bytes: Vec<u8>) {
            let _ = Body::decode(bytes.into()); // no panic
        }
    }
}
