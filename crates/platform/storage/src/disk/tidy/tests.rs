use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;

use super::*;
use crate::{Direction, Engine as _, FjallConfig, Keyspace, Read, SyncMode, WriteBatch};

const SCANNED: Keyspace = Keyspace("scanned");
const OTHER: Keyspace = Keyspace("other");
const ROOM: u64 = u64::MAX;

fn open(folder: &Path) -> Disk {
    let config = FjallConfig {
        scanned: vec![SCANNED],
        sync: SyncMode::NoneForTests,
        ..FjallConfig::default()
    };
    Disk::open(&folder.join("engine"), &[SCANNED, OTHER], &config).unwrap()
}

fn key(n: u64) -> Vec<u8> {
    format!("row {n:08}").into_bytes()
}

/// Puts rows and removes them again.
fn churn(disk: &Disk, ks: Keyspace, rows: std::ops::Range<u64>) {
    let mut puts = WriteBatch::new();
    let mut deletes = WriteBatch::new();
    for n in rows {
        puts.put(ks, key(n), b"value".to_vec());
        deletes.delete(ks, key(n));
    }
    disk.write(puts).unwrap();
    disk.write(deletes).unwrap();
}

fn rows(read: &dyn Read, ks: Keyspace) -> Vec<(Vec<u8>, Vec<u8>)> {
    read.range(ks, Bound::Unbounded, Bound::Unbounded, Direction::Forward)
        .map(|row| row.map(|(key, value)| (key.to_vec(), value.to_vec())))
        .collect::<Result<_, _>>()
        .unwrap()
}

fn tidy_once(disk: &Disk, now: Instant) {
    assert!(disk.needs_tidying(now));
    disk.tidy(ROOM, now).unwrap();
}

#[test]
fn removed_rows_are_cleared_away_and_the_others_stay() {
    let folder = tempfile::tempdir().unwrap();
    let disk = open(folder.path());
    let mut live = WriteBatch::new();
    live.put(SCANNED, key(5), b"stays".to_vec());
    live.put(SCANNED, key(90_000), b"stays".to_vec());
    disk.write(live).unwrap();
    let before = disk.snapshot();

    churn(&disk, SCANNED, 10..20_000);
    churn(&disk, OTHER, 10..20_000);
    assert!(disk.became_untidy());
    assert!(!disk.became_untidy());
    assert_eq!(disk.removed(SCANNED), 19_990);
    assert_eq!(disk.removed(OTHER), 0);
    assert_eq!(before.removed(SCANNED), 19_990);

    let now = Instant::now();
    tidy_once(&disk, now);
    let left = [
        (key(5), b"stays".to_vec()),
        (key(90_000), b"stays".to_vec()),
    ];
    assert_eq!(rows(&disk, SCANNED), left);
    assert_eq!(rows(&*before, SCANNED), left);
    // What a snapshot may still see is only cleared away after it.
    assert_eq!(disk.removed(SCANNED), 19_990);
    drop(before);
    tidy_once(&disk, now + Duration::from_secs(3_600));
    assert_eq!(disk.removed(SCANNED), 0);
    assert_eq!(rows(&disk, SCANNED), left);
    let memtable = disk.tables.rows(SCANNED).unwrap().tree.active_memtable();
    assert!(memtable.is_empty());
}

#[test]
fn replaced_rows_are_cleared_away_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let disk = open(folder.path());
    for round in 0..20_000_u64 {
        let mut batch = WriteBatch::new();
        batch.put(SCANNED, key(round % 3), round.to_be_bytes().to_vec());
        disk.write(batch).unwrap();
    }
    assert!(disk.removed(SCANNED) > 19_000);
    assert!(disk.became_untidy());
    tidy_once(&disk, Instant::now());
    // The one that made the memtable turn.
    assert!(disk.removed(SCANNED) <= 1);
    assert_eq!(rows(&disk, SCANNED).len(), 3);
}

#[test]
fn new_rows_are_no_work() {
    let folder = tempfile::tempdir().unwrap();
    let disk = open(folder.path());
    let mut batch = WriteBatch::new();
    for n in 0..20_000 {
        batch.put(SCANNED, key(n), b"value".to_vec());
    }
    disk.write(batch).unwrap();
    assert_eq!(disk.removed(SCANNED), 0);
    assert!(!disk.needs_tidying(Instant::now()));
}

#[test]
fn few_removed_rows_are_no_work() {
    let folder = tempfile::tempdir().unwrap();
    let disk = open(folder.path());
    churn(&disk, SCANNED, 0..SOME - 1);
    assert!(!disk.needs_tidying(Instant::now()));
    assert!(!disk.became_untidy());
}

#[test]
fn a_start_finds_the_removed_rows_that_are_left() {
    let folder = tempfile::tempdir().unwrap();
    churn(&open(folder.path()), SCANNED, 0..5_000);
    let disk = open(folder.path());
    assert!(disk.removed(SCANNED) >= 5_000);
    tidy_once(&disk, Instant::now());
    assert_eq!(disk.removed(SCANNED), 0);
    drop(disk);
    assert!(rows(&open(folder.path()), SCANNED).is_empty());
}

#[test]
fn compactions_keep_their_distance() {
    let folder = tempfile::tempdir().unwrap();
    let disk = open(folder.path());
    let now = Instant::now();
    churn(&disk, SCANNED, 0..10_000);
    tidy_once(&disk, now);
    assert_eq!(disk.removed(SCANNED), 0);
    churn(&disk, SCANNED, 0..10_000);
    // The memtable turns, its table waits.
    tidy_once(&disk, now);
    assert!(disk.removed(SCANNED) >= 10_000);
    assert!(!disk.needs_tidying(now));
    tidy_once(&disk, now + Duration::from_secs(3_600));
    assert_eq!(disk.removed(SCANNED), 0);
}

#[test]
fn without_room_nothing_is_compacted() {
    let folder = tempfile::tempdir().unwrap();
    let disk = open(folder.path());
    churn(&disk, SCANNED, 0..10_000);
    disk.tidy(0, Instant::now()).unwrap();
    assert!(disk.removed(SCANNED) >= 10_000);
}

#[test]
fn rows_are_right_whatever_is_cleared_away_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let disk = open(folder.path());
    let mut model = BTreeMap::new();
    let mut now = Instant::now();
    // A fixed sequence that meets keys again in changing ways.
    let mut state = 1_u64;
    for round in 0..12 {
        let snapshot = disk.snapshot();
        let seen = model.clone();
        for _ in 0..3_000 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let key = key((state >> 33) % 4_000);
            let mut batch = WriteBatch::new();
            if state >> 62 == 0 {
                let value = state.to_be_bytes().to_vec();
                batch.put(SCANNED, key.clone(), value.clone());
                model.insert(key, value);
            } else {
                batch.delete(SCANNED, key.clone());
                model.remove(&key);
            }
            disk.write(batch).unwrap();
        }
        if round % 2 == 0 {
            disk.tidy(ROOM, now).unwrap();
        }
        assert_eq!(
            rows(&disk, SCANNED),
            model.clone().into_iter().collect::<Vec<_>>()
        );
        assert_eq!(
            rows(&*snapshot, SCANNED),
            seen.into_iter().collect::<Vec<_>>()
        );
        now += Duration::from_secs(60);
    }
    drop(disk);
    let disk = open(folder.path());
    assert_eq!(rows(&disk, SCANNED), model.into_iter().collect::<Vec<_>>());
}

#[test]
fn a_compacted_keyspace_can_be_made_to_look_flushed() {
    let folder = tempfile::tempdir().unwrap();
    let disk = open(folder.path());
    churn(&disk, SCANNED, 0..10_000);
    let table = disk.tables.rows(SCANNED).unwrap();
    let newest = table.tree.get_highest_memtable_seqno();
    tidy_once(&disk, Instant::now());
    assert!(table.tree.get_highest_persisted_seqno() < newest);
    free_journals(&disk).unwrap();
    assert!(table.tree.get_highest_persisted_seqno() > newest);
    assert!(rows(&disk, SCANNED).is_empty());
}
