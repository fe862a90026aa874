//! What a session remembers of its QoS 2 publishers is given up once they have nothing unreleased.

use bifrust_kv::Rows;
use bifrust_model::{ClientId, SessionKey};
use bifrust_storage::Direction;

use super::Reply;
use super::command::Tidy;
use super::head::readable;
use super::heads::Heads;
use crate::schema::{Inbound, META, Meta, Prefix, Seen};

pub(super) fn apply(heads: &mut Heads, rows: &mut Rows<'_>, command: &Tidy) -> Reply {
    let found = heads
        .get(rows, &command.session)
        .filter(|head| head.meta.incarnation == command.incarnation);
    let Some(head) = found else {
        return Reply::Fenced;
    };
    for publisher in &command.publishers {
        let row = head.prefix.seen(command.incarnation, publisher);
        let Some(value) = rows.get(META, &row) else {
            continue;
        };
        let seen = readable(Seen::decode(value));
        if !is_needed(rows, &command.session, publisher, &seen) {
            rows.delete(META, row);
        }
    }
    Reply::Done
}

/// Whether the publisher may send again what was seen. Its rows are of this range, as all rows of
/// the service are; they are read as they are, since it need not be in use.
fn is_needed(rows: &Rows<'_>, session: &SessionKey, publisher: &ClientId, seen: &Seen) -> bool {
    let prefix = Prefix::new(&SessionKey {
        tenant: session.tenant,
        client: publisher.clone(),
    });
    let meta = rows.get(META, &prefix.meta());
    let incarnation = meta.map(|value| readable(Meta::decode(value)).incarnation);
    if incarnation != Some(seen.session()) {
        return false; // That session has ended.
    }
    let range = prefix.all_inbound(seen.session());
    rows.range(META, range.start(), range.end(), Direction::Forward)
        .any(|(_, value)| seen.contains(readable(Inbound::decode(value)).generation))
}
