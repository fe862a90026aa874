//! How many members a group has.

use std::ops::Bound;

use bifrust_kv::prefix_end;
use bifrust_storage::{Direction, Read, StorageError};

use super::{ROUTES, RoomQuery};

/// Reads no more rows than the group may have members.
pub(super) fn has_room(read: &dyn Read, query: &RoomQuery) -> Result<bool, StorageError> {
    let end = prefix_end(&query.prefix);
    let end = end.as_ref().map(Vec::as_slice);
    let found = read.seek(ROUTES, &query.key, end)?;
    if found.is_some_and(|(key, _)| key == query.key) {
        return Ok(true);
    }
    let start = Bound::Included(&query.prefix[..]);
    let rows = read.range(ROUTES, start, end, Direction::Forward);
    let mut count = 0;
    for row in rows.take(query.members_max) {
        row?;
        count += 1;
    }
    Ok(count < query.members_max)
}
