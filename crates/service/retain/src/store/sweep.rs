//! Finds messages that have expired and that no scan meets.

use std::ops::Bound;

use bifrust_storage::{Direction, Read, StorageError};
use bytes::Bytes;

use super::{Found, META, damaged};
use crate::schema::command::Stamped;
use crate::schema::meta::Meta;

/// Small rows that one page looks at.
pub(crate) const ROWS_MAX: usize = 4_096;

/// Expired messages that one page tells of.
const FOUND_MAX: usize = 1_024;

/// The next page, over all tenants.
pub(super) fn page(
    read: &dyn Read,
    after: Option<&[u8]>,
    now_ms: u64,
) -> Result<Found, StorageError> {
    let mut found = Found::default();
    let start = after.map_or(Bound::Unbounded, Bound::Excluded);
    let rows = read.range(META, start, Bound::Unbounded, Direction::Forward);
    for (seen, row) in rows.enumerate() {
        let (key, value) = row?;
        let meta = Meta::decode(value).map_err(|error| damaged(&key, &error))?;
        if meta.is_expired(now_ms) {
            found.expired.push(Stamped {
                key: Bytes::copy_from_slice(&key),
                stamp: meta.stamp,
            });
        }
        if seen + 1 == ROWS_MAX || found.expired.len() == FOUND_MAX {
            found.next = Some(Bytes::copy_from_slice(&key));
            break;
        }
    }
    Ok(found)
}
