//! QoS 2 publishes of the session's client: begun before they are routed, released before PUBCOMP.

use bifrust_kv::Rows;
use bytes::Bytes;

use super::Reply;
use super::command::{BeginInbound, ReleaseInbound, StorePicks};
use super::heads::Heads;
use crate::schema::{Inbound, META};

/// Binds a packet id to a generation, or names the one it is bound to.
pub(super) fn begin(heads: &mut Heads, rows: &mut Rows<'_>, command: &BeginInbound) -> Reply {
    let owned = heads
        .get(rows, &command.session)
        .filter(|head| head.meta.epoch == command.epoch && head.meta.owner.is_some());
    let Some(head) = owned else {
        return Reply::Fenced;
    };
    let incarnation = head.meta.incarnation;
    let known = head.inbound.get(&command.packet_id).cloned();
    let is_new = known.is_none();
    let inbound = known.unwrap_or(Inbound {
        generation: head.next_generation,
        is_routed: false,
        epoch: command.epoch,
        stamp: command.stamp.0,
        picks: Bytes::new(),
    });
    if is_new {
        head.next_generation += 1;
        head.inbound.insert(command.packet_id, inbound.clone());
        let key = head.prefix.inbound(incarnation, command.packet_id);
        rows.put(META, key, inbound.encode());
    }
    Reply::Inbound {
        generation: inbound.generation,
        incarnation,
        is_routed: inbound.is_routed,
        floor: head.floor(),
        picks: inbound.picks,
    }
}

/// Keeps who was picked for a publish that is begun, before it is handed over. Picks only grow.
pub(super) fn store_picks(heads: &mut Heads, rows: &mut Rows<'_>, command: &StorePicks) -> Reply {
    let owned = heads
        .get(rows, &command.session)
        .filter(|head| head.meta.epoch == command.epoch && head.meta.owner.is_some());
    let Some(head) = owned else {
        return Reply::Fenced;
    };
    let begun = head.inbound.get_mut(&command.packet_id);
    let Some(inbound) = begun.filter(|begun| begun.generation == command.generation) else {
        return Reply::Refused;
    };
    if command.picks.len() > inbound.picks.len() {
        // A copy: the command's are a part of its log entry.
        inbound.picks = Bytes::copy_from_slice(&command.picks);
        let key = head
            .prefix
            .inbound(head.meta.incarnation, command.packet_id);
        rows.put(META, key, inbound.encode());
    }
    Reply::Done
}

/// Frees a packet id.
pub(super) fn release(heads: &mut Heads, rows: &mut Rows<'_>, command: &ReleaseInbound) -> Reply {
    let owned = heads
        .get(rows, &command.session)
        .filter(|head| head.meta.epoch == command.epoch && head.meta.owner.is_some());
    let Some(head) = owned else {
        return Reply::Fenced;
    };
    let incarnation = head.meta.incarnation;
    let is_later_use =
        |inbound: &Inbound| inbound.epoch == command.epoch && inbound.stamp > command.stamp.0;
    let known = head.inbound.get(&command.packet_id);
    if known.is_some_and(|inbound| !is_later_use(inbound)) {
        head.inbound.remove(&command.packet_id);
        rows.delete(META, head.prefix.inbound(incarnation, command.packet_id));
        head.note_progress(rows);
    }
    Reply::Released {
        incarnation,
        floor: head.floor(),
    }
}
