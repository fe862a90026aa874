//! Bugs that tests plant on purpose, to see whether they are found.

/// Whether the named bug is planted: never, unless the build was made with `--cfg planted_bugs` and
/// `BIFRUST_PLANTED` names it.
pub(crate) fn planted(bug: &str) -> bool {
    cfg!(planted_bugs) && {
        static CHOSEN: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
        let chosen = CHOSEN.get_or_init(|| std::env::var("BIFRUST_PLANTED").ok());
        chosen.as_deref() == Some(bug)
    }
}
