use std::ops::Bound;
use std::sync::mpsc::{Receiver, channel};

use bifrust_storage::{Direction, Engine, Keyspace, Rows as StoredRows, open_memory};

use super::*;
use crate::RAFT_LOG;
use crate::toy::{TOY, Text, Toy, all_keyspaces};

const MUCH: Usage = Usage {
    items: 1_000,
    bytes: 1_000_000,
};

type Outcome = Result<usize, ExecuteError>;

fn proposal(text: &str, ack: Ack) -> (Proposal<Toy>, Receiver<Outcome>) {
    let (tell, told) = channel();
    let command = Text(text.to_owned());
    let proposal = Proposal {
        lane: TenantNumber(1),
        bytes: command.encode(),
        command,
        ack,
        done: Done::new(Box::new(move |outcome| {
            let _ = tell.send(outcome); // Not every test listens.
        })),
    };
    (proposal, told)
}

fn engine() -> (impl Engine, RangeId) {
    let engine = open_memory(&all_keyspaces());
    let mut batch = WriteBatch::new();
    let descriptors = meta::ranges_of(&engine, "toy", 5, &mut batch).unwrap();
    engine.write(batch).unwrap();
    (engine, descriptors[0].id)
}

fn keys(read: &dyn Read, ks: Keyspace) -> Vec<Bytes> {
    read.range(ks, Bound::Unbounded, Bound::Unbounded, Direction::Forward)
        .map(|row| row.unwrap().0)
        .collect()
}

#[test]
fn a_batch_is_rows_one_entry_and_progress_together() {
    let (engine, id) = engine();
    let (mut range, unapplied) = Range::open(&engine, id, Toy).unwrap();
    assert!(unapplied.is_empty());
    let (mut proposals, told): (VecDeque<_>, Vec<_>) = ["+a", "+b", "-a", "+c"]
        .map(|text| proposal(text, Ack::Durable))
        .into_iter()
        .unzip();
    let applied = range.apply(&engine, &mut proposals, MUCH).unwrap();
    assert!(proposals.is_empty() && applied.at_once.is_empty());
    assert_eq!(applied.effects, ["+a", "+b", "-a", "+c"]);
    assert!(told.iter().all(|told| told.try_recv().is_err()));
    engine.write(applied.batch).unwrap();
    applied.durable.give();
    let replies: Vec<_> = told.iter().map(|told| told.try_recv().unwrap()).collect();
    assert_eq!(replies, [Ok(1), Ok(2), Ok(1), Ok(2)]);
    assert_eq!(keys(&engine, TOY), ["b", "c"]);
    assert_eq!(keys(&engine, RAFT_LOG).len(), 1);
    assert_eq!(meta::progress(&engine, id).unwrap().applied, 1);
}

#[test]
fn commands_that_write_much_are_spread_over_batches() {
    let (engine, id) = engine();
    let (mut range, _) = Range::open(&engine, id, Toy).unwrap();
    let all = || (0..10).map(|n| proposal(&format!("+{n}"), Ack::Applied).0);
    let mut left = |enough| {
        let mut proposals: VecDeque<_> = all().collect();
        range.apply(&engine, &mut proposals, enough).unwrap();
        proposals.len()
    };
    assert_eq!(left(MUCH), 0);
    assert_eq!(left(Usage { items: 3, ..MUCH }), 7);
    assert_eq!(left(Usage { bytes: 10, ..MUCH }), 6); // Three bytes each.
}

#[test]
fn a_reopened_range_goes_on_where_it_was_and_replays_nothing() {
    let (engine, id) = engine();
    for n in 0..30 {
        let (mut range, unapplied) = Range::open(&engine, id, Toy).unwrap();
        assert!(unapplied.is_empty());
        assert_eq!(range.last_index(), n);
        let (proposal, _told) = proposal(&format!("+{n}"), Ack::Applied);
        let applied = range.apply(&engine, &mut [proposal].into(), MUCH).unwrap();
        engine.write(applied.batch).unwrap();
        applied.at_once.give();
    }
    assert_eq!(keys(&engine, TOY).len(), 30);
    assert_eq!(keys(&engine, RAFT_LOG).len(), 9);
}

#[test]
fn entries_beyond_what_was_applied_are_applied_at_open() {
    let (engine, id) = engine();
    let mut log = Log::open(&engine, id, meta::progress(&engine, id).unwrap())
        .unwrap()
        .0;
    for text in ["+a", "+b", "-a"] {
        let mut batch = WriteBatch::new();
        log.append(&mut batch, vec![Text(text.to_owned()).encode()]);
        engine.write(batch).unwrap();
    }
    let (mut range, unapplied) = Range::open(&engine, id, Toy).unwrap();
    assert_eq!((range.last_index(), unapplied.len()), (3, 3));
    for (index, entry) in (1..).zip(unapplied) {
        engine
            .write(range.recover(&engine, index, entry).unwrap())
            .unwrap();
    }
    assert_eq!(keys(&engine, TOY), ["b"]);
    assert_eq!(meta::progress(&engine, id).unwrap().applied, 3);
    assert!(Range::open(&engine, id, Toy).unwrap().1.is_empty());
}

#[test]
fn a_command_that_does_not_read_back_is_named() {
    let (engine, id) = engine();
    let (mut range, _) = Range::open(&engine, id, Toy).unwrap();
    let entry = Entry {
        term: 1,
        commands: vec![Bytes::from_static(&[9, 9])],
    };
    let error = range.recover(&engine, 4, entry).err().unwrap();
    assert!(error.to_string().contains("log entry 4"), "{error}");
}

#[test]
fn replies_that_are_never_given_say_unknown() {
    let (engine, id) = engine();
    let (mut range, _) = Range::open(&engine, id, Toy).unwrap();
    let (proposal, told) = proposal("+a", Ack::Durable);
    drop(range.apply(&engine, &mut [proposal].into(), MUCH).unwrap());
    assert_eq!(told.try_recv().unwrap(), Err(ExecuteError::Unknown));
}

/// An engine that cannot be read.
struct Broken;

impl Read for Broken {
    fn get(&self, _: Keyspace, _: &[u8]) -> Result<Option<Bytes>, StorageError> {
        Err(StorageError::Failed)
    }

    fn range<'a>(
        &'a self,
        _: Keyspace,
        _: Bound<&[u8]>,
        _: Bound<&[u8]>,
        _: Direction,
    ) -> StoredRows<'a> {
        Box::new(std::iter::once(Err(StorageError::Failed)))
    }
}

#[test]
fn a_read_error_throws_the_batch_away_and_says_it_is_not_applied() {
    let (engine, id) = engine();
    let (mut range, _) = Range::open(&engine, id, Toy).unwrap();
    let (first, told_first) = proposal("+a", Ack::Durable);
    let (second, told_second) = proposal("+b", Ack::Applied);
    assert!(
        range
            .apply(&Broken, &mut [first, second].into(), MUCH)
            .is_err()
    );
    for told in [told_first, told_second] {
        assert!(told.try_recv().unwrap().unwrap_err().is_known_not_applied());
    }
}

#[test]
fn a_coprocessor_says_where_it_may_be_split() {
    assert_eq!(Toy::align_split(b"12345678/rest"), b"12345678");
}
