//! A broker process of a test's own.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use bifrust_fault::LossyDisk;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::authority::Authority;
use crate::carrier::Carrier;
use crate::client::Client;
use crate::peer;
use crate::wire::Connect;

mod binary;

pub use binary::bifrust;

/// How long a start, and a stop, may take.
pub const START_WITHIN: Duration = Duration::from_secs(30);

/// Between two looks at a file or a process.
const LOOK: Duration = Duration::from_millis(2);

/// What a broker is started with.
#[derive(Clone, Debug, Default)]
pub struct Builder {
    args: Vec<String>,
    env: Vec<(String, String)>,
    config: Option<String>,
    settings: Vec<(String, String)>,
    is_strict: bool,
    data: Option<PathBuf>,
    disk: Option<Arc<LossyDisk>>,
}

impl Builder {
    /// With one more argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// With one more environment variable.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// With this configuration file.
    #[must_use]
    pub fn config(mut self, toml: impl Into<String>) -> Self {
        self.config = Some(toml.into());
        self
    }

    /// With this setting for every tenant, written after the configuration given.
    #[must_use]
    pub fn setting(mut self, name: &str, value: impl ToString) -> Self {
        self.settings.push((name.to_owned(), value.to_string()));
        self
    }

    fn config_text(&self) -> Option<String> {
        if self.config.is_none() && self.settings.is_empty() {
            return None;
        }
        let mut text = self.config.clone().unwrap_or_default();
        if !self.settings.is_empty() {
            text.push_str("\n[settings]\n");
            for (name, value) in &self.settings {
                text.push_str(&format!("{name} = {value}\n"));
            }
        }
        Some(text)
    }

    /// Without `--dev`.
    #[must_use]
    pub fn strict(mut self) -> Self {
        self.is_strict = true;
        self
    }

    /// With this data folder instead of a fresh one.
    #[must_use]
    pub fn data(mut self, folder: impl Into<PathBuf>) -> Self {
        self.data = Some(folder.into());
        self
    }

    /// With its data on a disk that forgets what was not synced.
    #[must_use]
    pub fn disk(mut self, disk: Arc<LossyDisk>) -> Self {
        self.data = Some(disk.data().to_owned());
        self.disk = Some(disk);
        self
    }

    /// Starts it and waits until it serves.
    pub fn start(self) -> Broker {
        let mut broker = self.prepare();
        broker.restart();
        broker
    }

    /// Starts it and waits until it ends by itself.
    pub fn run_to_end(self) -> (ExitStatus, String) {
        let mut broker = self.prepare();
        broker.spawn();
        let status = broker.wait_end(START_WITHIN);
        (status, broker.log())
    }

    fn prepare(self) -> Broker {
        let home = TempDir::with_prefix("bifrust-e2e-").expect("a folder for the broker");
        let data = self
            .data
            .clone()
            .unwrap_or_else(|| home.path().join("data"));
        if let Some(config) = self.config_text() {
            fs::write(home.path().join("bifrust.toml"), config).expect("the config is written");
        }
        Broker {
            builder: self,
            home,
            data,
            child: None,
            addresses: None,
        }
    }
}

/// The addresses a broker serves on.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// MQTT over the transport under test, TCP if nothing else is said.
    pub tcp: SocketAddr,
    /// MQTT over TLS.
    pub tls: Option<SocketAddr>,
    /// MQTT over WebSocket.
    pub ws: Option<SocketAddr>,
    /// MQTT over WebSocket over TLS.
    pub wss: Option<SocketAddr>,
    /// Health and metrics.
    pub api: Option<SocketAddr>,
}

/// A broker process; it ends with this value.
#[derive(Debug)]
pub struct Broker {
    builder: Builder,
    home: TempDir,
    data: PathBuf,
    child: Option<Child>,
    addresses: Option<Addresses>,
}

impl Broker {
    /// A fresh one in `--dev` mode.
    pub fn start() -> Self {
        Self::builder().start()
    }

    /// A fresh one, to be described further.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The addresses it serves on.
    pub fn addresses(&self) -> Addresses {
        self.addresses.expect("the broker has started")
    }

    /// The TLS address.
    pub fn tls(&self) -> SocketAddr {
        self.addresses().tls.expect("the broker has a TLS listener")
    }

    /// The address of WebSocket over TLS.
    pub fn wss(&self) -> SocketAddr {
        let wss = self.addresses().wss;
        wss.expect("the broker has a listener for WebSocket over TLS")
    }

    /// The MQTT address, over the transport under test.
    pub fn tcp(&self) -> SocketAddr {
        self.addresses().tcp
    }

    /// The WebSocket address.
    pub fn ws(&self) -> SocketAddr {
        self.addresses()
            .ws
            .expect("the broker has a WebSocket listener")
    }

    /// The API address.
    pub fn api(&self) -> SocketAddr {
        self.addresses()
            .api
            .expect("the broker has an API listener")
    }

    /// A number at `/metrics`, by its whole name with labels; 0 while there is none.
    pub fn metric(&self, name: &str) -> f64 {
        let mut stream = TcpStream::connect(self.api()).expect("the API accepts");
        let request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        stream.write_all(request).expect("open");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("text");
        let mut lines = answer.lines().filter_map(|line| line.rsplit_once(' '));
        let found = lines.find(|(found, _)| *found == name);
        found.map_or(0.0, |(_, value)| value.parse().expect("a number"))
    }

    /// Waits until a number at `/metrics` is this.
    pub fn wait_metric(&self, name: &str, value: f64) {
        let deadline = Instant::now() + START_WITHIN;
        loop {
            let found = self.metric(name);
            if found == value {
                return;
            }
            assert!(Instant::now() < deadline, "{name} is {found}, not {value}");
            thread::sleep(LOOK);
        }
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the broker runs").id()
    }

    /// The data folder.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// A folder of this broker's own, gone with it.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Everything it wrote to stderr and stdout.
    pub fn log(&self) -> String {
        fs::read_to_string(self.home.path().join("log")).unwrap_or_default()
    }

    /// An accepted connection.
    pub fn connect(&self, connect: &Connect) -> Client {
        Client::connect(self.tcp(), connect)
    }

    /// A refused connection: CONNACK's code, after which the broker closes (MQTT-3.1.4-5 f.).
    pub fn refuse(&self, connect: &Connect) -> u8 {
        let mut client = Client::dial(self.tcp(), connect.version);
        let code = client.greet(connect);
        assert_ne!(code, 0, "{} was let in", connect.client_id);
        assert!(
            !client.is_present,
            "MQTT-3.2.2-6: no session present in a refusal"
        );
        client.expect_closed();
        code
    }

    /// Starts the process (again) on the same folder and waits until it serves.
    pub fn restart(&mut self) {
        if let Err(why) = self.try_restart() {
            panic!("{why}\n{}", self.log());
        }
    }

    /// Starts the process again and waits until it serves, or says why it does not.
    pub fn try_restart(&mut self) -> Result<(), String> {
        assert!(self.child.is_none(), "the broker still runs");
        let _ = fs::remove_file(self.ready_file()); // left by an earlier start, or not there
        self.spawn();
        let deadline = Instant::now() + START_WITHIN;
        loop {
            if let Some(addresses) = peer::ready(self.home.path()).or_else(|| self.read_ready()) {
                self.addresses = Some(addresses);
                return Ok(());
            }
            let child = self.child.as_mut().expect("it was just spawned");
            if let Some(status) = child.try_wait().expect("the broker is our child") {
                self.child = None;
                return Err(format!("the broker ended at start with {status}"));
            }
            if Instant::now() >= deadline {
                return Err(format!("the broker was not ready within {START_WITHIN:?}"));
            }
            thread::sleep(LOOK);
        }
    }

    fn spawn(&mut self) {
        let mut command = peer::command(self.home.path()).unwrap_or_else(|| self.command());
        let mut log = fs::OpenOptions::new();
        let log = log
            .create(true)
            .append(true)
            .open(self.home.path().join("log"));
        let log = log.expect("the broker's log is opened");
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log);
        if let Some(disk) = &self.builder.disk {
            disk.attach(&mut command);
        }
        command.envs(self.builder.env.iter().map(|(name, value)| (name, value)));
        self.child = Some(command.spawn().expect("the broker is started"));
    }

    fn command(&self) -> Command {
        let mut command = Command::new(bifrust());
        command.arg("start");
        if !self.builder.is_strict {
            command.arg("--dev");
        }
        let config = self.home.path().join("bifrust.toml");
        if config.exists() {
            command.arg("--config").arg(config);
        }
        for listener in ["--tcp", "--ws", "--api"] {
            if !self.builder.args.iter().any(|arg| arg == listener) {
                command.args([listener, "127.0.0.1:0"]);
            }
        }
        let carrier = Carrier::under_test();
        if carrier.has_tls() {
            let issued = Authority::of_servers().of_localhost();
            let (cert, key) = issued.write(self.home.path(), "under-test");
            command.args([&format!("--{}", carrier.name()), "127.0.0.1:0"]);
            command.arg("--cert").arg(cert).arg("--key").arg(key);
        }
        command
            .arg("--data")
            .arg(&self.data)
            .arg("--ready-file")
            .arg(self.ready_file());
        command.args(&self.builder.args);
        command
    }

    fn ready_file(&self) -> PathBuf {
        self.home.path().join("ready.json")
    }

    fn read_ready(&self) -> Option<Addresses> {
        let text = fs::read_to_string(self.ready_file()).ok()?;
        let ready: serde_json::Value = serde_json::from_str(&text).ok()?;
        let address = |name: &str| ready[name].as_str().and_then(|text| text.parse().ok());
        Some(Addresses {
            tcp: address(Carrier::under_test().name()).or_else(|| address("tcp"))?,
            tls: address("tls"),
            ws: address("ws"),
            wss: address("wss"),
            api: address("api"),
        })
    }

    /// kill -9.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("the broker runs");
        child.kill().expect("the broker is our child");
        child.wait().expect("the broker is our child");
    }

    /// SIGTERM, then waits for the end.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal_term();
        self.wait_end(START_WITHIN)
    }

    /// SIGTERM only.
    pub fn signal_term(&self) {
        self.signal(Signal::TERM);
    }

    /// SIGHUP: it reads its settings again.
    pub fn reload(&self) {
        self.signal(Signal::HUP);
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw);
        let pid = pid.expect("a process id is a positive number");
        kill_process(pid, signal).expect("our own child");
    }

    /// Waits until the process has ended by itself.
    pub fn wait_end(&mut self, within: Duration) -> ExitStatus {
        let mut child = self.child.take().expect("the broker runs");
        match wait(&mut child, within) {
            Some(status) => status,
            None => {
                let _ = child.kill(); // the test fails just below
                let _ = child.wait();
                panic!("the broker did not end within {within:?}:\n{}", self.log());
            }
        }
    }

    /// Whether the process still runs.
    pub fn is_running(&mut self) -> bool {
        self.child
            .as_mut()
            .is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(child) = self.child.as_mut() {
            let _ = child.kill(); // it may have ended already
            let _ = child.wait();
        }
        if thread::panicking() {
            let log = self.log();
            let start = log.len().saturating_sub(6000);
            let tail = String::from_utf8_lossy(&log.as_bytes()[start..]).into_owned();
            eprintln!("--- the broker's log\n{tail}--- end of the broker's log");
        }
    }
}

/// Waits until a child ended; `None` if it did not in time.
pub fn wait(child: &mut Child, within: Duration) -> Option<ExitStatus> {
    let deadline = Instant::now() + within;
    loop {
        if let Some(status) = child.try_wait().expect("our own child") {
            return Some(status);
        }
        if Instant::now() >= deadline {
            return None;
        }
        thread::sleep(LOOK);
    }
}

/// What a finished command left.
#[derive(Debug)]
pub struct Output {
    /// Its exit code; -1 after a signal.
    pub code: i32,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

/// Runs `bifrust` with these arguments and this input to its end.
pub fn run_cli(args: &[&str], input: &str) -> Output {
    run_command(Command::new(bifrust()).args(args), input)
}

/// Runs a command with this input to its end.
pub fn run_command(command: &mut Command, input: &str) -> Output {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let mut stdin = child.stdin.take().expect("stdin is piped");
    let _ = stdin.write_all(input.as_bytes()); // a command may end before it reads its input
    drop(stdin);
    let output = child.wait_with_output().expect("our own child");
    Output {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
