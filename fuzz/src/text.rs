//! Files that people write.

use bifrust_node::config::{Flags, Sources};

/// A config file; behind a zero byte lines of the environment.
pub(crate) fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let (text, environment) = text.split_once('\0').unwrap_or((text, ""));
    let environment = environment
        .lines()
        .filter_map(|line| line.split_once('='))
        // What names a file would have it read.
        .filter(|(name, _)| !name.ends_with("_FILE"))
        .map(|(name, value)| (format!("BIFRUST__{name}"), value.to_owned()))
        .collect();
    let sources = Sources {
        file: Some(("bifrust.toml".into(), text.to_owned())),
        environment,
        flags: Flags::default(),
    };
    match sources.load() {
        Ok(loaded) => drop(loaded.warnings.to_string()),
        Err(problems) => {
            assert!(!problems.0.is_empty());
            let lines = text.lines().count().max(1) + 1;
            for problem in &problems.0 {
                if let bifrust_node::config::Place::Line(_, line) = problem.place {
                    assert!(line <= lines, "{problem}");
                }
            }
        }
    }
}

/// A users file, and the user names of CONNECT.
pub(crate) fn users(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        bifrust_providers::fuzz::check_users(text);
        bifrust_providers::fuzz::check_user_name(text);
    }
}
