//! QoS 2 publishes of the session's client: begun before they are routed, released before PUBCOMP.

use bifrust_kv::Rows;

use super::Reply;
use super::command::{BeginInbound, ReleaseInbound};
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
    let known = head.inbound.get(&command.packet_id).copied();
    let inbound = known.unwrap_or(Inbound {
        generation: head.next_generation,
        is_routed: false,
        epoch: command.epoch,
        stamp: command.stamp.0,
    });
    if known.is_none() {
        head.next_generation += 1;
        head.inbound.insert(command.packet_id, inbound);
        let key = head.prefix.inbound(incarnation, command.packet_id);
        rows.put(META, key, inbound.encode());
    }
    Reply::Inbound {
        generation: inbound.generation,
        incarnation,
        is_routed: inbound.is_routed,
        floor: head.floor(),
    }
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
