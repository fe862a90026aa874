//! The last number that was given: numbers are never given twice, also if tenants ever end.

use bifrust_model::record::{self, RecordError};
use bytes::Bytes;

const VERSION: u8 = 1;

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct Record {
    #[prost(uint64, tag = "1")]
    last: u64,
}

/// The row of the tenants' sequence.
pub(crate) fn key() -> Bytes {
    [&[super::SEQUENCE][..], b"tenant"].concat().into()
}

pub(crate) fn encode(last: u64) -> Bytes {
    record::encode(VERSION, &Record { last })
}

pub(crate) fn decode(bytes: Bytes) -> Result<u64, RecordError> {
    let record: Record = record::decode(bytes, VERSION)?;
    Ok(record.last)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn values_read_back(last in any::<u64>()) {
            prop_assert_eq!(decode(encode(last)).unwrap(), last);
        }

        #[test]
        fn any_bytes_are_a_value_or_an_error(bytes in any::<Vec<u8>>()) {
            let _ = decode(bytes.into());
        }
    }
}
