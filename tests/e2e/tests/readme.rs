//! README's commands: each block marked `sh run` is run, in order, beside a node as its first
//! command starts it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use bifrust_e2e::broker::{bifrust, run_command};
use bifrust_e2e::{Broker, Carrier, fetch};
use tempfile::TempDir;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn readme() -> String {
    fs::read_to_string(root().join("README.md")).expect("a README")
}

/// The blocks whose fence says exactly `kind`.
fn blocks(text: &str, kind: &str) -> Vec<String> {
    let fence = format!("```{kind}\n");
    let parts = text.split(&fence).skip(1);
    parts
        .map(|part| part.split("```").next().unwrap_or_default().to_owned())
        .collect()
}

#[test]
fn its_first_two_commands_start_and_test_it() {
    let commands = blocks(&readme(), "sh");
    assert_eq!(
        commands[0],
        "cargo run --release --bin bifrust -- start --dev\n"
    );
    assert_eq!(commands[1], "./verify\n");
    let mode = fs::metadata(root().join("verify"))
        .expect("it is there")
        .permissions()
        .mode();
    assert_ne!(mode & 0o111, 0, "./verify can be run");
}

#[test]
fn its_tour_works() {
    if let Err(why) = fetch::program(env!("CARGO_TARGET_TMPDIR"), "curl", "curl") {
        fetch::skip("README's tour", &why);
        return;
    }
    Carrier::none_is_asked_for(); // its commands are for TCP
    let broker = Broker::start();
    let home = TempDir::new().expect("a folder");
    let port = broker.tcp().port();
    // The tour names the default ports; this node has others.
    let wrapper = format!(
        "#!/bin/sh\ncommand=\"$1\"\nshift\ncase \"$command\" in\n\
         pub|sub|bench) exec '{0}' \"$command\" -p {port} \"$@\" ;;\n\
         *) exec '{0}' \"$command\" \"$@\" ;;\nesac\n",
        bifrust().display()
    );
    let path = home.path().join("bifrust");
    fs::write(&path, wrapper).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("our own file");
    let blocks = blocks(&readme(), "sh run");
    assert!(blocks.len() >= 5);
    let work = TempDir::new().expect("a folder");
    let search = std::env::var("PATH").expect("a PATH");
    for block in blocks {
        let script = block.replace("127.0.0.1:8091", &broker.api().to_string());
        let mut bash = Command::new("bash");
        bash.args(["-euo", "pipefail", "-c", &script])
            .current_dir(work.path());
        bash.env("PATH", format!("{}:{search}", home.path().display()));
        let output = run_command(&mut bash, "");
        assert_eq!(
            output.code, 0,
            "{block}\n{}\n{}",
            output.stdout, output.stderr
        );
        for expected in expectations(&block) {
            assert!(
                output.stdout.contains(expected),
                "{expected:?} of {block}\n{output:?}"
            );
        }
    }
}

/// What a block of the tour must print.
fn expectations(block: &str) -> &'static [&'static str] {
    match block {
        block if block.contains("kitchen") => &["sensors/kitchen 21.5\n"],
        block if block.contains("worker") => &["first\nsecond\n"],
        block if block.contains("red/me") => &["hello, red\n"],
        block if block.contains("--json") => &["\"topic\":\"sensors/kitchen\""],
        block if block.contains("config check") => &["ok"],
        _ => &[],
    }
}

#[test]
fn its_links_lead_somewhere() {
    for name in ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"] {
        let text = fs::read_to_string(root().join(name)).expect("it is there");
        for link in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            assert!(
                link.starts_with("http") || root().join(link).exists(),
                "{name}: {link}"
            );
        }
    }
}
