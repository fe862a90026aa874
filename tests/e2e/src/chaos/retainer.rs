//! A publisher of retained messages, and what a new subscriber must find of them.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use fastrand::Rng;

use super::{DRAIN_WITHIN, resume};
use crate::broker::Broker;
use crate::client::{Client, Received, SILENCE};
use crate::wire::{Ack, AckKind, Connect, Packet, Publish, Version};

const TOPICS: usize = 40;

/// A topic's last acknowledged value, and one on its way; an empty one clears.
#[derive(Clone, Debug, Default)]
struct Topic {
    settled: String,
    pending: Option<(u16, String)>,
}

/// The publisher.
pub(super) struct Retainer {
    connect: Connect,
    random: Rng,
    topics: Vec<Topic>,
    next: u64,
    next_id: u16,
}

impl Retainer {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            connect: Connect::persistent(Version::V5, "retainer"),
            random: Rng::with_seed(seed ^ 0x5E7A_11ED),
            topics: vec![Topic::default(); TOPICS],
            next: 0,
            next_id: 0,
        }
    }

    fn publish(index: usize, id: u16, value: &str) -> Publish {
        Publish::new(format!("chaos/retained/{index}"), value)
            .qos(1)
            .retain()
            .id(id)
    }

    /// Sets and clears until the connection ends, a few topics at a time.
    pub(super) fn work(&mut self, address: SocketAddr, progress: &AtomicU64) {
        let mut client = Client::connect(address, &self.connect);
        loop {
            while self
                .topics
                .iter()
                .filter(|topic| topic.pending.is_some())
                .count()
                < 8
            {
                let index = self.random.usize(..TOPICS);
                if self.topics[index].pending.is_some() {
                    continue;
                }
                self.next += 1;
                self.next_id = self.next_id.checked_add(1).unwrap_or(1);
                let value = if self.random.u8(0..4) == 0 {
                    String::new()
                } else {
                    self.next.to_string()
                };
                let publish = Self::publish(index, self.next_id, &value);
                self.topics[index].pending = Some((self.next_id, value));
                if client.try_send(&publish.encode(client.version())).is_err() {
                    return;
                }
            }
            match client.poll(Instant::now() + DRAIN_WITHIN) {
                Received::Packet(Packet::Ack(ack)) => {
                    progress.fetch_add(1, Ordering::Relaxed);
                    self.settle(&ack);
                }
                Received::Closed => return,
                other => panic!("retainer: {other:?}"),
            }
        }
    }

    fn settle(&mut self, ack: &Ack) {
        assert!(
            ack.kind == AckKind::Puback && ack.code < 0x80,
            "retainer: {ack:?}"
        );
        for topic in &mut self.topics {
            if let Some((_, value)) = topic.pending.take_if(|(id, _)| *id == ack.id) {
                topic.settled = value;
            }
        }
    }

    /// Compares what a new subscriber finds with what was acknowledged.
    pub(super) fn check(&self, broker: &Broker, found: &mut Vec<String>) {
        let mut client = broker.connect(&Connect::v5("retained checker"));
        client.subscribe("chaos/retained/+", 1);
        let certain = |topic: &&Topic| topic.pending.is_none() && !topic.settled.is_empty();
        let count = self.topics.iter().filter(certain).count();
        let mut values: HashMap<usize, String> = HashMap::new();
        loop {
            // All that is certain must come; what is pending may.
            let wait = if values.len() < count {
                DRAIN_WITHIN / 6
            } else {
                SILENCE
            };
            match client.poll(Instant::now() + wait) {
                Received::Packet(Packet::Publish(publish)) => {
                    client.acknowledge(&publish);
                    let index = publish
                        .topic
                        .rsplit('/')
                        .next()
                        .and_then(|i| i.parse().ok());
                    let index = index.expect("only such topics were subscribed to");
                    if values.insert(index, publish.text()).is_some() {
                        found.push(format!("retained: {} came twice", publish.topic));
                    }
                }
                _ => break,
            }
        }
        for (index, topic) in self.topics.iter().enumerate() {
            let value = values.remove(&index).unwrap_or_default();
            let is_pending = topic
                .pending
                .as_ref()
                .is_some_and(|(_, pending)| *pending == value);
            if value != topic.settled && !is_pending {
                found.push(format!(
                    "lost: retained {index} is {value:?}, not {topic:?}"
                ));
            }
        }
    }

    /// Resends what was not acknowledged.
    pub(super) fn finish(&mut self, broker: &Broker, found: &mut Vec<String>) {
        let mut client = resume(broker, &self.connect, found);
        let mut pending: Vec<(u16, usize, String)> = Vec::new();
        for (index, topic) in self.topics.iter().enumerate() {
            pending.extend(
                topic
                    .pending
                    .iter()
                    .map(|(id, value)| (*id, index, value.clone())),
            );
        }
        for (id, index, value) in &pending {
            let publish = Self::publish(*index, *id, value).dup();
            client.send(&publish.encode(client.version()));
        }
        for _ in &pending {
            match client.poll(Instant::now() + DRAIN_WITHIN) {
                Received::Packet(Packet::Ack(ack)) => self.settle(&ack),
                other => {
                    found.push(format!("retainer: resent, then {other:?}"));
                    return;
                }
            }
        }
        client.disconnect();
    }
}
