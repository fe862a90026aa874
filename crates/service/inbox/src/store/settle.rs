//! Entries the client has dealt with leave the queue: a deletion each.

use bifrust_kv::Rows;
use bifrust_model::Qos;

use super::Reply;
use super::command::Settle;
use super::head::Head;
use super::heads::Heads;
use crate::schema::{BODY, MARK, META};

pub(super) fn apply(heads: &mut Heads, rows: &mut Rows<'_>, command: &Settle) -> Reply {
    let owned = heads
        .get(rows, &command.session)
        .filter(|head| head.meta.epoch == command.epoch && head.meta.owner.is_some());
    let Some(head) = owned else {
        return Reply::Fenced;
    };
    for seq in &command.received {
        receive(head, rows, *seq);
    }
    for seq in &command.done {
        finish(head, rows, *seq);
    }
    head.note_progress(rows);
    Reply::Done
}

/// PUBREC was seen: the message is the client's now, only its number is kept until PUBCOMP.
fn receive(head: &mut Head, rows: &mut Rows<'_>, seq: u64) {
    let queued = head.queue.get(seq);
    if queued.is_none_or(|held| held.qos != Qos::ExactlyOnce) {
        return;
    }
    let incarnation = head.meta.incarnation;
    head.queue.remove(seq);
    head.received.insert(seq);
    rows.delete(BODY, head.prefix.entry(incarnation, seq));
    rows.put(META, head.prefix.received(incarnation, seq), MARK);
}

fn finish(head: &mut Head, rows: &mut Rows<'_>, seq: u64) {
    let incarnation = head.meta.incarnation;
    if head.queue.remove(seq).is_some() {
        rows.delete(BODY, head.prefix.entry(incarnation, seq));
    } else if head.received.remove(&seq) {
        rows.delete(META, head.prefix.received(incarnation, seq));
    }
}
