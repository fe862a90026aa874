//! Sources: not too long, no `unwrap` outside tests, no `mod.rs`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// Lines of a source file; a file that grows is split by what it does.
const LINES_MAX: usize = 800;
/// Where sources are; what is built or fetched lies elsewhere.
const FOLDERS: [&str; 4] = ["crates", "fuzz", "tests", "xtask"];
/// Where code is product code.
const PRODUCT: &str = "crates";

/// What is wrong with the sources.
pub(crate) fn check(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut sources = Vec::new();
    for folder in FOLDERS {
        gather(&root.join(folder), &mut sources)?;
    }
    sources.sort();
    let mut problems = Vec::new();
    for source in sources {
        let text = fs::read_to_string(&source).with_context(|| source.display().to_string())?;
        let name = source.strip_prefix(root).unwrap_or(&source);
        problems.extend(file_problems(name, &text));
    }
    Ok(problems)
}

fn gather(folder: &Path, sources: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    if !folder.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() {
            let is_foreign =
                matches!(name.as_ref(), "target" | "node_modules") || name.starts_with('.');
            if !is_foreign {
                gather(&path, sources)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            sources.push(path);
        }
    }
    Ok(())
}

fn file_problems(name: &Path, text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let shown = name.display();
    let lines = text.lines().count();
    if lines > LINES_MAX {
        problems.push(format!(
            "{shown} has {lines} lines, {LINES_MAX} are allowed"
        ));
    }
    if name.file_name().is_some_and(|file| file == "mod.rs") {
        problems.push(format!(
            "{shown}: a module is foo.rs beside foo/, not foo/mod.rs"
        ));
    }
    if is_product(name) {
        let unwraps = product_lines(text).filter(|(_, line)| has_unwrap(line));
        problems.extend(unwraps.map(|(number, _)| {
            format!("{shown}:{number}: unwrap on a product path; answer the error, or expect(\"why it cannot fail\")")
        }));
    }
    problems
}

fn is_product(name: &Path) -> bool {
    let is_test = name.components().any(|part| {
        let part = part.as_os_str().to_string_lossy();
        let stem = part.strip_suffix(".rs").unwrap_or(&part);
        matches!(stem, "tests" | "testing" | "examples" | "benches") || stem.ends_with("_tests")
    });
    name.starts_with(PRODUCT) && !is_test
}

/// Lines before the inline tests, numbered from 1.
fn product_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut lines = (1..).zip(text.lines()).peekable();
    std::iter::from_fn(move || {
        let (number, line) = lines.next()?;
        let opens_tests = line.trim() == "#[cfg(test)]"
            && lines
                .peek()
                .is_some_and(|(_, next)| next.trim_end().ends_with('{') && next.contains("mod "));
        (!opens_tests).then_some((number, line))
    })
}

fn has_unwrap(line: &str) -> bool {
    // Spelt in two parts, so that this line is none itself.
    let call = concat!(".unwrap", "()");
    line.split("//")
        .next()
        .is_some_and(|code| code.contains(call))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(name: &str, text: &str) -> usize {
        file_problems(Path::new(name), text).len()
    }

    #[test]
    fn unwraps_count_only_in_product_code() {
        let call = concat!("let x = y.unwrap", "();\n");
        let text = format!("{call}// {call}#[cfg(test)]\nmod tests {{\n{call}}}\n");
        assert_eq!(problems("crates/a/b/src/c.rs", &text), 1);
        for name in [
            "crates/a/b/src/c/tests.rs",
            "crates/a/b/tests/c.rs",
            "tests/e2e/src/c.rs",
        ] {
            assert_eq!(problems(name, &text), 0, "{name}");
        }
    }

    #[test]
    fn a_test_attribute_on_less_than_a_module_ends_nothing() {
        let call = concat!("let x = y.unwrap", "();\n");
        let text = format!("#[cfg(test)]\nmod tests;\n{call}");
        assert_eq!(problems("crates/a/b/src/c.rs", &text), 1);
    }

    #[test]
    fn long_files_and_mod_files_are_told() {
        let long = "\n".repeat(LINES_MAX + 1);
        assert_eq!(problems("tests/a.rs", &long), 1);
        assert_eq!(problems("crates/a/mod.rs", ""), 1);
    }
}
