//! Rows of all owners, as far as they are known here.
//!
//! An owner numbers its writes. What a replica holds of an owner is a pair (incarnation, sequence) and
//! every row that was live at that sequence, so two replicas with equal pairs hold the same rows.
//! **Invariant:** a replica at sequence S has no row that the owner removed at or before S, and has
//! each row whose last write is at or before S.
//!
//! A delta brings a replica from any sequence between its base and its end to its end. Removed rows
//! leave tombstones, of which an owner keeps a bounded number; below the `floor` they are forgotten,
//! and a replica that is older than the floor gets all rows (base 0) instead, which replace its own.
//! Nothing depends on time, so a partition of any length brings no removed row back.

use std::collections::BTreeMap;

use bifrust_model::{Incarnation, NodeId, NodeRef};
use bytes::Bytes;

use crate::{ROW_VALUE_BYTES_MAX, RowKey, planted::planted};

/// How much one owner may say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) rows_max: usize,
    /// Names and values together.
    pub(crate) bytes_max: usize,
    pub(crate) tombstones_max: usize,
    pub(crate) owners_max: usize,
}

/// Why an own row was not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    /// The value has more than [`ROW_VALUE_BYTES_MAX`] bytes.
    #[error("a row's value has at most {ROW_VALUE_BYTES_MAX} bytes")]
    TooLarge,
    /// This host has as many rows, or as many bytes in them, as it may.
    #[error("this node's rows are at their bound")]
    Full,
}

/// One write: the row's value, or `None` for its removal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Write {
    pub(crate) key: RowKey,
    pub(crate) sequence: u64,
    pub(crate) value: Option<Bytes>,
}

/// What brings an owner's rows from `base` (or later) to `sequence`; base 0 brings them from anywhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Delta {
    pub(crate) owner: NodeRef,
    pub(crate) base: u64,
    pub(crate) sequence: u64,
    pub(crate) floor: u64,
    pub(crate) writes: Vec<Write>,
}

/// How far an owner's rows are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version {
    pub(crate) incarnation: Incarnation,
    pub(crate) sequence: u64,
}

/// What became of a delta.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Applied {
    /// It was news; the owner's sequence was this before (0: nothing was known of this incarnation).
    From(u64),
    /// Nothing in it was new.
    Stale,
    /// It begins after what is known here; the part between is missing.
    Gap,
    /// It breaks a bound or contradicts itself.
    Refused,
}

#[derive(Debug)]
struct Owner {
    incarnation: Incarnation,
    sequence: u64,
    floor: u64,
    /// A removed row is `None` until its tombstone is forgotten.
    rows: BTreeMap<RowKey, (u64, Option<Bytes>)>,
}

#[derive(Debug)]
pub(crate) struct Replica {
    own: NodeRef,
    bounds: Bounds,
    owners: BTreeMap<NodeId, Owner>,
}

impl Replica {
    pub(crate) fn new(own: NodeRef, bounds: Bounds) -> Self {
        let mut owners = BTreeMap::new();
        owners.insert(own.id, Owner::new(own.incarnation));
        Self {
            own,
            bounds,
            owners,
        }
    }

    /// Writes an own row. `Some(sequence before)` if that changed anything.
    pub(crate) fn put(&mut self, key: RowKey, value: Bytes) -> Result<Option<u64>, RowError> {
        if value.len() > ROW_VALUE_BYTES_MAX {
            return Err(RowError::TooLarge);
        }
        let bounds = self.bounds;
        let owner = self.own_rows();
        if owner.live(&key) == Some(&value) {
            return Ok(None);
        }
        let freed = owner.live(&key).map_or(0, |old| size(&key, old));
        let is_new = owner.live(&key).is_none();
        let (rows, bytes) = owner.usage();
        if rows + usize::from(is_new) > bounds.rows_max
            || bytes - freed + size(&key, &value) > bounds.bytes_max
        {
            return Err(RowError::Full);
        }
        Ok(Some(owner.write(key, Some(value), bounds.tombstones_max)))
    }

    /// Removes an own row. `Some(sequence before)` if it was there.
    pub(crate) fn remove(&mut self, key: RowKey) -> Option<u64> {
        let tombstones_max = self.bounds.tombstones_max;
        let owner = self.own_rows();
        owner.live(&key)?;
        Some(owner.write(key, None, tombstones_max))
    }

    fn own_rows(&mut self) -> &mut Owner {
        let incarnation = self.own.incarnation;
        let owner = self.owners.entry(self.own.id);
        owner.or_insert_with(|| Owner::new(incarnation))
    }

    /// How far an owner's rows are known.
    pub(crate) fn version(&self, owner: NodeId) -> Option<Version> {
        self.owners.get(&owner).map(|owner| Version {
            incarnation: owner.incarnation,
            sequence: owner.sequence,
        })
    }

    /// The live rows of this incarnation of an owner.
    pub(crate) fn rows(&self, owner: NodeRef) -> impl Iterator<Item = (&RowKey, u64, &Bytes)> {
        let rows = self.owners.get(&owner.id);
        rows.filter(|rows| rows.incarnation == owner.incarnation)
            .into_iter()
            .flat_map(|rows| &rows.rows)
            .filter_map(|(key, (sequence, value))| Some((key, *sequence, value.as_ref()?)))
    }

    /// What a replica at `known` lacks of an owner, if it lacks anything.
    pub(crate) fn delta(&self, id: NodeId, known: Option<Version>) -> Option<Delta> {
        let owner = self.owners.get(&id)?;
        let known = known.filter(|known| known.incarnation >= owner.incarnation);
        let base = match known {
            Some(known) if known.incarnation > owner.incarnation => return None,
            Some(known) if known.sequence >= owner.sequence => return None,
            Some(known) if known.sequence >= owner.floor => known.sequence,
            _ => 0,
        };
        let mut writes: Vec<Write> = owner
            .rows
            .iter()
            .filter(|(_, (sequence, _))| *sequence > base)
            .map(|(key, (sequence, value))| Write {
                key: key.clone(),
                sequence: *sequence,
                value: value.clone(),
            })
            .collect();
        writes.sort_unstable_by_key(|write| write.sequence);
        Some(Delta {
            owner: NodeRef {
                id,
                incarnation: owner.incarnation,
            },
            base,
            sequence: owner.sequence,
            floor: owner.floor,
            writes,
        })
    }

    /// Takes what another replica knows of an owner.
    pub(crate) fn apply(&mut self, delta: Delta) -> Applied {
        if delta.owner.id == self.own.id || !self.is_sound(&delta) {
            return match delta.owner == self.own {
                true => Applied::Stale,
                false => Applied::Refused,
            };
        }
        let known = self.owners.get(&delta.owner.id);
        let known_sequence = match known {
            Some(known) if known.incarnation > delta.owner.incarnation => return Applied::Stale,
            Some(known) if known.incarnation == delta.owner.incarnation => {
                if delta.sequence <= known.sequence {
                    return Applied::Stale;
                }
                known.sequence
            }
            None if self.owners.len() >= self.bounds.owners_max => return Applied::Refused,
            _ => 0,
        };
        if delta.base > known_sequence && !planted("gap ignored") {
            return Applied::Gap;
        }
        let owner = self
            .owners
            .entry(delta.owner.id)
            .or_insert_with(|| Owner::new(delta.owner.incarnation));
        let is_next_start = owner.incarnation != delta.owner.incarnation;
        if is_next_start || (delta.base == 0 && !planted("full delta merged")) {
            *owner = Owner::new(delta.owner.incarnation);
        }
        for write in delta.writes {
            owner.rows.insert(write.key, (write.sequence, write.value));
        }
        owner.sequence = delta.sequence;
        owner.floor = owner.floor.max(delta.floor);
        let floor = owner.floor;
        owner
            .rows
            .retain(|_, (sequence, value)| value.is_some() || *sequence > floor);
        Applied::From(known_sequence)
    }

    fn is_sound(&self, delta: &Delta) -> bool {
        let in_order = delta.writes.is_sorted_by(|a, b| a.sequence < b.sequence);
        let in_range = delta
            .writes
            .iter()
            .all(|write| write.sequence > delta.base && write.sequence <= delta.sequence);
        in_order
            && in_range
            && delta.base <= delta.sequence
            && delta.floor <= delta.sequence
            && self.fits(delta)
    }

    /// Whether the owner would be within its bounds, as it is at each of its sequences.
    fn fits(&self, delta: &Delta) -> bool {
        let known = self.owners.get(&delta.owner.id);
        let known = known.filter(|_| delta.base > 0);
        let (mut rows, mut bytes) = known.map_or((0, 0), Owner::usage);
        let mut tombstones = known.map_or(0, |known| known.rows.len() - rows);
        for write in &delta.writes {
            if let Some(old) = known.and_then(|known| known.live(&write.key)) {
                rows -= 1;
                bytes -= size(&write.key, old);
            }
            match &write.value {
                Some(value) if value.len() > ROW_VALUE_BYTES_MAX => return false,
                Some(value) => {
                    rows += 1;
                    bytes += size(&write.key, value);
                }
                None => tombstones += 1,
            }
        }
        // Those that the delta's floor ends may still be counted.
        rows <= self.bounds.rows_max
            && bytes <= self.bounds.bytes_max
            && tombstones <= 2 * self.bounds.tombstones_max + 1
    }

    /// Forgets owners that the cluster has forgotten.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(NodeRef) -> bool) {
        let own = self.own.id;
        self.owners.retain(|&id, owner| {
            let incarnation = owner.incarnation;
            id == own || keep(NodeRef { id, incarnation })
        });
    }
}

impl Owner {
    fn new(incarnation: Incarnation) -> Self {
        Self {
            incarnation,
            sequence: 0,
            floor: 0,
            rows: BTreeMap::new(),
        }
    }

    fn live(&self, key: &RowKey) -> Option<&Bytes> {
        self.rows.get(key).and_then(|(_, value)| value.as_ref())
    }

    fn usage(&self) -> (usize, usize) {
        let live = self
            .rows
            .iter()
            .filter_map(|(key, (_, value))| Some((key, value.as_ref()?)));
        live.fold((0, 0), |(rows, bytes), (key, value)| {
            (rows + 1, bytes + size(key, value))
        })
    }

    /// The sequence before.
    fn write(&mut self, key: RowKey, value: Option<Bytes>, tombstones_max: usize) -> u64 {
        let before = self.sequence;
        self.sequence += 1;
        if value.is_none() && planted("tombstone forgotten") {
            self.rows.remove(&key);
            return before;
        }
        self.rows.insert(key, (self.sequence, value));
        let mut tombstones: Vec<u64> = self
            .rows
            .values()
            .filter(|(_, value)| value.is_none())
            .map(|(sequence, _)| *sequence)
            .collect();
        if tombstones.len() > tombstones_max {
            tombstones.sort_unstable();
            // Half of them at once, so that this is rare.
            let floor = tombstones[tombstones.len() / 2];
            if !planted("floor not raised") {
                self.floor = floor;
            }
            self.rows
                .retain(|_, (sequence, value)| value.is_some() || *sequence > floor);
        }
        before
    }
}

fn size(key: &RowKey, value: &[u8]) -> usize {
    key.name.as_str().len() + value.len() + ROW_OVERHEAD_BYTES
}

/// What a row weighs beyond its name and value.
const ROW_OVERHEAD_BYTES: usize = 16;

#[cfg(test)]
mod tests;
