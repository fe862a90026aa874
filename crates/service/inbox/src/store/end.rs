//! The end of a session: it is gone at once, its rows and routes follow in bounded steps.

use bifrust_kv::Rows;
use bifrust_model::SessionKey;

use super::Effect;
use super::heads::Heads;
use super::will::{self, Release};
use crate::schema::{DEADLINE, MARK, META};

/// Ends a session that is there. The rows of another incarnation are not in the way of a new session,
/// so that one may begin in the same command.
pub(super) fn end(
    heads: &mut Heads,
    rows: &mut Rows<'_>,
    session: &SessionKey,
    now_ms: u64,
    effects: &mut Vec<Effect>,
) {
    let Some(head) = heads.remove(session) else {
        return;
    };
    let (prefix, incarnation) = (&head.prefix, head.meta.incarnation);
    rows.delete(META, prefix.meta());
    rows.delete(DEADLINE, prefix.due_session());
    rows.put(DEADLINE, prefix.due_sweep(incarnation), MARK);
    effects.push(Effect::SweepDue {
        session: session.clone(),
        incarnation,
    });
    if !head.meta.has_will {
        return;
    }
    // MQTT-3.1.2-8: at the latest with the end of the session.
    if let Some(will) = will::find(rows, prefix, head.meta.epoch) {
        let release = Release {
            session,
            prefix,
            epoch: head.meta.epoch,
            expiry_seconds: 0,
            now_ms,
        };
        release.make_due(rows, will, effects);
    }
}
