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
mod sweep;

pub(crate) use scan::page;

#[cfg(test)]
mod tests;

/// Where messages are.
pub(crate) const BODY: Keyspace = Keyspace("retain");

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
    /// So many of them more that expire.
    Expiring(i64),
    /// A topic was cleared; its row is to be forgotten in time.
    Cleared(Stamped),
    /// No stamp in the rows is later than this one.
    Latest(Hlc),
}

/// What can be asked.
#[derive(Clone, Debug)]
pub(crate) enum Query {
    /// Messages that a filter matches.
    Scan(Scan),
    /// Messages that have expired by `now_ms`, whoever's they are.
    Expired {
        /// The key that the previous page ended with.
        after: Option<Bytes>,
        now_ms: u64,
    },
}

/// Which messages are looked for.
#[derive(Clone, Debug)]
pub(crate) struct Scan {
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
    /// To be removed.
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
            Command::Keep {
                topic,
                body,
                expires_ms,
            } => keep(rows, &topic, body, expires_ms),
            Command::Clear(topic) => clear(rows, topic, effects),
            Command::Expire(topics) => topics
                .iter()
                .map(|topic| expire(rows, topic))
                .fold(Change::default(), Change::and),
            Command::Forget(topics) => {
                topics.iter().for_each(|topic| forget(rows, topic));
                Change::default()
            }
        };
        if change.topics != 0 {
            effects.push(Effect::Topics(change.topics));
        }
        if change.expiring != 0 {
            effects.push(Effect::Expiring(change.expiring));
        }
    }

    fn query(read: &dyn Read, query: Query) -> Result<Found, StorageError> {
        match query {
            Query::Scan(query) => scan::page(read, &query),
            Query::Expired { after, now_ms } => sweep::page(read, after.as_deref(), now_ms),
        }
    }

    /// Anywhere: a topic's rows have one key.
    fn align_split(key: &[u8]) -> Vec<u8> {
        key.to_vec()
    }

    /// Reads every small row once: counts topics, finds the clears that are still remembered and the
    /// latest stamp, and refuses what a newer program wrote before anything is served.
    fn lead(&mut self, read: &dyn Read, effects: &mut Vec<Effect>) -> Result<(), StorageError> {
        let (mut topics, mut expiring, mut latest) = (0, 0, Hlc::default());
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
                expiring += i64::from(meta.may_expire());
            }
        }
        effects.extend([
            Effect::Topics(topics),
            Effect::Expiring(expiring),
            Effect::Latest(latest),
        ]);
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

/// So many topics with a message more, and so many of them that expire.
#[derive(Clone, Copy, Default)]
struct Change {
    topics: i64,
    expiring: i64,
}

impl Change {
    fn between(before: Option<Meta>, after: Option<Meta>) -> Self {
        let has_message = |meta: Option<Meta>| meta.is_some_and(|meta| !meta.is_cleared);
        let may_expire = |meta: Option<Meta>| meta.is_some_and(|meta| meta.may_expire());
        let change = |before, after| i64::from(after) - i64::from(before);
        Self {
            topics: change(has_message(before), has_message(after)),
            expiring: change(may_expire(before), may_expire(after)),
        }
    }

    fn and(self, other: Self) -> Self {
        Self {
            topics: self.topics + other.topics,
            expiring: self.expiring + other.expiring,
        }
    }
}

fn keep(rows: &mut Rows<'_>, topic: &Stamped, body: Bytes, expires_ms: u64) -> Change {
    let before = meta(rows, &topic.key);
    if before.is_some_and(|before| before.stamp >= topic.stamp) {
        return Change::default();
    }
    let after = Meta::kept(topic.stamp, expires_ms);
    // Copied: as slices they would keep a whole log entry in memory.
    let key = Bytes::copy_from_slice(&topic.key);
    rows.put(META, key.clone(), after.encode());
    rows.put(BODY, key, Bytes::copy_from_slice(&body));
    Change::between(before, Some(after))
}

/// Writes the clear down also where there is no message: an older one may be on its way.
fn clear(rows: &mut Rows<'_>, topic: Stamped, effects: &mut Vec<Effect>) -> Change {
    let before = meta(rows, &topic.key);
    if before.is_some_and(|before| before.stamp >= topic.stamp) {
        return Change::default();
    }
    let after = Meta::cleared(topic.stamp);
    let key = Bytes::copy_from_slice(&topic.key);
    rows.put(META, key.clone(), after.encode());
    if before.is_some_and(|before| !before.is_cleared) {
        rows.delete(BODY, key);
    }
    effects.push(Effect::Cleared(topic));
    Change::between(before, Some(after))
}

fn expire(rows: &mut Rows<'_>, topic: &Stamped) -> Change {
    let before = meta(rows, &topic.key);
    if before.is_none_or(|before| before.stamp != topic.stamp || before.is_cleared) {
        return Change::default();
    }
    let key = Bytes::copy_from_slice(&topic.key);
    rows.delete(META, key.clone());
    rows.delete(BODY, key);
    Change::between(before, None)
}

fn forget(rows: &mut Rows<'_>, topic: &Stamped) {
    if meta(rows, &topic.key) == Some(Meta::cleared(topic.stamp)) {
        rows.delete(META, Bytes::copy_from_slice(&topic.key));
    }
}
