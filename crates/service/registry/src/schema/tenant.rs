//! A tenant's row: its name leads to its number.

use bifrust_model::record::{self, RecordError};
use bifrust_model::{TenantName, TenantNumber};
use bytes::Bytes;

const VERSION: u8 = 1;

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct Record {
    #[prost(uint64, tag = "1")]
    number: u64,
}

/// What all keys of this kind start with.
pub(crate) const PREFIX: [u8; 1] = [super::TENANT];

pub(crate) fn key(name: &TenantName) -> Bytes {
    [&PREFIX, name.as_str().as_bytes()].concat().into()
}

/// The name in a key; `None` if it is none of this kind.
pub(crate) fn name(key: &[u8]) -> Option<TenantName> {
    let name = key.strip_prefix(&PREFIX)?;
    if cfg!(planted_bugs) {
        // The room of a text is taken from its first byte.
        return TenantName::new(std::str::from_utf8(&name[..name[0].into()]).ok()?).ok();
    }
    TenantName::new(std::str::from_utf8(name).ok()?).ok()
}

pub(crate) fn encode(number: TenantNumber) -> Bytes {
    record::encode(VERSION, &Record { number: number.0 })
}

pub(crate) fn decode(bytes: Bytes) -> Result<TenantNumber, RecordError> {
    let record: Record = record::decode(bytes, VERSION)?;
    match record.number {
        // Numbers start at 1; 0 is the lane of the node's own work.
        0 => Err(RecordError::Invalid("tenant number")),
        number => Ok(TenantNumber(number)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn rows_read_back(text in "[A-Za-z0-9][A-Za-z0-9._-]{0,63}", number in 1..u64::MAX) {
            let tenant = TenantName::new(&text).unwrap();
            prop_assert_eq!(name(&key(&tenant)), Some(tenant));
            prop_assert_eq!(decode(encode(TenantNumber(number))).unwrap(), TenantNumber(number));
        }

        #[test]
        fn any_bytes_are_a_row_or_not(bytes in any::<Vec<u8>>()) {
            let _ = name(&bytes);
            let _ = decode(bytes.into());
        }
    }
}
