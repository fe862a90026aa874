//! What ARCHITECTURE.md names is there.
//!
//! In code spans `floor/crate` or a crate's folder name says which crate the following spans are
//! about, until the paragraph ends: `file.rs` and `folder/` are then below its `src`. Spans that
//! start with a folder of the repository are paths from its root.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

const PAGE: &str = "ARCHITECTURE.md";
/// Folders of the repository that a path may start with.
const ROOTS: [&str; 7] = [
    "crates", "tests", "xtask", "benches", "docs", "fuzz", "deploy",
];

/// Paths in the page that lead nowhere.
pub(crate) fn check(root: &Path) -> anyhow::Result<Vec<String>> {
    let text = fs::read_to_string(root.join(PAGE)).with_context(|| PAGE.to_owned())?;
    let (named, mut problems) = named_paths(&text, &crate_folders(root)?);
    if !named.iter().any(|(_, path)| path.extension().is_some()) {
        problems.push(format!("{PAGE} names no source file"));
    }
    for (line, path) in named {
        if !root.join(&path).exists() {
            problems.push(format!("{PAGE}:{line}: {} is not there", path.display()));
        }
    }
    Ok(problems)
}

/// `floor/name` of each crate.
fn crate_folders(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut folders = Vec::new();
    for floor in fs::read_dir(root.join("crates"))? {
        let floor = floor?;
        if !floor.path().is_dir() {
            continue;
        }
        for own in fs::read_dir(floor.path())? {
            let (floor, own) = (floor.file_name(), own?.file_name());
            folders.push(format!(
                "{}/{}",
                floor.to_string_lossy(),
                own.to_string_lossy()
            ));
        }
    }
    Ok(folders)
}

/// Each path that the page names, with its line, and what cannot be a path.
fn named_paths(text: &str, crates: &[String]) -> (Vec<(usize, PathBuf)>, Vec<String>) {
    let mut named = Vec::new();
    let mut problems = Vec::new();
    let mut about: Option<&str> = None;
    for (line, span) in spans(text) {
        let Some(span) = span else {
            about = None;
            continue;
        };
        let is_crate = |folder: &&String| {
            **folder == span || folder.split_once('/').is_some_and(|(_, name)| name == span)
        };
        if let Some(folder) = crates.iter().find(is_crate) {
            about = Some(folder);
        } else if ROOTS.contains(&span.split('/').next().unwrap_or_default()) {
            named.push((line, PathBuf::from(span)));
        } else if span.ends_with(".rs") || (span.ends_with('/') && about.is_some()) {
            match about {
                Some(folder) => named.push((
                    line,
                    Path::new("crates").join(folder).join("src").join(span),
                )),
                None => problems.push(format!("{PAGE}:{line}: {span}: of which crate?")),
            }
        }
    }
    (named, problems)
}

/// Code spans with their lines; `None` where a paragraph ends.
fn spans(text: &str) -> impl Iterator<Item = (usize, Option<&str>)> {
    (1..).zip(text.lines()).flat_map(|(number, line)| {
        let is_end = line.trim().is_empty() || line.starts_with('#');
        let end = is_end.then_some((number, None));
        let code = line.split('`').skip(1).step_by(2);
        let code = code.filter(|span| !span.is_empty() && !span.contains(char::is_whitespace));
        end.into_iter()
            .chain(code.map(move |span| (number, Some(span))))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_belong_to_the_crate_named_before() {
        let crates = ["edge/mqtt".to_owned(), "platform/kv".to_owned()];
        let text = "`edge/mqtt` `a.rs`, `b/`\n`kv` `c/d.rs` and `cargo x`, `benches/e.py`\n\n`schema/`\n`f.rs`\n";
        let (named, problems) = named_paths(text, &crates);
        let named: Vec<_> = named
            .iter()
            .map(|(line, path)| format!("{line} {}", path.display()))
            .collect();
        assert_eq!(
            named,
            [
                "1 crates/edge/mqtt/src/a.rs",
                "1 crates/edge/mqtt/src/b/",
                "2 crates/platform/kv/src/c/d.rs",
                "2 benches/e.py",
            ]
        );
        assert_eq!(problems, ["ARCHITECTURE.md:5: f.rs: of which crate?"]);
    }
}
