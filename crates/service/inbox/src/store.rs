//! The deterministic part: what commands do to the rows of sessions, and what the rows answer. No
//! clock, no threads, no other service; a file per operation.

mod attach;
mod command;
mod detach;
mod end;
mod expire;
mod head;
mod heads;
mod inbound;
mod insert;
mod query;
mod queue;
mod settle;
mod subscribe;
mod sweep;
mod tidy;
mod will;
mod wire;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use bifrust_kv::{Coprocessor, Rows};
use bifrust_model::{Message, Qos, SessionKey};
use bifrust_session_dict::ConnectionRef;
use bifrust_storage::{Keyspace, Read, StorageError};

use crate::Delivery;
use crate::schema::{BODY, DEADLINE, META, SUB};

pub(crate) use command::{
    Attach, Attached, BeginInbound, Bounds, Command, ConfirmRoutes, Detach, Expire, Insert,
    InsertRetained, Keyed, ReleaseInbound, Reply, Settle, StorePicks, Subscribe, Sweep, Target,
    Tidy, Unsubscribe, WillFate, WillSent,
};
pub(crate) use query::{Answer, Due, Page, Query, RouteChange};

use heads::Heads;
pub(crate) use heads::Named;

/// The sessions of one range.
#[derive(Debug)]
pub(crate) struct Store {
    heads: Heads,
}

/// What the node that leads the range does once a command is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// A durable session has an owner; it may have just begun.
    Attached { ownership: Ownership, is_new: bool },
    /// A message for the connection that owns a session.
    Deliver {
        session: SessionKey,
        to: ConnectionRef,
        epoch: u64,
        delivery: Delivery,
    },
    /// A message was not queued, or fell out of a queue, by the session's bound.
    Overflowed {
        session: SessionKey,
        qos: Qos,
        message: Option<Arc<Message>>,
    },
    /// A detached session ends then.
    SessionDue {
        session: SessionKey,
        epoch: u64,
        at_ms: u64,
    },
    /// A will is sent then.
    WillDue {
        session: SessionKey,
        epoch: u64,
        at_ms: u64,
    },
    /// A session has ended: its routes and rows have to go.
    SweepDue {
        session: SessionKey,
        incarnation: u64,
    },
    /// A session remembers many publishers; some may have nothing unreleased.
    TidyDue {
        session: SessionKey,
        incarnation: u64,
    },
}

/// Who owns a durable session, and what is durable of its queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ownership {
    pub(crate) session: SessionKey,
    pub(crate) incarnation: u64,
    pub(crate) epoch: u64,
    pub(crate) owner: ConnectionRef,
    pub(crate) next_seq: u64,
    pub(crate) sent_before: u64,
    pub(crate) floor: u64,
}

#[cfg(test)]
impl Default for Store {
    fn default() -> Self {
        Self::within(crate::Config::default().heads_bytes_max)
    }
}

impl Store {
    /// A store that keeps about so many bytes of what the rows say in memory.
    pub(crate) fn within(heads_bytes_max: usize) -> Self {
        Self {
            heads: Heads::within(heads_bytes_max),
        }
    }
}

impl Coprocessor for Store {
    type Command = Command;
    type Reply = Reply;
    type Effect = Effect;
    type Query = Query;
    type Answer = Answer;

    const NAME: &'static str = "inbox";
    const KEYSPACES: &'static [Keyspace] = &[BODY, SUB, META, DEADLINE];

    fn apply(&mut self, rows: &mut Rows<'_>, command: Command, effects: &mut Vec<Effect>) -> Reply {
        let heads = &mut self.heads;
        match command {
            Command::Attach(command) => attach::apply(heads, rows, *command, effects),
            Command::Detach(command) => detach::apply(heads, rows, &command, effects),
            Command::Subscribe(command) => subscribe::add(heads, rows, &command),
            Command::Unsubscribe(command) => subscribe::remove(heads, rows, &command),
            Command::ConfirmRoutes(command) => subscribe::confirm(heads, rows, &command),
            Command::Insert(command) => insert::apply(heads, rows, command, effects),
            Command::InsertRetained(command) => insert::retained(heads, rows, command, effects),
            Command::Settle(command) => settle::apply(heads, rows, &command),
            Command::BeginInbound(command) => inbound::begin(heads, rows, &command),
            Command::ReleaseInbound(command) => inbound::release(heads, rows, &command),
            Command::StorePicks(command) => inbound::store_picks(heads, rows, &command),
            Command::Expire(command) => expire::apply(heads, rows, &command, effects),
            Command::WillSent(command) => will::sent(rows, &command),
            Command::Sweep(command) => sweep::apply(heads, rows, &command),
            Command::Tidy(command) => tidy::apply(heads, rows, &command),
        }
    }

    fn query(read: &dyn Read, query: Query) -> Result<Answer, StorageError> {
        query::answer(read, query)
    }

    fn align_split(key: &[u8]) -> Vec<u8> {
        crate::schema::align_split(key)
    }

    /// Whoever comes to empty a queue, and whatever deletes, is let in below the free-space floor.
    fn frees_space(command: &Command) -> bool {
        match command {
            Command::Attach(attach) => !attach.clean_start && attach.will.is_none(),
            Command::Subscribe(_)
            | Command::Insert(_)
            | Command::InsertRetained(_)
            | Command::BeginInbound(_)
            | Command::StorePicks(_) => false,
            Command::Detach(_)
            | Command::Unsubscribe(_)
            | Command::ConfirmRoutes(_)
            | Command::Settle(_)
            | Command::ReleaseInbound(_)
            | Command::Expire(_)
            | Command::WillSent(_)
            | Command::Sweep(_)
            | Command::Tidy(_) => true,
        }
    }
}

/// Reads the rows in a command's way: as of now, deletions of this batch included.
fn count_rows(rows: &Rows<'_>, ks: Keyspace, range: &crate::schema::KeyRange) -> usize {
    let forward = bifrust_storage::Direction::Forward;
    rows.range(ks, range.start(), range.end(), forward).count()
}
