//! Where passwords come from: a file, a pipe or a person. Never from an argument.

use std::io::{self, BufRead as _, IsTerminal as _, Read as _, Write as _};
use std::path::Path;

use anyhow::{Context as _, ensure};
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

/// More than CONNECT can carry.
const BYTES_MAX: usize = u16::MAX as usize;

/// The password in `file`, else the one on stdin. A person at a terminal types it twice, unseen.
pub(crate) fn read(file: Option<&Path>) -> anyhow::Result<Vec<u8>> {
    let password = match file {
        Some(file) => from_file(file)?,
        None if io::stdin().is_terminal() => typed_twice()?,
        None => {
            let mut bytes = Vec::new();
            io::stdin()
                .take(BYTES_MAX as u64 + 3)
                .read_to_end(&mut bytes)
                .context("stdin")?;
            without_line_end(bytes)
        }
    };
    ensure!(!password.is_empty(), "the password is empty");
    ensure!(
        password.len() <= BYTES_MAX,
        "the password is longer than {BYTES_MAX} bytes"
    );
    Ok(password)
}

/// The password in `file`, without its last line end.
pub(crate) fn from_file(file: &Path) -> anyhow::Result<Vec<u8>> {
    let bytes = std::fs::read(file).with_context(|| file.display().to_string())?;
    Ok(without_line_end(bytes))
}

fn without_line_end(mut bytes: Vec<u8>) -> Vec<u8> {
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    bytes
}

fn typed_twice() -> anyhow::Result<Vec<u8>> {
    let first = typed("Password: ")?;
    ensure!(first == typed("Again: ")?, "the two passwords differ");
    Ok(first)
}

fn typed(prompt: &str) -> anyhow::Result<Vec<u8>> {
    let stdin = io::stdin();
    eprint!("{prompt}");
    io::stderr().flush()?;
    let before = tcgetattr(&stdin)?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    tcsetattr(&stdin, OptionalActions::Flush, &silent)?;
    let mut line = Vec::new();
    let read = stdin.lock().read_until(b'\n', &mut line);
    tcsetattr(&stdin, OptionalActions::Flush, &before)?;
    eprintln!();
    read?;
    Ok(without_line_end(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_line_end_is_taken_off() {
        assert_eq!(without_line_end(b"a\nb\n".to_vec()), b"a\nb");
        assert_eq!(without_line_end(b"a\r\n".to_vec()), b"a");
        assert_eq!(without_line_end(b"a\r".to_vec()), b"a\r");
    }
}
