//! The small row of a topic: what apply has to know of it, without its message.

use bifrust_model::Hlc;
use bifrust_model::record::{self, RecordError};
use bytes::Bytes;

const VERSION: u8 = 1;

/// What was last done to a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) stamp: Hlc,
    /// There is no message; the row only keeps older ones away.
    pub(crate) is_cleared: bool,
    /// When the message expires, in milliseconds since 1970; 0: never.
    pub(crate) expires_ms: u64,
}

impl Meta {
    /// Of a message.
    pub(crate) fn kept(stamp: Hlc, expires_ms: u64) -> Self {
        Self {
            stamp,
            is_cleared: false,
            expires_ms,
        }
    }

    /// Of a clear.
    pub(crate) fn cleared(stamp: Hlc) -> Self {
        Self {
            stamp,
            is_cleared: true,
            expires_ms: 0,
        }
    }

    /// Whether the message is to be removed at `now_ms`.
    pub(crate) fn is_expired(&self, now_ms: u64) -> bool {
        self.may_expire() && self.expires_ms <= now_ms
    }

    /// Whether the message expires at all.
    pub(crate) fn may_expire(&self) -> bool {
        self.expires_ms != 0
    }
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct Record {
    #[prost(fixed64, tag = "1")]
    stamp: u64,
    #[prost(bool, tag = "2")]
    is_cleared: bool,
    #[prost(uint64, tag = "3")]
    expires_ms: u64,
}

impl Meta {
    pub(crate) fn encode(&self) -> Bytes {
        let record = Record {
            stamp: self.stamp.0,
            is_cleared: self.is_cleared,
            expires_ms: self.expires_ms,
        };
        record::encode(VERSION, &record)
    }

    pub(crate) fn decode(bytes: Bytes) -> Result<Self, RecordError> {
        let record: Record = record::decode(bytes, VERSION)?;
        Ok(Self {
            stamp: Hlc(record.stamp),
            is_cleared: record.is_cleared,
            expires_ms: record.expires_ms,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn rows_read_back(
            stamp in any::<u64>(),
            is_cleared in any::<bool>(),
            expires_ms in any::<u64>(),
        ) {
            let meta = Meta { stamp: Hlc(stamp), is_cleared, expires_ms };
            prop_assert_eq!(Meta::decode(meta.encode()).unwrap(), meta);
        }

        #[test]
        fn any_bytes_are_a_row_or_an_error(bytes in any::<Vec<u8>>()) {
            let _ = Meta::decode(bytes.into());
        }
    }
}
