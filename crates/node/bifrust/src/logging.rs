//! Log lines on stderr.

use std::io::IsTerminal as _;

use bifrust_node::config::{Log, LogFormat};
use tracing_subscriber::EnvFilter;

/// From here on the log goes to stderr.
pub(crate) fn start(log: &Log) -> anyhow::Result<()> {
    // Lines about single connections have a target of their own, so that any level is bearable on
    // a node with many clients.
    let events = if log.has_connections { "debug" } else { "off" };
    let engine = if matches!(log.level.as_str(), "debug" | "trace") {
        "info"
    } else {
        "warn"
    };
    let filter = EnvFilter::try_new(format!(
        "{},bifrust::event={events},fjall={engine},lsm_tree={engine}",
        log.level
    ))?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let started = match log.format {
        LogFormat::Text => lines.try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("the log cannot be started: {error}"))
}
