//! A persistent publisher with several messages in flight, which resends what was not acknowledged.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use fastrand::Rng;

use super::{DRAIN_WITHIN, resume};
use crate::broker::Broker;
use crate::client::{Client, Received};
use crate::wire::{self, Ack, AckKind, Connect, Packet, Publish, Version};

/// Messages in flight at a time.
const WINDOW: usize = 20;

/// What one publisher's subscribers must have seen since the last check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Expected {
    /// Which publisher.
    pub(super) publisher: u32,
    /// Each message of this round, in the order published: its number and its QoS.
    pub(super) messages: Vec<(u64, u8)>,
}

#[derive(Clone, Debug)]
struct Flight {
    publish: Publish,
    is_received: bool,
}

/// One publisher.
pub(super) struct Publisher {
    number: u32,
    connect: Connect,
    random: Rng,
    next: u64,
    next_id: u16,
    flights: VecDeque<Flight>,
    sent: Vec<(u64, u8)>,
}

impl Publisher {
    pub(super) fn new(number: u32, version: Version, seed: u64) -> Self {
        Self {
            number,
            connect: Connect::persistent(version, format!("publisher {number}")),
            random: Rng::with_seed(seed ^ (u64::from(number) << 32)),
            next: 0,
            next_id: 0,
            flights: VecDeque::new(),
            sent: Vec::new(),
        }
    }

    /// Publishes until the connection ends.
    pub(super) fn work(&mut self, address: SocketAddr, progress: &AtomicU64) {
        let mut client = Client::connect(address, &self.connect);
        loop {
            while self.flights.len() < WINDOW {
                let publish = self.make();
                let bytes = publish.encode(client.version());
                self.flights.push_back(Flight {
                    publish,
                    is_received: false,
                });
                if client.try_send(&bytes).is_err() {
                    return;
                }
            }
            match client.poll(Instant::now() + DRAIN_WITHIN) {
                Received::Packet(Packet::Ack(ack)) => {
                    progress.fetch_add(1, Ordering::Relaxed);
                    if self.handle(&mut client, &ack).is_err() {
                        return;
                    }
                }
                Received::Closed => return,
                other => panic!("publisher {}: {other:?}", self.number),
            }
        }
    }

    fn make(&mut self) -> Publish {
        self.next += 1;
        loop {
            self.next_id = self.next_id.checked_add(1).unwrap_or(1);
            if self
                .flights
                .iter()
                .all(|flight| flight.publish.id != self.next_id)
            {
                break;
            }
        }
        let qos = self.random.u8(1..=2);
        self.sent.push((self.next, qos));
        let padding = "p".repeat(self.random.usize(0..400));
        let payload = format!("{}:{}:{padding}", self.number, self.next);
        Publish::new(format!("chaos/q{qos}/{}", self.number), payload)
            .qos(qos)
            .id(self.next_id)
    }

    /// Takes an acknowledgement; `Err` if the connection has ended.
    fn handle(&mut self, client: &mut Client, ack: &Ack) -> Result<(), String> {
        // 0x92 in PUBCOMP is no error in recovery: the release took effect, its answer was lost.
        if ack.code >= 0x80 && !(ack.kind == AckKind::Pubcomp && ack.code == 0x92) {
            return Err(format!("refused: {ack:?}"));
        }
        let place = self
            .flights
            .iter()
            .position(|flight| flight.publish.id == ack.id);
        let Some(place) = place else {
            return Err(format!("an acknowledgement of nothing: {ack:?}"));
        };
        match ack.kind {
            AckKind::Puback | AckKind::Pubcomp => {
                self.flights.remove(place);
            }
            AckKind::Pubrec => {
                self.flights[place].is_received = true;
                let pubrel = wire::ack(AckKind::Pubrel, ack.id);
                client
                    .try_send(&pubrel)
                    .map_err(|error| error.to_string())?;
            }
            AckKind::Pubrel => return Err("a PUBREL to a publisher".to_owned()),
        }
        Ok(())
    }

    /// Resumes and brings everything in flight to its end (MQTT-4.4.0-1).
    pub(super) fn finish(&mut self, broker: &Broker, found: &mut Vec<String>) {
        let mut client = resume(broker, &self.connect, found);
        for flight in &self.flights {
            let bytes = if flight.is_received {
                wire::ack(AckKind::Pubrel, flight.publish.id)
            } else {
                flight.publish.clone().dup().encode(client.version())
            };
            client.send(&bytes);
        }
        let deadline = Instant::now() + DRAIN_WITHIN;
        while !self.flights.is_empty() {
            match client.poll(deadline) {
                Received::Packet(Packet::Ack(ack)) => {
                    if let Err(why) = self.handle(&mut client, &ack) {
                        found.push(format!("publisher {}: {why}", self.number));
                        return;
                    }
                }
                other => {
                    found.push(format!("publisher {}: resent, then {other:?}", self.number));
                    return;
                }
            }
        }
        client.disconnect();
    }

    /// What was published since [`Self::settle`]; everything, once [`Self::finish`] is through.
    pub(super) fn expected(&self) -> Expected {
        Expected {
            publisher: self.number,
            messages: self.sent.clone(),
        }
    }

    /// Forgets what has been checked and gives its number.
    pub(super) fn settle(&mut self) -> u64 {
        std::mem::take(&mut self.sent).len() as u64
    }
}
