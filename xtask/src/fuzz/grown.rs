//! What runs have found on their way, packed: `fuzz/grown/NAME` has an input per line, in hex.
//!
//! A run begins with these inputs, so that its seconds are spent beyond what is known. They reach
//! every edge that was ever reached, and no more than one input is there for an edge.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, ensure};

/// Writes the inputs as files of `folder`, which holds nothing else then.
pub(super) fn unpack(packed: &Path, folder: &Path) -> anyhow::Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir_all(folder)?;
    if !packed.exists() {
        return Ok(());
    }
    let text = fs::read_to_string(packed).with_context(|| packed.display().to_string())?;
    for (index, line) in text.lines().enumerate() {
        let input =
            bytes(line).with_context(|| format!("{}:{}: not hex", packed.display(), index + 1))?;
        fs::write(folder.join(index.to_string()), input)?;
    }
    Ok(())
}

/// Packs the files of `folder`; how many there are.
pub(super) fn pack(folder: &Path, packed: &Path) -> anyhow::Result<usize> {
    let mut inputs = Vec::new();
    for file in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        inputs.push(fs::read(file?.path())?);
    }
    ensure!(!inputs.is_empty(), "{} is empty", folder.display());
    inputs.sort_by(|a, b| (a.len(), a).cmp(&(b.len(), b)));
    let mut text = String::new();
    for input in &inputs {
        for byte in input {
            let _ = write!(text, "{byte:02x}"); // a string takes all
        }
        text.push('\n');
    }
    if let Some(parent) = packed.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(packed, text)?;
    Ok(inputs.len())
}

fn bytes(line: &str) -> Option<Vec<u8>> {
    let pairs = line.as_bytes().chunks(2);
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    pairs
        .map(|pair| byte(pair).filter(|_| pair.len() == 2))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_is_unpacked() {
        let folder = std::env::temp_dir().join(format!("xtask-grown-{}", std::process::id()));
        let (from, to) = (folder.join("from"), folder.join("to"));
        fs::create_dir_all(&from).unwrap();
        for (name, input) in [("a", &[0xff, 0x00, 0x0a][..]), ("b", b""), ("c", b"x")] {
            fs::write(from.join(name), input).unwrap();
        }
        let packed = folder.join("packed");
        assert_eq!(pack(&from, &packed).unwrap(), 3);
        assert_eq!(fs::read_to_string(&packed).unwrap(), "\n78\nff000a\n");
        unpack(&packed, &to).unwrap();
        for (name, input) in [("0", &b""[..]), ("1", b"x"), ("2", &[0xff, 0x00, 0x0a])] {
            assert_eq!(fs::read(to.join(name)).unwrap(), input);
        }
        unpack(&folder.join("none"), &to).unwrap();
        assert_eq!(fs::read_dir(&to).unwrap().count(), 0);
        fs::remove_dir_all(folder).unwrap();
        for wrong in ["7", "7x", "ä"] {
            assert_eq!(bytes(wrong), None, "{wrong}");
        }
    }
}
