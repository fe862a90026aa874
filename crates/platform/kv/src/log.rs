//! A range's log: one entry per batch of commands. Only the last few entries are kept; with one voter
//! nobody else needs them.

use std::ops::Bound;

use bifrust_model::fuzz::check_record;
use bifrust_model::record;
use bifrust_storage::{Direction, Read, WriteBatch};
use bytes::{BufMut, Bytes, BytesMut};

use crate::meta::{Progress, RangeId};
use crate::{OpenError, RAFT_LOG, prefix_end};

const ENTRY_VERSION: u8 = 1;

/// Entries kept behind the last one.
const KEPT: u64 = 8;

/// Old entries deleted with one batch at most.
const TRUNCATED_PER_BATCH: u64 = 16;

/// An entry as it is stored.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Entry {
    /// Term in which it was proposed.
    #[prost(uint64, tag = "1")]
    pub(crate) term: u64,
    /// Commands in the order in which they are applied.
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub(crate) commands: Vec<Bytes>,
}

/// Where a range's log begins and ends.
pub(crate) struct Log {
    range: RangeId,
    term: u64,
    /// Index of the first entry that is not deleted.
    first: u64,
    /// Index of the last entry; 0 before there is one.
    last: u64,
}

impl Log {
    /// Finds the log's end, and the entries that come after what was applied.
    pub(crate) fn open(
        read: &dyn Read,
        range: RangeId,
        progress: Progress,
    ) -> Result<(Self, Vec<Entry>), OpenError> {
        let mut log = Self {
            range,
            term: progress.term,
            first: progress.log_first.max(1),
            last: progress.applied,
        };
        let start = key(range, progress.applied);
        let end = prefix_end(&range.0.to_be_bytes());
        let rows = read.range(
            RAFT_LOG,
            Bound::Included(&start),
            end.as_ref().map(Vec::as_slice),
            Direction::Forward,
        );
        let mut unapplied = Vec::new();
        let mut expected = progress.applied;
        for row in rows {
            let (found, bytes) = row?;
            // Index 0 has no entry: a range that has applied nothing starts with 1.
            expected = expected.max(1);
            if found != key(range, expected) {
                break;
            }
            if expected > progress.applied {
                unapplied.push(decode(range, expected, bytes)?);
                log.last = expected;
            }
            expected += 1;
        }
        if progress.applied > 0 && expected == progress.applied {
            return Err(OpenError::Damaged(format!(
                "the log of range {} ends before entry {}, which was applied",
                range.0, progress.applied
            )));
        }
        Ok((log, unapplied))
    }

    /// Adds an entry, and the deletion of what is old, to `batch`; the entry's index.
    pub(crate) fn append(&mut self, batch: &mut WriteBatch, commands: Vec<Bytes>) -> u64 {
        let entry = Entry {
            term: self.term,
            commands,
        };
        self.last += 1;
        batch.put(
            RAFT_LOG,
            key(self.range, self.last),
            record::encode(ENTRY_VERSION, &entry),
        );
        self.truncate(batch);
        self.last
    }

    /// Index of the first entry that is kept.
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    /// Index of the last entry.
    pub(crate) fn last(&self) -> u64 {
        self.last
    }

    pub(crate) fn term(&self) -> u64 {
        self.term
    }

    fn truncate(&mut self, batch: &mut WriteBatch) {
        let keep_from = self.last.saturating_sub(KEPT);
        let until = keep_from.min(self.first + TRUNCATED_PER_BATCH);
        while self.first < until {
            batch.delete(RAFT_LOG, key(self.range, self.first));
            self.first += 1;
        }
    }
}

fn decode(range: RangeId, index: u64, bytes: Bytes) -> Result<Entry, OpenError> {
    record::decode(bytes, ENTRY_VERSION).map_err(|source| OpenError::Record {
        what: format!("log entry {index} of range {}", range.0),
        source,
    })
}

/// For the fuzzer.
pub(crate) fn check_entry(bytes: &Bytes) {
    check_record(
        bytes,
        |bytes| record::decode::<Entry>(bytes, ENTRY_VERSION),
        |entry| record::encode(ENTRY_VERSION, entry),
    );
}

fn key(range: RangeId, index: u64) -> Bytes {
    let mut key = BytesMut::with_capacity(16);
    key.put_u64(range.0);
    key.put_u64(index);
    key.freeze()
}

#[cfg(test)]
mod tests {
    use bifrust_storage::{Engine, open_memory};
    use proptest::prelude::*;

    use super::*;

    const RANGE: RangeId = RangeId(7);

    fn write(engine: &impl Engine, log: &mut Log, entries: u64) {
        for n in 0..entries {
            let mut batch = WriteBatch::new();
            log.append(&mut batch, vec![n.to_be_bytes().to_vec().into()]);
            engine.write(batch).unwrap();
        }
    }

    fn progress(applied: u64) -> Progress {
        Progress {
            applied,
            ..Progress::default()
        }
    }

    fn indexes(engine: &impl Engine) -> usize {
        engine
            .range(
                RAFT_LOG,
                Bound::Unbounded,
                Bound::Unbounded,
                Direction::Forward,
            )
            .count()
    }

    #[test]
    fn only_the_last_entries_stay() {
        let engine = open_memory(crate::keyspaces());
        let (mut log, _) = Log::open(&engine, RANGE, Progress::default()).unwrap();
        write(&engine, &mut log, 100);
        assert_eq!(log.last(), 100);
        assert_eq!(log.first(), 92);
        assert_eq!(indexes(&engine), 9);
    }

    #[test]
    fn entries_beyond_what_was_applied_are_found() {
        let engine = open_memory(crate::keyspaces());
        let (mut log, unapplied) = Log::open(&engine, RANGE, Progress::default()).unwrap();
        assert!(unapplied.is_empty());
        write(&engine, &mut log, 5);
        for applied in 0..=5 {
            let (log, unapplied) = Log::open(&engine, RANGE, progress(applied)).unwrap();
            assert_eq!(log.last(), 5);
            let expected: Vec<Bytes> = (applied..5)
                .map(|n| n.to_be_bytes().to_vec().into())
                .collect();
            let found: Vec<Bytes> = unapplied.into_iter().flat_map(|e| e.commands).collect();
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn a_log_that_ends_before_what_was_applied_is_damage() {
        let engine = open_memory(crate::keyspaces());
        let (mut log, _) = Log::open(&engine, RANGE, Progress::default()).unwrap();
        write(&engine, &mut log, 5);
        assert!(matches!(
            Log::open(&engine, RANGE, progress(6)),
            Err(OpenError::Damaged(_))
        ));
    }

    proptest! {
        #[test]
        fn an_entry_survives_its_record(term: u64, commands: Vec<Vec<u8>>) {
            let commands = commands.into_iter().map(Bytes::from).collect();
            let entry = Entry { term, commands };
            let bytes = record::encode(ENTRY_VERSION, &entry);
            prop_assert_eq!(decode(RANGE, 1, bytes).unwrap(), entry);
        }
    }
}
