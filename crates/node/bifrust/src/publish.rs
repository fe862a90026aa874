//! `bifrust pub`.

use std::collections::HashMap;
use std::io::{BufRead as _, Read as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use bifrust_mqtt_codec::{Ack, ForwardBuilder, Packet, PacketId, Publish, PublishProperties, Qos};
use bytes::Bytes;
use clap::Args;

use crate::client::{Client, Input, Target, parse_qos, refusal};
use crate::{exit, signals};

/// Messages on their way at once, when lines are published.
const WINDOW: usize = 100;
/// The longest line that is read as one message.
const LINE_BYTES_MAX: u64 = 256 << 20;

/// Publish messages
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  bifrust pub -t sensors/1 -m 21.5
  bifrust pub -t sensors/1 -m 21.5 -q 1 -r         retained, acknowledged
  bifrust pub -t sensors/1 -n -r                   clear what is retained
  tail -f log | bifrust pub -t log -l -q 1         a message per line
  bifrust pub -h broker -u acme/bob --password-file secret -t a -m b")]
pub(crate) struct Arguments {
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
    #[command(flatten)]
    target: Target,
    /// Topic to publish to
    #[arg(short, long)]
    topic: String,
    #[command(flatten)]
    source: Source,
    /// QoS
    #[arg(short, long, default_value = "0", value_parser = parse_qos)]
    qos: Qos,
    /// Retain the message
    #[arg(short, long)]
    retain: bool,
    /// Give up after so many seconds
    #[arg(short = 'W', long, value_name = "SECONDS")]
    timeout: Option<u64>,
    /// Seconds until the message is worthless, MQTT 5
    #[arg(long, value_name = "SECONDS")]
    expiry: Option<u32>,
    /// What the payload is, MQTT 5
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
    /// Where answers should go, MQTT 5
    #[arg(long, value_name = "TOPIC")]
    response_topic: Option<String>,
    /// What answers should carry, MQTT 5
    #[arg(long, value_name = "TEXT")]
    correlation_data: Option<String>,
    /// User property, MQTT 5; may be given more than once
    #[arg(long = "user-property", value_name = "NAME=VALUE")]
    user_properties: Vec<String>,
}

/// What is published.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
struct Source {
    /// Payload
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,
    /// Payload from a file
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Empty payload
    #[arg(short, long)]
    null: bool,
    /// Payload from stdin
    #[arg(short, long)]
    stdin: bool,
    /// A message for each line from stdin
    #[arg(short = 'l', long)]
    lines: bool,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    check(arguments)?;
    let payload = payload(&arguments.source)?;
    let properties = properties(arguments)?;
    let deadline = arguments
        .timeout
        .map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let client = Client::connect(&arguments.target)?;
    signals::of_client(client.sender(), Input::Interrupted)?;
    let mut publisher = Publisher {
        window: client.window().min(WINDOW),
        client,
        arguments,
        properties,
        in_flight: HashMap::new(),
        failures: 0,
        has_more: payload.is_none(),
        permits: None,
    };
    match payload {
        Some(payload) => publisher.publish(payload)?,
        None => publisher.read_lines()?,
    }
    publisher.finish(deadline)
}

/// Refuses what the broker would refuse, some of it without a word.
fn check(arguments: &Arguments) -> anyhow::Result<()> {
    let topic = &arguments.topic;
    ensure!(!topic.is_empty(), "the topic is empty");
    ensure!(
        !topic.contains(['+', '#']),
        "cannot publish to {topic}: '+' and '#' are for subscriptions"
    );
    arguments.target.check_version(&[
        ("--expiry", arguments.expiry.is_some()),
        ("--content-type", arguments.content_type.is_some()),
        ("--response-topic", arguments.response_topic.is_some()),
        ("--correlation-data", arguments.correlation_data.is_some()),
        ("--user-property", !arguments.user_properties.is_empty()),
    ])
}

fn payload(source: &Source) -> anyhow::Result<Option<Bytes>> {
    Ok(match source {
        Source {
            message: Some(text),
            ..
        } => Some(text.clone().into()),
        Source {
            file: Some(path), ..
        } => {
            let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
            Some(bytes.into())
        }
        Source { stdin: true, .. } => {
            let mut bytes = Vec::new();
            std::io::stdin().read_to_end(&mut bytes).context("stdin")?;
            Some(bytes.into())
        }
        Source { lines: true, .. } => None,
        _ => Some(Bytes::new()),
    })
}

fn properties(arguments: &Arguments) -> anyhow::Result<PublishProperties> {
    let mut forward = ForwardBuilder::new();
    if let Some(text) = &arguments.content_type {
        forward = forward.content_type(text);
    }
    if let Some(topic) = &arguments.response_topic {
        forward = forward.response_topic(topic);
    }
    if let Some(text) = &arguments.correlation_data {
        forward = forward.correlation_data(text.as_bytes());
    }
    for pair in &arguments.user_properties {
        let (name, value) = pair
            .split_once('=')
            .with_context(|| format!("--user-property {pair}: NAME=VALUE is needed"))?;
        forward = forward.user_property(name, value);
    }
    let mut properties = PublishProperties::from_forward(forward.build()?)?;
    properties.message_expiry = arguments.expiry;
    Ok(properties)
}

struct Publisher<'a> {
    client: Client,
    arguments: &'a Arguments,
    properties: PublishProperties,
    window: usize,
    in_flight: HashMap<PacketId, Stage>,
    failures: usize,
    has_more: bool,
    permits: Option<SyncSender<()>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Sent,
    Released,
}

impl Publisher<'_> {
    fn publish(&mut self, payload: Bytes) -> anyhow::Result<()> {
        let arguments = self.arguments;
        let packet_id = (arguments.qos != Qos::AtMostOnce).then(|| self.free_id());
        if let Some(id) = packet_id {
            self.in_flight.insert(id, Stage::Sent);
        }
        let publish = Publish {
            dup: false,
            qos: arguments.qos,
            retain: arguments.retain,
            topic: arguments.topic.as_str().into(),
            packet_id,
            payload,
            properties: self.properties.clone(),
        };
        self.client.send(&Packet::Publish(publish))?;
        if packet_id.is_none() {
            self.permit_line();
        }
        Ok(())
    }

    /// Lets one more line come: lines read and messages on their way are never more than the window.
    fn permit_line(&self) {
        if let Some(permits) = &self.permits {
            let _ = permits.try_send(()); // the reader has ended with its last line
        }
    }

    fn free_id(&mut self) -> PacketId {
        loop {
            let id = self.client.next_id();
            if !self.in_flight.contains_key(&id) {
                return id;
            }
        }
    }

    fn read_lines(&mut self) -> anyhow::Result<()> {
        let sender = self.client.sender();
        let (permits, permitted) = sync_channel(self.window);
        self.permits = Some(permits);
        for _ in 0..self.window {
            self.permit_line();
        }
        std::thread::Builder::new()
            .name("stdin".to_owned())
            .spawn(move || {
                let mut stdin = std::io::stdin().lock();
                for () in permitted {
                    let mut line = Vec::new();
                    let read = (&mut stdin)
                        .take(LINE_BYTES_MAX)
                        .read_until(b'\n', &mut line);
                    let input = match read {
                        Ok(0) | Err(_) => Input::NoMoreLines,
                        Ok(_) => {
                            if line.last() == Some(&b'\n') {
                                line.pop();
                            }
                            Input::Line(line)
                        }
                    };
                    let is_end = matches!(input, Input::NoMoreLines);
                    if sender.send(input).is_err() || is_end {
                        return;
                    }
                }
            })?;
        Ok(())
    }

    fn finish(mut self, deadline: Option<Instant>) -> anyhow::Result<ExitCode> {
        while self.has_more || !self.in_flight.is_empty() {
            match self.client.next(deadline)? {
                None => {
                    eprintln!("error: time is up, {} unacknowledged", self.in_flight.len());
                    return Ok(ExitCode::from(exit::TIMED_OUT));
                }
                Some(Input::Line(line)) => self.publish(line.into())?,
                Some(Input::NoMoreLines) => self.has_more = false,
                Some(Input::Interrupted) => break,
                Some(input) => self.take(input)?,
            }
        }
        self.client.disconnect()?;
        Ok(if self.failures == 0 {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }

    fn take(&mut self, input: Input) -> anyhow::Result<()> {
        let packet = match input {
            Input::Packet(packet) => packet,
            Input::Ended(Some(why)) => bail!("the connection failed: {why}"),
            Input::Ended(None) => bail!("the broker closed the connection"),
            _ => return Ok(()),
        };
        match packet {
            Packet::Puback(ack) | Packet::Pubcomp(ack) => self.done(&ack),
            Packet::Pubrec(ack) if ack.reason.is_error() => self.done(&ack),
            Packet::Pubrec(ack) => {
                let Some(stage) = self.in_flight.get_mut(&ack.packet_id) else {
                    return Ok(());
                };
                *stage = Stage::Released;
                self.client
                    .send(&Packet::Pubrel(Ack::success(ack.packet_id)))?;
            }
            other => ensure!(
                matches!(other, Packet::Pingresp),
                "the broker sent an unexpected {}",
                other.packet_type()
            ),
        }
        Ok(())
    }

    fn done(&mut self, ack: &Ack) {
        if self.in_flight.remove(&ack.packet_id).is_none() {
            return;
        }
        self.permit_line();
        if let Some(why) = refusal(ack) {
            eprintln!("error: the broker refused the message: {why}");
            self.failures += 1;
        }
    }
}
