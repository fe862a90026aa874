//! How the program ends.

use std::io;
use std::process::ExitCode;

use bifrust_node::config::Problems;

/// The config is wrong.
pub(crate) const CONFIG: u8 = 2;
/// Another process uses the data folder.
pub(crate) const DATA_LOCKED: u8 = 3;
/// Another process listens there.
pub(crate) const PORT_TAKEN: u8 = 4;
/// Time is up, as `mosquitto_sub` says it.
pub(crate) const TIMED_OUT: u8 = 27;

/// Says on stderr what went wrong and how the program ends.
pub(crate) fn tell(error: &anyhow::Error) -> ExitCode {
    if let Some(problems) = error.downcast_ref::<Problems>() {
        for problem in &problems.0 {
            eprintln!("error: {problem}");
        }
        return ExitCode::from(CONFIG);
    }
    // Whoever read the output has seen enough.
    if is_broken_pipe(error) {
        return ExitCode::SUCCESS;
    }
    eprintln!("error: {error:#}");
    ExitCode::from(code(error))
}

fn code(error: &anyhow::Error) -> u8 {
    use bifrust_node::StartError;
    match error.downcast_ref::<StartError>() {
        Some(error) if error.is_locked() => DATA_LOCKED,
        Some(error) if error.is_address_in_use() => PORT_TAKEN,
        Some(error) if error.is_config() => CONFIG,
        _ => 1,
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<io::Error>();
    io.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// The exit code of a node that did not stop within its bound.
pub(crate) const fn code_of_late_stop() -> i32 {
    1
}
