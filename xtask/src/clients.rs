//! The end-to-end suite over every transport, then every client with every other.

use std::env;
use std::path::Path;
use std::process::Command;

use anyhow::Context as _;

const TRANSPORTS: [&str; 4] = ["tcp", "tls", "ws", "wss"];

/// Runs both; what failed.
pub(crate) fn check(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut problems = Vec::new();
    for transport in TRANSPORTS {
        let mut suites = test(root);
        suites.args(["-p", "bifrust-conformance", "--no-fail-fast"]);
        suites.env("BIFRUST_E2E_TRANSPORT", transport);
        if !run(&mut suites)? {
            problems.push(format!("the suites fail over {transport}"));
        }
    }
    let mut clients = test(root);
    clients.args(["--test", "clients", "--", "--nocapture"]);
    if !run(clients.env("BIFRUST_CLIENTS", "all"))? {
        problems.push("a cell of docs/clients.md fails".to_owned());
    }
    Ok(problems)
}

/// Tests with clients, none of which may be left out.
fn test(root: &Path) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root).env("BIFRUST_ALLOW_SKIP", "0");
    command.args(["test", "--locked", "-p", "bifrust-e2e"]);
    command
}

fn run(command: &mut Command) -> anyhow::Result<bool> {
    let status = command.status().context("cargo does not start")?;
    Ok(status.success())
}
