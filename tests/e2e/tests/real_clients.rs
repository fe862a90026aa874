//! Clients that people use, each through the same scenarios: Paho Python, MQTT.js, mosquitto.
//! rumqttc has a file of its own.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bifrust_e2e::broker::run_command;
use bifrust_e2e::{Broker, Connect, Publish, fetch};

const CACHE: &str = env!("CARGO_TARGET_TMPDIR");

const SCENARIOS: [&str; 7] = [
    "qos",
    "retained",
    "will",
    "persistent",
    "takeover",
    "overlap",
    "tenants",
];

fn clients() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients")
}

/// Runs every scenario, each on a broker of its own, and fails with all that failed.
fn all_scenarios(more: &[&str], command: impl Fn(&Broker, &str) -> Command) {
    let mut failures = Vec::new();
    for scenario in SCENARIOS.iter().chain(more) {
        let broker = Broker::start();
        let output = run_command(&mut command(&broker, scenario), "");
        if output.code != 0 {
            failures.push(format!("{scenario}: {}\n{}", output.code, output.stderr));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn paho(version: &str) {
    let folder = clients().join("paho");
    match fetch::python(CACHE, &folder.join("requirements.txt")) {
        Err(why) => fetch::skip("Paho Python", &why),
        Ok(python) => all_scenarios(&["shared"], |broker, scenario| {
            let mut command = Command::new(&python);
            command.arg(folder.join("scenarios.py")).arg("127.0.0.1");
            command.args([&broker.tcp().port().to_string(), version, scenario]);
            command
        }),
    }
}

#[test]
fn paho_python_v3() {
    paho("3");
}

#[test]
fn paho_python_v5() {
    paho("5");
}

fn mqttjs(url: fn(&Broker) -> String, version: &str) {
    match fetch::node(CACHE, &clients().join("mqttjs")) {
        Err(why) => fetch::skip("MQTT.js", &why),
        Ok(home) => all_scenarios(&[], |broker, scenario| {
            let mut command = Command::new("node");
            command.current_dir(&home).arg("scenarios.mjs");
            command.args([&url(broker), version, scenario]);
            command
        }),
    }
}

fn tcp(broker: &Broker) -> String {
    format!("mqtt://{}", broker.tcp())
}

fn ws(broker: &Broker) -> String {
    format!("ws://{}/mqtt", broker.ws())
}

#[test]
fn mqttjs_tcp_v3() {
    mqttjs(tcp, "3");
}

#[test]
fn mqttjs_tcp_v5() {
    mqttjs(tcp, "5");
}

#[test]
fn mqttjs_websocket_v3() {
    mqttjs(ws, "3");
}

#[test]
fn mqttjs_websocket_v5() {
    mqttjs(ws, "5");
}

/// mosquitto_pub and mosquitto_sub of one protocol version, on one broker.
struct Mosquitto {
    broker: Broker,
    version: &'static str,
}

impl Mosquitto {
    fn new(version: &'static str) -> Option<Self> {
        match fetch::program(CACHE, "mosquitto_sub", "mosquitto-clients") {
            Ok(()) => Some(Self {
                broker: Broker::start(),
                version,
            }),
            Err(why) => {
                fetch::skip("mosquitto_pub and mosquitto_sub", &why);
                None
            }
        }
    }

    fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(["-h", "127.0.0.1", "-V", self.version, "-p"]);
        command.arg(self.broker.tcp().port().to_string()).args(args);
        command
    }

    fn publish(&self, args: &[&str]) {
        let output = run_command(&mut self.command("mosquitto_pub", args), "");
        assert_eq!(output.code, 0, "{args:?}: {output:?}");
    }

    /// Runs mosquitto_sub to its end and gives what it printed.
    fn subscribe(&self, args: &[&str]) -> String {
        let args = [&["-W", "15"], args].concat();
        let output = run_command(&mut self.command("mosquitto_sub", &args), "");
        assert_eq!(output.code, 0, "{args:?}: {output:?}");
        output.stdout
    }

    /// The flags of a session that stays.
    fn session<'a>(&self, id: &'a str, user: Option<&'a str>) -> Vec<&'a str> {
        let mut flags = vec!["-c", "-i", id];
        if self.version == "mqttv5" {
            flags.extend(["-x", "600"]);
        }
        if let Some(user) = user {
            flags.extend(["-u", user, "-P", "unused"]);
        }
        flags
    }

    /// Leaves a session with these subscriptions: `-E` ends mosquitto_sub once it has them.
    fn leave(&self, session: &[&str], args: &[&str]) {
        self.subscribe(&[session, args, &["-E"]].concat());
    }
}

fn mosquitto(version: &'static str) {
    let Some(on) = Mosquitto::new(version) else {
        return;
    };
    qos(&on);
    retained(&on);
    will(&on);
    takeover(&on);
    overlap(&on);
    tenants(&on);
}

/// Each quality to each, through sessions that stay: the persistent scenario, too.
fn qos(on: &Mosquitto) {
    for (granted, expected) in [("1", "1 1\n1 2\n"), ("2", "1 1\n2 2\n")] {
        let topic = format!("q/{granted}");
        let session = on.session(&topic, None);
        on.leave(&session, &["-q", granted, "-t", &topic]);
        for published in ["1", "2"] {
            on.publish(&["-q", published, "-t", &topic, "-m", published]);
        }
        let more = ["-q", granted, "-t", &topic, "-C", "2", "-F", "%q %p"];
        assert_eq!(on.subscribe(&[&session[..], &more].concat()), expected);
    }
    let mut reader = on.broker.connect(&Connect::v5("reader"));
    reader.subscribe("q/x", 2);
    for qos in ["0", "1", "2"] {
        on.publish(&["-q", qos, "-t", "q/x", "-m", qos]);
        let got = reader.receive();
        assert_eq!(
            (got.text(), got.qos.to_string()),
            (qos.to_owned(), qos.to_owned())
        );
    }
}

fn retained(on: &Mosquitto) {
    on.publish(&["-q", "1", "-r", "-t", "r/x", "-m", "old"]);
    on.publish(&["-q", "2", "-r", "-t", "r/x", "-m", "new"]);
    let format = ["-C", "1", "-F", "%r %q %p"];
    assert_eq!(
        on.subscribe(&[&["-q", "1", "-t", "r/+"][..], &format].concat()),
        "1 1 new\n"
    );
    on.publish(&["-q", "1", "-r", "-t", "r/x", "-n"]);
    on.publish(&["-q", "1", "-r", "-t", "r/y", "-m", "left"]);
    assert_eq!(on.subscribe(&["-q", "1", "-t", "r/#", "-C", "1"]), "left\n");
}

fn will(on: &Mosquitto) {
    let session = on.session("will watcher", None);
    on.leave(&session, &["-q", "1", "-t", "w"]);
    let mut witness = on.broker.connect(&Connect::v5("witness"));
    witness.subscribe("alive", 1);
    let mut dying = on
        .command(
            "mosquitto_pub",
            &["-t", "alive", "-q", "1", "-l", "-i", "dying"],
        )
        .args([
            "--will-topic",
            "w",
            "--will-payload",
            "gone",
            "--will-qos",
            "1",
        ])
        .stdin(Stdio::piped())
        .spawn()
        .expect("mosquitto_pub starts");
    let mut stdin = dying.stdin.take().expect("a pipe");
    stdin.write_all(b"alive\n").expect("it reads");
    witness.receive();
    dying.kill().expect("our own child");
    dying.wait().expect("our own child");
    let more = ["-q", "1", "-t", "w", "-C", "1"];
    assert_eq!(on.subscribe(&[&session[..], &more].concat()), "gone\n");
}

fn takeover(on: &Mosquitto) {
    let mut older = on.broker.connect(&Connect::v5("same"));
    older.publish(&Publish::new("t", "kept").qos(1).retain());
    assert_eq!(
        on.subscribe(&["-i", "same", "-t", "t", "-C", "1"]),
        "kept\n"
    );
    older.expect_disconnect(0x8E);
}

fn overlap(on: &Mosquitto) {
    let session = on.session("overlap", None);
    let filters = ["-q", "2", "-t", "o/#", "-t", "o/+", "-t", "o/x"];
    on.leave(&session, &filters);
    on.publish(&["-q", "2", "-t", "o/x", "-m", "once"]);
    on.publish(&["-q", "2", "-t", "o/y", "-m", "last"]);
    let got = on.subscribe(&[&session[..], &filters, &["-C", "2"]].concat());
    assert_eq!(got, "once\nlast\n");
}

fn tenants(on: &Mosquitto) {
    let users = [("red", "red/u"), ("blue", "blue/u")];
    for (_, user) in users {
        on.leave(&on.session("same", Some(user)), &["-q", "1", "-t", "n/#"]);
    }
    for (tenant, user) in users {
        on.publish(&[
            "-u", user, "-P", "unused", "-q", "1", "-t", "n/x", "-m", tenant,
        ]);
        on.publish(&[
            "-u", user, "-P", "unused", "-q", "1", "-t", "n/x", "-m", "end",
        ]);
    }
    for (tenant, user) in users {
        let session = on.session("same", Some(user));
        let got = on.subscribe(&[&session[..], &["-q", "1", "-t", "n/#", "-C", "2"]].concat());
        assert_eq!(got, format!("{tenant}\nend\n"));
    }
}

#[test]
fn mosquitto_clients_v3() {
    mosquitto("mqttv311");
}

#[test]
fn mosquitto_clients_v5() {
    mosquitto("mqttv5");
}
