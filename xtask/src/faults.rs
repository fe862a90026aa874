//! The conformance suite against a broker with planted faults, built apart from all others.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

/// Builds that broker and runs the suite's test of it.
pub(crate) fn check(root: &Path) -> anyhow::Result<Vec<String>> {
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let target = target.join("faults");
    let mut build = cargo(root);
    build.args(["build", "-p", "bifrust", "--features", "planted-faults"]);
    let is_built = run(build.arg("--target-dir").arg(&target))?;
    if !is_built {
        return Ok(vec!["the broker with faults does not build".to_owned()]);
    }
    let mut test = cargo(root);
    test.args(["test", "-p", "bifrust-conformance", "--test", "faults"]);
    test.args(["--", "--include-ignored"]);
    let is_seen = run(test.env("BIFRUST_BIN", target.join("debug/bifrust")))?;
    Ok(match is_seen {
        true => Vec::new(),
        false => vec!["not every fault is caught".to_owned()],
    })
}

fn cargo(root: &Path) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root);
    command
}

fn run(command: &mut Command) -> anyhow::Result<bool> {
    let status = command.status().context("cargo does not start")?;
    Ok(status.success())
}
