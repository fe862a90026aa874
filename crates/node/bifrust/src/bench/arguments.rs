//! What `bifrust bench` is asked to do.

use std::time::Duration;

use anyhow::ensure;
use bifrust_mqtt_codec::{Qos, Version};
use clap::{Args, ValueEnum};

use super::payload;
use crate::endpoint::{Endpoint, Route};

/// What kind of load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// Open connections and hold them: time and memory of each.
    Connect,
    /// Connect and disconnect, again and again.
    Churn,
    /// Pairs of one publisher and one subscriber.
    P2p,
    /// Many publishers, one subscriber.
    FanIn,
    /// One publisher, many subscribers.
    FanOut,
    /// Many publishers, the members of one shared subscription (`--members`).
    Shared,
    /// Pairs whose subscribers have persistent sessions and are online.
    Persist,
    /// Messages stored for offline persistent sessions, then drained.
    Offline,
    /// Retained messages stored, then delivered to one subscriber.
    Retain,
    /// Many wildcard filters: memory of each, and latency of a publish that matches one.
    Subscribe,
}

/// Put load on a broker and measure what it does.
///
/// Every scenario counts loss, duplicates and order per publisher and subscriber. With --pid the
/// broker's own CPU time and memory are measured, which is what to compare brokers by.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:
  bifrust bench p2p --clients 100 --qos 1 --window 1000
  bifrust bench fan-out --clients 500 --window 16 --messages 2000 --pid $(pidof mosquitto)
  bifrust bench shared --clients 20 --members 5 --qos 1
  bifrust bench connect --clients 15000 --hold 10 --pid 4711
  bifrust bench retain --messages 100000 --json
  bifrust bench subscribe --clients 100 --filters 10000 --persistent --pid 4711")]
pub(crate) struct Arguments {
    /// What kind of load
    pub(crate) scenario: Scenario,
    #[command(flatten)]
    pub(crate) endpoint: Endpoint,
    /// The endpoint, looked at once.
    #[arg(skip)]
    pub(crate) route: Option<Route>,
    /// MQTT version
    #[arg(short = 'V', long, default_value = "5", value_parser = parse_version)]
    pub(crate) mqtt_version: Version,
    /// QoS of publishes and subscriptions
    #[arg(short, long, default_value = "0", value_parser = parse_qos)]
    pub(crate) qos: Qos,
    /// Pairs, publishers, subscribers, connections or sessions, as the scenario has it
    #[arg(short, long, default_value_t = 100)]
    pub(crate) clients: usize,
    /// Members of the group (`shared`)
    #[arg(long, default_value_t = 5)]
    pub(crate) members: usize,
    /// Subscribe to `$oshare/` instead of `$share/`, and count the order (`shared`)
    #[arg(long)]
    pub(crate) ordered: bool,
    /// Bytes of each payload, at least 20
    #[arg(short, long, default_value_t = 64)]
    pub(crate) size: usize,
    /// Messages published and not yet received by all, over all publishers
    #[arg(short, long, default_value_t = 1000)]
    pub(crate) window: usize,
    /// Messages per second over all publishers, instead of as fast as the window lets
    #[arg(short, long)]
    pub(crate) rate: Option<f64>,
    /// Messages to publish in all; with `offline`, for each session; with `subscribe`, at each number of
    /// filters
    #[arg(short, long)]
    pub(crate) messages: Option<u64>,
    /// Seconds to publish for, where --messages is not given
    #[arg(long, default_value_t = 10.0)]
    pub(crate) seconds: f64,
    /// Seconds of load before counting begins
    #[arg(long, default_value_t = 0.0)]
    pub(crate) warm_up: f64,
    /// Filters of each client (`subscribe`)
    #[arg(short, long, default_value_t = 100)]
    pub(crate) filters: usize,
    /// Whether the subscribers have persistent sessions (`subscribe`)
    #[arg(long)]
    pub(crate) persistent: bool,
    /// Seconds from the last connection or filter to when memory is read (`connect`, `subscribe`)
    #[arg(long, default_value_t = 10.0)]
    pub(crate) hold: f64,
    /// Keep alive of every client in seconds
    #[arg(short, long, default_value_t = 60)]
    pub(crate) keep_alive: u16,
    /// Connections being opened at a time
    #[arg(long, default_value_t = 100)]
    pub(crate) concurrency: usize,
    /// Spread the clients over this many tenants: user names `bench0/bench`, `bench1/bench`, ...
    #[arg(long, default_value_t = 0)]
    pub(crate) tenants: usize,
    /// User name of every client; with --tenants the part after the slash
    #[arg(short, long)]
    pub(crate) user: Option<String>,
    /// Password of every client
    #[arg(long, env = "BIFRUST_PASSWORD", hide_env_values = true)]
    pub(crate) password: Option<String>,
    /// Extra subscribers of every topic that never read (`fan-out`)
    #[arg(long, default_value_t = 0)]
    pub(crate) stuck: usize,
    /// Whether the stuck subscribers have persistent sessions
    #[arg(long)]
    pub(crate) stuck_persistent: bool,
    /// Process id of the broker: its CPU time and memory are measured
    #[arg(long)]
    pub(crate) pid: Option<u32>,
    /// First part of client ids and topics, to keep runs apart
    #[arg(long, default_value = "bench")]
    pub(crate) prefix: String,
    /// Print the report as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
    /// No live progress on stderr
    #[arg(long)]
    pub(crate) quiet: bool,
}

impl Arguments {
    /// Refuses what makes no sense.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        ensure!(self.clients > 0, "--clients is 0: at least one is needed");
        ensure!(self.members > 0, "--members is 0: at least one is needed");
        ensure!(self.filters > 0, "--filters is 0: at least one is needed");
        ensure!(
            self.window > 0,
            "--window is 0: at least one message has to be under way"
        );
        ensure!(
            self.concurrency > 0,
            "--concurrency is 0: at least one is needed"
        );
        ensure!(
            self.size >= payload::BYTES_MIN,
            "--size {} is too small: each payload carries {} bytes of its own",
            self.size,
            payload::BYTES_MIN
        );
        ensure!(
            self.rate.is_none_or(|rate| rate > 0.0),
            "--rate must be above 0"
        );
        Ok(())
    }

    /// How long to publish for.
    pub(crate) fn duration(&self) -> Duration {
        Duration::from_secs_f64(self.seconds.max(0.0))
    }

    /// The user name of client `index`.
    pub(crate) fn user_of(&self, index: usize) -> Option<String> {
        let user = self.user.clone();
        match index.checked_rem(self.tenants) {
            Some(tenant) => Some(format!(
                "{}{tenant}/{}",
                self.prefix,
                user.as_deref().unwrap_or("bench")
            )),
            None => user,
        }
    }
}

fn parse_version(text: &str) -> Result<Version, String> {
    match text {
        "3.1.1" | "311" | "4" | "mqttv311" => Ok(Version::V311),
        "5" | "5.0" | "mqttv5" => Ok(Version::V5),
        _ => Err("versions are 3.1.1 and 5".to_owned()),
    }
}

fn parse_qos(text: &str) -> Result<Qos, String> {
    match text {
        "0" => Ok(Qos::AtMostOnce),
        "1" => Ok(Qos::AtLeastOnce),
        "2" => Ok(Qos::ExactlyOnce),
        _ => Err("QoS is 0, 1 or 2".to_owned()),
    }
}
