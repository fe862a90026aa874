//! Checks of the workspace itself: `cargo xtask layers`, `files`, `docs`, `house` for all;
//! `fuzz` for its parsers.

mod architecture;
mod clients;
mod faults;
mod files;
mod fuzz;
mod layers;

use std::path::Path;
use std::process::ExitCode;

use cargo_metadata::MetadataCommand;

const HELP: &str = "\
Checks of the workspace itself:
  cargo xtask layers   no dependency goes up, or sideways without being stated
  cargo xtask files    no file over 800 lines, no unwrap on a product path, no mod.rs
  cargo xtask docs     every file that ARCHITECTURE.md names is there
  cargo xtask house    all of these
  cargo xtask clients  what clients see, over every transport, and every client with every other
  cargo xtask faults   the conformance suite against a broker with planted faults
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (asked, arguments) = match arguments.split_first() {
        Some((asked, arguments)) => (asked.as_str(), arguments),
        None => ("", &[][..]),
    };
    match run(asked, arguments) {
        Ok(problems) if problems.is_empty() => {
            println!("{asked}: ok");
            ExitCode::SUCCESS
        }
        Ok(problems) => {
            for problem in &problems {
                eprintln!("error: {problem}");
            }
            eprintln!("{asked}: {} problems", problems.len());
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(asked: &str, arguments: &[String]) -> anyhow::Result<Vec<String>> {
    let metadata = || MetadataCommand::new().exec();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap_or_else(|| Path::new("."));
    Ok(match asked {
        "layers" => layers::check(&metadata()?),
        "files" => files::check(root)?,
        "docs" => architecture::check(root)?,
        "house" => [
            layers::check(&metadata()?),
            files::check(root)?,
            architecture::check(root)?,
        ]
        .concat(),
        "clients" => clients::check(root)?,
        "faults" => faults::check(root)?,
        "fuzz" => fuzz::run(root, arguments)?,
        _ => anyhow::bail!("{asked:?} is no check\n{HELP}\n{}", fuzz::HELP),
    })
}
