//! Files that people write.

use bifrust_node::config::{Effective, Flags, Loaded, Sources};

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
        Ok(loaded) => check_shown(&loaded),
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

/// What is shown of a config says the same as the config.
fn check_shown(loaded: &Loaded) {
    let sources = Sources {
        file: Some(("bifrust.toml".into(), Effective::to_toml(&loaded.effective))),
        ..Sources::default()
    };
    let again = sources.load().expect("what is shown can be read");
    let values = |loaded: &Loaded| -> Vec<_> {
        let all = loaded.effective.iter();
        all.map(|it| (it.key.clone(), it.value.clone())).collect()
    };
    assert_eq!(values(&again), values(loaded));
}

/// A users file, and the user names of CONNECT.
pub(crate) fn users(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        bifrust_providers::fuzz::check_users(text);
        bifrust_providers::fuzz::check_user_name(text);
    }
}
