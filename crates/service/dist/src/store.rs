//! The deterministic part: what commands do to routes, and what topics and sweeps read from them.

use std::ops::Bound;

use bifrust_kv::{Coprocessor, Rows, prefix_end};
use bifrust_model::record::RecordError;
use bifrust_model::{Hlc, Incarnation, NodeId, SubscriptionOptions, TenantNumber};
use bifrust_storage::{Direction, Keyspace, Read, StorageError};
use bytes::Bytes;
use bytestring::ByteString;

use crate::schema::command::Command;
use crate::schema::inbox_route::InboxRoute;
use crate::schema::live_route::LiveRoute;
use crate::schema::route_key::{self, ReceiverKey};

mod matching;
mod members;
mod sweep;

#[cfg(test)]
mod tests;

pub(crate) use matching::{Gap, Targets, targets};

/// Where routes are.
pub(crate) const ROUTES: Keyspace = Keyspace("dist");

/// The coprocessor; rows are all its state.
#[derive(Debug, Default)]
pub(crate) struct Routes;

/// What only the leader acts on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// So many routes more.
    Routes(i64),
    /// No stamp in the rows is later than this one.
    Latest(Hlc),
}

/// What can be asked.
#[derive(Clone, Debug)]
pub(crate) enum Query {
    /// Where a topic leads.
    Match {
        tenant: TenantNumber,
        topic: ByteString,
    },
    /// Live routes of a node's earlier incarnations.
    Ended(EndedQuery),
    /// Whether a group has room for a member.
    Room(RoomQuery),
}

/// Looks for live routes of incarnations of `node` before `before`, from key `from` on.
#[derive(Clone, Debug)]
pub(crate) struct EndedQuery {
    pub(crate) node: NodeId,
    pub(crate) before: Incarnation,
    pub(crate) from: Bytes,
    /// Rows to look at.
    pub(crate) rows_max: usize,
}

/// Asks whether the group whose keys begin with `prefix` has the member under `key`, or has less than
/// `members_max` ones.
#[derive(Clone, Debug)]
pub(crate) struct RoomQuery {
    pub(crate) prefix: Bytes,
    pub(crate) key: Bytes,
    pub(crate) members_max: usize,
}

/// What is answered.
#[derive(Debug)]
pub(crate) enum Answer {
    /// The receivers; if there are none, gaps that say so.
    Matched(Targets, Vec<Gap>),
    Ended {
        keys: Vec<Bytes>,
        /// Where to go on; `None`: that was all.
        next: Option<Bytes>,
    },
    Room(bool),
}

impl Coprocessor for Routes {
    type Command = Command;
    type Reply = ();
    type Effect = Effect;
    type Query = Query;
    type Answer = Answer;

    const NAME: &'static str = "dist";
    const KEYSPACES: &'static [Keyspace] = &[ROUTES];

    fn apply(&mut self, rows: &mut Rows<'_>, command: Command, effects: &mut Vec<Effect>) {
        let change = match command {
            Command::SetShard { key, shard, stamp } => set_shard(rows, &key, shard, stamp),
            Command::ClearShard { key, shard, stamp } => clear_shard(rows, &key, shard, stamp),
            Command::PutInbox {
                key,
                options,
                stamp,
            } => put_inbox(rows, &key, options, stamp),
            Command::DropInbox { key, stamp } => drop_inbox(rows, &key, stamp),
            Command::Sweep { keys } => keys.iter().map(|key| drop_live(rows, key)).sum(),
        };
        if change != 0 {
            effects.push(Effect::Routes(change));
        }
    }

    fn query(read: &dyn Read, query: Query) -> Result<Answer, StorageError> {
        match query {
            Query::Match { tenant, topic } => {
                let (targets, gaps) = matching::targets(read, tenant, &topic)?;
                Ok(Answer::Matched(targets, gaps))
            }
            Query::Ended(query) => sweep::find_ended(read, &query),
            Query::Room(query) => members::has_room(read, &query).map(Answer::Room),
        }
    }

    /// Anywhere: no command and no row concerns two keys that would have to stay together.
    fn align_split(key: &[u8]) -> Vec<u8> {
        key.to_vec()
    }

    /// Reads every row once: counts them, finds the latest stamp, and refuses what a newer program
    /// wrote or what is damaged before anything is served.
    fn lead(&mut self, read: &dyn Read, effects: &mut Vec<Effect>) -> Result<(), StorageError> {
        let (mut routes, mut latest) = (0, Hlc::default());
        let rows = read.range(
            ROUTES,
            Bound::Unbounded,
            Bound::Unbounded,
            Direction::Forward,
        );
        for row in rows {
            let (key, value) = row?;
            routes += 1;
            latest = latest.max(stamp_of(&key, value)?);
        }
        effects.extend([Effect::Routes(routes), Effect::Latest(latest)]);
        Ok(())
    }

    fn frees_space(command: &Command) -> bool {
        match command {
            Command::SetShard { .. } | Command::PutInbox { .. } => false,
            Command::ClearShard { .. } | Command::DropInbox { .. } | Command::Sweep { .. } => true,
        }
    }
}

fn stamp_of(key: &[u8], value: Bytes) -> Result<Hlc, StorageError> {
    let stamp = match route_key::decode(key).map(|key| key.receiver) {
        Some(ReceiverKey::Live(_)) => LiveRoute::decode(value).map(|route| route.latest()),
        Some(ReceiverKey::Inbox { .. } | ReceiverKey::Member(_)) => {
            InboxRoute::decode(value).map(|route| route.stamp)
        }
        None => Err(RecordError::Invalid("route key")),
    };
    stamp.map_err(|error| damaged(key, &error))
}

/// A row that this program cannot read.
fn damaged(key: &[u8], error: &RecordError) -> StorageError {
    StorageError::Engine(format!("route {}: {error}", key.escape_ascii()))
}

/// A row's value, if it is there. Rows were all read before the first command, so one that does not
/// parse now is the disk's doing; the command's own value takes its place.
fn read_row<T>(
    rows: &Rows<'_>,
    key: &[u8],
    decode: impl FnOnce(Bytes) -> Result<T, RecordError>,
) -> Option<T> {
    decode(rows.get(ROUTES, key)?)
        .inspect_err(|error| tracing::error!(key = %key.escape_ascii(), %error, "damaged route"))
        .ok()
}

fn set_shard(rows: &mut Rows<'_>, key: &[u8], shard: u16, stamp: Hlc) -> i64 {
    let found = read_row(rows, key, LiveRoute::decode);
    let is_new = found.is_none();
    let mut route = found.unwrap_or_default();
    if route.set(shard, stamp) {
        put(rows, key, route.encode());
    }
    i64::from(is_new)
}

fn clear_shard(rows: &mut Rows<'_>, key: &[u8], shard: u16, stamp: Hlc) -> i64 {
    let Some(mut route) = read_row(rows, key, LiveRoute::decode) else {
        return 0;
    };
    if !route.clear(shard, stamp) {
        return 0;
    }
    if route.is_empty() {
        delete(rows, key);
        return -1;
    }
    put(rows, key, route.encode());
    0
}

fn put_inbox(rows: &mut Rows<'_>, key: &[u8], options: SubscriptionOptions, stamp: Hlc) -> i64 {
    let found = read_row(rows, key, InboxRoute::decode);
    if found.is_none_or(|found| found.stamp < stamp) {
        put(rows, key, InboxRoute { options, stamp }.encode());
    }
    i64::from(found.is_none())
}

fn drop_inbox(rows: &mut Rows<'_>, key: &[u8], stamp: Hlc) -> i64 {
    match read_row(rows, key, InboxRoute::decode) {
        Some(found) if found.stamp <= stamp => {
            delete(rows, key);
            -1
        }
        _ => 0,
    }
}

fn drop_live(rows: &mut Rows<'_>, key: &[u8]) -> i64 {
    if rows.get(ROUTES, key).is_none() {
        return 0;
    }
    delete(rows, key);
    -1
}

/// Keys are copied: as slices they would keep a whole log entry in memory.
fn put(rows: &mut Rows<'_>, key: &[u8], value: Bytes) {
    rows.put(ROUTES, Bytes::copy_from_slice(key), value);
}

fn delete(rows: &mut Rows<'_>, key: &[u8]) {
    rows.delete(ROUTES, Bytes::copy_from_slice(key));
}

/// All rows of a tenant end here.
fn tenant_end(tenant: TenantNumber) -> Bound<Vec<u8>> {
    prefix_end(&tenant.key())
}
