//! What the rows answer, on reader threads.

use std::ops::Bound;

use bifrust_model::record::RecordError;
use bifrust_model::{ClientId, Expiry, Qos, SessionKey, Subscription, TopicFilter};
use bifrust_storage::{Direction, Read, StorageError};
use bytes::Bytes;

use crate::schema::{
    BODY, DEADLINE, DeadlineKey, Entry, META, Prefix, SUB, SessionDeadline, SubscriptionRow,
    WillDeadline, WillRow, number_at_end, parse_deadline,
};
use crate::{Delivery, PageLimit, Will};

/// What can be asked.
#[derive(Clone, Debug)]
pub(crate) enum Query {
    /// Whether the client has a session with rows.
    Exists(SessionKey),
    /// What the latest change of a session's subscriptions was.
    RouteChange(SessionKey),
    /// Subscriptions of a session after a filter.
    Subscriptions {
        session: SessionKey,
        incarnation: u64,
        after: Option<TopicFilter>,
        limit: usize,
    },
    /// A page of a session's queue.
    Entries(Page),
    /// What groups gave to an ended session, of its first entries.
    Shared {
        session: SessionKey,
        incarnation: u64,
        limit: usize,
    },
    /// Publishers that a session remembers, after one.
    Publishers {
        session: SessionKey,
        incarnation: u64,
        after: Option<ClientId>,
        limit: usize,
    },
    /// A will that is due.
    Will { session: SessionKey, epoch: u64 },
    /// What has a deadline or is attached, after a key.
    Deadlines { after: Option<Bytes>, limit: usize },
}

/// A part of a session's queue.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    pub(crate) session: SessionKey,
    pub(crate) incarnation: u64,
    /// From this number on,
    pub(crate) from: u64,
    /// below this one: what lies above is not known to be durable.
    pub(crate) before: u64,
    /// Entries below may have been sent by an earlier connection.
    pub(crate) sent_before: u64,
    pub(crate) limit: PageLimit,
    pub(crate) now_ms: u64,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Exists(bool),
    Subscriptions {
        subscriptions: Vec<Subscription>,
        /// Those that have ended and may still have their routes.
        leaving: Vec<TopicFilter>,
        /// Where to go on.
        last: Option<TopicFilter>,
    },
    RouteChange(Option<RouteChange>),
    Entries {
        deliveries: Vec<Delivery>,
        /// Entries whose message has expired and was never sent.
        expired: Vec<u64>,
        next: u64,
    },
    Shared(Vec<Entry>),
    Publishers(Vec<ClientId>),
    Will(Option<Will>),
    Deadlines {
        found: Vec<(SessionKey, Due)>,
        /// Where to go on.
        last: Option<Bytes>,
    },
}

/// A change of a session's subscriptions, confirmed or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RouteChange {
    pub(crate) incarnation: u64,
    pub(crate) changed_at: u64,
}

/// A row of `inbox_deadline`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    Session(SessionDeadline),
    Will { epoch: u64, deadline: WillDeadline },
    Sweep { incarnation: u64 },
}

pub(super) fn answer(read: &dyn Read, query: Query) -> Result<Answer, StorageError> {
    match query {
        Query::Exists(session) => {
            let meta = read.get(META, &Prefix::new(&session).meta())?;
            Ok(Answer::Exists(meta.is_some()))
        }
        Query::RouteChange(session) => {
            let row = read.get(DEADLINE, &Prefix::new(&session).due_session())?;
            let row = row.map(|value| readable(SessionDeadline::decode(value)));
            Ok(Answer::RouteChange(row.transpose()?.map(|row| {
                RouteChange {
                    incarnation: row.incarnation,
                    changed_at: row.changed_at,
                }
            })))
        }
        Query::Subscriptions {
            session,
            incarnation,
            after,
            limit,
        } => subscriptions(read, &session, incarnation, after.as_ref(), limit),
        Query::Entries(page) => entries(read, &page),
        Query::Shared {
            session,
            incarnation,
            limit,
        } => shared(read, &session, incarnation, limit),
        Query::Publishers {
            session,
            incarnation,
            after,
            limit,
        } => publishers(read, &session, incarnation, after.as_ref(), limit),
        Query::Will { session, epoch } => {
            let row = read.get(META, &Prefix::new(&session).will(epoch))?;
            let row = row.map(|value| readable(WillRow::decode(value)));
            Ok(Answer::Will(row.transpose()?.map(|row| row.0)))
        }
        Query::Deadlines { after, limit } => deadlines(read, after, limit),
    }
}

fn subscriptions(
    read: &dyn Read,
    session: &SessionKey,
    incarnation: u64,
    after: Option<&TopicFilter>,
    limit: usize,
) -> Result<Answer, StorageError> {
    let prefix = Prefix::new(session);
    let range = prefix.all_subscriptions(incarnation);
    let after = after.map(|filter| prefix.subscription(incarnation, filter));
    let start = after
        .as_deref()
        .map_or_else(|| range.start(), Bound::Excluded);
    let mut rows = read.range(SUB, start, range.end(), Direction::Forward);
    let mut subscriptions = Vec::new();
    let mut leaving = Vec::new();
    let mut last = None;
    for row in rows.by_ref().take(limit) {
        let (key, value) = row?;
        let filter = prefix
            .filter_of(&key)
            .ok_or_else(|| unreadable(RecordError::Invalid("filter")))?;
        let row = readable(SubscriptionRow::decode(value))?;
        last = Some(filter.clone());
        if row.is_leaving {
            leaving.push(filter);
        } else {
            let options = row.options;
            subscriptions.push(Subscription { filter, options });
        }
    }
    if rows.next().transpose()?.is_none() {
        last = None;
    }
    Ok(Answer::Subscriptions {
        subscriptions,
        leaving,
        last,
    })
}

fn shared(
    read: &dyn Read,
    session: &SessionKey,
    incarnation: u64,
    limit: usize,
) -> Result<Answer, StorageError> {
    let range = Prefix::new(session).all_entries(incarnation);
    let rows = read.range(BODY, range.start(), range.end(), Direction::Forward);
    let mut entries = Vec::new();
    for row in rows.take(limit) {
        let (_, value) = row?;
        if Entry::peek_group(&value) {
            entries.push(readable(Entry::decode(value))?);
        }
    }
    Ok(Answer::Shared(entries))
}

fn publishers(
    read: &dyn Read,
    session: &SessionKey,
    incarnation: u64,
    after: Option<&ClientId>,
    limit: usize,
) -> Result<Answer, StorageError> {
    let prefix = Prefix::new(session);
    let range = prefix.all_seen(incarnation);
    // The last of a publisher's rows.
    let after = after.map(|publisher| prefix.seen_wills(incarnation, publisher));
    let start = after
        .as_deref()
        .map_or_else(|| range.start(), Bound::Excluded);
    let rows = read.range(META, start, range.end(), Direction::Forward);
    let mut publishers = Vec::new();
    for row in rows.take(limit) {
        let publisher = prefix.publisher_of(&row?.0);
        publishers
            .push(publisher.ok_or_else(|| unreadable(RecordError::Invalid("publisher key")))?);
    }
    publishers.dedup();
    Ok(Answer::Publishers(publishers))
}

fn entries(read: &dyn Read, page: &Page) -> Result<Answer, StorageError> {
    let prefix = Prefix::new(&page.session);
    let start = prefix.entry(page.incarnation, page.from);
    let end = prefix.entry(page.incarnation, page.before.max(page.from));
    let mut deliveries = Vec::new();
    let mut expired = Vec::new();
    let mut bytes = 0;
    let rows = read.range(
        BODY,
        Bound::Included(&start),
        Bound::Excluded(&end),
        Direction::Forward,
    );
    for row in rows {
        let (key, value) = row?;
        let seq =
            number_at_end(&key).ok_or_else(|| unreadable(RecordError::Invalid("entry key")))?;
        let is_full = deliveries.len() >= page.limit.messages || bytes >= page.limit.bytes;
        if is_full && !deliveries.is_empty() {
            return Ok(Answer::Entries {
                deliveries,
                expired,
                next: seq,
            });
        }
        let Entry { header, message } = readable(Entry::decode(value))?;
        let possibly_sent = header.qos > Qos::AtMostOnce && seq < page.sent_before;
        // MQTT-3.3.2-5 speaks of messages whose delivery has not started.
        if message.expiry(page.now_ms) == Expiry::Expired && !possibly_sent {
            expired.push(seq);
            continue;
        }
        bytes += message.weight();
        deliveries.push(Delivery {
            seq,
            qos: header.qos,
            retain: header.retain,
            subscription_ids: header.ids,
            message,
            possibly_sent,
        });
    }
    Ok(Answer::Entries {
        deliveries,
        expired,
        next: page.before.max(page.from),
    })
}

fn deadlines(read: &dyn Read, after: Option<Bytes>, limit: usize) -> Result<Answer, StorageError> {
    let start = after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
    let rows = read.range(DEADLINE, start, Bound::Unbounded, Direction::Forward);
    let mut found = Vec::new();
    let mut last = None;
    for row in rows.take(limit) {
        let (key, value) = row?;
        let (session, what) =
            parse_deadline(&key).ok_or_else(|| unreadable(RecordError::Invalid("deadline key")))?;
        let due = match what {
            DeadlineKey::Session => Due::Session(readable(SessionDeadline::decode(value))?),
            DeadlineKey::Will { epoch } => Due::Will {
                epoch,
                deadline: readable(WillDeadline::decode(value))?,
            },
            DeadlineKey::Sweep { incarnation } => Due::Sweep { incarnation },
        };
        found.push((session, due));
        last = Some(key);
    }
    if found.len() < limit {
        last = None;
    }
    Ok(Answer::Deadlines { found, last })
}

fn readable<T>(read: Result<T, RecordError>) -> Result<T, StorageError> {
    read.map_err(unreadable)
}

fn unreadable(error: RecordError) -> StorageError {
    StorageError::Engine(format!("a row of the inbox is damaged: {error}"))
}
