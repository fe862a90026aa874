//! Every input that was ever kept holds, and every target has some.

#![allow(clippy::unwrap_used)] // helpers of tests

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use bifrust_fuzz::TARGETS;

#[test]
fn every_kept_input_holds() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for target in TARGETS {
        let mut inputs = 0;
        for input in fs::read_dir(corpus.join(target.name)).unwrap() {
            let path = input.unwrap().path();
            println!("{}", path.display()); // shown if the check panics
            (target.check)(&fs::read(&path).unwrap());
            inputs += 1;
        }
        assert!(inputs > 0, "{} has no seed", target.name);
    }
}

#[test]
fn every_grown_input_holds() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("grown");
    for target in TARGETS {
        let Ok(text) = fs::read_to_string(folder.join(target.name)) else {
            continue; // it has seeds only
        };
        for line in text.lines() {
            println!("{}: {line}", target.name); // shown if the check panics
            let byte = |at| u8::from_str_radix(&line[at..at + 2], 16).unwrap();
            let input: Vec<u8> = (0..line.len()).step_by(2).map(byte).collect();
            (target.check)(&input);
        }
    }
}

#[test]
fn every_corpus_has_a_target() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let folders: BTreeSet<_> = fs::read_dir(corpus)
        .unwrap()
        .map(|folder| folder.unwrap().file_name().into_string().unwrap())
        .collect();
    let targets: BTreeSet<_> = TARGETS.map(|target| target.name.to_owned()).into();
    assert_eq!(folders, targets);
}
