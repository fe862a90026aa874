//! A persistent subscriber that takes everything, with the state the standard asks of a receiver.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use fastrand::Rng;

use super::DRAIN_WITHIN;
use super::publisher::Expected;
use crate::broker::Broker;
use crate::carrier::Carrier;
use crate::client::{Client, Received};
use crate::wire::{self, Ack, AckKind, Connect, Packet, Publish, Version};

/// What it does while the others work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Habit {
    /// Stays connected.
    Online,
    /// Stays away.
    Offline,
    /// Comes and goes, mostly without a word.
    Flapping,
}

/// One message as it was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Delivered {
    pub(super) publisher: u32,
    pub(super) number: u64,
    pub(super) qos: u8,
}

/// One subscriber.
pub(super) struct Subscriber {
    pub(super) name: String,
    pub(super) granted: u8,
    pub(super) violations: Vec<String>,
    connect: Connect,
    habit: Habit,
    random: Rng,
    /// QoS 2 identifiers between PUBREC and PUBREL: a PUBLISH with one of them is a repetition.
    half: HashSet<u16>,
    log: Vec<Delivered>,
}

impl Subscriber {
    pub(super) fn new(name: &str, version: Version, granted: u8, habit: Habit, seed: u64) -> Self {
        Self {
            name: name.to_owned(),
            granted,
            violations: Vec::new(),
            connect: Connect::persistent(version, name),
            habit,
            random: Rng::with_seed(seed ^ name.len() as u64),
            half: HashSet::new(),
            log: Vec::new(),
        }
    }

    pub(super) fn set_up(&self, broker: &Broker) {
        let mut client = broker.connect(&self.connect);
        client.subscribe("chaos/q1/+", self.granted);
        client.subscribe("chaos/q2/+", self.granted);
        client.disconnect();
    }

    /// Takes messages, after its habit, until the broker is gone.
    pub(super) fn work(&mut self, address: SocketAddr) {
        match self.habit {
            Habit::Offline => {}
            Habit::Online => {
                let mut client = Client::connect(address, &self.connect);
                while self.turn(&mut client, Instant::now() + DRAIN_WITHIN) {}
            }
            Habit::Flapping => while self.visit(address) {},
        }
    }

    /// One short connection; whether the broker still stands.
    fn visit(&mut self, address: SocketAddr) -> bool {
        let Ok(transport) = Carrier::under_test().try_dial(address) else {
            return false;
        };
        let mut client = Client::over(transport, self.connect.version);
        if client.try_send(&self.connect.encode()).is_err() {
            return false;
        }
        match client.poll(Instant::now() + DRAIN_WITHIN) {
            Received::Packet(Packet::Connack {
                code: 0,
                is_present,
                ..
            }) => {
                if !is_present {
                    self.violations
                        .push(format!("lost: the session of {:?}", self.name));
                }
            }
            _ => return false,
        }
        for _ in 0..self.random.u32(1..200) {
            if !self.turn(&mut client, Instant::now() + Duration::from_millis(20)) {
                return false;
            }
        }
        if self.random.bool() {
            client.cut();
        } else {
            drop(client);
        }
        true
    }

    /// Takes one packet, if one comes; `false` once the connection has ended.
    fn turn(&mut self, client: &mut Client, deadline: Instant) -> bool {
        match client.poll(deadline) {
            Received::Packet(Packet::Publish(publish)) => self.take_publish(client, &publish),
            Received::Packet(Packet::Ack(Ack {
                kind: AckKind::Pubrel,
                id,
                ..
            })) => {
                self.half.remove(&id);
                client.try_send(&wire::ack(AckKind::Pubcomp, id)).is_ok()
            }
            Received::TimedOut => true,
            Received::Closed => false,
            Received::Packet(other) => {
                self.violations
                    .push(format!("{}: unasked {other:?}", self.name));
                false
            }
        }
    }

    fn take_publish(&mut self, client: &mut Client, publish: &Publish) -> bool {
        match publish.qos {
            2 => {
                if self.half.insert(publish.id) {
                    self.record(publish);
                } else if !publish.dup {
                    self.violations
                        .push(format!("{}: again without DUP", self.name));
                }
                client
                    .try_send(&wire::ack(AckKind::Pubrec, publish.id))
                    .is_ok()
            }
            1 => {
                self.record(publish);
                client
                    .try_send(&wire::ack(AckKind::Puback, publish.id))
                    .is_ok()
            }
            _ => {
                self.violations
                    .push(format!("{}: QoS 0 in {}", self.name, publish.topic));
                true
            }
        }
    }

    fn record(&mut self, publish: &Publish) {
        let text = publish.text();
        let mut fields = text.splitn(3, ':');
        let mut number = || fields.next().and_then(|field| field.parse::<u64>().ok());
        match (number(), number()) {
            (Some(publisher), Some(number)) => self.log.push(Delivered {
                publisher: publisher as u32,
                number,
                qos: publish.qos,
            }),
            _ => self
                .violations
                .push(format!("{}: altered payload {text:?}", self.name)),
        }
    }

    /// Resumes and takes what is left, until everything expected is there and nothing more comes.
    pub(super) fn finish(&mut self, broker: &Broker, expected: &[Expected]) {
        let mut client = broker.connect(&self.connect);
        if !client.is_present {
            self.violations
                .push(format!("lost: the session of {:?}", self.name));
        }
        let mut missing: HashSet<(u32, u64)> = HashSet::new();
        for expected in expected {
            missing.extend(
                expected
                    .messages
                    .iter()
                    .map(|(n, _)| (expected.publisher, *n)),
            );
        }
        let mut counted = 0;
        let deadline = Instant::now() + DRAIN_WITHIN;
        loop {
            for delivered in &self.log[counted..] {
                missing.remove(&(delivered.publisher, delivered.number));
            }
            counted = self.log.len();
            let is_quiet = missing.is_empty() && self.half.is_empty();
            let wait = if is_quiet {
                crate::client::SILENCE
            } else {
                Duration::from_secs(5)
            };
            let until = deadline.min(Instant::now() + wait);
            let half = self.half.len();
            if !self.turn(&mut client, until) || Instant::now() >= deadline {
                break;
            }
            // A turn that ran into its deadline: quiet, or nothing more to hope for.
            if self.log.len() == counted && self.half.len() == half && Instant::now() >= until {
                break;
            }
        }
        client.disconnect();
    }

    /// What was taken since the last call.
    pub(super) fn take(&mut self) -> Vec<Delivered> {
        std::mem::take(&mut self.log)
    }
}
