//! Which wills of one publisher a session has already taken.

use bifrust_model::record::{self, RecordError};
use bytes::Bytes;

const VERSION: u8 = 1;

/// Numbers of the connections whose wills were taken and may come again. A will comes again only
/// while it has a row, so what has none is left out: the rows of one client bound it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SeenWills {
    pub(crate) connections: Vec<u64>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Record {
    #[prost(uint64, repeated, tag = "1")]
    connections: Vec<u64>,
}

impl SeenWills {
    pub(crate) fn encode(&self) -> Bytes {
        let record = Record {
            connections: self.connections.clone(),
        };
        record::encode(VERSION, &record)
    }

    pub(crate) fn decode(value: Bytes) -> Result<Self, RecordError> {
        let record: Record = record::decode(value, VERSION)?;
        Ok(Self {
            connections: record.connections,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_survives_its_row(connections: Vec<u64>) {
            let seen = SeenWills { connections };
            prop_assert_eq!(SeenWills::decode(seen.encode()).unwrap(), seen);
        }

        #[test]
        fn any_bytes_are_answered(bytes: Vec<u8>) {
            let _ = SeenWills::decode(bytes.into()); // no panic
        }
    }
}
