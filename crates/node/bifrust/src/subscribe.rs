//! `bifrust sub`.

mod print;

use std::collections::HashSet;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use bifrust_mqtt_codec::{
    Ack, Packet, PacketId, Publish, Qos, RetainHandling, Suback, Subscribe, Subscription,
    SubscriptionOptions, UserProperties,
};
use clap::Args;

use self::print::Printer;
use crate::client::{Client, Input, Target, parse_qos, reason};
use crate::{exit, signals};

/// Subscribe and print what comes
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  bifrust sub -t 'sensors/#' -v              topic and payload of each message
  bifrust sub -t a -t b -q 1 --json          a JSON object per message
  bifrust sub -t status -C 1 -W 5            one message, or exit code 27 after 5 seconds
  bifrust sub -i me -c -q 1 -t 'jobs/#'      a session that outlives the connection")]
pub(crate) struct Arguments {
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
    #[command(flatten)]
    target: Target,
    /// Topic filter; may be given more than once
    #[arg(short, long = "topic", value_name = "FILTER", required = true)]
    topics: Vec<String>,
    /// Highest QoS to receive with
    #[arg(short, long, default_value = "0", value_parser = parse_qos)]
    qos: Qos,
    /// End after so many messages
    #[arg(short = 'C', long, value_name = "COUNT")]
    count: Option<u64>,
    /// End after so many seconds, with exit code 27
    #[arg(short = 'W', long, value_name = "SECONDS")]
    timeout: Option<u64>,
    /// Print the topic before the payload
    #[arg(short, long)]
    verbose: bool,
    /// No line end after the payload
    #[arg(short = 'N', long)]
    no_eol: bool,
    /// A JSON object per message
    #[arg(long, conflicts_with_all = ["verbose", "no_eol"])]
    json: bool,
    /// Leave out retained messages
    #[arg(short = 'R', long)]
    no_retained: bool,
    /// End at the first message that is not a retained one
    #[arg(long, conflicts_with = "no_retained")]
    retained_only: bool,
    /// Leave out what this client published, MQTT 5
    #[arg(long)]
    no_local: bool,
    /// Keep the RETAIN flag as published, MQTT 5
    #[arg(long)]
    retain_as_published: bool,
    /// Retained messages: 0 at each subscribe, 1 if it is new, 2 never, MQTT 5
    #[arg(
        long,
        value_name = "HOW",
        default_value_t = 0,
        value_parser = clap::value_parser!(u8).range(0..=2)
    )]
    retain_handling: u8,
    /// Subscription identifier, MQTT 5
    #[arg(long, value_name = "ID")]
    subscription_id: Option<u32>,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let deadline = arguments
        .timeout
        .map(|seconds| Instant::now() + Duration::from_secs(seconds));
    arguments.target.check_version(&[
        ("--no-local", arguments.no_local),
        ("--retain-as-published", arguments.retain_as_published),
        ("--retain-handling", arguments.retain_handling > 0),
        ("--subscription-id", arguments.subscription_id.is_some()),
    ])?;
    let mut client = Client::connect(&arguments.target)?;
    signals::of_client(client.sender(), Input::Interrupted)?;
    let request = client.next_id();
    client.send(&Packet::Subscribe(subscribe(arguments, request)))?;
    let mut subscriber = Subscriber {
        client,
        arguments,
        printer: Printer::new(arguments.verbose, !arguments.no_eol, arguments.json),
        request,
        half_taken: HashSet::new(),
        printed: 0,
    };
    let code = subscriber.receive(deadline)?;
    subscriber.client.disconnect()?;
    Ok(code)
}

fn subscribe(arguments: &Arguments, packet_id: PacketId) -> Subscribe {
    let options = SubscriptionOptions {
        qos: arguments.qos,
        no_local: arguments.no_local,
        retain_as_published: arguments.retain_as_published,
        retain_handling: match arguments.retain_handling {
            0 => RetainHandling::SendAtSubscribe,
            1 => RetainHandling::SendIfNew,
            _ => RetainHandling::DoNotSend,
        },
    };
    let subscription = |filter: &String| Subscription {
        filter: filter.as_str().into(),
        options,
    };
    Subscribe {
        packet_id,
        subscriptions: arguments.topics.iter().map(subscription).collect(),
        subscription_id: arguments.subscription_id,
        user_properties: UserProperties::new(),
    }
}

struct Subscriber<'a> {
    client: Client,
    arguments: &'a Arguments,
    printer: Printer,
    request: PacketId,
    /// QoS 2 messages that were printed and not yet released.
    half_taken: HashSet<PacketId>,
    printed: u64,
}

impl Subscriber<'_> {
    fn receive(&mut self, deadline: Option<Instant>) -> anyhow::Result<ExitCode> {
        loop {
            let Some(input) = self.client.next(deadline)? else {
                return Ok(ExitCode::from(exit::TIMED_OUT));
            };
            let packet = match input {
                Input::Packet(packet) => packet,
                Input::Interrupted => return Ok(ExitCode::SUCCESS),
                Input::Ended(Some(why)) => bail!("the connection failed: {why}"),
                Input::Ended(None) => bail!("the broker closed the connection"),
                Input::Line(_) | Input::NoMoreLines => continue,
            };
            match packet {
                Packet::Publish(publish) => {
                    let is_end = self.arguments.retained_only && !publish.retain;
                    if is_end || self.publish(&publish)? {
                        return Ok(ExitCode::SUCCESS);
                    }
                }
                Packet::Pubrel(release) => {
                    self.half_taken.remove(&release.packet_id);
                    self.client
                        .send(&Packet::Pubcomp(Ack::success(release.packet_id)))?;
                }
                Packet::Suback(suback) if suback.packet_id == self.request => {
                    self.check(&suback)?;
                }
                other => ensure!(
                    matches!(other, Packet::Pingresp),
                    "the broker sent an unexpected {}",
                    other.packet_type()
                ),
            }
        }
    }

    fn check(&self, suback: &Suback) -> anyhow::Result<()> {
        let mut granted = 0;
        for (filter, code) in self.arguments.topics.iter().zip(&suback.reasons) {
            if code.is_error() {
                eprintln!("error: {filter}: {}", reason(code.0, code.name(), None));
            } else {
                granted += 1;
            }
        }
        ensure!(granted > 0, "the broker granted no subscription");
        Ok(())
    }

    /// Prints first and acknowledges then: what is acknowledged was printed. True if it was the
    /// last one asked for.
    fn publish(&mut self, publish: &Publish) -> anyhow::Result<bool> {
        let is_repeated = publish
            .packet_id
            .is_some_and(|id| publish.qos == Qos::ExactlyOnce && !self.half_taken.insert(id));
        let is_wanted = !(self.arguments.no_retained && publish.retain);
        if is_wanted && !is_repeated {
            let mut out = std::io::stdout().lock();
            self.printer.print(publish, &mut out)?;
            out.flush()?;
            self.printed += 1;
        }
        if let Some(id) = publish.packet_id {
            let ack = Ack::success(id);
            self.client.send(&match publish.qos {
                Qos::ExactlyOnce => Packet::Pubrec(ack),
                _ => Packet::Puback(ack),
            })?;
        }
        Ok(self
            .arguments
            .count
            .is_some_and(|count| self.printed >= count))
    }
}
