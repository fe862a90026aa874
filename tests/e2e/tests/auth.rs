//! Users, passwords and topic rules, without `--dev`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bifrust_e2e::broker::run_cli;
use bifrust_e2e::{
    Broker, Client, Connect, Filter, Packet, Publish, Received, VERSIONS, Version, Will,
};
use tempfile::TempDir;

struct Users {
    folder: TempDir,
}

impl Users {
    fn new() -> Self {
        Self {
            folder: TempDir::new().expect("a folder"),
        }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("users.toml")
    }

    fn add(&self, tenant: &str, user: &str, password: &str) {
        let file = self.file().display().to_string();
        let args = [
            "user", "add", "--file", &file, "--tenant", tenant, "--user", user,
        ];
        let output = run_cli(&args, &format!("{password}\n"));
        assert_eq!(output.code, 0, "{output:?}");
        let said = output.stdout + &output.stderr;
        assert!(password.len() < 4 || !said.contains(password), "{said}");
    }

    /// Gives a user rules, as an operator edits the file.
    fn rules(&self, user: &str, publish: &[&str], subscribe: &[&str]) {
        let text = fs::read_to_string(self.file()).expect("a users file");
        let name = format!("name = \"{user}\"\n");
        let rules = format!("{name}publish = {publish:?}\nsubscribe = {subscribe:?}\n");
        assert!(text.contains(&name), "{text}");
        let temporary = self.folder.path().join("new");
        fs::write(&temporary, text.replace(&name, &rules)).expect("written");
        fs::rename(temporary, self.file()).expect("renamed");
    }

    fn start(&self) -> Broker {
        Broker::builder()
            .strict()
            .config(config(&self.file()))
            .start()
    }
}

fn config(file: &Path) -> String {
    format!("[auth]\nfile = {:?}\n", file.display().to_string())
}

fn of(version: Version, id: &str, user: &str, password: &str) -> Connect {
    Connect::new(version, id).user(user).password(password)
}

/// Connects again and again until the code is the expected one: changes are live within seconds.
fn eventually(broker: &Broker, connect: &Connect, expected: u8) -> Client {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let mut client = Client::dial(broker.tcp(), connect.version);
        let code = client.greet(connect);
        if code == expected {
            return client;
        }
        assert!(
            Instant::now() < deadline,
            "{code:#04x} and never {expected:#04x}"
        );
    }
}

#[test]
fn only_the_right_password_enters() {
    let users = Users::new();
    users.add("default", "alice", "wonder");
    users.add("acme", "bob", "builder");
    let broker = users.start();
    for version in VERSIONS {
        let (bad, nobody) = match version {
            Version::V3 => (0x04, 0x05),
            Version::V5 => (0x86, 0x87),
        };
        broker.connect(&of(version, "a", "alice", "wonder")).ping();
        broker
            .connect(&of(version, "b", "acme/bob", "builder"))
            .ping();
        let wrong = [
            of(version, "x", "alice", "wrong"),
            of(version, "x", "alice", ""),
            of(version, "x", "acme/alice", "wonder"),
            of(version, "x", "bob", "builder"),
            of(version, "x", "mallory", "wonder"),
            Connect::new(version, "x").user("alice"),
            Connect::new(version, "x"),
        ];
        for connect in wrong {
            let code = broker.refuse(&connect);
            assert!(code == bad || code == nobody, "{connect:?}: {code:#04x}");
        }
    }
}

#[test]
fn a_node_without_users_says_how_to_add_one() {
    let users = Users::new();
    let broker = users.start();
    for version in VERSIONS {
        broker.refuse(&Connect::new(version, "x"));
        broker.refuse(&of(version, "x", "alice", "wonder"));
    }
    let log = broker.log();
    let file = users.file().display().to_string();
    let line = log.lines().find(|line| line.contains("bifrust user add"));
    assert!(line.is_some_and(|line| line.contains(&file)), "{log}");
    // The command it names works, without a restart.
    users.add("default", "alice", "wonder");
    eventually(&broker, &of(Version::V5, "x", "alice", "wonder"), 0).ping();
}

#[test]
fn users_change_while_it_runs() {
    let users = Users::new();
    users.add("default", "alice", "old");
    let broker = users.start();
    broker.connect(&of(Version::V5, "a", "alice", "old")).ping();
    users.add("default", "alice", "new");
    eventually(&broker, &of(Version::V5, "a", "alice", "new"), 0).ping();
    assert_eq!(broker.refuse(&of(Version::V5, "a", "alice", "old")), 0x86);
    users.add("default", "carol", "c");
    eventually(&broker, &of(Version::V3, "c", "carol", "c"), 0).ping();
    fs::write(users.file(), "").expect("written");
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let mut client = Client::dial(broker.tcp(), Version::V5);
        if client.greet(&of(Version::V5, "a", "alice", "new")) != 0 {
            break;
        }
        assert!(Instant::now() < deadline, "a removed user still enters");
    }
}

#[test]
fn a_broken_users_file_keeps_the_last_good_one() {
    let users = Users::new();
    users.add("default", "alice", "wonder");
    let broker = users.start();
    fs::write(users.file(), "[[user]]\nthis is = = broken").expect("written");
    let deadline = Instant::now() + Duration::from_secs(10);
    while !broker.log().contains("users.toml:2") {
        assert!(
            Instant::now() < deadline,
            "no word of it:\n{}",
            broker.log()
        );
        broker
            .connect(&of(Version::V5, "a", "alice", "wonder"))
            .ping();
    }
}

#[test]
fn topic_rules_bind_publishers() {
    let users = Users::new();
    users.add("default", "dev", "d");
    users.add("default", "all", "a");
    users.rules("dev", &["up/%u/%c/#"], &["down/%u/+"]);
    let broker = users.start();
    let mut watcher = broker.connect(&of(Version::V5, "watcher", "all", "a"));
    watcher.subscribe("#", 2);
    let mut five = broker.connect(&of(Version::V5, "c1", "dev", "d"));
    for qos in 1..=2 {
        assert_eq!(
            five.publish(&Publish::new("up/dev/c1/x", "yes").qos(qos)),
            0
        );
        assert_eq!(watcher.receive().text(), "yes");
        for topic in [
            "up/dev/c2/x",
            "up/other/c1/x",
            "up/dev",
            "down/dev/x",
            "$SYS/x",
        ] {
            assert_eq!(
                five.publish(&Publish::new(topic, "no").qos(qos)),
                0x87,
                "{topic}"
            );
        }
    }
    five.publish(&Publish::new("up/dev/c2/x", "no"));
    five.publish(&Publish::new("up/dev/c1/x", "last").qos(1));
    assert_eq!(watcher.receive().text(), "last");
    // ForbiddenPublishV3: close is the default, there being no negative acknowledgement.
    for qos in 0..=2 {
        let mut three = broker.connect(&of(Version::V3, "c1", "dev", "d"));
        three.send_publish(&Publish::new("up/dev/c2/x", "no").qos(qos));
        three.expect_closed();
    }
    watcher.expect_silence();
}

#[test]
fn topic_rules_bind_subscribers() {
    let users = Users::new();
    users.add("default", "dev", "d");
    users.rules("dev", &[], &["down/%c/#", "news/+"]);
    let broker = users.start();
    for version in VERSIONS {
        let mut client = broker.connect(&of(version, "c1", "dev", "d"));
        let refused = if version == Version::V5 { 0x87 } else { 0x80 };
        let cases = [
            ("down/c1/x", 1),
            ("down/c1/#", 2),
            ("down/c1/+", 0),
            ("news/today", 0),
            ("news/+", 0),
            ("down/c2/x", refused),
            ("down/+/x", refused), // wider than the rule
            ("news/#", refused),
            ("#", refused),
            ("down/#", refused),
        ];
        let filters: Vec<Filter> = cases
            .iter()
            .map(|(filter, code)| Filter::new(*filter, code % 3))
            .collect();
        let codes = client.subscribe_all(&filters);
        for ((filter, code), got) in cases.iter().zip(codes) {
            let granted = if *code < 3 { code % 3 } else { *code };
            assert_eq!(got, granted, "{filter}");
        }
    }
}

#[test]
fn placeholders_do_not_become_wildcards() {
    let users = Users::new();
    users.add("default", "dev", "d");
    users.rules("dev", &["up/%c/x"], &["down/%c/x"]);
    let broker = users.start();
    for id in ["+", "#", "a/b"] {
        let mut client = broker.connect(&of(Version::V5, id, "dev", "d"));
        for topic in ["up/other/x", "up/a/x"] {
            assert_eq!(
                client.publish(&Publish::new(topic, "no").qos(1)),
                0x87,
                "{id}"
            );
        }
        assert_eq!(
            client.subscribe_all(&[Filter::new("down/+/x", 0)]),
            [0x87],
            "{id}"
        );
    }
}

#[test]
fn wills_are_checked_when_they_are_published() {
    let users = Users::new();
    users.add("default", "dev", "d");
    users.add("default", "all", "a");
    users.rules("dev", &["allowed"], &[]);
    let broker = users.start();
    let mut watcher = broker.connect(&of(Version::V5, "watcher", "all", "a"));
    watcher.subscribe("#", 1);
    for version in VERSIONS {
        let dying = of(version, "dying", "dev", "d");
        broker
            .connect(&dying.clone().will(Will::new("forbidden", "no").qos(1)))
            .cut();
        broker
            .connect(&dying.will(Will::new("allowed", "yes").qos(1)))
            .cut();
        assert_eq!(watcher.receive().text(), "yes");
    }
    watcher.expect_silence();
}

#[test]
fn many_password_clients_stall_nobody() {
    let users = Users::new();
    users.add("default", "alice", "wonder");
    let broker = users.start();
    let mut steady = broker.connect(&of(Version::V5, "steady", "alice", "wonder"));
    let dial = |_| Client::dial(broker.tcp(), Version::V5);
    let mut waiting: Vec<Client> = (0..300).map(dial).collect();
    for (index, client) in waiting.iter_mut().enumerate() {
        // Wrong passwords are never cached: each costs a hash.
        client.send(&of(Version::V5, "x", "alice", &format!("wrong {index}")).encode());
    }
    for _ in 0..20 {
        steady.ping();
    }
    // These answers did not wait for all the hashes.
    let is_refused = |packet| matches!(packet, Packet::Connack { code, .. } if code >= 0x80);
    waiting.retain_mut(
        |client| match client.poll(Instant::now() + Duration::from_millis(1)) {
            Received::TimedOut => true,
            Received::Packet(packet) => {
                assert!(is_refused(packet));
                false
            }
            Received::Closed => panic!("no answer"),
        },
    );
    assert!(
        !waiting.is_empty(),
        "hashes were made before pings were answered"
    );
    for mut client in waiting {
        assert!(is_refused(client.next_packet()));
    }
}

#[test]
fn user_command_says_what_is_wrong() {
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("users.toml").display().to_string();
    let base = ["user", "add", "--file", &file, "--user", "u", "--tenant"];
    let output = run_cli(&[&base[..], &["not/a tenant"]].concat(), "p\n");
    assert!(
        output.code != 0 && output.stderr.contains("not/a tenant"),
        "{output:?}"
    );
    let output = run_cli(&[&base[..], &["default"]].concat(), "");
    assert!(output.code != 0, "an empty password is none: {output:?}");
    assert!(!Path::new(&file).exists());
    let output = run_cli(&[&base[..], &["default"]].concat(), "p\n");
    assert_eq!(output.code, 0, "{output:?}");
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &fs::metadata(&file).expect("the file").permissions(),
    );
    assert_eq!(mode & 0o077, 0, "hashes are for the owner's eyes: {mode:o}");
}
