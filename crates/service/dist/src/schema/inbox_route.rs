//! The value of a route to a persistent session: what its client asked of the filter.

use std::num::NonZeroU32;

use bifrust_model::record::{self, RecordError};
use bifrust_model::{Hlc, SubscriptionOptions};
use bytes::Bytes;

const VERSION: u8 = 1;

/// Options, and when they were put there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InboxRoute {
    pub(crate) options: SubscriptionOptions,
    pub(crate) stamp: Hlc,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct Record {
    #[prost(uint32, tag = "1")]
    flags: u32,
    /// 0: none.
    #[prost(uint32, tag = "2")]
    id: u32,
    #[prost(fixed64, tag = "3")]
    stamp: u64,
}

impl InboxRoute {
    pub(crate) fn encode(&self) -> Bytes {
        let (flags, id) = pack(&self.options);
        let record = Record {
            flags,
            id,
            stamp: self.stamp.0,
        };
        record::encode(VERSION, &record)
    }

    pub(crate) fn decode(bytes: Bytes) -> Result<Self, RecordError> {
        let record: Record = record::decode(bytes, VERSION)?;
        Ok(Self {
            options: unpack(record.flags, record.id)?,
            stamp: Hlc(record.stamp),
        })
    }
}

/// Options as two numbers of a record; the second is 0 without an identifier.
pub(super) fn pack(options: &SubscriptionOptions) -> (u32, u32) {
    (
        options.flags().into(),
        options.id.map_or(0, NonZeroU32::get),
    )
}

/// What [`pack`] packed.
pub(super) fn unpack(flags: u32, id: u32) -> Result<SubscriptionOptions, RecordError> {
    u8::try_from(flags)
        .ok()
        .and_then(|flags| SubscriptionOptions::from_flags(flags, NonZeroU32::new(id)))
        .ok_or(RecordError::Invalid("subscription options"))
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn options() -> impl Strategy<Value = SubscriptionOptions> {
        (any::<u8>(), any::<u32>()).prop_filter_map("no options", |(flags, id)| {
            SubscriptionOptions::from_flags(flags & 0x3F, NonZeroU32::new(id))
        })
    }

    proptest! {
        #[test]
        fn values_read_back(options in options(), stamp in any::<u64>()) {
            let route = InboxRoute { options, stamp: Hlc(stamp) };
            prop_assert_eq!(InboxRoute::decode(route.encode()).unwrap(), route);
        }

        #[test]
        fn any_bytes_are_a_value_or_an_error(bytes in any::<Vec<u8>>()) {
            let _ = InboxRoute::decode(bytes.into());
        }
    }
}
