//! Commands as the range's log keeps them.

use bifrust_kv::Wire;
use bifrust_model::record::{self, RecordError};
use bifrust_model::{Hlc, SubscriptionOptions};
use bytes::Bytes;

use super::{inbox_route, live_route::SHARDS_MAX};

const VERSION: u8 = 1;

/// A change of routes. Keys are those of [`super::route_key`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// The shard has sessions for the live route under `key`.
    SetShard { key: Bytes, shard: u16, stamp: Hlc },
    /// The shard has none any more.
    ClearShard { key: Bytes, shard: u16, stamp: Hlc },
    /// The session's route under `key` has these options.
    PutInbox {
        key: Bytes,
        options: SubscriptionOptions,
        stamp: Hlc,
    },
    /// The session has no such route any more.
    DropInbox { key: Bytes, stamp: Hlc },
    /// Live routes of node incarnations that have ended, so that nothing is ever added to them.
    Sweep { keys: Vec<Bytes> },
}

#[derive(Clone, PartialEq, prost::Message)]
struct Record {
    #[prost(uint32, tag = "1")]
    kind: u32,
    #[prost(bytes = "bytes", tag = "2")]
    key: Bytes,
    #[prost(fixed64, tag = "3")]
    stamp: u64,
    #[prost(uint32, tag = "4")]
    shard: u32,
    #[prost(uint32, tag = "5")]
    flags: u32,
    #[prost(uint32, tag = "6")]
    id: u32,
    #[prost(bytes = "bytes", repeated, tag = "7")]
    keys: Vec<Bytes>,
}

const SET_SHARD: u32 = 1;
const CLEAR_SHARD: u32 = 2;
const PUT_INBOX: u32 = 3;
const DROP_INBOX: u32 = 4;
const SWEEP: u32 = 5;

impl Wire for Command {
    fn encode(&self) -> Bytes {
        let mut record = Record::default();
        match self {
            Self::SetShard { key, shard, stamp } | Self::ClearShard { key, shard, stamp } => {
                record.kind = match self {
                    Self::SetShard { .. } => SET_SHARD,
                    _ => CLEAR_SHARD,
                };
                record.key = key.clone();
                record.shard = u32::from(*shard);
                record.stamp = stamp.0;
            }
            Self::PutInbox {
                key,
                options,
                stamp,
            } => {
                record.kind = PUT_INBOX;
                record.key = key.clone();
                (record.flags, record.id) = inbox_route::pack(options);
                record.stamp = stamp.0;
            }
            Self::DropInbox { key, stamp } => {
                record.kind = DROP_INBOX;
                record.key = key.clone();
                record.stamp = stamp.0;
            }
            Self::Sweep { keys } => {
                record.kind = SWEEP;
                record.keys.clone_from(keys);
            }
        }
        record::encode(VERSION, &record)
    }

    fn decode(bytes: Bytes) -> Result<Self, RecordError> {
        let record: Record = record::decode(bytes, VERSION)?;
        let (key, stamp) = (record.key, Hlc(record.stamp));
        let shard = u16::try_from(record.shard).ok();
        let shard = shard
            .filter(|shard| *shard < SHARDS_MAX)
            .ok_or(RecordError::Invalid("shard"))?;
        Ok(match record.kind {
            SET_SHARD => Self::SetShard { key, shard, stamp },
            CLEAR_SHARD => Self::ClearShard { key, shard, stamp },
            PUT_INBOX => Self::PutInbox {
                key,
                options: inbox_route::unpack(record.flags, record.id)?,
                stamp,
            },
            DROP_INBOX => Self::DropInbox { key, stamp },
            SWEEP => Self::Sweep { keys: record.keys },
            _ => return Err(RecordError::Invalid("command kind")),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::inbox_route::tests::options;
    use super::*;

    fn commands() -> impl Strategy<Value = Command> {
        let key = || any::<Vec<u8>>().prop_map(Bytes::from);
        let stamp = || any::<u64>().prop_map(Hlc);
        let shard = || 0..SHARDS_MAX;
        prop_oneof![
            (key(), shard(), stamp()).prop_map(|(key, shard, stamp)| Command::SetShard {
                key,
                shard,
                stamp
            }),
            (key(), shard(), stamp()).prop_map(|(key, shard, stamp)| Command::ClearShard {
                key,
                shard,
                stamp
            }),
            (key(), options(), stamp()).prop_map(|(key, options, stamp)| Command::PutInbox {
                key,
                options,
                stamp
            }),
            (key(), stamp()).prop_map(|(key, stamp)| Command::DropInbox { key, stamp }),
            prop::collection::vec(key(), 0..4).prop_map(|keys| Command::Sweep { keys }),
        ]
    }

    proptest! {
        #[test]
        fn commands_read_back(command in commands()) {
            prop_assert_eq!(Command::decode(command.encode()).unwrap(), command);
        }

        #[test]
        fn any_bytes_are_a_command_or_an_error(bytes in any::<Vec<u8>>()) {
            let _ = Command::decode(bytes.into());
        }
    }
}
