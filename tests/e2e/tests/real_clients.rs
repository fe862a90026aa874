//! Clients that people use, each through the same scenarios: Paho Python, MQTT.js, mosquitto.
//! rumqttc has a file of its own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bifrust_e2e::broker::{run_command, wait};
use bifrust_e2e::{Broker, Client, Connect, Publish, fetch};

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
fn all_scenarios(command: impl Fn(&Broker, &str) -> Command) {
    let mut failures = Vec::new();
    for scenario in SCENARIOS {
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
        Ok(python) => all_scenarios(|broker, scenario| {
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
        Ok(home) => all_scenarios(|broker, scenario| {
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
        match fetch::mosquitto_clients(CACHE) {
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

    /// Starts mosquitto_sub and waits until it is subscribed to the topic `ready`, too.
    fn listen(&self, args: &[&str]) -> Listener {
        let args = [args, &["-t", "ready", "-W", "30"]].concat();
        let mut command = self.command("mosquitto_sub", &args);
        let child = command
            .stdout(Stdio::piped())
            .spawn()
            .expect("mosquitto_sub starts");
        Listener { child }
    }

    /// Publishes to `ready` until somebody is there to hear it (0x10: nobody is).
    fn wait_ready(&self, user: Option<&str>) {
        let mut connect = Connect::v5("readiness");
        connect.user = user.map(str::to_owned);
        let mut client = Client::connect(self.broker.tcp(), &connect);
        let deadline = Instant::now() + Duration::from_secs(10);
        while client.publish(&Publish::new("ready", "ready").qos(1)) == 0x10 {
            assert!(Instant::now() < deadline, "mosquitto_sub never subscribed");
        }
        client.disconnect();
    }
}

struct Listener {
    child: Child,
}

impl Listener {
    fn lines(self) -> Vec<String> {
        let output = self.child.wait_with_output().expect("our own child");
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8_lossy(&output.stdout);
        text.lines()
            .filter(|line| *line != "ready")
            .map(str::to_owned)
            .collect()
    }
}

fn mosquitto(version: &'static str) {
    let Some(on) = Mosquitto::new(version) else {
        return;
    };
    for qos in ["0", "1", "2"] {
        let listener = on.listen(&["-q", qos, "-t", "q/#", "-C", "4"]);
        on.wait_ready(None);
        for published in ["0", "1", "2"] {
            on.publish(&["-q", published, "-t", "q/x", "-m", published]);
        }
        assert_eq!(listener.lines(), ["0", "1", "2"], "QoS {qos}");
    }
    retained(&on);
    will(&on);
    persistent(&on);
    takeover(&on);
    overlap(&on);
    tenants(&on);
}

fn retained(on: &Mosquitto) {
    on.publish(&["-q", "1", "-r", "-t", "r/x", "-m", "old"]);
    on.publish(&["-q", "2", "-r", "-t", "r/x", "-m", "new"]);
    assert_eq!(
        on.subscribe(&["-q", "1", "-t", "r/+", "-C", "1", "-F", "%r %q %p"]),
        "1 1 new\n"
    );
    on.publish(&["-q", "1", "-r", "-t", "r/x", "-n"]);
    on.publish(&["-q", "1", "-r", "-t", "r/y", "-m", "left"]);
    assert_eq!(on.subscribe(&["-t", "r/#", "-C", "1"]), "left\n");
}

fn will(on: &Mosquitto) {
    let listener = on.listen(&["-q", "1", "-t", "w", "-C", "2"]);
    on.wait_ready(None);
    let mut dying = on
        .command(
            "mosquitto_sub",
            &["-t", "ready2", "-t", "none", "--will-topic", "w"],
        )
        .args(["--will-payload", "gone", "--will-qos", "1", "-i", "dying"])
        .stdout(Stdio::null())
        .spawn()
        .expect("mosquitto_sub starts");
    let mut client = on.broker.connect(&Connect::v5("readiness 2"));
    let deadline = Instant::now() + Duration::from_secs(10);
    while client.publish(&Publish::new("ready2", "x").qos(1)) == 0x10 {
        assert!(Instant::now() < deadline, "mosquitto_sub never subscribed");
    }
    dying.kill().expect("our own child");
    wait(&mut dying, Duration::from_secs(5)).expect("it was killed");
    assert_eq!(listener.lines(), ["gone"]);
}

fn persistent(on: &Mosquitto) {
    let session: &[&str] = match on.version {
        "mqttv5" => &["-c", "-i", "kept", "-x", "600"],
        _ => &["-c", "-i", "kept"],
    };
    // -E: ends once subscribed.
    on.subscribe(&[session, &["-q", "2", "-t", "p", "-E"]].concat());
    for index in ["1", "2", "3"] {
        on.publish(&["-q", "2", "-t", "p", "-m", index]);
    }
    let got = on.subscribe(&[session, &["-q", "2", "-t", "p", "-C", "3"]].concat());
    assert_eq!(got, "1\n2\n3\n");
}

fn takeover(on: &Mosquitto) {
    let mut older = on
        .command("mosquitto_sub", &["-i", "same", "-t", "ready", "-t", "t"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("mosquitto_sub starts");
    on.wait_ready(None);
    let mut newer = on.broker.connect(&Connect::v5("same"));
    newer.ping();
    // It connects again by itself and takes the session back.
    newer.expect_disconnect(0x8E);
    older.kill().expect("our own child");
    older.wait().expect("our own child");
}

fn overlap(on: &Mosquitto) {
    let listener = on.listen(&["-q", "2", "-t", "o/#", "-t", "o/+", "-t", "o/x", "-C", "3"]);
    on.wait_ready(None);
    on.publish(&["-q", "2", "-t", "o/x", "-m", "once"]);
    on.publish(&["-q", "2", "-t", "o/y", "-m", "last"]);
    assert_eq!(listener.lines(), ["once", "last"]);
}

fn tenants(on: &Mosquitto) {
    let listen = |user: &str| {
        on.listen(&[
            "-i", "same", "-u", user, "-P", "x", "-q", "1", "-t", "n/#", "-C", "2",
        ])
    };
    let red = listen("red/u");
    on.wait_ready(Some("red/u"));
    let blue = listen("blue/u");
    on.wait_ready(Some("blue/u"));
    for tenant in ["red", "blue"] {
        let user = format!("{tenant}/u");
        on.publish(&["-u", &user, "-P", "x", "-q", "1", "-t", "n/x", "-m", tenant]);
    }
    assert_eq!(red.lines(), ["red"]);
    assert_eq!(blue.lines(), ["blue"]);
}

#[test]
fn mosquitto_clients_v3() {
    mosquitto("mqttv311");
}

#[test]
fn mosquitto_clients_v5() {
    mosquitto("mqttv5");
}
