//! What both engines must do alike, checked against a plain ordered map.

use std::{
    collections::BTreeMap,
    ops::{Bound, RangeBounds},
    path::Path,
};

use bytes::Bytes;
use proptest::prelude::*;

use crate::{
    Direction, Engine, FjallConfig, KEY_BYTES_MAX, Keyspace, Read, StorageError, SyncMode,
    VALUE_BYTES_MAX, WriteBatch, open_fjall, open_memory,
};

const LEFT: Keyspace = Keyspace("left");
const RIGHT: Keyspace = Keyspace("right");
const BOTH: [Keyspace; 2] = [LEFT, RIGHT];

fn quick() -> FjallConfig {
    FjallConfig {
        sync: SyncMode::NoneForTests,
        ..FjallConfig::default()
    }
}

fn on_disk(folder: &Path) -> impl Engine + use<> {
    open_fjall(&folder.join("engine"), &BOTH, quick()).unwrap()
}

/// Runs a check against each engine.
fn with_both(check: impl Fn(&dyn Engine)) {
    check(&open_memory(&BOTH));
    let folder = tempfile::tempdir().unwrap();
    check(&on_disk(folder.path()));
}

fn put(ks: Keyspace, key: &[u8], value: &[u8]) -> WriteBatch {
    let mut batch = WriteBatch::new();
    batch.put(ks, key.to_vec(), value.to_vec());
    batch
}

type Model = BTreeMap<(Keyspace, Vec<u8>), Vec<u8>>;

#[derive(Clone, Debug)]
enum Step {
    Write(Vec<(bool, Vec<u8>, Option<Vec<u8>>)>),
    Get(bool, Vec<u8>),
    Range(bool, Bound<Vec<u8>>, Bound<Vec<u8>>, bool),
    Seek(bool, Vec<u8>, Bound<Vec<u8>>),
    Snapshot,
    Sync,
}

fn keys() -> impl Strategy<Value = Vec<u8>> {
    // Few distinct bytes, so that keys meet and are prefixes of each other.
    prop::collection::vec(prop_oneof![Just(0_u8), Just(1), Just(7), Just(255)], 1..5)
}

fn bounds() -> impl Strategy<Value = Bound<Vec<u8>>> {
    let any_key = prop::collection::vec(prop_oneof![Just(0_u8), Just(7), Just(255)], 0..4);
    prop_oneof![
        any_key.clone().prop_map(Bound::Included),
        any_key.prop_map(Bound::Excluded),
        Just(Bound::Unbounded)
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let value = prop::option::weighted(0.7, prop::collection::vec(any::<u8>(), 0..6));
    let write = prop::collection::vec((any::<bool>(), keys(), value), 0..40);
    let step = prop_oneof![
        4 => write.prop_map(Step::Write),
        2 => (any::<bool>(), keys()).prop_map(|(ks, key)| Step::Get(ks, key)),
        3 => (any::<bool>(), bounds(), bounds(), any::<bool>())
            .prop_map(|(ks, start, end, back)| Step::Range(ks, start, end, back)),
        2 => (any::<bool>(), keys(), bounds())
            .prop_map(|(ks, key, end)| Step::Seek(ks, key, end)),
        1 => Just(Step::Snapshot),
        1 => Just(Step::Sync),
    ];
    prop::collection::vec(step, 1..40)
}

fn ks(is_right: bool) -> Keyspace {
    if is_right { RIGHT } else { LEFT }
}

fn slice(bound: &Bound<Vec<u8>>) -> Bound<&[u8]> {
    bound.as_ref().map(Vec::as_slice)
}

fn is_within(key: &[u8], start: Bound<&[u8]>, end: Bound<&[u8]>) -> bool {
    RangeBounds::<[u8]>::contains(&(start, end), key)
}

fn model_range(
    model: &Model,
    ks: Keyspace,
    start: Bound<&[u8]>,
    end: Bound<&[u8]>,
    direction: Direction,
) -> Vec<(Bytes, Bytes)> {
    let mut rows: Vec<_> = model
        .iter()
        .filter(|((row_ks, key), _)| *row_ks == ks && is_within(key, start, end))
        .map(|((_, key), value)| (key.clone().into(), value.clone().into()))
        .collect();
    if direction == Direction::Backward {
        rows.reverse();
    }
    rows
}

fn check_same(read: &dyn Read, model: &Model) {
    for ks in BOTH {
        for direction in [Direction::Forward, Direction::Backward] {
            let rows: Vec<_> = read
                .range(ks, Bound::Unbounded, Bound::Unbounded, direction)
                .collect::<Result<_, _>>()
                .unwrap();
            let wanted = model_range(model, ks, Bound::Unbounded, Bound::Unbounded, direction);
            assert_eq!(rows, wanted);
        }
    }
}

fn run(engine: &dyn Engine, steps: &[Step]) {
    let mut model = Model::new();
    let mut snapshots = Vec::new();
    for step in steps {
        match step {
            Step::Write(changes) => {
                let mut batch = WriteBatch::new();
                for (is_right, key, value) in changes {
                    let row = (ks(*is_right), key.clone());
                    match value {
                        Some(value) => {
                            batch.put(row.0, key.clone(), value.clone());
                            model.insert(row, value.clone());
                        }
                        None => {
                            batch.delete(row.0, key.clone());
                            model.remove(&row);
                        }
                    }
                }
                engine.write(batch).unwrap();
            }
            Step::Get(is_right, key) => {
                let wanted = model
                    .get(&(ks(*is_right), key.clone()))
                    .cloned()
                    .map(Bytes::from);
                assert_eq!(engine.get(ks(*is_right), key).unwrap(), wanted);
            }
            Step::Range(is_right, start, end, is_backward) => {
                let direction = if *is_backward {
                    Direction::Backward
                } else {
                    Direction::Forward
                };
                let (ks, start, end) = (ks(*is_right), slice(start), slice(end));
                let rows: Vec<_> = engine
                    .range(ks, start, end, direction)
                    .collect::<Result<_, _>>()
                    .unwrap();
                assert_eq!(rows, model_range(&model, ks, start, end, direction));
            }
            Step::Seek(is_right, key, end) => {
                let (ks, end) = (ks(*is_right), slice(end));
                let wanted = model_range(&model, ks, Bound::Included(key), end, Direction::Forward);
                assert_eq!(engine.seek(ks, key, end).unwrap(), wanted.first().cloned());
            }
            Step::Snapshot => snapshots.push((engine.snapshot(), model.clone())),
            Step::Sync => engine.sync().unwrap(),
        }
    }
    check_same(engine, &model);
    for (snapshot, model) in snapshots {
        check_same(&*snapshot, &model);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn memory_does_what_an_ordered_map_does(steps in steps()) {
        run(&open_memory(&BOTH), &steps);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn disk_does_what_an_ordered_map_does(steps in steps()) {
        let folder = tempfile::tempdir().unwrap();
        run(&on_disk(folder.path()), &steps);
    }
}

#[test]
fn many_rows_are_walked_in_order_while_they_change() {
    with_both(|engine| {
        let key = |n: u32| n.to_be_bytes().to_vec();
        for n in (0..3_000).rev() {
            engine.write(put(LEFT, &key(n), b"old")).unwrap();
        }
        let mut rows = engine.range(LEFT, Bound::Unbounded, Bound::Unbounded, Direction::Forward);
        for n in 0..3_000 {
            let mut batch = put(LEFT, &key(n + 10_000), b"new");
            batch.delete(LEFT, key(n));
            engine.write(batch).unwrap();
            let (row, value) = rows.next().unwrap().unwrap();
            assert_eq!((&row[..], &value[..]), (&key(n)[..], &b"old"[..]));
        }
        assert!(rows.next().is_none());
        let after: Vec<_> = engine
            .range(
                LEFT,
                Bound::Unbounded,
                Bound::Unbounded,
                Direction::Backward,
            )
            .map(|row| row.unwrap().0)
            .collect();
        let wanted: Vec<_> = (0..3_000)
            .rev()
            .map(|n| Bytes::from(key(n + 10_000)))
            .collect();
        assert_eq!(after, wanted);
    });
}

#[test]
fn a_later_change_of_a_batch_wins() {
    with_both(|engine| {
        let mut batch = put(LEFT, b"a", b"1");
        batch.delete(LEFT, &b"a"[..]);
        batch.put(LEFT, &b"b"[..], &b"1"[..]);
        batch.put(LEFT, &b"b"[..], &b"2"[..]);
        engine.write(batch).unwrap();
        assert_eq!(engine.get(LEFT, b"a").unwrap(), None);
        assert_eq!(engine.get(LEFT, b"b").unwrap().unwrap(), &b"2"[..]);
    });
}

#[test]
fn what_is_over_a_limit_is_refused_whole() {
    with_both(|engine| {
        let mut long_key = put(LEFT, b"beside", b"");
        long_key.put(LEFT, vec![b'k'; KEY_BYTES_MAX + 1], &b""[..]);
        let mut large_value = put(LEFT, b"beside", b"");
        large_value.put(LEFT, &b"k"[..], vec![0; VALUE_BYTES_MAX + 1]);
        let mut no_key = put(LEFT, b"beside", b"");
        no_key.delete(RIGHT, &b""[..]);
        let mut no_keyspace = put(LEFT, b"beside", b"");
        no_keyspace.delete(Keyspace("nowhere"), &b"k"[..]);

        assert!(matches!(
            engine.write(long_key),
            Err(StorageError::KeyTooLong { len }) if len == KEY_BYTES_MAX + 1
        ));
        assert!(matches!(
            engine.write(large_value),
            Err(StorageError::ValueTooLarge { len }) if len == VALUE_BYTES_MAX + 1
        ));
        assert!(matches!(engine.write(no_key), Err(StorageError::KeyEmpty)));
        assert!(matches!(
            engine.write(no_keyspace),
            Err(StorageError::UnknownKeyspace("nowhere"))
        ));
        assert_eq!(engine.get(LEFT, b"beside").unwrap(), None);
    });
}

#[test]
fn the_longest_key_and_bounds_beyond_it_work() {
    with_both(|engine| {
        let longest = vec![b'k'; KEY_BYTES_MAX];
        let beyond = vec![b'k'; KEY_BYTES_MAX + 10];
        engine.write(put(LEFT, &longest, b"v")).unwrap();
        engine.write(put(LEFT, b"l", b"v")).unwrap();

        assert!(engine.get(LEFT, &longest).unwrap().is_some());
        assert!(engine.get(LEFT, &beyond).unwrap().is_none());
        assert!(engine.get(LEFT, b"").unwrap().is_none());
        let after = engine
            .seek(LEFT, &beyond, Bound::Unbounded)
            .unwrap()
            .unwrap();
        assert_eq!(after.0, &b"l"[..]);
        let before: Vec<_> = engine
            .range(
                LEFT,
                Bound::Unbounded,
                Bound::Excluded(&beyond),
                Direction::Backward,
            )
            .map(|row| row.unwrap().0)
            .collect();
        assert_eq!(before, [Bytes::from(longest)]);
    });
}

#[test]
fn unknown_keyspaces_are_errors_on_reads_too() {
    with_both(|engine| {
        let nowhere = Keyspace("nowhere");
        assert!(engine.get(nowhere, b"k").is_err());
        assert!(engine.snapshot().get(nowhere, b"k").is_err());
        assert!(engine.seek(nowhere, b"k", Bound::Unbounded).is_err());
        assert!(
            engine
                .snapshot()
                .seek(nowhere, b"k", Bound::Unbounded)
                .is_err()
        );
    });
}

#[test]
fn a_keyspace_is_found_by_its_name_wherever_the_name_lies() {
    let name: &'static str = String::from("left").leak();
    with_both(|engine| {
        engine.write(put(Keyspace(name), b"k", b"v")).unwrap();
        assert!(engine.get(LEFT, b"k").unwrap().is_some());
    });
}

#[test]
fn rows_survive_reopening_also_with_a_further_keyspace() {
    let folder = tempfile::tempdir().unwrap();
    let engine = on_disk(folder.path());
    engine.write(put(LEFT, b"k", b"v")).unwrap();
    engine.sync().unwrap();
    drop(engine);

    let third = Keyspace("third");
    let engine = open_fjall(&folder.path().join("engine"), &[third, LEFT], quick()).unwrap();
    assert_eq!(engine.get(LEFT, b"k").unwrap().unwrap(), &b"v"[..]);
    engine.write(put(third, b"k", b"v")).unwrap();
    drop(engine);
    let engine = open_fjall(&folder.path().join("engine"), &[third], quick()).unwrap();
    assert!(engine.get(third, b"k").unwrap().is_some());
    assert!(engine.disk_bytes() > 0);
}

#[test]
fn a_first_start_that_was_cut_short_is_begun_anew() {
    let folder = tempfile::tempdir().unwrap();
    let unfinished = folder.path().join("engine.new");
    std::fs::create_dir(&unfinished).unwrap();
    std::fs::write(unfinished.join("0.jnl"), b"").unwrap();
    on_disk(folder.path()).write(put(LEFT, b"k", b"v")).unwrap();
    assert!(!unfinished.exists());
}

#[test]
fn syncs_follow_the_journal_over_its_rotation() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("engine");
    let config = FjallConfig {
        memtable_bytes: 1024 * 1024,
        ..FjallConfig::default()
    };
    let engine = open_fjall(&path, &BOTH, config.clone()).unwrap();
    // Nothing that compresses: the journal packs large values.
    let mut noise = 1_u64;
    let mut next = || {
        noise ^= noise << 13;
        noise ^= noise >> 7;
        noise ^= noise << 17;
        noise as u8
    };
    let value: Vec<u8> = (0..600_000).map(|_| next()).collect();
    // 120 MB of journal: it is moved on at 64 MB.
    for n in 0..200_u32 {
        engine.write(put(LEFT, &n.to_be_bytes(), &value)).unwrap();
        engine.sync().unwrap();
    }
    let journals = std::fs::read_dir(&path)
        .unwrap()
        .filter(|entry| {
            let name = entry.as_ref().unwrap().file_name();
            name.to_str().unwrap().ends_with(".jnl") && name != "0.jnl"
        })
        .count();
    assert!(journals > 0, "the journal was not moved on");
    drop(engine);
    let engine = open_fjall(&path, &BOTH, config).unwrap();
    for n in 0..200_u32 {
        assert_eq!(
            engine.get(LEFT, &n.to_be_bytes()).unwrap().unwrap(),
            &value[..]
        );
    }
}

#[test]
fn all_memtables_together_are_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let config = FjallConfig {
        memtables_bytes_max: 1024 * 1024,
        ..FjallConfig::default()
    };
    let engine = open_fjall(&folder.path().join("engine"), &BOTH, config).unwrap();
    let value = [0; 1000];
    for n in 0..4_000_u32 {
        engine.write(put(LEFT, &n.to_be_bytes(), &value)).unwrap();
        engine.write(put(RIGHT, &n.to_be_bytes(), &value)).unwrap();
    }
    // 8 MB were written, and neither keyspace had a full memtable of its own.
    let tables = std::fs::read_dir(folder.path().join("engine/keyspaces"))
        .unwrap()
        .filter(|keyspace| {
            let tables = keyspace.as_ref().unwrap().path().join("tables");
            std::fs::read_dir(tables).is_ok_and(|tables| tables.count() > 0)
        });
    assert!(tables.count() >= 2, "nothing was flushed");
    for n in 0..4_000_u32 {
        assert!(engine.get(RIGHT, &n.to_be_bytes()).unwrap().is_some());
    }
}
