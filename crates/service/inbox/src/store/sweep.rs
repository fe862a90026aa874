//! Rows of ended sessions go in bounded steps, subscriptions only after their routes.

use bifrust_kv::Rows;
use bifrust_storage::{Direction, Keyspace};
use bytes::Bytes;

use super::Reply;
use super::command::Sweep;
use super::heads::Heads;
use crate::schema::{BODY, DEADLINE, KeyRange, META, Prefix, SUB};

pub(super) fn apply(heads: &mut Heads, rows: &mut Rows<'_>, command: &Sweep) -> Reply {
    let prefix = Prefix::new(&command.session);
    let incarnation = command.incarnation;
    let is_alive = heads
        .get(rows, &command.session)
        .is_some_and(|head| head.meta.incarnation == incarnation);
    let mark = prefix.due_sweep(incarnation);
    if is_alive || rows.get(DEADLINE, &mark).is_none() {
        return Reply::Swept { more: false };
    }
    for filter in &command.filters {
        rows.delete(SUB, prefix.subscription(incarnation, filter));
    }
    let mut left = command.limit as usize;
    for (ks, range) in [
        (BODY, prefix.all_entries(incarnation)),
        (META, prefix.all_received(incarnation)),
        (META, prefix.all_inbound(incarnation)),
        (META, prefix.all_seen(incarnation)),
    ] {
        left -= delete_some(rows, ks, &range, left);
    }
    let subscriptions = prefix.all_subscriptions(incarnation);
    let is_subscribed = rows
        .range(
            SUB,
            subscriptions.start(),
            subscriptions.end(),
            Direction::Forward,
        )
        .next()
        .is_some();
    if left == 0 || is_subscribed {
        return Reply::Swept { more: true };
    }
    rows.delete(META, prefix.cursor(incarnation));
    rows.delete(DEADLINE, mark);
    Reply::Swept { more: false }
}

/// Deletes up to `limit` rows of a range; how many it were.
fn delete_some(rows: &mut Rows<'_>, ks: Keyspace, range: &KeyRange, limit: usize) -> usize {
    let found = rows.range(ks, range.start(), range.end(), Direction::Forward);
    let keys: Vec<Bytes> = found.take(limit).map(|(key, _)| key).collect();
    let count = keys.len();
    for key in keys {
        rows.delete(ks, key);
    }
    count
}
