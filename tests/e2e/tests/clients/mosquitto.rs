//! `mosquitto_pub` and `mosquitto_sub`. A client is a `mosquitto_sub` that tells of every packet
//! (`-d`); it starts anew for each change of its subscriptions, which come with its start only.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use bifrust_e2e::broker;
use bifrust_e2e::client::PATIENCE;
use rustix::process::{Pid, Signal, kill_process};

use crate::client::{Client, Failure, Message, Options, Outcome, Place, Program, fail};
use crate::matrix::Version;
use crate::script::unhex;

/// The programs of Debian's package.
pub(crate) struct Mosquitto;

impl Program for Mosquitto {
    fn open(&self, place: &Place, options: &Options) -> Outcome<Box<dyn Client>> {
        let mut client = Subscriber {
            place: place.clone(),
            options: options.clone(),
            filters: Vec::new(),
            running: None,
        };
        client.start(None)?;
        Ok(Box::new(client))
    }

    fn publishes_in_order(&self) -> usize {
        1
    }

    fn goes_with_will(&self, place: &Place) -> bool {
        place.version == Version::V5 // `mosquitto_sub` that is told to end says 0x04
    }
}

struct Subscriber {
    place: Place,
    options: Options,
    filters: Vec<(String, u8)>,
    running: Option<Running>,
}

struct Running {
    child: Child,
    lines: Receiver<String>,
    /// Messages that came before what was waited for.
    early: Vec<Message>,
}

fn command(program: &str, place: &Place, options: &Options) -> Command {
    let mut command = Command::new("stdbuf"); // its lines would wait in a buffer
    command.args(["-oL", program]);
    command.args(["-h", &place.address.ip().to_string()]);
    command.args(["-p", &place.address.port().to_string()]);
    command.args(["-V", version(place.version)]);
    if place.carrier.has_tls() {
        command.arg("--cafile").arg(&place.ca);
    }
    if let Some((user, password)) = &options.user {
        command.args(["-u", user, "-P", password]);
    }
    command
}

fn version(version: Version) -> &'static str {
    match version {
        Version::V31 => "mqttv31",
        Version::V311 => "mqttv311",
        Version::V5 => "mqttv5",
    }
}

impl Subscriber {
    /// Starts it with its filters and waits until they, and the end of one, are acknowledged.
    fn start(&mut self, ended: Option<&str>) -> Outcome {
        self.stop()?;
        let mut command = command("mosquitto_sub", &self.place, &self.options);
        command.args(["-d", "-i", &self.options.id]);
        if self.options.is_kept {
            command.arg("-c");
            if self.place.version == Version::V5 {
                command.args(["-x", "600"]);
            }
        }
        if let Some(will) = &self.options.will {
            command.args(["--will-topic", &will.topic, "--will-payload", &will.text()]);
            command.args(["--will-qos", &will.qos.to_string()]);
            if will.is_retained {
                command.arg("--will-retain");
            }
        }
        let qos = self.filters.iter().map(|(_, qos)| *qos).max().unwrap_or(0);
        command.args(["-q", &qos.to_string()]);
        for (filter, _) in &self.filters {
            command.args(["-t", filter]);
        }
        if self.filters.is_empty() {
            command.args(["-t", "nobody/publishes/here"]); // it wants one
        }
        if let Some(filter) = ended {
            command.args(["-U", filter]);
        }
        command.args(["-F", "message %q %r %t %x %P"]);
        self.running = Some(Running::start(&mut command)?);
        self.await_line("received CONNACK (0)")?;
        let granted = self.await_line("Subscribed (mid: ")?;
        let (_, granted) = granted.rsplit_once(": ").unwrap_or_default();
        if granted.split(", ").any(|code| code != qos.to_string()) {
            return fail(format!("granted {granted}, not {qos}"));
        }
        if ended.is_some() {
            self.await_line("received UNSUBACK")?;
        }
        Ok(())
    }

    fn stop(&mut self) -> Outcome {
        let Some(mut running) = self.running.take() else {
            return Ok(());
        };
        await_sleep(running.child.id());
        let pid = i32::try_from(running.child.id())
            .ok()
            .and_then(Pid::from_raw);
        let pid = pid.expect("a process id is a positive number");
        let _ = kill_process(pid, Signal::TERM); // it may have ended already
        match broker::wait(&mut running.child, PATIENCE) {
            Some(_) => Ok(()),
            None => fail("mosquitto_sub does not end"),
        }
    }

    fn await_line(&mut self, part: &str) -> Outcome<String> {
        let Some(running) = &mut self.running else {
            return fail("it does not run");
        };
        let deadline = Instant::now() + PATIENCE;
        loop {
            let Ok(line) = running.next_line(deadline) else {
                return fail(format!("mosquitto_sub never said {part:?}"));
            };
            if line.contains(part) {
                return Ok(line);
            }
            if let Some((_, code)) = line.split_once("received CONNACK (") {
                let code = code.trim_end_matches(')').parse();
                return Err(Failure::Refused(code.unwrap_or(u8::MAX)));
            }
            running.early.extend(message(&line));
        }
    }
}

/// Waits until a process sleeps. `mosquitto_sub` says goodbye from within its signal handler: told
/// to end while it writes a line, it would wait for a lock of its own forever.
fn await_sleep(pid: u32) {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        match stat.rsplit_once(") ") {
            Some((_, state)) if state.starts_with(['R', 'D']) => {
                thread::sleep(Duration::from_millis(1))
            }
            _ => return,
        }
    }
}

impl Running {
    fn start(command: &mut Command) -> Outcome<Self> {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null()) // what it tells of itself twice
            .spawn();
        let mut child = match child {
            Ok(child) => child,
            Err(error) => return fail(format!("{command:?}: {error}")),
        };
        let stdout = child.stdout.take().expect("stdout is piped");
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self {
            child,
            lines,
            early: Vec::new(),
        })
    }

    fn next_line(&self, deadline: Instant) -> Result<String, RecvTimeoutError> {
        let left = deadline.saturating_duration_since(Instant::now());
        self.lines.recv_timeout(left)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill(); // it may have ended already
        let _ = self.child.wait();
    }
}

/// The message that a line tells of, if it is one.
fn message(line: &str) -> Option<Message> {
    let mut parts = line.strip_prefix("message ")?.splitn(5, ' ');
    let mut next = || parts.next().unwrap_or_default().to_owned();
    let (qos, retain) = (next().parse().unwrap_or(9), next());
    let (topic, payload) = (next(), unhex(&next()));
    let pairs = next();
    Some(Message {
        topic,
        payload,
        qos,
        is_retained: retain == "1",
        properties: pairs
            .split(' ')
            .filter_map(|pair| pair.split_once(':'))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
    })
}

impl Client for Subscriber {
    fn is_present(&self) -> Option<bool> {
        None
    }

    fn subscribe(&mut self, filter: &str, qos: u8) -> Outcome {
        self.filters.push((filter.to_owned(), qos));
        self.start(None)
    }

    fn unsubscribe(&mut self, filter: &str) -> Outcome {
        self.filters.retain(|(known, _)| known != filter);
        self.start(Some(filter))
    }

    fn publish(&mut self, message: &Message) -> Outcome {
        let mut command = command("mosquitto_pub", &self.place, &self.options);
        command.args(["-q", &message.qos.to_string(), "-t", &message.topic]);
        if message.is_retained {
            command.arg("-r");
        }
        for (name, value) in &message.properties {
            command.args(["-D", "publish", "user-property", name, value]);
        }
        command.arg(if message.payload.is_empty() {
            "-n"
        } else {
            "-s"
        });
        let child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = match child {
            Ok(child) => child,
            Err(error) => return fail(format!("{command:?}: {error}")),
        };
        let mut stdin = child.stdin.take().expect("stdin is piped");
        let _ = stdin.write_all(&message.payload); // it may have ended: that is told below
        drop(stdin);
        let output = child.wait_with_output().expect("our own child");
        if output.status.success() {
            return Ok(());
        }
        let why = String::from_utf8_lossy(&output.stderr).into_owned();
        fail(format!("mosquitto_pub: {}: {why}", output.status))
    }

    fn receive_within(&mut self, patience: Duration) -> Outcome<Option<Message>> {
        let Some(running) = &mut self.running else {
            return fail("it does not run");
        };
        if !running.early.is_empty() {
            return Ok(Some(running.early.remove(0)));
        }
        let deadline = Instant::now() + patience;
        loop {
            match running.next_line(deadline) {
                Ok(line) => match message(&line) {
                    Some(message) => return Ok(Some(message)),
                    None => continue,
                },
                Err(RecvTimeoutError::Timeout) => return Ok(None),
                Err(RecvTimeoutError::Disconnected) => return fail("mosquitto_sub has ended"),
            }
        }
    }

    fn disconnect(mut self: Box<Self>) -> Outcome {
        self.stop()
    }

    fn cut(mut self: Box<Self>) -> Outcome {
        drop(self.running.take()); // killed
        Ok(())
    }

    fn await_end(mut self: Box<Self>) -> Outcome {
        let Some(running) = &mut self.running else {
            return fail("it does not run");
        };
        let deadline = Instant::now() + PATIENCE;
        loop {
            match running.next_line(deadline) {
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
                Err(RecvTimeoutError::Timeout) => return fail("mosquitto_sub does not end"),
            }
        }
    }
}
