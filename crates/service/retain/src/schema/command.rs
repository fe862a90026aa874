//! Commands as the range's log keeps them.

use bifrust_kv::Wire;
use bifrust_model::Hlc;
use bifrust_model::record::{self, RecordError};
use bytes::Bytes;

const VERSION: u8 = 1;

/// A topic's key, and the stamp of what was done to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stamped {
    pub(crate) key: Bytes,
    pub(crate) stamp: Hlc,
}

/// A change of retained messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// This message is the topic's, unless something newer was.
    Keep {
        topic: Stamped,
        /// The row as [`super::body`] encodes it.
        body: Bytes,
        /// When the message expires, in milliseconds since 1970; 0: never.
        expires_ms: u64,
    },
    /// The topic has none, unless something newer came.
    Clear(Stamped),
    /// Messages that have expired, by their exact stamps.
    Expire(Vec<Stamped>),
    /// Clears that need not be remembered any more, by their exact stamps.
    Forget(Vec<Stamped>),
}

#[derive(Clone, PartialEq, prost::Message)]
struct Record {
    #[prost(uint32, tag = "1")]
    kind: u32,
    #[prost(bytes = "bytes", repeated, tag = "2")]
    keys: Vec<Bytes>,
    #[prost(fixed64, repeated, tag = "3")]
    stamps: Vec<u64>,
    #[prost(bytes = "bytes", tag = "4")]
    body: Bytes,
    #[prost(uint64, tag = "5")]
    expires_ms: u64,
}

const KEEP: u32 = 1;
const CLEAR: u32 = 2;
const EXPIRE: u32 = 3;
const FORGET: u32 = 4;

impl Wire for Command {
    fn encode(&self) -> Bytes {
        let (kind, topics) = match self {
            Self::Keep { topic, .. } => (KEEP, std::slice::from_ref(topic)),
            Self::Clear(topic) => (CLEAR, std::slice::from_ref(topic)),
            Self::Expire(topics) => (EXPIRE, &topics[..]),
            Self::Forget(topics) => (FORGET, &topics[..]),
        };
        let (body, expires_ms) = match self {
            Self::Keep {
                body, expires_ms, ..
            } => (body.clone(), *expires_ms),
            _ => (Bytes::new(), 0),
        };
        let record = Record {
            kind,
            keys: topics.iter().map(|topic| topic.key.clone()).collect(),
            stamps: topics.iter().map(|topic| topic.stamp.0).collect(),
            body,
            expires_ms,
        };
        record::encode(VERSION, &record)
    }

    fn decode(bytes: Bytes) -> Result<Self, RecordError> {
        let record: Record = record::decode(bytes, VERSION)?;
        if record.keys.len() != record.stamps.len() {
            return Err(RecordError::Invalid("keys without stamps"));
        }
        let topics = record.keys.into_iter().zip(record.stamps);
        let mut topics: Vec<_> = topics
            .map(|(key, stamp)| Stamped {
                key,
                stamp: Hlc(stamp),
            })
            .collect();
        let mut only = || match (topics.pop(), topics.is_empty()) {
            (Some(topic), true) => Ok(topic),
            _ if cfg!(planted_bugs) => Ok(topics.remove(0)),
            _ => Err(RecordError::Invalid("number of topics")),
        };
        Ok(match record.kind {
            KEEP => Self::Keep {
                topic: only()?,
                body: record.body,
                expires_ms: record.expires_ms,
            },
            CLEAR => Self::Clear(only()?),
            EXPIRE => Self::Expire(topics),
            FORGET => Self::Forget(topics),
            _ => return Err(RecordError::Invalid("command kind")),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stamped() -> impl Strategy<Value = Stamped> {
        (any::<Vec<u8>>(), any::<u64>()).prop_map(|(key, stamp)| Stamped {
            key: key.into(),
            stamp: Hlc(stamp),
        })
    }

    fn commands() -> impl Strategy<Value = Command> {
        let many = || prop::collection::vec(stamped(), 0..4);
        prop_oneof![
            (stamped(), any::<Vec<u8>>(), any::<u64>()).prop_map(|(topic, body, expires_ms)| {
                let body = body.into();
                Command::Keep {
                    topic,
                    body,
                    expires_ms,
                }
            }),
            stamped().prop_map(Command::Clear),
            many().prop_map(Command::Expire),
            many().prop_map(Command::Forget),
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
