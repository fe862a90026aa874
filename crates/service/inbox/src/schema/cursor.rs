//! Where a session's queue and its QoS 2 generations stand, as far as other rows do not say so.

use bifrust_model::record::{self, RecordError};
use bytes::Bytes;

const VERSION: u8 = 1;

/// Rewritten rarely: it is a lower bound that the rows beside it raise.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(crate) struct Cursor {
    /// No entry lies below: scans start here and so skip what was settled.
    #[prost(uint64, tag = "1")]
    pub(crate) first_seq: u64,
    /// The next entry's number, unless a row with this or a higher one exists.
    #[prost(uint64, tag = "2")]
    pub(crate) next_seq: u64,
    /// The next inbound generation, unless a row with this or a higher one exists.
    #[prost(uint64, tag = "3")]
    pub(crate) next_generation: u64,
}

impl Cursor {
    /// A new session's.
    pub(crate) fn start() -> Self {
        Self {
            first_seq: 1,
            next_seq: 1,
            next_generation: 1,
        }
    }

    pub(crate) fn encode(&self) -> Bytes {
        record::encode(VERSION, self)
    }

    pub(crate) fn decode(value: Bytes) -> Result<Self, RecordError> {
        record::decode(value, VERSION)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_survives_its_row(first_seq: u64, next_seq: u64, next_generation: u64) {
            let cursor = Cursor { first_seq, next_seq, next_generation };
            prop_assert_eq!(Cursor::decode(cursor.encode()).unwrap(), cursor);
        }
    }
}
