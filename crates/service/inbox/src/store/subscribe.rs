//! Subscriptions: rows first, then routes (the server's part), then a note that the two agree. What
//! ends is marked, and its row deleted with that note: until then a crash leaves a trace of it.

use bifrust_kv::Rows;
use bifrust_model::TopicFilter;

use super::Reply;
use super::command::{ConfirmRoutes, Subscribe, Unsubscribe};
use super::head::{Head, readable};
use super::heads::Heads;
use crate::Subscribed;
use crate::schema::{SUB, SubscriptionRow};

/// Adds or replaces subscriptions.
pub(super) fn add(heads: &mut Heads, rows: &mut Rows<'_>, command: &Subscribe) -> Reply {
    let owned = heads
        .get(rows, &command.session)
        .filter(|head| head.meta.epoch == command.epoch && head.meta.owner.is_some());
    let Some(head) = owned else {
        return Reply::Fenced;
    };
    if command.stamp.0 < head.deadline.changed_at {
        return Reply::Fenced; // Applied late: what came after stands.
    }
    let mut count = head.count_subscriptions(rows);
    let mut results = Vec::with_capacity(command.subscriptions.len());
    for subscription in &command.subscriptions {
        let row = find(head, rows, &subscription.filter);
        let result = if row.is_some_and(|row| !row.is_leaving) {
            Subscribed::Replaced
        } else if count >= command.max_filters {
            Subscribed::QuotaExceeded
        } else {
            count += 1;
            Subscribed::New
        };
        if result != Subscribed::QuotaExceeded {
            let row = SubscriptionRow {
                options: subscription.options,
                is_leaving: false,
            };
            put(head, rows, &subscription.filter, row);
        }
        results.push(result);
    }
    head.subscriptions = Some(count);
    Reply::Subscribed {
        results,
        was_unrouted: note_change(head, rows, command.stamp.0),
    }
}

/// Ends subscriptions; their routes are to be removed next.
pub(super) fn remove(heads: &mut Heads, rows: &mut Rows<'_>, command: &Unsubscribe) -> Reply {
    let owned = heads
        .get(rows, &command.session)
        .filter(|head| head.meta.epoch == command.epoch && head.meta.owner.is_some());
    let Some(head) = owned else {
        return Reply::Fenced;
    };
    if command.stamp.0 < head.deadline.changed_at {
        return Reply::Fenced;
    }
    let mut count = head.count_subscriptions(rows);
    let mut existed = Vec::with_capacity(command.filters.len());
    for filter in &command.filters {
        let row = find(head, rows, filter);
        // One that is leaving already counts too: its route has to go all the same.
        existed.push(row.is_some());
        if let Some(row) = row.filter(|row| !row.is_leaving) {
            let row = SubscriptionRow {
                is_leaving: true,
                ..row
            };
            put(head, rows, filter, row);
            count = count.saturating_sub(1);
        }
    }
    head.subscriptions = Some(count);
    let was_unrouted = if existed.contains(&true) {
        note_change(head, rows, command.stamp.0)
    } else {
        head.deadline.is_unrouted
    };
    Reply::Unsubscribed {
        existed,
        was_unrouted,
    }
}

/// Rows and routes agree as of a change.
pub(super) fn confirm(heads: &mut Heads, rows: &mut Rows<'_>, command: &ConfirmRoutes) -> Reply {
    let Some(head) = heads.get(rows, &command.session) else {
        return Reply::Fenced;
    };
    let is_current = head.meta.incarnation == command.incarnation
        && head.deadline.changed_at == command.changed_at;
    if !is_current || !head.deadline.is_unrouted {
        return Reply::Done;
    }
    for filter in &command.gone {
        if find(head, rows, filter).is_some_and(|row| row.is_leaving) {
            let key = head.prefix.subscription(head.meta.incarnation, filter);
            rows.delete(SUB, key);
        }
    }
    head.deadline.is_unrouted = false;
    head.write_deadline(rows);
    Reply::Done
}

fn find(head: &Head, rows: &Rows<'_>, filter: &TopicFilter) -> Option<SubscriptionRow> {
    let key = head.prefix.subscription(head.meta.incarnation, filter);
    let value = rows.get(SUB, &key)?;
    Some(readable(SubscriptionRow::decode(value)))
}

fn put(head: &Head, rows: &mut Rows<'_>, filter: &TopicFilter, row: SubscriptionRow) {
    let key = head.prefix.subscription(head.meta.incarnation, filter);
    rows.put(SUB, key, row.encode());
}

/// Rows have changed and routes have not yet. Whether that was so before.
fn note_change(head: &mut Head, rows: &mut Rows<'_>, changed_at: u64) -> bool {
    let before = head.deadline;
    head.deadline.is_unrouted = true;
    head.deadline.changed_at = changed_at;
    if head.deadline != before {
        head.write_deadline(rows);
    }
    before.is_unrouted
}
