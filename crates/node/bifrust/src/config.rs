//! `bifrust config`.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use bifrust_node::config::{Flags, Sources, documented};

use crate::arguments::ConfigCommand;

pub(crate) fn run(command: &ConfigCommand) -> anyhow::Result<ExitCode> {
    match command {
        ConfigCommand::Check { file } => check(file),
        ConfigCommand::Keys => keys(),
    }
}

fn check(file: &Path) -> anyhow::Result<ExitCode> {
    let loaded = Sources::of_process(Some(file), Flags::default())?.load()?;
    for warning in &loaded.warnings.0 {
        eprintln!("warning: {warning}");
    }
    writeln!(std::io::stdout(), "{}: ok", file.display())?;
    Ok(ExitCode::SUCCESS)
}

fn keys() -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    for key in documented() {
        writeln!(out, "{}\n    {}; {}", key.key, key.help, key.takes)?;
    }
    Ok(ExitCode::SUCCESS)
}
