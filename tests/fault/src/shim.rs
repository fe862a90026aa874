//! Builds the preloaded library.

use std::{
    env, fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io,
    path::PathBuf,
    process::{self, Command},
    sync::atomic::{AtomicU64, Ordering},
};

const SOURCE: &str = include_str!("../preload/lossy.c");
const HEADER: &str = include_str!("../preload/journal.h");

/// Compiles the library with the system's C compiler, once per version of its source, and says where it
/// lies. May run in several processes at once.
pub fn build_shim() -> io::Result<PathBuf> {
    static BUILDS: AtomicU64 = AtomicU64::new(0);
    let mut hasher = DefaultHasher::new();
    (SOURCE, HEADER).hash(&mut hasher);
    let built = env::temp_dir().join(format!("bifrust-lossy-{:016x}.so", hasher.finish()));
    if built.exists() {
        return Ok(built);
    }
    let build = BUILDS.fetch_add(1, Ordering::Relaxed);
    let folder = env::temp_dir().join(format!("bifrust-lossy-{}-{build}", process::id()));
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("lossy.c"), SOURCE)?;
    fs::write(folder.join("journal.h"), HEADER)?;
    let output = Command::new("cc")
        .current_dir(&folder)
        .args([
            "-O2", "-Wall", "-Wextra", "-shared", "-fPIC", "-o", "lossy.so", "lossy.c",
        ])
        .arg("-pthread")
        .output()
        .map_err(|error| io::Error::new(error.kind(), format!("running cc: {error}")))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(io::Error::other(format!("cc failed: {text}")));
    }
    // In one step, so that no one loads half a library.
    fs::rename(folder.join("lossy.so"), &built)?;
    fs::remove_dir_all(&folder)?;
    Ok(built)
}
