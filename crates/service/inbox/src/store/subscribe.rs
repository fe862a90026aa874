//! Subscriptions: rows first, then routes (the server's part), then a note that the routes stand.

use bifrust_kv::Rows;

use super::Reply;
use super::command::{ConfirmRoutes, Subscribe, Unsubscribe};
use super::head::Head;
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
    let incarnation = head.meta.incarnation;
    let mut count = head.count_subscriptions(rows);
    let mut results = Vec::with_capacity(command.subscriptions.len());
    for subscription in &command.subscriptions {
        let key = head.prefix.subscription(incarnation, &subscription.filter);
        let result = if rows.get(SUB, &key).is_some() {
            Subscribed::Replaced
        } else if count >= command.max_filters {
            Subscribed::QuotaExceeded
        } else {
            count += 1;
            Subscribed::New
        };
        if result != Subscribed::QuotaExceeded {
            rows.put(SUB, key, SubscriptionRow(subscription.options).encode());
        }
        results.push(result);
    }
    head.subscriptions = Some(count);
    note_change(head, rows, command.stamp.0, true);
    Reply::Subscribed {
        results,
        incarnation,
    }
}

/// Removes subscriptions whose routes are gone.
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
    let incarnation = head.meta.incarnation;
    let mut count = head.count_subscriptions(rows);
    let mut existed = Vec::with_capacity(command.filters.len());
    for filter in &command.filters {
        let key = head.prefix.subscription(incarnation, filter);
        let is_there = rows.get(SUB, &key).is_some();
        if is_there {
            rows.delete(SUB, key);
            count = count.saturating_sub(1);
        }
        existed.push(is_there);
    }
    head.subscriptions = Some(count);
    let is_unrouted = head.deadline.is_unrouted;
    note_change(head, rows, command.stamp.0, is_unrouted);
    Reply::Unsubscribed(existed)
}

/// All subscriptions as of a change have their routes.
pub(super) fn confirm(heads: &mut Heads, rows: &mut Rows<'_>, command: &ConfirmRoutes) -> Reply {
    let Some(head) = heads.get(rows, &command.session) else {
        return Reply::Fenced;
    };
    let deadline = &mut head.deadline;
    let is_current =
        head.meta.incarnation == command.incarnation && deadline.changed_at == command.changed_at;
    if is_current && deadline.is_unrouted {
        deadline.is_unrouted = false;
        head.write_deadline(rows);
    }
    Reply::Done
}

fn note_change(head: &mut Head, rows: &mut Rows<'_>, changed_at: u64, is_unrouted: bool) {
    let before = head.deadline;
    head.deadline.is_unrouted = is_unrouted;
    head.deadline.changed_at = changed_at;
    if head.deadline != before {
        head.write_deadline(rows);
    }
}
