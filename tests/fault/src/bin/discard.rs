//! Takes back what a killed process had not synced: `discard DATA JOURNAL SEED all|prefix|pages`.

use std::{env, path::Path, process::ExitCode};

use bifrust_fault::{Mode, discard};

fn main() -> anyhow::Result<ExitCode> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [data, journal, seed, mode] = arguments.as_slice() else {
        eprintln!("usage: discard DATA JOURNAL SEED all|prefix|pages");
        return Ok(ExitCode::FAILURE);
    };
    let mode = match mode.as_str() {
        "all" => Mode::All,
        "prefix" => Mode::Prefix,
        "pages" => Mode::Pages,
        other => anyhow::bail!("unknown mode {other}"),
    };
    let lost = discard(Path::new(data), Path::new(journal), seed.parse()?, mode)?;
    println!(
        "took back {} changes to files and {} to names",
        lost.changes, lost.names
    );
    Ok(ExitCode::SUCCESS)
}
