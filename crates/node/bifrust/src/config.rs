//! `bifrust config`.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use bifrust_node::StartError;
use bifrust_node::config::{Documented, Effective, Flags, Sources, documented};
use bifrust_providers::UserFile;

use crate::arguments::{ConfigCommand, NodeArguments};

pub(crate) fn run(command: &ConfigCommand) -> anyhow::Result<ExitCode> {
    match command {
        ConfigCommand::Check { file } => check(file),
        ConfigCommand::Show(arguments) => show(arguments),
        ConfigCommand::Keys => keys(),
    }
}

fn check(file: &Path) -> anyhow::Result<ExitCode> {
    let loaded = Sources::of_process(Some(file), Flags::default())?.load()?;
    for warning in &loaded.warnings.0 {
        eprintln!("warning: {warning}");
    }
    bifrust_node::check_certificates(&loaded.config).map_err(StartError::from)?;
    let users = UserFile::new(&loaded.config.auth.file);
    if users.read().map_err(StartError::from)?.is_empty() {
        eprintln!(
            "warning: {} has no user, every client would be refused; `bifrust user add` adds one",
            users.path().display()
        );
    }
    writeln!(std::io::stdout(), "{}: ok", file.display())?;
    Ok(ExitCode::SUCCESS)
}

fn show(arguments: &NodeArguments) -> anyhow::Result<ExitCode> {
    let loaded = arguments.sources()?.load()?;
    for warning in &loaded.warnings.0 {
        eprintln!("warning: {warning}");
    }
    let text = Effective::to_toml(&loaded.effective);
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn keys() -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    let own = |key: &Documented| !key.key.starts_with("tenants.");
    for key in documented().into_iter().filter(own) {
        let default = match &key.default {
            Some(default) => format!(" [{default}]"),
            None => String::new(),
        };
        writeln!(out, "{}\n    {}; {}{default}", key.key, key.help, key.takes)?;
    }
    writeln!(
        out,
        "tenants.NAME.settings.SETTING\n    any of the settings above for the tenant NAME [as settings.SETTING]"
    )?;
    Ok(ExitCode::SUCCESS)
}
