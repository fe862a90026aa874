//! Where the program under test is.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// The `bifrust` program: `BIFRUST_BIN`, or built from this workspace (in `BIFRUST_PROFILE`).
pub fn bifrust() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| match env::var_os("BIFRUST_BIN") {
        Some(path) => {
            let path = PathBuf::from(path);
            assert!(
                path.is_file(),
                "BIFRUST_BIN names no file: {}",
                path.display()
            );
            path
        }
        None => build(),
    })
}

fn build() -> PathBuf {
    let profile = env::var("BIFRUST_PROFILE").unwrap_or_else(|_| "dev".to_owned());
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args([
        "build",
        "--package",
        "bifrust",
        "--bin",
        "bifrust",
        "--profile",
        &profile,
    ]);
    cargo.arg("--message-format=json-render-diagnostics");
    cargo
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stderr(Stdio::inherit());
    let output = cargo.output().expect("cargo runs");
    assert!(output.status.success(), "the broker did not build");
    let text = String::from_utf8_lossy(&output.stdout);
    let messages = text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    let executable = messages
        .filter_map(|message: serde_json::Value| message["executable"].as_str().map(PathBuf::from))
        .find(|path| path.file_stem().is_some_and(|name| name == "bifrust"));
    executable.expect("cargo names the executable it built")
}
