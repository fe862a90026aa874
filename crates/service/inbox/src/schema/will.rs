//! A will with all that its publication needs once its client is gone.

use std::net::SocketAddr;
use std::sync::Arc;

use bifrust_model::record::{self, MessageRecord, RecordError};
use bifrust_model::{ClientId, ClientInfo, Message, Protocol, TenantName};
use bytes::Bytes;

use crate::Will;

const VERSION: u8 = 1;

/// A will as it is stored; its deadline is a row of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WillRow(pub(crate) Will);

#[derive(Clone, PartialEq, prost::Message)]
struct Record {
    #[prost(message, optional, tag = "1")]
    message: Option<MessageRecord>,
    #[prost(uint32, tag = "2")]
    delay_seconds: u32,
    #[prost(string, tag = "3")]
    tenant: String,
    #[prost(string, optional, tag = "4")]
    user: Option<String>,
    #[prost(string, tag = "5")]
    client: String,
    #[prost(string, tag = "6")]
    peer: String,
    #[prost(uint32, tag = "7")]
    protocol: u32,
}

impl WillRow {
    pub(crate) fn encode(&self) -> Bytes {
        let Will {
            message,
            delay_seconds,
            client,
        } = &self.0;
        let record = Record {
            message: Some(MessageRecord::from(message)),
            delay_seconds: *delay_seconds,
            tenant: client.tenant.as_str().to_owned(),
            user: client.user.as_deref().map(str::to_owned),
            client: client.client.as_str().to_owned(),
            peer: client
                .peer
                .map_or_else(String::new, |peer| peer.to_string()),
            protocol: match client.protocol {
                Protocol::V31 => 3,
                Protocol::V311 => 4,
                Protocol::V5 => 5,
            },
        };
        record::encode(VERSION, &record)
    }

    pub(crate) fn decode(value: Bytes) -> Result<Self, RecordError> {
        let record: Record = record::decode(value, VERSION)?;
        let message = record.message.ok_or(RecordError::Invalid("message"))?;
        let client = ClientInfo {
            tenant: TenantName::new(&record.tenant).map_err(|_| RecordError::Invalid("tenant"))?,
            user: record.user.map(Into::into),
            client: ClientId::new(&record.client).map_err(|_| RecordError::Invalid("client"))?,
            // Only told to whoever judges the publication.
            peer: record.peer.parse::<SocketAddr>().ok(),
            protocol: match record.protocol {
                3 => Protocol::V31,
                4 => Protocol::V311,
                5 => Protocol::V5,
                _ => return Err(RecordError::Invalid("protocol")),
            },
        };
        Ok(Self(Will {
            message: Message::try_from(message)?,
            delay_seconds: record.delay_seconds,
            client: Arc::new(client),
        }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::schema::any_message;

    proptest! {
        #[test]
        fn it_survives_its_row(
            message in any_message(), delay_seconds: u32, user in proptest::option::of("[a-z]{0,5}"),
            client in "\\PC{1,20}", has_peer: bool, version in 0usize..3,
        ) {
            let client = ClientInfo {
                tenant: TenantName::new("acme").unwrap(),
                user: user.map(Into::into),
                client: ClientId::new(&client).unwrap(),
                peer: has_peer.then(|| "[::1]:1883".parse().unwrap()),
                protocol: [Protocol::V31, Protocol::V311, Protocol::V5][version],
            };
            let row = WillRow(Will { message, delay_seconds, client: Arc::new(client) });
            prop_assert_eq!(WillRow::decode(row.encode()).unwrap(), row);
        }

        #[test]
        fn any_bytes_are_answered(bytes: Vec<u8>) {
            let _ = WillRow::decode(bytes.into()); // no panic
        }
    }
}
