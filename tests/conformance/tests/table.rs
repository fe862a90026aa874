//! The rows against the lists of statements, and docs/conformance.md against both.

use std::env;
use std::fs;
use std::path::Path;

use bifrust_conformance::catalogue::{STANDARDS, document};

#[test]
fn the_lists_are_whole() {
    for standard in STANDARDS {
        let statements = standard.statements();
        let expected = match standard.version {
            "3.1.1" => 141,
            _ => 251,
        };
        assert_eq!(statements.len(), expected, "{}", standard.version);
        let mut numbers: Vec<&str> = statements.iter().map(|known| known.number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), expected, "{}: twice", standard.version);
    }
}

#[test]
fn every_statement_for_servers_has_a_row() {
    let problems = STANDARDS.iter().flat_map(|standard| standard.problems());
    let problems: Vec<String> = problems.collect();
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn the_page_is_up_to_date() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/conformance.md");
    let text = document();
    if env::var_os("BIFRUST_BLESS").is_some() {
        fs::write(&page, &text).expect("docs/conformance.md is written");
    }
    let written = fs::read_to_string(&page).unwrap_or_default();
    assert!(
        written == text,
        "docs/conformance.md is out of date: BIFRUST_BLESS=1 cargo test -p bifrust-conformance --test table"
    );
}
