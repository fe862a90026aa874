//! The engine in memory: nothing survives the process.
//!
//! A keyspace is an ordered index of small sorted chunks, all shared copy-on-write. A snapshot clones
//! one pointer per keyspace; a write after it copies the index (one entry per chunk) and the chunks that
//! it touches, never all rows.

use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{Arc, PoisonError, RwLock},
};

use bytes::Bytes;

use crate::{
    Direction, Engine, Keyspace, Op, Read, Row, Rows, StorageError, WriteBatch,
    engine::{check_limits, clamp_bounds},
};

/// Opens an engine in memory.
pub fn open_memory(keyspaces: &[Keyspace]) -> impl Engine + use<> {
    Memory {
        keyspaces: keyspaces.into(),
        tables: RwLock::new(
            keyspaces
                .iter()
                .map(|_| Arc::new(Table::default()))
                .collect(),
        ),
    }
}

struct Memory {
    keyspaces: Arc<[Keyspace]>,
    tables: RwLock<Vec<Arc<Table>>>,
}

impl Memory {
    fn table(&self, ks: Keyspace) -> Result<Arc<Table>, StorageError> {
        let index = position(&self.keyspaces, ks)?;
        // A panic in a writer cannot leave a table half changed that matters here: the process ends.
        let tables = self.tables.read().unwrap_or_else(PoisonError::into_inner);
        Ok(tables[index].clone())
    }
}

impl Read for Memory {
    fn get(&self, ks: Keyspace, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        let index = position(&self.keyspaces, ks)?;
        let tables = self.tables.read().unwrap_or_else(PoisonError::into_inner);
        Ok(tables[index].get(key))
    }

    fn range<'a>(
        &'a self,
        ks: Keyspace,
        start: Bound<&[u8]>,
        end: Bound<&[u8]>,
        direction: Direction,
    ) -> Rows<'a> {
        match self.table(ks) {
            Ok(table) => table.range(start, end, direction),
            Err(error) => Box::new(std::iter::once(Err(error))),
        }
    }
}

impl Engine for Memory {
    fn write(&self, batch: WriteBatch) -> Result<(), StorageError> {
        for op in batch.iter() {
            check_limits(op)?;
            position(&self.keyspaces, op.keyspace())?;
        }
        let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        for op in batch.into_ops() {
            let table = Arc::make_mut(&mut tables[position(&self.keyspaces, op.keyspace())?]);
            match op {
                Op::Put { key, value, .. } => table.put(key, value),
                Op::Delete { key, .. } => table.delete(&key),
            }
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), StorageError> {
        Ok(())
    }

    fn snapshot(&self) -> Box<dyn Read> {
        let tables = self.tables.read().unwrap_or_else(PoisonError::into_inner);
        Box::new(MemorySnapshot {
            keyspaces: self.keyspaces.clone(),
            tables: tables.clone(),
        })
    }

    fn check(&self) -> Result<(), StorageError> {
        Ok(())
    }

    fn disk_bytes(&self) -> u64 {
        0
    }
}

struct MemorySnapshot {
    keyspaces: Arc<[Keyspace]>,
    tables: Vec<Arc<Table>>,
}

impl Read for MemorySnapshot {
    fn get(&self, ks: Keyspace, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        Ok(self.tables[position(&self.keyspaces, ks)?].get(key))
    }

    fn range<'a>(
        &'a self,
        ks: Keyspace,
        start: Bound<&[u8]>,
        end: Bound<&[u8]>,
        direction: Direction,
    ) -> Rows<'a> {
        match position(&self.keyspaces, ks) {
            Ok(index) => self.tables[index].clone().range(start, end, direction),
            Err(error) => Box::new(std::iter::once(Err(error))),
        }
    }
}

fn position(keyspaces: &[Keyspace], ks: Keyspace) -> Result<usize, StorageError> {
    keyspaces
        .iter()
        .position(|known| *known == ks)
        .ok_or(StorageError::UnknownKeyspace(ks.0))
}

/// Rows per chunk before it is split in two.
const CHUNK_ROWS_MAX: usize = 64;

type Chunk = Arc<Vec<Row>>;

/// Invariant: the chunk under key `k` holds exactly the rows from `k` up to the next chunk's key; the
/// first chunk has the empty key and always exists.
#[derive(Clone)]
struct Table {
    chunks: BTreeMap<Bytes, Chunk>,
}

impl Default for Table {
    fn default() -> Self {
        Self {
            chunks: BTreeMap::from([(Bytes::new(), Chunk::default())]),
        }
    }
}

impl Table {
    fn get(&self, key: &[u8]) -> Option<Bytes> {
        let (_, chunk) = self.chunk_of(key);
        let at = chunk.binary_search_by(|(row, _)| row[..].cmp(key)).ok()?;
        Some(chunk[at].1.clone())
    }

    fn put(&mut self, key: Bytes, value: Bytes) {
        let rows = Arc::make_mut(self.chunk_of_mut(&key).1);
        match rows.binary_search_by(|(row, _)| row.cmp(&key)) {
            Ok(at) => rows[at].1 = value,
            Err(at) => {
                rows.insert(at, (key, value));
                if rows.len() > CHUNK_ROWS_MAX {
                    let upper = rows.split_off(CHUNK_ROWS_MAX / 2);
                    self.chunks.insert(upper[0].0.clone(), Arc::new(upper));
                }
            }
        }
    }

    fn delete(&mut self, key: &[u8]) {
        let (first, chunk) = self.chunk_of_mut(key);
        let Ok(at) = chunk.binary_search_by(|(row, _)| row[..].cmp(key)) else {
            return;
        };
        let rows = Arc::make_mut(chunk);
        rows.remove(at);
        if rows.is_empty() && !first.is_empty() {
            let first = first.clone();
            self.chunks.remove(&first);
        }
    }

    fn chunk_of(&self, key: &[u8]) -> (&Bytes, &Chunk) {
        self.chunks
            .range::<[u8], _>((Bound::Unbounded, Bound::Included(key)))
            .next_back()
            .expect("the first chunk has the lowest key there is")
    }

    fn chunk_of_mut(&mut self, key: &[u8]) -> (&Bytes, &mut Chunk) {
        self.chunks
            .range_mut::<[u8], _>((Bound::Unbounded, Bound::Included(key)))
            .next_back()
            .expect("the first chunk has the lowest key there is")
    }

    fn range<'a>(
        self: Arc<Self>,
        start: Bound<&[u8]>,
        end: Bound<&[u8]>,
        direction: Direction,
    ) -> Rows<'a> {
        let Some((start, end)) = clamp_bounds(start, end) else {
            return Box::new(std::iter::empty());
        };
        Box::new(Walk::new(self, start, end, direction))
    }
}

/// A walk over a table, a chunk at a time.
struct Walk {
    table: Arc<Table>,
    direction: Direction,
    start: Bound<Bytes>,
    end: Bound<Bytes>,
    /// Key under which the chunk being walked is found.
    chunk_key: Bytes,
    /// The part of that chunk still to be walked.
    rows: std::ops::Range<usize>,
}

impl Walk {
    fn new(
        table: Arc<Table>,
        start: Bound<&[u8]>,
        end: Bound<&[u8]>,
        direction: Direction,
    ) -> Self {
        let (start, end) = (
            start.map(Bytes::copy_from_slice),
            end.map(Bytes::copy_from_slice),
        );
        let first = match direction {
            Direction::Forward => match &start {
                Bound::Included(key) | Bound::Excluded(key) => table.chunk_of(key),
                Bound::Unbounded => table.chunk_of(&[]),
            },
            Direction::Backward => match &end {
                Bound::Included(key) | Bound::Excluded(key) => table.chunk_of(key),
                Bound::Unbounded => table
                    .chunks
                    .last_key_value()
                    .expect("the first chunk always exists"),
            },
        };
        let chunk_key = first.0.clone();
        let mut walk = Self {
            table,
            direction,
            start,
            end,
            chunk_key,
            rows: 0..0,
        };
        walk.rows = walk.rows_within(walk.chunk());
        walk
    }

    fn chunk(&self) -> &Chunk {
        &self.table.chunks[&self.chunk_key]
    }

    /// The part of a chunk that lies between the bounds.
    fn rows_within(&self, chunk: &Chunk) -> std::ops::Range<usize> {
        let from = match &self.start {
            Bound::Included(start) => chunk.partition_point(|(key, _)| key < start),
            Bound::Excluded(start) => chunk.partition_point(|(key, _)| key <= start),
            Bound::Unbounded => 0,
        };
        let to = match &self.end {
            Bound::Included(end) => chunk.partition_point(|(key, _)| key <= end),
            Bound::Excluded(end) => chunk.partition_point(|(key, _)| key < end),
            Bound::Unbounded => chunk.len(),
        };
        from..to
    }

    /// Moves to the neighbouring chunk; false if there is none between the bounds.
    fn step(&mut self) -> bool {
        let key = self.chunk_key.clone();
        let neighbour = match self.direction {
            Direction::Forward => self
                .table
                .chunks
                .range((Bound::Excluded(key), Bound::Unbounded))
                .next(),
            Direction::Backward => self.table.chunks.range(..key).next_back(),
        };
        let Some((key, chunk)) = neighbour else {
            return false;
        };
        let rows = self.rows_within(chunk);
        self.chunk_key = key.clone();
        self.rows = rows;
        // Only the first chunk may be empty, and nothing lies before it: an empty part is the end.
        !self.rows.is_empty()
    }
}

impl Iterator for Walk {
    type Item = Result<Row, StorageError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let at = match self.direction {
                Direction::Forward => self.rows.next(),
                Direction::Backward => self.rows.next_back(),
            };
            if let Some(at) = at {
                return Some(Ok(self.chunk()[at].clone()));
            }
            if !self.step() {
                return None;
            }
        }
    }
}
