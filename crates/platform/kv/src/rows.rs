//! The rows of a range while a batch of commands is applied: the engine's, and over them what the
//! batch has written so far.

use std::cell::OnceCell;
use std::collections::{BTreeMap, btree_map};
use std::iter::Peekable;
use std::ops::Bound;

use bifrust_storage::{Direction, Keyspace, Read, StorageError, WriteBatch};
use bytes::Bytes;

use crate::lane::Usage;

/// `None`: deleted by this batch.
type Overlay = BTreeMap<Bytes, Option<Bytes>>;

/// Rows of one range as `apply` sees them: the engine's and everything written earlier in this batch.
///
/// Reads are infallible here: after a storage error they find nothing, the batch is thrown away and
/// the process stops.
pub struct Rows<'a> {
    read: &'a dyn Read,
    keyspaces: &'static [Keyspace],
    overlays: Vec<Overlay>,
    written: Usage,
    failure: OnceCell<StorageError>,
}

impl<'a> Rows<'a> {
    /// The rows of `keyspaces`, nothing written yet.
    pub(crate) fn new(read: &'a dyn Read, keyspaces: &'static [Keyspace]) -> Self {
        Self {
            read,
            keyspaces,
            overlays: keyspaces.iter().map(|_| Overlay::new()).collect(),
            written: Usage::default(),
            failure: OnceCell::new(),
        }
    }

    /// The row's value.
    pub fn get(&self, ks: Keyspace, key: &[u8]) -> Option<Bytes> {
        let overlay = &self.overlays[self.position(ks)?];
        if let Some(written) = overlay.get(key) {
            return written.clone();
        }
        self.read.get(ks, key).unwrap_or_else(|error| {
            self.fail(error);
            None
        })
    }

    /// Inserts or replaces a row.
    pub fn put(&mut self, ks: Keyspace, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        self.set(ks, key.into(), Some(value.into()));
    }

    /// Removes a row if it is there.
    pub fn delete(&mut self, ks: Keyspace, key: impl Into<Bytes>) {
        self.set(ks, key.into(), None);
    }

    /// Rows between the bounds in order; bounds that cross give none.
    pub fn range(
        &self,
        ks: Keyspace,
        start: Bound<&[u8]>,
        end: Bound<&[u8]>,
        direction: Direction,
    ) -> Iter<'_> {
        let overlay = match self.position(ks) {
            Some(at) if !is_empty(start, end) => self.overlays[at].range::<[u8], _>((start, end)),
            _ => return Iter::empty(self),
        };
        Iter {
            stored: self.read.range(ks, start, end, direction).peekable(),
            written: Written { overlay, direction }.peekable(),
            direction,
            rows: self,
        }
    }

    /// Adds what was written to `batch`, each row once; the error that a read met, if any.
    pub(crate) fn finish(self, batch: &mut WriteBatch) -> Result<(), StorageError> {
        if let Some(error) = self.failure.into_inner() {
            return Err(error);
        }
        for (ks, overlay) in self.keyspaces.iter().zip(self.overlays) {
            for (key, written) in overlay {
                match written {
                    Some(value) => batch.put(*ks, key, value),
                    None => batch.delete(*ks, key),
                }
            }
        }
        Ok(())
    }

    /// How much was written, each write counted.
    pub(crate) fn written(&self) -> Usage {
        self.written
    }

    fn set(&mut self, ks: Keyspace, key: Bytes, value: Option<Bytes>) {
        if let Some(at) = self.position(ks) {
            self.written.add(Usage {
                items: 1,
                bytes: key.len() + value.as_ref().map_or(0, Bytes::len),
            });
            self.overlays[at].insert(key, value);
        }
    }

    fn position(&self, ks: Keyspace) -> Option<usize> {
        let at = self.keyspaces.iter().position(|known| *known == ks);
        if at.is_none() {
            self.fail(StorageError::UnknownKeyspace(ks.0));
        }
        at
    }

    fn fail(&self, error: StorageError) {
        let _ = self.failure.set(error); // The first one counts.
    }
}

/// Rows in order; made by [`Rows::range`].
pub struct Iter<'a> {
    stored: Peekable<bifrust_storage::Rows<'a>>,
    written: Peekable<Written<'a>>,
    direction: Direction,
    rows: &'a Rows<'a>,
}

impl<'a> Iter<'a> {
    fn empty(rows: &'a Rows<'a>) -> Self {
        let stored: bifrust_storage::Rows<'a> = Box::new(std::iter::empty());
        let direction = Direction::Forward;
        let overlay = btree_map::Range::default();
        Self {
            stored: stored.peekable(),
            written: Written { overlay, direction }.peekable(),
            direction,
            rows,
        }
    }

    /// Which side has the next key; what is written hides what is stored under the same key.
    fn next_side(&mut self) -> Option<Side> {
        let stored = match self.stored.peek() {
            Some(Ok((key, _))) => Some(key),
            Some(Err(_)) => return Some(Side::Stored),
            None => None,
        };
        match (stored, self.written.peek()) {
            (None, None) => None,
            (Some(_), None) => Some(Side::Stored),
            (None, Some(_)) => Some(Side::Written),
            (Some(stored), Some((written, _))) => {
                let order = match self.direction {
                    Direction::Forward => stored.cmp(written),
                    Direction::Backward => written.cmp(&stored),
                };
                Some(match order {
                    std::cmp::Ordering::Less => Side::Stored,
                    std::cmp::Ordering::Equal => Side::Both,
                    std::cmp::Ordering::Greater => Side::Written,
                })
            }
        }
    }
}

enum Side {
    Stored,
    Written,
    Both,
}

impl Iterator for Iter<'_> {
    type Item = (Bytes, Bytes);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.next_side()? {
                Side::Stored => match self.stored.next()? {
                    Ok(row) => return Some(row),
                    Err(error) => {
                        self.rows.fail(error);
                        return None;
                    }
                },
                side => {
                    if matches!(side, Side::Both) {
                        self.stored.next();
                    }
                    if let (key, Some(value)) = self.written.next()? {
                        return Some((key.clone(), value.clone()));
                    }
                }
            }
        }
    }
}

/// One keyspace's part of the batch, in either direction.
struct Written<'a> {
    overlay: btree_map::Range<'a, Bytes, Option<Bytes>>,
    direction: Direction,
}

impl<'a> Iterator for Written<'a> {
    type Item = (&'a Bytes, &'a Option<Bytes>);

    fn next(&mut self) -> Option<Self::Item> {
        match self.direction {
            Direction::Forward => self.overlay.next(),
            Direction::Backward => self.overlay.next_back(),
        }
    }
}

/// Whether no key lies between the bounds; `BTreeMap` panics over some of those.
fn is_empty(start: Bound<&[u8]>, end: Bound<&[u8]>) -> bool {
    match (start, end) {
        (Bound::Included(start), Bound::Included(end)) => start > end,
        (Bound::Included(start) | Bound::Excluded(start), Bound::Excluded(end))
        | (Bound::Excluded(start), Bound::Included(end)) => start >= end,
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
    }
}

/// The end of the range of all keys that start with `prefix`.
pub fn prefix_end(prefix: &[u8]) -> Bound<Vec<u8>> {
    let kept = prefix.iter().rposition(|byte| *byte != u8::MAX);
    kept.map_or(Bound::Unbounded, |last| {
        let mut end = prefix[..=last].to_vec();
        end[last] += 1;
        Bound::Excluded(end)
    })
}

#[cfg(test)]
mod tests;
