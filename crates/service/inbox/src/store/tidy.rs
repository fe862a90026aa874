//! What a session remembers of its QoS 2 publishers is given up once they have nothing unreleased.

use bifrust_kv::Rows;
use bifrust_model::{ClientId, SessionKey, TenantNumber};
use bifrust_storage::Direction;

use super::Reply;
use super::command::Tidy;
use super::head::readable;
use super::heads::Heads;
use crate::schema::{DEADLINE, Inbound, META, Meta, Prefix, Seen, SeenWills};

pub(super) fn apply(heads: &mut Heads, rows: &mut Rows<'_>, command: &Tidy) -> Reply {
    let found = heads
        .get(rows, &command.session)
        .filter(|head| head.meta.incarnation == command.incarnation);
    let Some(head) = found else {
        return Reply::Fenced;
    };
    for publisher in &command.publishers {
        let row = head.prefix.seen(command.incarnation, publisher);
        if let Some(value) = rows.get(META, &row) {
            let seen = readable(Seen::decode(value));
            if !is_needed(rows, &command.session, publisher, &seen) {
                rows.delete(META, row);
            }
        }
        let row = head.prefix.seen_wills(command.incarnation, publisher);
        if let Some(value) = rows.get(META, &row) {
            let mut seen = readable(SeenWills::decode(value));
            keep_waiting(rows, command.session.tenant, publisher, &mut seen);
            if seen.connections.is_empty() {
                rows.delete(META, row);
            }
        }
    }
    Reply::Done
}

/// Keeps of the wills that were taken those that may come again: the ones that still have rows.
pub(super) fn keep_waiting(
    rows: &Rows<'_>,
    tenant: TenantNumber,
    publisher: &ClientId,
    seen: &mut SeenWills,
) {
    let prefix = Prefix::new(&SessionKey {
        tenant,
        client: publisher.clone(),
    });
    seen.connections
        .retain(|connection| rows.get(DEADLINE, &prefix.due_will(*connection)).is_some());
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
