//! `bifrust config` and `bifrust user` as an operator meets them.

#![allow(clippy::unwrap_used)] // helpers of tests

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn bifrust(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bifrust"));
    command.args(arguments);
    command
}

fn run(command: &mut Command, stdin: &str) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pipe = child.stdin.take().unwrap();
    pipe.write_all(stdin.as_bytes()).unwrap();
    drop(pipe);
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_config_with_mistakes_is_told_all_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bifrust.toml");
    std::fs::write(
        &file,
        "[listen]\ntcp = \"localhost:1883\"\n\n[settings]\nMaxClientIdLength = 5\n\
         MaxTopicLenght = 100\nMaxLastWillBytes = 2000000\n[log]\nlevel = 3\nfast = true\n",
    )
    .unwrap();
    let output = run(&mut bifrust(&["config", "check", path(&file)]), "");
    assert_eq!(output.status.code(), Some(2));
    let told = text(&output.stderr);
    for expected in [
        ":2: listen.tcp: \"localhost:1883\" is no address; did you mean \"127.0.0.1:1883\"?",
        ":5: settings.MaxClientIdLength: 5 is out of range; what fits is a whole number from 23",
        ":6: settings.MaxTopicLenght: is no known key; did you mean MaxTopicLength?",
        ":7: settings.MaxLastWillBytes: MaxLastWillBytes is 2000000 and must not be above",
        ":9: log.level: 3 is a number; what fits is \"error\", \"warn\"",
        ":10: log.fast: is no known key",
    ] {
        assert!(told.contains(expected), "{expected}\nnot in\n{told}");
    }
    assert_eq!(told.lines().count(), 6, "{told}");
    assert!(told.lines().all(|line| line.contains(path(&file))));

    // A node does not start with it either.
    let output = run(&mut bifrust(&["start", "--config", path(&file)]), "");
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn a_good_config_is_ok_and_its_oddities_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bifrust.toml");
    std::fs::write(&file, "[settings]\nMaxResendTimes = 1\n").unwrap();
    let output = run(&mut bifrust(&["config", "check", path(&file)]), "");
    assert!(output.status.success());
    assert!(text(&output.stdout).contains(": ok"));
    assert!(text(&output.stderr).contains("warning: "));
}

#[test]
fn the_users_file_is_checked_with_the_config_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bifrust.toml");
    std::fs::write(&file, "[auth]\nfile = \"u.toml\"\n").unwrap();
    let check = || run(&mut bifrust(&["config", "check", path(&file)]), "");
    let without_users = check();
    assert!(without_users.status.success());
    assert!(text(&without_users.stderr).contains("has no user"));
    std::fs::write(folder.path().join("u.toml"), "x = [\n").unwrap();
    let damaged = check();
    assert_eq!(damaged.status.code(), Some(2));
    assert!(text(&damaged.stderr).contains("u.toml:1: "));
}

#[test]
fn a_missing_users_file_is_told_to_who_asks_for_a_list() {
    let output = run(
        &mut bifrust(&["user", "list", "--file", "/nowhere/u.toml"]),
        "",
    );
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("/nowhere/u.toml does not exist"));
}

#[test]
fn messages_that_cannot_be_published_are_refused_before_a_broker_is_asked() {
    for (arguments, why) in [
        (&["-t", "a/+", "-m", "x"][..], "'+' and '#'"),
        (&["-t", "", "-m", "x"], "topic is empty"),
        (
            &["-t", "a", "-m", "x", "-V", "311", "--expiry", "1"],
            "needs MQTT 5",
        ),
    ] {
        let output = run(&mut bifrust(&[&["pub", "-p", "1"], arguments].concat()), "");
        assert_eq!(output.status.code(), Some(1));
        assert!(
            text(&output.stderr).contains(why),
            "{}",
            text(&output.stderr)
        );
    }
}

#[test]
fn a_missing_config_is_told() {
    let output = run(&mut bifrust(&["config", "check", "/nowhere/b.toml"]), "");
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("/nowhere/b.toml: cannot be read"));
}

#[test]
fn the_config_in_force_is_shown_with_who_said_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bifrust.toml");
    std::fs::write(&file, "[log]\nformat = \"json\"\n").unwrap();
    let arguments = ["config", "show", "--config", path(&file), "--ws", "off"];
    let output = run(bifrust(&arguments).env("BIFRUST__LIMITS__SHARDS", "3"), "");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let shown = text(&output.stdout);
    for expected in [
        "ws = \"off\"  # --ws\n".to_owned(),
        "shards = 3  # environment BIFRUST__LIMITS__SHARDS\n".to_owned(),
        format!("format = \"json\"  # {}:2\n", path(&file)),
        "stop_seconds = 10  # built-in default\n".to_owned(),
    ] {
        assert!(shown.contains(&expected), "{expected}\nnot in\n{shown}");
    }
    // It is a config itself.
    std::fs::write(&file, shown).unwrap();
    let output = run(&mut bifrust(&["config", "check", path(&file)]), "");
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[test]
fn every_key_is_listed() {
    let output = run(&mut bifrust(&["config", "keys"]), "");
    let keys = text(&output.stdout);
    assert!(keys.contains("\nsettings.MaxTopicLength\n") && keys.contains("\nlisten.tcp\n"));
    assert!(
        keys.contains("\"ADDRESS:PORT\" or \"off\" [\"0.0.0.0:1883\"]\n"),
        "{keys}"
    );
}

#[test]
fn users_are_added_listed_and_removed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("users.toml");
    let user = |command: &str, more: &[&str], stdin: &str| {
        let mut arguments = vec!["user", command, "--file", path(&file)];
        arguments.extend(more);
        run(&mut bifrust(&arguments), stdin)
    };
    let named = ["--tenant", "acme", "--user", "bob"];
    let added = user("add", &named, "secret\n");
    assert_eq!(text(&added.stdout), "added acme/bob\n");
    let ruled = [&named[..], &["--publish", "up/%c", "--subscribe-nothing"]].concat();
    assert_eq!(
        text(&user("add", &ruled, "other").stdout),
        "changed acme/bob\n"
    );
    assert_eq!(
        text(&user("list", &[], "").stdout),
        "acme/bob  publish: up/%c  subscribe: nothing\n"
    );
    let content = std::fs::read_to_string(&file).unwrap();
    assert!(content.contains("$argon2id$") && !content.contains("other"));
    assert_eq!(
        text(&user("remove", &named, "").stdout),
        "removed acme/bob\n"
    );
    assert_eq!(user("remove", &named, "").status.code(), Some(1));
}

#[test]
fn a_user_with_mistakes_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("users.toml");
    let add = ["user", "add", "--file", path(&file), "--user"];
    let refused = |more: &[&str], stdin: &str, why: &str| {
        let output = run(&mut bifrust(&[&add[..], more].concat()), stdin);
        assert_eq!(output.status.code(), Some(1));
        assert!(
            text(&output.stderr).contains(why),
            "{}",
            text(&output.stderr)
        );
    };
    refused(&["bob"], "", "the password is empty");
    refused(&["bob", "--tenant", "a/b"], "x", "no tenant name");
    refused(&["bob", "--publish", "a/#/b"], "x", "no topic filter");
    assert!(!file.exists());
}
