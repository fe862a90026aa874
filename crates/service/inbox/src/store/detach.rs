//! A connection gives its session up, or is known to have gone.

use bifrust_kv::Rows;

use super::command::{Detach, WillFate};
use super::end::end;
use super::head::Head;
use super::heads::Heads;
use super::will::{self, Release};
use super::{Effect, Reply};
use crate::schema::{META, Prefix};

/// A session expiry that never comes.
const NEVER: u32 = u32::MAX;

pub(super) fn apply(
    heads: &mut Heads,
    rows: &mut Rows<'_>,
    command: &Detach,
    effects: &mut Vec<Effect>,
) -> Reply {
    let owned = heads
        .get(rows, &command.session)
        .filter(|head| head.meta.epoch == command.epoch);
    let Some(head) = owned else {
        return transient(rows, command, effects);
    };
    if head.meta.owner.is_none() {
        return Reply::Done; // Applied again.
    }
    let now_ms = command.stamp.millis();
    if let Some(expiry_seconds) = command.expiry_seconds {
        head.meta.expiry_seconds = expiry_seconds;
    }
    if head.meta.has_will {
        let (prefix, expiry_seconds) = (&head.prefix, head.meta.expiry_seconds);
        release_will(rows, prefix, command, expiry_seconds, effects);
        // A dropped one is gone; a due one may yet be stopped by the client's return.
        head.meta.has_will = command.will == WillFate::Due;
    }
    if head.meta.expiry_seconds == 0 {
        end(heads, rows, &command.session, now_ms, effects);
        return Reply::Done;
    }
    note_sent(head, command.sent_before);
    note_routed(head, rows, &command.routed);
    let expiry_ms = u64::from(head.meta.expiry_seconds) * 1000;
    head.meta.owner = None;
    head.meta.expires_ms =
        (head.meta.expiry_seconds != NEVER).then(|| now_ms.saturating_add(expiry_ms));
    head.deadline.owner = None;
    head.deadline.due_ms = head.meta.expires_ms;
    head.write_meta(rows);
    head.write_deadline(rows);
    head.write_cursor(rows);
    if let Some(at_ms) = head.meta.expires_ms {
        effects.push(Effect::SessionDue {
            session: command.session.clone(),
            epoch: command.epoch,
            at_ms,
        });
    }
    Reply::Done
}

/// The connection of a transient session: its will is all there is.
fn transient(rows: &mut Rows<'_>, command: &Detach, effects: &mut Vec<Effect>) -> Reply {
    let prefix = Prefix::new(&command.session);
    if release_will(rows, &prefix, command, 0, effects) {
        Reply::Done
    } else {
        Reply::Fenced
    }
}

/// Drops the connection's will or makes it due; whether there was one.
fn release_will(
    rows: &mut Rows<'_>,
    prefix: &Prefix,
    command: &Detach,
    expiry_seconds: u32,
    effects: &mut Vec<Effect>,
) -> bool {
    let Some(found) = will::find(rows, prefix, command.epoch) else {
        return false;
    };
    let is_armed = found.due_ms.is_none();
    match command.will {
        WillFate::Dropped if is_armed => will::delete(rows, prefix, command.epoch),
        WillFate::Due if is_armed => {
            let release = Release {
                session: &command.session,
                prefix,
                epoch: command.epoch,
                expiry_seconds,
                now_ms: command.stamp.millis(),
            };
            release.make_due(rows, found, effects);
        }
        WillFate::Dropped | WillFate::Due => {} // Applied again.
    }
    true
}

fn note_sent(head: &mut Head, sent_before: Option<u64>) {
    let sent_before = sent_before.map_or_else(
        || head.queue.sent_before(head.meta.window, &head.received),
        |seq| seq.min(head.queue.next_seq()),
    );
    head.meta.sent_before = head.meta.sent_before.max(sent_before);
}

fn note_routed(head: &mut Head, rows: &mut Rows<'_>, routed: &[u16]) {
    for packet_id in routed {
        let Some(inbound) = head.inbound.get_mut(packet_id) else {
            continue;
        };
        if !inbound.is_routed {
            inbound.is_routed = true;
            let key = head.prefix.inbound(head.meta.incarnation, *packet_id);
            rows.put(META, key, inbound.encode());
        }
    }
}
