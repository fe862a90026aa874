//! A subscription; the key says its filter.

use std::num::NonZeroU32;

use bifrust_model::SubscriptionOptions;
use bifrust_model::record::{self, RecordError};
use bytes::Bytes;

const VERSION: u8 = 1;

/// A subscription, or what is left of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SubscriptionRow {
    pub(crate) options: SubscriptionOptions,
    /// It has ended for its client; only its route may still be there.
    pub(crate) is_leaving: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Record {
    #[prost(uint32, tag = "1")]
    flags: u32,
    #[prost(uint32, tag = "2")]
    id: u32,
    #[prost(bool, tag = "3")]
    is_leaving: bool,
}

impl SubscriptionRow {
    pub(crate) fn encode(&self) -> Bytes {
        let record = Record {
            flags: self.options.flags().into(),
            id: self.options.id.map_or(0, NonZeroU32::get),
            is_leaving: self.is_leaving,
        };
        record::encode(VERSION, &record)
    }

    pub(crate) fn decode(value: Bytes) -> Result<Self, RecordError> {
        let record: Record = record::decode(value, VERSION)?;
        let flags = u8::try_from(record.flags).map_err(|_| RecordError::Invalid("options"))?;
        let options = SubscriptionOptions::from_flags(flags, NonZeroU32::new(record.id))
            .ok_or(RecordError::Invalid("options"))?;
        Ok(Self {
            options,
            is_leaving: record.is_leaving,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_survives_its_row(flags in 0u8..0x40, id: u32, is_leaving: bool) {
            if let Some(options) = SubscriptionOptions::from_flags(flags, NonZeroU32::new(id)) {
                let row = SubscriptionRow { options, is_leaving };
                prop_assert_eq!(SubscriptionRow::decode(row.encode()).unwrap(), row);
            }
        }

        #[test]
        fn any_bytes_are_answered(bytes: Vec<u8>) {
            let _ = SubscriptionRow::decode(bytes.into()); // no panic
        }
    }
}
