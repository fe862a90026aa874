//! A store on a disk that forgets what was not synced.
//!
//! `FAULT_ROUNDS`, `FAULT_BATCHES` and `FAULT_SEED` make the random ones longer and different.

#![allow(clippy::unwrap_used)] // The clippy setting for tests does not reach their own functions.

use std::{
    env,
    io::{BufRead as _, BufReader, Read as _},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    thread,
    time::Duration,
};

use bifrust_fault::{Failure, LossyDisk, Lost, Mode, numbered};
use bifrust_storage::{Config, Store};

struct Writer {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Writer {
    fn start(disk: &LossyDisk, sync: &str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_writer"));
        disk.attach(&mut command);
        let mut child = command
            .arg(disk.data())
            .arg(sync)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self { child, stdout }
    }

    /// Waits until number `n` is acknowledged.
    fn wait_for(&mut self, n: u64) -> u64 {
        let mut line = String::new();
        loop {
            line.clear();
            if self.stdout.read_line(&mut line).unwrap() == 0 {
                let mut text = String::new();
                self.child
                    .stderr
                    .take()
                    .unwrap()
                    .read_to_string(&mut text)
                    .unwrap();
                panic!("the writer ended by itself: {text}");
            }
            let acknowledged: u64 = line.trim().parse().unwrap();
            if acknowledged >= n {
                return acknowledged;
            }
        }
    }

    /// Kills it and returns the last number that it acknowledged, if any.
    fn kill(mut self, known: Option<u64>) -> Option<u64> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        // The kill may have cut the last line short: that number was not told.
        let whole = rest.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole
            .lines()
            .last()
            .map(|line| line.parse().unwrap())
            .or(known)
    }
}

/// Opens the folder as it is after the crash and returns the last number in it.
fn check(data: &Path, round: u64) -> Option<u64> {
    let store = Store::open(Config::new(data), &numbered::KEYSPACES)
        .unwrap_or_else(|error| panic!("round {round}: {error}"));
    numbered::check(store.read()).unwrap_or_else(|error| panic!("round {round}: {error:#}"))
}

fn disk(folder: &Path) -> LossyDisk {
    LossyDisk::new(folder.join("data"), folder.join("undo")).unwrap()
}

fn setting(name: &str) -> Option<u64> {
    Some(env::var(name).ok()?.parse().unwrap())
}

fn rounds(mode: Mode, seed: u64) {
    let seed = seed ^ setting("FAULT_SEED").unwrap_or_default();
    let folder = tempfile::tempdir().unwrap();
    let disk = disk(folder.path());
    let mut random = fastrand::Rng::with_seed(seed);
    let mut last = None;
    let batches = setting("FAULT_BATCHES").unwrap_or(200);
    let mut lost = Lost::default();
    for round in 0..setting("FAULT_ROUNDS").unwrap_or(24) {
        let mut writer = Writer::start(&disk, "fsync");
        let next = last.map_or(0, |last| last + 1);
        let known = Some(writer.wait_for(next + random.u64(..batches)));
        let acknowledged = writer.kill(known);
        let now_lost = disk.discard(random.u64(..), mode).unwrap();
        lost.changes += now_lost.changes;
        lost.names += now_lost.names;
        last = check(disk.data(), round);
        assert!(
            last >= acknowledged,
            "round {round}: {acknowledged:?} lost, {last:?} is left"
        );
    }
    println!("{mode:?}: {last:?} batches, took back {lost:?}");
    assert!(
        lost.changes > 0,
        "nothing was ever unsynced: the layer sees nothing"
    );
}

#[test]
fn what_was_acknowledged_survives_the_loss_of_all_unsynced_writes() {
    rounds(Mode::All, 1);
}

#[test]
fn what_was_acknowledged_survives_torn_unsynced_writes() {
    rounds(Mode::Prefix, 2);
}

#[test]
fn what_was_acknowledged_survives_pages_written_in_any_order() {
    rounds(Mode::Pages, 3);
}

#[test]
fn a_crash_at_any_moment_of_the_first_start_is_survived() {
    let mut random = fastrand::Rng::with_seed(3);
    for round in 0..24 {
        let folder = tempfile::tempdir().unwrap();
        let disk = disk(folder.path());
        for _ in 0..2 {
            let writer = Writer::start(&disk, "fsync");
            // Not a wait for anything: the moment of the crash.
            thread::sleep(Duration::from_micros(random.u64(..40_000)));
            let acknowledged = writer.kill(None);
            let mode = if random.bool() {
                Mode::All
            } else {
                Mode::Prefix
            };
            disk.discard(random.u64(..), mode).unwrap();
            assert!(check(disk.data(), round) >= acknowledged);
        }
    }
}

#[test]
fn several_crashes_without_a_loss_and_then_one_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let disk = disk(folder.path());
    let mut acknowledged = None;
    for n in [100, 300, 700] {
        let mut writer = Writer::start(&disk, "fsync");
        let known = Some(writer.wait_for(n));
        acknowledged = writer.kill(known);
    }
    disk.discard(4, Mode::All).unwrap();
    assert!(check(disk.data(), 0) >= acknowledged);
}

#[test]
fn without_fsync_acknowledged_writes_are_lost() {
    let folder = tempfile::tempdir().unwrap();
    let disk = disk(folder.path());
    let mut writer = Writer::start(&disk, "none");
    let known = Some(writer.wait_for(100));
    let acknowledged = writer.kill(known);
    disk.discard(5, Mode::All).unwrap();
    let last = check(disk.data(), 0);
    assert!(
        last < acknowledged,
        "{last:?} of {acknowledged:?} is left: the test sees no loss"
    );
}

#[test]
fn a_full_or_failing_disk_ends_the_process_and_loses_nothing_acknowledged() {
    for failure in [Failure::Write, Failure::Sync] {
        let folder = tempfile::tempdir().unwrap();
        let disk = disk(folder.path());
        let mut writer = Writer::start(&disk, "fsync");
        let known = writer.wait_for(50);
        disk.fail(failure).unwrap();
        let mut rest = String::new();
        writer.stdout.read_to_string(&mut rest).unwrap();
        let mut text = String::new();
        writer
            .child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(writer.child.wait().unwrap().code(), Some(1), "{text}");
        assert!(text.contains("fatal storage failure"), "{text}");
        let acknowledged = rest
            .lines()
            .last()
            .map_or(known, |line| line.parse().unwrap());

        disk.discard(6, Mode::All).unwrap();
        assert!(check(disk.data(), 0) >= Some(acknowledged));
    }
}
