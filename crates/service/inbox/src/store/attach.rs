//! A connection takes its session: an older one goes on, ends, or is another user's.

use bifrust_kv::Rows;

use super::command::{Attach, Attached};
use super::end::end;
use super::head::Head;
use super::heads::Heads;
use super::will::{self, Release};
use super::{Effect, Ownership, Reply};
use crate::schema::{Meta, Prefix, SessionDeadline};

/// What an attach means to the session that is there.
enum Standing {
    /// The same attach once more.
    Repeated,
    /// A newer one has been applied.
    Stale,
    OtherUser,
    Ends,
    Resumes,
}

impl Standing {
    fn of(meta: &Meta, command: &Attach) -> Self {
        let (node, latest) = (command.owner.node, meta.node);
        if node == latest && command.stamp == meta.attached_at {
            return Self::Repeated;
        }
        // Stamps of one incarnation only rise; across incarnations the wall clock may have gone back.
        let is_older = node == latest && command.stamp < meta.attached_at;
        if is_older || (node.id == latest.id && node.incarnation < latest.incarnation) {
            return Self::Stale;
        }
        if meta.has_expired(command.stamp.millis()) {
            return Self::Ends;
        }
        if meta.user != command.user {
            return Self::OtherUser;
        }
        // Expiry 0 and still attached: its connection ended without a word, and it with it.
        let ended_with_connection = meta.expiry_seconds == 0;
        if command.clean_start || ended_with_connection {
            return Self::Ends;
        }
        Self::Resumes
    }
}

pub(super) fn apply(
    heads: &mut Heads,
    rows: &mut Rows<'_>,
    command: Attach,
    effects: &mut Vec<Effect>,
) -> Reply {
    let now_ms = command.stamp.millis();
    let prefix = Prefix::new(&command.session);
    let standing = heads
        .get(rows, &command.session)
        .map(|head| (Standing::of(&head.meta, &command), head));
    match &standing {
        Some((Standing::Repeated, head)) if head.meta.owner == Some(command.owner) => {
            return Reply::Attached(attached(head));
        }
        Some((Standing::Repeated | Standing::Stale, _)) => return Reply::Fenced,
        Some((Standing::OtherUser, _)) => return Reply::OtherUser,
        Some((Standing::Ends | Standing::Resumes, _)) | None => {}
    }
    let repeats_will = will::find(rows, &prefix, command.stamp.0).is_some();
    if command.will.is_some() && !repeats_will && !will::has_room(rows, &prefix) {
        return Reply::Refused;
    }
    let mut lowest_incarnation = 0;
    match standing {
        Some((Standing::Resumes, head)) => {
            resume(head, rows, &command, effects);
            return finish(head, rows, command, effects);
        }
        Some((_, head)) => {
            lowest_incarnation = head.meta.incarnation + 1;
            end(heads, rows, &command.session, now_ms, effects);
        }
        None => {}
    }
    if command.expiry_seconds == 0 {
        return transient(rows, &prefix, command);
    }
    let incarnation = command.stamp.0.max(lowest_incarnation);
    let session = command.session.clone();
    let mut head = begin(prefix, &command, incarnation);
    let reply = finish(&mut head, rows, command, effects);
    heads.insert(session, head);
    reply
}

/// A session without rows; only its will has some.
fn transient(rows: &mut Rows<'_>, prefix: &Prefix, command: Attach) -> Reply {
    let epoch = command.stamp.0;
    if let Some(will) = command.will {
        will::put(rows, prefix, epoch, will, command.owner.node);
    }
    Reply::Attached(Attached {
        session_present: false,
        epoch,
        incarnation: epoch,
        is_durable: false,
        inbound: Vec::new(),
        released: Vec::new(),
        first_seq: 1,
        next_seq: 1,
        sent_before: 1,
        floor: 0,
    })
}

fn begin(prefix: Prefix, command: &Attach, incarnation: u64) -> Head {
    let meta = Meta {
        user: command.user.clone(),
        incarnation,
        epoch: command.stamp.0,
        owner: Some(command.owner),
        node: command.owner.node,
        attached_at: command.stamp,
        was_resumed: false,
        expiry_seconds: command.expiry_seconds,
        expires_ms: None,
        window: command.window,
        sent_before: 1,
        has_will: command.will.is_some(),
    };
    let deadline = SessionDeadline::of(&meta);
    Head::new(prefix, meta, deadline)
}

/// The new connection takes the place of the old one.
fn resume(head: &mut Head, rows: &mut Rows<'_>, command: &Attach, effects: &mut Vec<Effect>) {
    let meta = &mut head.meta;
    if meta.owner.is_some() {
        let sent_before = head.queue.sent_before(meta.window, &head.received);
        meta.sent_before = meta.sent_before.max(sent_before);
    }
    if meta.has_will {
        cancel_or_release(&head.prefix, meta, rows, command, effects);
    }
    meta.epoch = command.stamp.0.max(meta.epoch + 1);
    meta.owner = Some(command.owner);
    meta.node = command.owner.node;
    meta.attached_at = command.stamp;
    meta.was_resumed = true;
    meta.expiry_seconds = command.expiry_seconds;
    meta.expires_ms = None;
    meta.window = command.window;
    meta.has_will = command.will.is_some();
    head.deadline = SessionDeadline {
        is_unrouted: head.deadline.is_unrouted,
        ..SessionDeadline::of(meta)
    };
}

/// MQTT-3.1.3-9: a client that comes back before the delay is over stops its will.
fn cancel_or_release(
    prefix: &Prefix,
    meta: &Meta,
    rows: &mut Rows<'_>,
    command: &Attach,
    effects: &mut Vec<Effect>,
) {
    let Some(will) = will::find(rows, prefix, meta.epoch) else {
        return;
    };
    let now_ms = command.stamp.millis();
    match will.due_ms {
        Some(due_ms) if due_ms <= now_ms => {} // Being sent.
        // The old connection ended without a word.
        None if will.delay_seconds == 0 => {
            let release = Release {
                session: &command.session,
                prefix,
                epoch: meta.epoch,
                expiry_seconds: 0,
                now_ms,
            };
            release.make_due(rows, will, effects);
        }
        Some(_) | None => will::delete(rows, prefix, meta.epoch),
    }
}

/// Writes what every durable attach writes.
fn finish(
    head: &mut Head,
    rows: &mut Rows<'_>,
    command: Attach,
    effects: &mut Vec<Effect>,
) -> Reply {
    if let Some(will) = command.will {
        will::put(
            rows,
            &head.prefix,
            head.meta.epoch,
            will,
            command.owner.node,
        );
    }
    head.write_meta(rows);
    head.write_deadline(rows);
    let ownership = Ownership {
        session: command.session,
        incarnation: head.meta.incarnation,
        epoch: head.meta.epoch,
        owner: command.owner,
        next_seq: head.queue.next_seq(),
        sent_before: head.meta.sent_before,
        floor: head.floor(),
    };
    let is_new = !head.meta.was_resumed;
    effects.push(Effect::Attached { ownership, is_new });
    Reply::Attached(attached(head))
}

fn attached(head: &Head) -> Attached {
    let inbound = head.inbound.iter();
    Attached {
        session_present: head.meta.was_resumed,
        epoch: head.meta.epoch,
        incarnation: head.meta.incarnation,
        is_durable: true,
        inbound: inbound
            .map(|(id, inbound)| (*id, inbound.generation, inbound.is_routed))
            .collect(),
        released: head.received.iter().copied().collect(),
        first_seq: head.queue.first_seq(),
        next_seq: head.queue.next_seq(),
        sent_before: head.meta.sent_before,
        floor: head.floor(),
    }
}
