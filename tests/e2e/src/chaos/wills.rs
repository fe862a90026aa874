//! Clients that are alive when the broker dies: their wills go out after the restart.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::Instant;

use super::{DRAIN_WITHIN, resume};
use crate::broker::Broker;
use crate::client::{Client, Received};
use crate::wire::{self, Ack, AckKind, Connect, Packet, Version, Will};

fn watcher() -> Connect {
    Connect::persistent(Version::V5, "will watcher")
}

pub(super) fn set_up(broker: &Broker) {
    let mut client = broker.connect(&watcher());
    client.subscribe("chaos/will/#", 2);
    client.disconnect();
}

/// Connects clients of all kinds and gives the topics of the wills that CONNACK promised.
pub(super) fn dying_clients(address: SocketAddr, round: u32) -> (Vec<Client>, Vec<String>) {
    let mut clients = Vec::new();
    let mut topics = Vec::new();
    for number in 0..8_u8 {
        let topic = format!("chaos/will/{round}/{number}");
        let will = Will::new(&topic, "will").qos(number % 3);
        let id = format!("dying {round} {number}");
        let connect = match number % 4 {
            0 => Connect::v3(id).will(will),
            1 => Connect::v5(id).will(will),
            2 => Connect::persistent(Version::V3, id).will(will),
            _ => Connect::v5(id).expiry(60).will(will.delay(1)),
        };
        clients.push(Client::connect(address, &connect));
        if number % 3 > 0 {
            topics.push(topic); // QoS 0 promises nothing
        }
    }
    (clients, topics)
}

/// Waits for the wills.
pub(super) fn check(broker: &Broker, topics: &[String], found: &mut Vec<String>) {
    let mut missing: HashSet<&str> = topics.iter().map(String::as_str).collect();
    let mut client = resume(broker, &watcher(), found);
    let mut seen: HashSet<String> = HashSet::new();
    let deadline = Instant::now() + DRAIN_WITHIN;
    while !missing.is_empty() {
        match client.poll(deadline) {
            Received::Packet(Packet::Publish(publish)) => {
                client.acknowledge(&publish);
                missing.remove(publish.topic.as_str());
                if publish.qos == 2 && !seen.insert(publish.topic.clone()) {
                    found.push(format!("duplicate: will {}", publish.topic));
                }
            }
            // Of an earlier check whose last acknowledgement the kill took.
            Received::Packet(Packet::Ack(Ack {
                kind: AckKind::Pubrel,
                id,
                ..
            })) => client.send(&wire::ack(AckKind::Pubcomp, id)),
            other => {
                found.push(format!("lost: wills {missing:?} ({other:?})"));
                return;
            }
        }
    }
    client.disconnect();
}
