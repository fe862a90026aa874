//! Numbered batches and the check that a store holds exactly the first so many of them.

use std::ops::Bound;

use anyhow::{Context as _, ensure};
use bifrust_storage::{Direction, Keyspace, Read, WriteBatch};

const ROWS: Keyspace = Keyspace("rows");
const META: Keyspace = Keyspace("meta");

/// All that a store of numbered batches consists of.
pub const KEYSPACES: [Keyspace; 2] = [ROWS, META];

/// Rows that are left standing.
const KEEP: u64 = 400;

const LAST: &[u8] = b"last";

/// Batch number `n`.
pub fn batch(n: u64) -> WriteBatch {
    let mut batch = WriteBatch::new();
    batch.put(ROWS, n.to_be_bytes().to_vec(), value(n));
    if let Some(old) = n.checked_sub(KEEP) {
        batch.delete(ROWS, old.to_be_bytes().to_vec());
    }
    batch.put(META, LAST, n.to_be_bytes().to_vec());
    batch
}

/// Up to three pages, so that a torn write tears values too.
fn value(n: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(n);
    let len = random.usize(..12_000) / random.usize(1..=12);
    std::iter::repeat_with(|| random.u8(..)).take(len).collect()
}

/// Number of the last batch that the store holds.
pub fn last(read: &dyn Read) -> anyhow::Result<Option<u64>> {
    let Some(value) = read.get(META, LAST)? else {
        return Ok(None);
    };
    Ok(Some(u64::from_be_bytes(
        value[..].try_into().context("the last number is damaged")?,
    )))
}

/// Checks that the store holds exactly the batches up to some number, and returns that.
pub fn check(read: &dyn Read) -> anyhow::Result<Option<u64>> {
    let last = last(read)?;
    let mut wanted = match last {
        Some(last) => last.saturating_sub(KEEP - 1)..last + 1,
        None => 0..0,
    };
    for row in read.range(ROWS, Bound::Unbounded, Bound::Unbounded, Direction::Forward) {
        let (key, found) = row?;
        let n = wanted
            .next()
            .with_context(|| format!("a row {key:?} after the last"))?;
        ensure!(
            key[..] == n.to_be_bytes(),
            "row {key:?} where {n} should be"
        );
        ensure!(found[..] == value(n), "row {n} has another value");
    }
    ensure!(wanted.is_empty(), "rows {wanted:?} are missing");
    Ok(last)
}
