//! Finds live routes that died with their node.

use std::ops::Bound;

use bifrust_storage::{Direction, Read, StorageError};
use bytes::Bytes;

use super::{Answer, EndedQuery, ROUTES};
use crate::schema::route_key::{self, ReceiverKey};

/// One page of the search.
pub(super) fn find_ended(read: &dyn Read, query: &EndedQuery) -> Result<Answer, StorageError> {
    let start = Bound::Included(&query.from[..]);
    let rows = read.range(ROUTES, start, Bound::Unbounded, Direction::Forward);
    let mut keys = Vec::new();
    for (seen, row) in rows.enumerate() {
        let (key, _) = row?;
        if seen == query.rows_max {
            let next = Some(Bytes::copy_from_slice(&key));
            return Ok(Answer::Ended { keys, next });
        }
        let node = match route_key::decode(&key).map(|key| key.receiver) {
            Some(ReceiverKey::Live(node)) => node,
            Some(ReceiverKey::Member(session)) => session.node,
            Some(ReceiverKey::Inbox { .. }) | None => continue,
        };
        if node.id == query.node && node.incarnation < query.before {
            keys.push(Bytes::copy_from_slice(&key));
        }
    }
    Ok(Answer::Ended { keys, next: None })
}
