//! A subscription; the key says its filter.

use std::num::NonZeroU32;

use bifrust_model::SubscriptionOptions;
use bifrust_model::record::{self, RecordError};
use bytes::Bytes;

const VERSION: u8 = 1;

/// The options of a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SubscriptionRow(pub(crate) SubscriptionOptions);

#[derive(Clone, PartialEq, prost::Message)]
struct Record {
    #[prost(uint32, tag = "1")]
    flags: u32,
    #[prost(uint32, tag = "2")]
    id: u32,
}

impl SubscriptionRow {
    pub(crate) fn encode(&self) -> Bytes {
        let record = Record {
            flags: self.0.flags().into(),
            id: self.0.id.map_or(0, NonZeroU32::get),
        };
        record::encode(VERSION, &record)
    }

    pub(crate) fn decode(value: Bytes) -> Result<Self, RecordError> {
        let record: Record = record::decode(value, VERSION)?;
        let flags = u8::try_from(record.flags).map_err(|_| RecordError::Invalid("options"))?;
        SubscriptionOptions::from_flags(flags, NonZeroU32::new(record.id))
            .map(Self)
            .ok_or(RecordError::Invalid("options"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_survives_its_row(flags in 0u8..0x40, id: u32) {
            if let Some(options) = SubscriptionOptions::from_flags(flags, NonZeroU32::new(id)) {
                let row = SubscriptionRow(options);
                prop_assert_eq!(SubscriptionRow::decode(row.encode()).unwrap(), row);
            }
        }

        #[test]
        fn any_bytes_are_answered(bytes: Vec<u8>) {
            let _ = SubscriptionRow::decode(bytes.into()); // no panic
        }
    }
}
