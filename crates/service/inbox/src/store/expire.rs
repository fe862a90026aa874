//! The end of a detached session's time.

use bifrust_kv::Rows;

use super::command::Expire;
use super::end::end;
use super::heads::Heads;
use super::{Effect, Reply};

/// Ends the session if its time is over and nobody has come for it.
pub(super) fn apply(
    heads: &mut Heads,
    rows: &mut Rows<'_>,
    command: &Expire,
    effects: &mut Vec<Effect>,
) -> Reply {
    let now_ms = command.stamp.millis();
    let is_over = heads
        .get(rows, &command.session)
        .is_some_and(|head| head.meta.epoch == command.epoch && head.meta.has_expired(now_ms));
    if !is_over {
        return Reply::Fenced;
    }
    end(heads, rows, &command.session, now_ms, effects);
    Reply::Done
}
