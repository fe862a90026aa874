//! The deterministic part: which message a topic has, and which messages a filter finds.

use std::ops::Bound;

use bifrust_kv::{Coprocessor, Rows};
use bifrust_model::record::RecordError;
use bifrust_model::{Hlc, Message, TenantNumber, TopicFilter};
use bifrust_storage::{Direction, Keyspace, Read, StorageError};
use bytes::Bytes;

use crate::PageLimit;
use crate::schema::command::{Command, Stamped};
use crate::schema::meta::Meta;

mod scan;

#[cfg(test)]
mod tests;

/// Where messages are.
const BODY: Keyspace = Keyspace("retain");

/// Where the small rows are: apply reads them instead of messages, and so does a start.
const META: Keyspace = Keyspace("retain_meta");

/// The coprocessor; rows are all its state.
#[derive(Debug, Default)]
pub(crate) struct Last;

/// What only the leader acts on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// So many topics with a message more.
    Topics(i64),
    /// A topic was cleared; its row is to be forgotten in time.
    Cleared(Stamped),
    /// No stamp in the rows is later than this one.
    Latest(Hlc),
}

/// Which messages are looked for.
#[derive(Clone, Debug)]
pub(crate) struct Query {
    pub(crate) tenant: TenantNumber,
    pub(crate) filter: TopicFilter,
    /// The key that the previous page ended with.
    pub(crate) after: Option<Bytes>,
    pub(crate) limit: PageLimit,
    pub(crate) now_ms: u64,
}

/// One page.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) messages: Vec<Message>,
    /// Met on the way, to be removed.
    pub(crate) expired: Vec<Stamped>,
    /// The key to go on after; `None`: that was all.
    pub(crate) next: Option<Bytes>,
}

impl Coprocessor for Last {
    type Command = Command;
    type Reply = ();
    type Effect = Effect;
    type Query = Query;
    type Answer = Found;

    const NAME: &'static str = "retain";
    const KEYSPACES: &'static [Keyspace] = &[BODY, META];

    fn apply(&mut self, rows: &mut Rows<'_>, command: Command, effects: &mut Vec<Effect>) {
        let change = match command {
            Command::Keep { topic, body } => keep(rows, &topic, body),
            Command::Clear(topic) => clear(rows, topic, effects),
            Command::Expire(topics) => topics.iter().map(|topic| expire(rows, topic)).sum(),
            Command::Forget(topics) => {
                topics.iter().for_each(|topic| forget(rows, topic));
                0
            }
        };
        if change != 0 {
            effects.push(Effect::Topics(change));
        }
    }

    fn query(read: &dyn Read, query: Query) -> Result<Found, StorageError> {
        scan::page(read, &query)
    }

    /// Anywhere: a topic's rows have one key.
    fn align_split(key: &[u8]) -> Vec<u8> {
        key.to_vec()
    }

    /// Reads every small row once: counts topics, finds the clears that are still remembered and the
    /// latest stamp, and refuses what a newer program wrote before anything is served.
    fn lead(&mut self, read: &dyn Read, effects: &mut Vec<Effect>) -> Result<(), StorageError> {
        let (mut topics, mut latest) = (0, Hlc::default());
        let all = Bound::Unbounded;
        for row in read.range(META, all, all, Direction::Forward) {
            let (key, value) = row?;
            let meta = Meta::decode(value).map_err(|error| damaged(&key, &error))?;
            latest = latest.max(meta.stamp);
            if meta.is_cleared {
                let key = Bytes::copy_from_slice(&key);
                let stamp = meta.stamp;
                effects.push(Effect::Cleared(Stamped { key, stamp }));
            } else {
                topics += 1;
            }
        }
        effects.extend([Effect::Topics(topics), Effect::Latest(latest)]);
        Ok(())
    }

    fn frees_space(command: &Command) -> bool {
        !matches!(command, Command::Keep { .. })
    }
}

/// A row that this program cannot read.
fn damaged(key: &[u8], error: &RecordError) -> StorageError {
    StorageError::Engine(format!("retained topic {}: {error}", key.escape_ascii()))
}

/// A topic's small row. All were read before the first command, so one that does not parse now is the
/// disk's doing; the next message takes its place.
fn meta(rows: &Rows<'_>, key: &[u8]) -> Option<Meta> {
    Meta::decode(rows.get(META, key)?)
        .inspect_err(|error| tracing::error!(key = %key.escape_ascii(), %error, "damaged row"))
        .ok()
}

fn keep(rows: &mut Rows<'_>, topic: &Stamped, body: Bytes) -> i64 {
    let before = meta(rows, &topic.key);
    if before.is_some_and(|before| before.stamp >= topic.stamp) {
        return 0;
    }
    let after = Meta {
        stamp: topic.stamp,
        is_cleared: false,
    };
    // Copied: as slices they would keep a whole log entry in memory.
    let key = Bytes::copy_from_slice(&topic.key);
    rows.put(META, key.clone(), after.encode());
    rows.put(BODY, key, Bytes::copy_from_slice(&body));
    i64::from(before.is_none_or(|before| before.is_cleared))
}

/// Writes the clear down also where there is no message: an older one may be on its way.
fn clear(rows: &mut Rows<'_>, topic: Stamped, effects: &mut Vec<Effect>) -> i64 {
    let before = meta(rows, &topic.key);
    if before.is_some_and(|before| before.stamp >= topic.stamp) {
        return 0;
    }
    let after = Meta {
        stamp: topic.stamp,
        is_cleared: true,
    };
    let key = Bytes::copy_from_slice(&topic.key);
    rows.put(META, key.clone(), after.encode());
    let had_message = before.is_some_and(|before| !before.is_cleared);
    if had_message {
        rows.delete(BODY, key);
    }
    effects.push(Effect::Cleared(topic));
    -i64::from(had_message)
}

fn expire(rows: &mut Rows<'_>, topic: &Stamped) -> i64 {
    let expired = Meta {
        stamp: topic.stamp,
        is_cleared: false,
    };
    if meta(rows, &topic.key) != Some(expired) {
        return 0;
    }
    let key = Bytes::copy_from_slice(&topic.key);
    rows.delete(META, key.clone());
    rows.delete(BODY, key);
    -1
}

fn forget(rows: &mut Rows<'_>, topic: &Stamped) {
    let cleared = Meta {
        stamp: topic.stamp,
        is_cleared: true,
    };
    if meta(rows, &topic.key) == Some(cleared) {
        rows.delete(META, Bytes::copy_from_slice(&topic.key));
    }
}
