//! Wills: stored when a connection is attached, due when it ends, gone once they are sent.

use bifrust_kv::Rows;
use bifrust_model::{NodeRef, SessionKey};

use super::command::WillSent;
use super::head::readable;
use super::{Effect, Reply, count_rows};
use crate::Will;
use crate::schema::{DEADLINE, META, Prefix, WillDeadline, WillRow};

/// Wills of one client that may wait to be sent. One more and the client is refused until they are.
const WAITING_MAX: usize = 64;

/// Whether one more will of this client may be stored.
pub(super) fn has_room(rows: &Rows<'_>, prefix: &Prefix) -> bool {
    count_rows(rows, DEADLINE, &prefix.all_due_wills()) < WAITING_MAX
}

/// Stores the will of a connection that is attached.
pub(super) fn put(rows: &mut Rows<'_>, prefix: &Prefix, epoch: u64, will: Will, owner: NodeRef) {
    let deadline = WillDeadline {
        owner: Some(owner),
        due_ms: None,
        delay_seconds: will.delay_seconds,
    };
    rows.put(DEADLINE, prefix.due_will(epoch), deadline.encode());
    rows.put(META, prefix.will(epoch), WillRow(will).encode());
}

/// The deadline of a will, if it is still there.
pub(super) fn find(rows: &Rows<'_>, prefix: &Prefix, epoch: u64) -> Option<WillDeadline> {
    let value = rows.get(DEADLINE, &prefix.due_will(epoch))?;
    Some(readable(WillDeadline::decode(value)))
}

/// Deletes a will.
pub(super) fn delete(rows: &mut Rows<'_>, prefix: &Prefix, epoch: u64) {
    rows.delete(DEADLINE, prefix.due_will(epoch));
    rows.delete(META, prefix.will(epoch));
}

/// A will that is to be made due.
pub(super) struct Release<'a> {
    pub(super) session: &'a SessionKey,
    pub(super) prefix: &'a Prefix,
    pub(super) epoch: u64,
    /// The session's end cuts a delay short (MQTT-3.1.3.2.2); 0: at once.
    pub(super) expiry_seconds: u32,
    pub(super) now_ms: u64,
}

impl Release<'_> {
    /// Makes the will due after its delay or, if that is earlier, with the session's end.
    pub(super) fn make_due(
        &self,
        rows: &mut Rows<'_>,
        will: WillDeadline,
        effects: &mut Vec<Effect>,
    ) {
        let delay_seconds = will.delay_seconds.min(self.expiry_seconds);
        let at_ms = self.now_ms.saturating_add(u64::from(delay_seconds) * 1000);
        // One that is due already stays as early as it was.
        let at_ms = will.due_ms.map_or(at_ms, |due_ms| due_ms.min(at_ms));
        let due = WillDeadline {
            owner: None,
            due_ms: Some(at_ms),
            ..will
        };
        if due != will {
            rows.put(DEADLINE, self.prefix.due_will(self.epoch), due.encode());
        }
        effects.push(Effect::WillDue {
            session: self.session.clone(),
            epoch: self.epoch,
            at_ms,
        });
    }
}

/// The will is done with.
pub(super) fn sent(rows: &mut Rows<'_>, command: &WillSent) -> Reply {
    delete(rows, &Prefix::new(&command.session), command.epoch);
    Reply::Done
}
