//! Commands as the range's log keeps them.

use bifrust_kv::Wire;
use bifrust_model::TenantName;
use bifrust_model::record::{self, RecordError};
use bytes::Bytes;

const VERSION: u8 = 1;

/// A change of the registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Gives the tenant a number unless it has one, or `tenants_max` tenants have.
    NumberTenant { name: TenantName, tenants_max: u64 },
}

#[derive(Clone, PartialEq, prost::Message)]
struct Record {
    #[prost(uint32, tag = "1")]
    kind: u32,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(uint64, tag = "3")]
    tenants_max: u64,
}

const NUMBER_TENANT: u32 = 1;

impl Wire for Command {
    fn encode(&self) -> Bytes {
        let Self::NumberTenant { name, tenants_max } = self;
        let record = Record {
            kind: NUMBER_TENANT,
            name: name.as_str().to_owned(),
            tenants_max: *tenants_max,
        };
        record::encode(VERSION, &record)
    }

    fn decode(bytes: Bytes) -> Result<Self, RecordError> {
        let record: Record = record::decode(bytes, VERSION)?;
        if record.kind != NUMBER_TENANT {
            return Err(RecordError::Invalid("command kind"));
        }
        let name = TenantName::new(&record.name);
        Ok(Self::NumberTenant {
            name: name.map_err(|_| RecordError::Invalid("tenant name"))?,
            tenants_max: record.tenants_max,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn commands_read_back(name in "[a-z][a-z._-]{0,9}", tenants_max in any::<u64>()) {
            let name = TenantName::new(&name).unwrap();
            let command = Command::NumberTenant { name, tenants_max };
            prop_assert_eq!(Command::decode(command.encode()).unwrap(), command);
        }

        #[test]
        fn any_bytes_are_a_command_or_an_error(bytes in any::<Vec<u8>>()) {
            let _ = Command::decode(bytes.into());
        }
    }
}
