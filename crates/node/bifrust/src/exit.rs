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
    let code = code(error);
    eprintln!("error: {}", in_words(error));
    if code == PORT_TAKEN {
        eprintln!(
            "another program listens there, perhaps another node: stop it, or choose another port \
             with --tcp, --ws, --api or in the config"
        );
    }
    ExitCode::from(code)
}

/// The error and its causes; a cause that was told already is not told again.
fn in_words(error: &anyhow::Error) -> String {
    let mut told = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if told.is_empty() {
            told = cause;
        } else if !told.ends_with(&cause) {
            told = format!("{told}: {cause}");
        }
    }
    told
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_told_once() {
        let refused = io::Error::other("refused");
        let error = anyhow::Error::new(refused).context("cannot connect: refused");
        assert_eq!(in_words(&error), "cannot connect: refused");
        assert_eq!(
            in_words(&error.context("b:1")),
            "b:1: cannot connect: refused"
        );
    }
}
