//! Writes numbered batches until it is killed: `writer DATA fsync|none`.
//!
//! Batch `n` puts row `n`, deletes row `n - KEEP` and notes `n` as the last, over two keyspaces. Each
//! number is printed when the store has called back that it is durable.

use std::{env, io::Write as _, sync::mpsc};

use anyhow::Context as _;
use bifrust_fault::numbered::{self, KEYSPACES};
use bifrust_storage::{Config, FjallConfig, Store, SyncMode};

/// Batches written and not yet called back: enough to gather in groups.
const OUTSTANDING_MAX: usize = 16;

fn main() -> anyhow::Result<()> {
    let mut arguments = env::args().skip(1);
    let data = arguments.next().context("the data folder is missing")?;
    let sync = match arguments.next().as_deref() {
        Some("fsync") => SyncMode::Fsync,
        Some("none") => SyncMode::NoneForTests,
        _ => anyhow::bail!("fsync or none?"),
    };
    // Small memtables, so that flushes and compactions happen all the time.
    let engine = FjallConfig {
        memtable_bytes: 256 * 1024,
        sync,
        ..FjallConfig::default()
    };
    let store = Store::open(
        Config {
            engine,
            ..Config::new(data)
        },
        &KEYSPACES,
    )?;
    let first = numbered::last(store.read())?.map_or(0, |last| last + 1);

    let (free, slots) = mpsc::channel();
    for _ in 0..OUTSTANDING_MAX {
        free.send(())?;
    }
    for n in first.. {
        slots.recv()?;
        let free = free.clone();
        let done = move || {
            // The parent is gone when this fails, and so is the point of going on.
            let told = writeln!(std::io::stdout(), "{n}");
            if told.is_err() || free.send(()).is_err() {
                std::process::exit(0);
            }
        };
        store.write(numbered::batch(n), Box::new(done))?;
    }
    Ok(())
}
