use std::{
    fs, io,
    path::Path,
    sync::{
        Arc, Barrier, Mutex,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use super::*;
use crate::{FORMAT_VERSION, FjallConfig, Row, Rows, SyncMode, space::Space};

const ROWS: Keyspace = Keyspace("rows");

fn config(folder: &Path) -> Config {
    Config {
        engine: FjallConfig {
            sync: SyncMode::NoneForTests,
            ..FjallConfig::default()
        },
        ..Config::new(folder)
    }
}

fn row(n: u64) -> WriteBatch {
    let mut batch = WriteBatch::new();
    batch.put(ROWS, n.to_be_bytes().to_vec(), vec![0; 100]);
    batch
}

fn open_err(folder: &Path) -> OpenError {
    Store::open(config(folder), &[ROWS])
        .err()
        .expect("must not open")
}

/// An engine whose syncs wait for permission or fail.
struct Reluctant {
    inner: Box<dyn Engine>,
    sync: Mutex<mpsc::Receiver<Result<(), StorageError>>>,
}

impl Read for Reluctant {
    fn get(&self, ks: Keyspace, key: &[u8]) -> Result<Option<bytes::Bytes>, StorageError> {
        self.inner.get(ks, key)
    }

    fn range<'a>(
        &'a self,
        ks: Keyspace,
        start: std::ops::Bound<&[u8]>,
        end: std::ops::Bound<&[u8]>,
        direction: crate::Direction,
    ) -> Rows<'a> {
        self.inner.range(ks, start, end, direction)
    }
}

impl Engine for Reluctant {
    fn write(&self, batch: WriteBatch) -> Result<(), StorageError> {
        self.inner.write(batch)
    }

    fn sync(&self) -> Result<(), StorageError> {
        self.sync.lock().unwrap().recv().unwrap_or(Ok(()))
    }

    fn snapshot(&self) -> Box<dyn Read> {
        self.inner.snapshot()
    }

    fn check(&self) -> Result<(), StorageError> {
        Ok(())
    }

    fn disk_bytes(&self) -> u64 {
        0
    }
}

type Permit = mpsc::Sender<Result<(), StorageError>>;

fn reluctant(unsynced_max: usize, on_fatal: FatalHandler) -> (Store, Permit) {
    let (permit, sync) = mpsc::channel();
    let engine = Reluctant {
        inner: Box::new(open_memory(&[ROWS])),
        sync: Mutex::new(sync),
    };
    let shared = Shared::new(Box::new(engine), unsynced_max, on_fatal);
    (
        Store::start(shared, Manifest::ephemeral(), Duration::ZERO, None).unwrap(),
        permit,
    )
}

fn no_fatal() -> FatalHandler {
    FatalHandler::new(|message| panic!("{message}"))
}

#[test]
fn writes_are_visible_at_once_and_reported_in_order() {
    let store = Store::memory(&[ROWS]);
    let (tell, told) = mpsc::channel();
    for n in 0..1_000 {
        let tell = tell.clone();
        store
            .write(row(n), Box::new(move || tell.send(n).unwrap()))
            .unwrap();
        assert!(store.read().get(ROWS, &n.to_be_bytes()).unwrap().is_some());
    }
    assert_eq!(
        told.iter().take(1_000).collect::<Vec<_>>(),
        (0..1_000).collect::<Vec<_>>()
    );
}

#[test]
fn one_sync_covers_all_writes_that_gathered_and_none_is_told_before_it() {
    let (store, permit) = reluctant(1 << 20, no_fatal());
    let (tell, told) = mpsc::channel();
    for n in 0..100 {
        let tell = tell.clone();
        store
            .write(row(n), Box::new(move || tell.send(n).unwrap()))
            .unwrap();
    }
    assert!(told.try_recv().is_err());
    // The first sync may cover any number from one up, the second all the rest.
    permit.send(Ok(())).unwrap();
    permit.send(Ok(())).unwrap();
    assert_eq!(
        told.iter().take(100).collect::<Vec<_>>(),
        (0..100).collect::<Vec<_>>()
    );
    drop(permit);
}

#[test]
fn writes_wait_while_too_much_is_unsynced() {
    let batch_bytes = row(0).bytes();
    let (store, permit) = reluctant(batch_bytes * 4, no_fatal());
    for n in 0..4 {
        store.write_unsynced(row(n)).unwrap();
    }
    let waiting = std::thread::spawn({
        let store = store.clone();
        move || store.write_unsynced(row(4))
    });
    // The bound holds until a sync is through, however the waiting thread is scheduled.
    assert!(store.owner.shared.unsynced.load(Ordering::Acquire) <= batch_bytes * 4);
    permit.send(Ok(())).unwrap();
    waiting.join().unwrap().unwrap();
    assert!(
        store
            .read()
            .get(ROWS, &4_u64.to_be_bytes())
            .unwrap()
            .is_some()
    );
    drop(permit);
}

#[test]
fn a_done_may_write_though_there_is_no_room() {
    let (store, permit) = reluctant(1, no_fatal());
    drop(permit);
    let (tell, told) = mpsc::channel();
    let again = store.clone();
    let done = move || {
        for n in 1..10 {
            again.write_unsynced(row(n)).unwrap();
        }
        tell.send(()).unwrap();
    };
    store.write(row(0), Box::new(done)).unwrap();
    told.recv().unwrap();
}

#[test]
fn a_failed_sync_ends_the_store_and_acknowledges_nothing() {
    let (tell_fatal, fatal) = mpsc::channel();
    let handler = FatalHandler::new(move |message| tell_fatal.send(message.to_owned()).unwrap());
    let (store, permit) = reluctant(1 << 20, handler);
    let (tell, told) = mpsc::channel();
    store
        .write(row(0), Box::new(move || tell.send(()).unwrap()))
        .unwrap();
    permit
        .send(Err(StorageError::Engine("no space left".to_owned())))
        .unwrap();

    assert!(fatal.recv().unwrap().contains("no space left"));
    assert!(told.recv().is_err(), "the callback is dropped uncalled");
    assert!(matches!(
        store.write_unsynced(row(1)),
        Err(StorageError::Failed)
    ));
    assert!(!store.admits_writes());
}

#[test]
fn a_panic_on_the_writer_thread_is_fatal() {
    let (tell_fatal, fatal) = mpsc::channel();
    let handler = FatalHandler::new(move |message| tell_fatal.send(message.to_owned()).unwrap());
    let (store, permit) = reluctant(1 << 20, handler);
    drop(permit);
    store
        .write(row(0), Box::new(|| panic!("on purpose")))
        .unwrap();
    assert!(fatal.recv().unwrap().contains("panicked"));
}

#[test]
fn a_refused_batch_changes_nothing_and_is_not_fatal() {
    let store = Store::memory(&[ROWS]);
    let mut batch = WriteBatch::new();
    batch.put(ROWS, vec![0; crate::KEY_BYTES_MAX + 1], vec![]);
    let refused = store.write(batch, Box::new(|| panic!("not written")));
    assert!(matches!(refused, Err(StorageError::KeyTooLong { .. })));
    assert_eq!(store.owner.shared.unsynced.load(Ordering::Acquire), 0);
    store.write_unsynced(row(0)).unwrap();
}

#[test]
fn shutdown_syncs_reports_and_then_refuses() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(config(folder.path()), &[ROWS]).unwrap();
    let (tell, told) = mpsc::channel();
    store
        .write(row(0), Box::new(move || tell.send(()).unwrap()))
        .unwrap();
    store.write_unsynced(row(1)).unwrap();
    store.shutdown();
    store.shutdown();
    told.try_recv()
        .expect("reported before the writer thread ended");
    assert!(matches!(
        store.write_unsynced(row(2)),
        Err(StorageError::Closed)
    ));
    assert!(
        store
            .read()
            .get(ROWS, &1_u64.to_be_bytes())
            .unwrap()
            .is_some()
    );
    drop(store);

    let store = Store::open(config(folder.path()), &[ROWS]).unwrap();
    assert!(store.is_disk() && store.disk_bytes() > 0);
    assert!(
        store
            .snapshot()
            .get(ROWS, &1_u64.to_be_bytes())
            .unwrap()
            .is_some()
    );
}

#[test]
fn shutdown_does_not_wait_for_the_sync_gap() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config {
        sync_gap: Duration::from_secs(3_600),
        ..config(folder.path())
    };
    let store = Store::open(config, &[ROWS]).unwrap();
    let (tell, told) = mpsc::channel();
    for n in 0..2 {
        let tell = tell.clone();
        store
            .write(row(n), Box::new(move || tell.send(n).unwrap()))
            .unwrap();
        if n == 0 {
            assert_eq!(told.recv().unwrap(), 0, "a lone write is synced at once");
        }
    }
    assert!(told.try_recv().is_err());
    store.shutdown();
    assert_eq!(told.try_recv().unwrap(), 1);
}

#[test]
fn the_last_handle_may_be_dropped_on_the_writer_thread() {
    let store = Store::memory(&[ROWS]);
    let (tell, told) = mpsc::channel();
    let last = store.clone();
    let both = Arc::new(Barrier::new(2));
    let here = both.clone();
    let done = move || {
        both.wait();
        drop(last);
        tell.send(()).unwrap();
    };
    store.write(row(0), Box::new(done)).unwrap();
    drop(store);
    here.wait();
    told.recv().unwrap();
}

#[test]
fn many_threads_write_and_hear_each_of_their_writes_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(
        Config {
            unsynced_bytes_max: 2_000,
            ..Config::new(folder.path())
        },
        &[ROWS],
    )
    .unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let store = store.clone();
            scope.spawn(move || {
                let (tell, told) = mpsc::channel();
                for n in 0..50 {
                    let tell = tell.clone();
                    let done = Box::new(move || tell.send(n).unwrap());
                    store.write(row(thread << 32 | n), done).unwrap();
                }
                assert!(told.iter().take(50).eq(0..50));
            });
        }
    });
}

#[test]
fn writes_stop_below_the_free_space_floor_and_resume_above_it() {
    let folder = tempfile::tempdir().unwrap();
    let free = Arc::new(AtomicU64::new(99));
    let seen = free.clone();
    let probe = Box::new(move || {
        Ok(Space {
            total: 1 << 40,
            free: seen.load(Ordering::Relaxed),
        })
    });
    let config = Config {
        free_space_floor: FreeSpaceFloor::Bytes(100),
        ..config(folder.path())
    };
    let store = Store::open_with_probe(config, &[ROWS], probe).unwrap();
    assert!(!store.admits_writes());
    store
        .write_unsynced(row(0))
        .expect("what frees room is still written");

    free.store(100, Ordering::Relaxed);
    wait_until(|| store.admits_writes());
    free.store(99, Ordering::Relaxed);
    wait_until(|| {
        store.write(row(1), Box::new(|| ())).unwrap();
        !store.admits_writes()
    });
}

/// Bytes that the files in a folder take on the disk.
fn taken(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let Ok(entries) = fs::read_dir(folder) else {
        return 0;
    };
    let entry_bytes = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => taken(&entry.path()),
        Ok(metadata) => metadata.blocks() * 512,
        Err(_) => 0, // Gone meanwhile.
    };
    entries.flatten().map(entry_bytes).sum()
}

#[test]
fn a_store_that_filled_the_disk_gives_the_room_of_deleted_rows_back() {
    const DISK: u64 = 160 << 20;
    const OTHER: Keyspace = Keyspace("other");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    let probe = Box::new(move || {
        Ok(Space {
            total: DISK,
            free: DISK.saturating_sub(taken(&path)),
        })
    });
    let config = Config {
        free_space_floor: FreeSpaceFloor::Bytes(16 << 20),
        ..config(folder.path())
    };
    let store = Store::open_with_probe(config, &[ROWS, OTHER], probe).unwrap();
    // A keyspace that is hardly written holds every journal back.
    let mut few = WriteBatch::new();
    few.put(OTHER, vec![1], vec![1]);
    store.write_unsynced(few).unwrap();

    let mut noise = 1_u64; // Compresses to nothing smaller.
    let mut rows = 0_u64;
    // Past the first stop too, which ends as soon as flushes give journals back.
    while store.admits_writes() || rows < 110 * 16 {
        let mut value = Vec::with_capacity(64 << 10);
        while value.len() < 64 << 10 {
            noise ^= noise << 13;
            noise ^= noise >> 7;
            noise ^= noise << 17;
            value.extend_from_slice(&noise.to_be_bytes());
        }
        let mut batch = WriteBatch::new();
        batch.put(ROWS, rows.to_be_bytes().to_vec(), value);
        let (tell, told) = mpsc::channel();
        store
            .write(batch, Box::new(move || tell.send(()).unwrap()))
            .unwrap();
        told.recv().unwrap();
        rows += 1;
        assert!(rows < 10_000, "the floor was never reached");
    }
    for row in 0..rows {
        let mut batch = WriteBatch::new();
        batch.delete(ROWS, row.to_be_bytes().to_vec());
        store.write_unsynced(batch).unwrap();
    }
    wait_until(|| store.admits_writes());
    assert!(store.read().get(OTHER, &[1]).unwrap().is_some());
}

fn wait_until(is_so: impl Fn() -> bool) {
    let give_up = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < give_up, "waited too long");
        std::thread::yield_now();
    }
}

#[test]
fn the_standard_floor_is_a_share_within_what_the_engine_needs_and_a_size() {
    assert_eq!(FreeSpaceFloor::Standard.bytes(4 << 30), (4 << 30) / 20);
    assert_eq!(FreeSpaceFloor::Standard.bytes(1 << 30), 128 << 20);
    assert_eq!(FreeSpaceFloor::Standard.bytes(64 << 20), 32 << 20);
    assert_eq!(FreeSpaceFloor::Standard.bytes(1 << 40), 512 << 20);
}

#[test]
fn each_start_is_a_new_incarnation_of_the_same_node() {
    let folder = tempfile::tempdir().unwrap();
    let nested = folder.path().join("a/b");
    let first = Store::open(config(&nested), &[ROWS])
        .unwrap()
        .manifest()
        .clone();
    let second = Store::open(config(&nested), &[ROWS])
        .unwrap()
        .manifest()
        .clone();
    assert_eq!(first.incarnation, 1);
    assert_eq!(
        second,
        Manifest {
            incarnation: 2,
            ..first.clone()
        }
    );
    assert_ne!(first.node_id, first.cluster_id);

    let other = tempfile::tempdir().unwrap();
    let other = Store::open(config(other.path()), &[ROWS])
        .unwrap()
        .manifest()
        .clone();
    assert_ne!(other.node_id, first.node_id);
}

#[test]
fn a_folder_in_use_is_refused_with_the_pid_of_its_user() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(config(folder.path()), &[ROWS]).unwrap();
    let error = open_err(folder.path());
    assert!(matches!(error, OpenError::Locked { pid: Some(pid), .. } if pid == std::process::id()));
    assert!(error.to_string().contains("in use"));
    drop(store);
    Store::open(config(folder.path()), &[ROWS]).unwrap();
}

#[test]
fn a_newer_format_is_refused_whatever_else_it_holds() {
    let folder = tempfile::tempdir().unwrap();
    let newer = format!(
        r#"{{"format_version": {}, "shape": []}}"#,
        FORMAT_VERSION + 1
    );
    fs::write(folder.path().join("manifest.json"), newer).unwrap();
    let error = open_err(folder.path());
    assert!(matches!(
        error,
        OpenError::NewerFormat { found, supported: FORMAT_VERSION } if found == FORMAT_VERSION + 1
    ));
    assert!(error.to_string().contains("newer program"));
}

#[test]
fn a_damaged_manifest_is_refused_and_says_how_to_mend() {
    let folder = tempfile::tempdir().unwrap();
    drop(Store::open(config(folder.path()), &[ROWS]).unwrap());
    let path = folder.path().join("manifest.json");
    let good = fs::read_to_string(&path).unwrap();
    let version_0 = good.replace(r#""format_version": 1"#, r#""format_version": 0"#);
    let bad_id = good.replace(r#""node_id": ""#, r#""node_id": "x"#);
    for text in [
        "",
        "{",
        "[]",
        r#"{"format_version": 1}"#,
        &version_0,
        &bad_id,
    ] {
        fs::write(&path, text).unwrap();
        let error = open_err(folder.path());
        assert!(
            matches!(error, OpenError::Damaged { .. }),
            "{text}: {error}"
        );
        assert!(error.to_string().contains("restore manifest.json"));
    }
    fs::remove_file(&path).unwrap();
    assert!(
        open_err(folder.path())
            .to_string()
            .contains("missing beside existing data")
    );
    fs::write(&path, good).unwrap();
    Store::open(config(folder.path()), &[ROWS]).unwrap();
}

#[test]
fn a_damaged_engine_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    drop(Store::open(config(folder.path()), &[ROWS]).unwrap());
    for file in ["version", "keyspaces/0/current"] {
        let path = folder.path().join("engine").join(file);
        let good = fs::read(&path).unwrap();
        fs::write(&path, b"nonsense").unwrap();
        let error = open_err(folder.path());
        assert!(
            matches!(error, OpenError::Damaged { .. }),
            "{file}: {error}"
        );
        fs::write(&path, good).unwrap();
    }
    Store::open(config(folder.path()), &[ROWS]).unwrap();
}

#[test]
fn a_folder_that_cannot_be_is_an_error_with_its_path() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = open_err(file.path());
    assert!(matches!(&error, OpenError::Io { path, .. } if path.starts_with(file.path())));

    // Nobody may create files there, not even root.
    let error = open_err(Path::new("/proc/bifrust"));
    assert!(matches!(
        error,
        OpenError::Io { .. } | OpenError::ReadOnly { .. }
    ));
    assert!(error.to_string().contains("/proc"));
}

#[test]
fn what_may_not_be_written_is_told_from_other_answers() {
    for kind in [
        io::ErrorKind::PermissionDenied,
        io::ErrorKind::ReadOnlyFilesystem,
    ] {
        let error = OpenError::from_io("/data", io::Error::from(kind));
        assert!(matches!(error, OpenError::ReadOnly { .. }));
        assert!(error.to_string().contains("/data cannot be written to"));
    }
}

#[test]
fn rows_of_a_snapshot_stay_as_they_were() {
    let store = Store::memory(&[ROWS]);
    store.write_unsynced(row(0)).unwrap();
    let snapshot = store.snapshot();
    store.write_unsynced(row(1)).unwrap();
    let all = (std::ops::Bound::Unbounded, std::ops::Bound::Unbounded);
    let rows: Vec<Row> = snapshot
        .range(ROWS, all.0, all.1, crate::Direction::Forward)
        .collect::<Result<_, _>>()
        .unwrap();
    assert_eq!(rows.len(), 1);
}
