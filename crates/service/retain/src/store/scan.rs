//! From a filter to its messages: a skip-scan over topics in level order, page by page.
//!
//! Rows that match stand next to each other below a `#`, and are walked without looking anything up.
//! What cannot match is skipped: by stepping over it if it is short, else by a new look-up.

use std::ops::Bound;

use bifrust_kv::prefix_end;
use bifrust_model::Expiry;
use bifrust_model::levels::{FilterLevels, Step};
use bifrust_storage::{Direction, Read, Row, Rows, StorageError};
use bytes::Bytes;

use super::{BODY, Found, Scan};
use crate::schema::command::Stamped;
use crate::schema::{self, body};

/// Rows that one page looks at, so that a scan gives way to others; the next page goes on.
const LOOKS_MAX: usize = 4_096;

/// Rows that are stepped over before a look-up skips the rest.
const STEPS_MAX: usize = 3;

/// The next page.
pub(crate) fn page(read: &dyn Read, query: &Scan) -> Result<Found, StorageError> {
    let mut found = Found::default();
    if !query.filter.has_wildcard() {
        let key = schema::key(query.tenant, query.filter.plain());
        if query.after.is_none()
            && let Some(value) = read.get(BODY, &key)?
        {
            found.add(&key, value, query.now_ms);
        }
        return Ok(found);
    }
    let levels = FilterLevels::new(query.filter.plain());
    let tenant = query.tenant.key();
    let mut from = Vec::new();
    levels.first(&mut from);
    let mut target = [&tenant[..], &from].concat();
    let start = match &query.after {
        Some(after) => Bound::Excluded(&after[..]),
        None => Bound::Included(&target[..]),
    };
    let mut walk = Walk::new(read, &target, start);
    let mut weight = 0;
    let mut looks = 0;
    while let Some((key, value)) = walk.next()? {
        looks += 1;
        let topic = key.get(tenant.len()..).unwrap_or_default();
        match levels.step(topic, &mut from) {
            Step::Matches => weight += found.add(&key, value, query.now_ms),
            Step::Skip => {
                target.truncate(tenant.len());
                target.extend_from_slice(&from);
                walk.skip_to(&target)?;
            }
            Step::End => break,
        }
        let is_full = found.messages.len() >= query.limit.messages || weight >= query.limit.bytes;
        if looks == LOOKS_MAX || (is_full && !found.messages.is_empty()) {
            found.next = Some(Bytes::copy_from_slice(&key));
            break;
        }
    }
    Ok(found)
}

/// The rows that begin with the filter's own levels, in order.
struct Walk<'r> {
    read: &'r dyn Read,
    rows: Rows<'r>,
    end: Bound<Vec<u8>>,
    /// Met while skipping.
    peeked: Option<Row>,
}

impl<'r> Walk<'r> {
    fn new(read: &'r dyn Read, prefix: &[u8], start: Bound<&[u8]>) -> Self {
        let end = prefix_end(prefix);
        let rows = read.range(
            BODY,
            start,
            end.as_ref().map(Vec::as_slice),
            Direction::Forward,
        );
        Self {
            read,
            rows,
            end,
            peeked: None,
        }
    }

    fn next(&mut self) -> Result<Option<Row>, StorageError> {
        match self.peeked.take() {
            Some(row) => Ok(Some(row)),
            None => self.rows.next().transpose(),
        }
    }

    /// The next row will be the first one at or after `target`.
    fn skip_to(&mut self, target: &[u8]) -> Result<(), StorageError> {
        for _ in 0..STEPS_MAX {
            match self.rows.next().transpose()? {
                Some(row) if row.0[..] < *target => {}
                row => {
                    self.peeked = row;
                    return Ok(());
                }
            }
        }
        self.rows = self.read.range(
            BODY,
            Bound::Included(target),
            self.end.as_ref().map(Vec::as_slice),
            Direction::Forward,
        );
        Ok(())
    }
}

impl Found {
    /// Takes a row in; the weight of its message.
    fn add(&mut self, key: &[u8], value: Bytes, now_ms: u64) -> usize {
        let message = match body::decode(value) {
            Ok(message) => message,
            Err(error) => {
                // The others are still good.
                tracing::error!(key = %key.escape_ascii(), %error, "damaged retained message");
                return 0;
            }
        };
        if message.expiry(now_ms) == Expiry::Expired {
            self.expired.push(Stamped {
                key: Bytes::copy_from_slice(key),
                stamp: message.stamp,
            });
            return 0;
        }
        let weight = message.weight();
        self.messages.push(message);
        weight
    }
}
