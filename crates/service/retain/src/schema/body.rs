//! The row of a retained message: all of it.

use bifrust_model::Message;
use bifrust_model::record::{self, MessageRecord, RecordError};
use bytes::Bytes;

const VERSION: u8 = 1;

/// Up to this many bytes a payload is copied out of its row: as a slice it would keep a table block of
/// this order in memory for as long as it waits in a queue.
const COPIED_MAX: usize = 16 * 1024;

pub(crate) fn encode(message: &Message) -> Bytes {
    record::encode(VERSION, &MessageRecord::from(message))
}

pub(crate) fn decode(bytes: Bytes) -> Result<Message, RecordError> {
    let record: MessageRecord = record::decode(bytes, VERSION)?;
    let mut message = Message::try_from(record)?;
    message.payload = unshared(message.payload);
    message.properties = unshared(message.properties);
    Ok(message)
}

fn unshared(bytes: Bytes) -> Bytes {
    match bytes.len() {
        0 => Bytes::new(),
        1..=COPIED_MAX => Bytes::copy_from_slice(&bytes),
        _ => bytes,
    }
}

#[cfg(test)]
mod tests {
    use bifrust_model::{ClientId, Hlc, Qos, Topic};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn rows_read_back(
            topic in "[a-z/]{1,9}",
            payload in prop::collection::vec(any::<u8>(), 0..64),
            level in 0u8..3,
            stamp in any::<u64>(),
            expiry_seconds in any::<Option<u32>>(),
            properties in any::<Vec<u8>>(),
        ) {
            let message = Message {
                topic: Topic::new(topic.into()).unwrap(),
                payload: payload.into(),
                qos: Qos::from_level(level).unwrap(),
                retain: true,
                stamp: Hlc(stamp),
                expiry_seconds,
                properties: properties.into(),
                publisher: ClientId::new("p").unwrap(),
            };
            prop_assert_eq!(decode(encode(&message)).unwrap(), message);
        }

        #[test]
        fn any_bytes_are_a_row_or_an_error(bytes in any::<Vec<u8>>()) {
            let _ = decode(bytes.into());
        }
    }
}
