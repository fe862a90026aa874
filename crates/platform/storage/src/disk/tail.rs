//! Finds where a journal's last whole batch ends.
//!
//! A new journal has its full length from the start, so after a power loss pages of its unsynced tail may
//! be there while earlier ones are not. The engine cuts the tail off itself where it cannot be decoded,
//! but gives up where a batch decodes and its checksum differs: a hole in the middle of a long value.
//! Both mean the same, so such a tail is cut here and the engine opened again. After a crash what is cut
//! was never synced, hence never acknowledged; all before it is kept. Rot of synced bytes looks no
//! different from here, which is why it is logged as an error.
//!
//! ```text
//! start  1, item count u32, sequence number u64
//! item   2, value type u8, compression u8, keyspace u64, key length u16, value length u32,
//!        length on disk u32, key, value on disk
//! end    3, xxh3 of all items and clears u64, "FJL" 3
//! clear  4, keyspace u64
//! ```

use std::{
    fs::{File, OpenOptions},
    io::{self, BufReader, Read},
    path::Path,
};

use xxhash_rust::xxh3::Xxh3;

const TRAILER: [u8; 4] = *b"FJL\x03";

/// Bytes of an item before its key, without the tag.
const ITEM_HEAD_BYTES: usize = 20;

/// Cuts off what follows the last whole batch; false if there is nothing of the kind.
pub(super) fn cut(path: &Path) -> io::Result<bool> {
    let len = std::fs::metadata(path)?.len();
    let valid_len = whole_batches(BufReader::new(File::open(path)?))?;
    if valid_len == len {
        return Ok(false);
    }
    tracing::error!(
        journal = %path.display(),
        kept_bytes = valid_len,
        cut_bytes = len - valid_len,
        "the journal ends in a torn batch, which is cut off: a crash left it unsynced"
    );
    let file = OpenOptions::new().write(true).open(path)?;
    file.set_len(valid_len)?;
    file.sync_all()?;
    Ok(true)
}

/// Length of the batches before the first that is not whole.
pub(crate) fn whole_batches(mut journal: impl Read) -> io::Result<u64> {
    let mut len = 0;
    loop {
        match batch(&mut journal) {
            Ok(Some(bytes)) => len += bytes,
            Ok(None) => return Ok(len),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(len),
            Err(error) => return Err(error),
        }
    }
}

/// Reads one batch and returns its length; `None` if it makes no sense.
fn batch(journal: &mut impl Read) -> io::Result<Option<u64>> {
    let mut bytes = 0;
    let start: [u8; 13] = array(journal, &mut bytes)?;
    if start[0] != 1 {
        return Ok(None);
    }
    let items = u32::from_le_bytes([start[1], start[2], start[3], start[4]]);
    let mut checksum = Xxh3::new();
    for _ in 0..items {
        let tag: [u8; 1] = array(journal, &mut bytes)?;
        checksum.update(&tag);
        let body_len = match tag[0] {
            2 => {
                let head: [u8; ITEM_HEAD_BYTES] = array(journal, &mut bytes)?;
                checksum.update(&head);
                let key_len = u16::from_le_bytes([head[10], head[11]]);
                let value_len = u32::from_le_bytes([head[16], head[17], head[18], head[19]]);
                u64::from(key_len) + u64::from(value_len)
            }
            4 => 8,
            _ => return Ok(None),
        };
        skim(journal, body_len, &mut checksum)?;
        bytes += body_len;
    }
    let end: [u8; 13] = array(journal, &mut bytes)?;
    let is_whole =
        end[0] == 3 && end[1..9] == checksum.digest().to_le_bytes() && end[9..] == TRAILER;
    Ok(is_whole.then_some(bytes))
}

fn array<const N: usize>(journal: &mut impl Read, bytes: &mut u64) -> io::Result<[u8; N]> {
    let mut array = [0; N];
    journal.read_exact(&mut array)?;
    *bytes += N as u64;
    Ok(array)
}

/// Passes over `len` bytes in pieces: a torn length may name any number.
fn skim(journal: &mut impl Read, mut len: u64, checksum: &mut Xxh3) -> io::Result<()> {
    if cfg!(planted_bugs) {
        let mut whole = vec![0; len as usize];
        journal.read_exact(&mut whole)?;
        checksum.update(&whole);
        return Ok(());
    }
    let mut piece = [0; 4096];
    while len > 0 {
        let piece = &mut piece[..len.min(4096) as usize];
        journal.read_exact(piece)?;
        checksum.update(piece);
        len -= piece.len() as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::FileExt as _,
        path::{Path, PathBuf},
    };

    use bytes::Bytes;

    use super::super::journal::active_journal;
    use crate::{Engine as _, FjallConfig, Keyspace, Read as _, WriteBatch, open_fjall};

    const ROWS: Keyspace = Keyspace("rows");

    /// Values of both kinds: plain ones, and large ones that the journal packs.
    fn value(n: u8) -> Bytes {
        match n % 2 {
            0 => vec![n; 3_000].into(),
            _ => {
                let mut noise = u64::from(n);
                std::iter::repeat_with(|| {
                    noise = noise
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1);
                    (noise >> 56) as u8
                })
                .take(60_000)
                .collect()
            }
        }
    }

    fn written(folder: &Path) -> PathBuf {
        let path = folder.join("engine");
        let engine = open_fjall(&path, &[ROWS], FjallConfig::default()).unwrap();
        for n in 0..20 {
            let mut batch = WriteBatch::new();
            batch.put(ROWS, vec![b'r', n], value(n));
            batch.delete(ROWS, vec![b'd', n]);
            engine.write(batch).unwrap();
        }
        engine.sync().unwrap();
        path
    }

    #[test]
    fn whole_batches_are_all_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = written(folder.path());
        let (_, journal) = active_journal(&path).unwrap().unwrap();
        assert!(!super::cut(&journal).unwrap());
        assert_eq!(super::whole_batches(&b""[..]).unwrap(), 0);
    }

    #[test]
    fn a_page_missing_in_the_tail_costs_only_what_follows_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = written(folder.path());
        let (_, journal) = active_journal(&path).unwrap().unwrap();
        let whole = fs::read(&journal).unwrap();
        for at in (0..whole.len() as u64)
            .step_by(4096 * 7)
            .chain([whole.len() as u64 - 5_000])
        {
            fs::write(&journal, &whole).unwrap();
            let file = fs::OpenOptions::new().write(true).open(&journal).unwrap();
            file.write_all_at(&[0; 4096], at).unwrap();
            drop(file);

            let engine = open_fjall(&path, &[ROWS], FjallConfig::default()).unwrap();
            let held: Vec<_> = (0..20)
                .map(|n| engine.get(ROWS, &[b'r', n]).unwrap())
                .collect();
            let first_missing = held.iter().position(Option::is_none).unwrap();
            assert!(held[first_missing..].iter().all(Option::is_none));
            for (n, held) in held[..first_missing].iter().enumerate() {
                assert_eq!(held.as_ref().unwrap(), &value(n as u8));
            }
            // Nothing before the hole is lost.
            let batch_bytes = whole.len() as u64 / 10;
            assert!(
                first_missing as u64 + 4 >= at / batch_bytes * 2,
                "{first_missing} at {at}"
            );
        }
    }
}
