//! A persistent session that subscribes and unsubscribes, and what must be left of it.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use fastrand::Rng;

use super::{DRAIN_WITHIN, InDoubt, resume};
use crate::broker::Broker;
use crate::client::{Client, Received};
use crate::wire::{self, AckKind, Connect, Filter, Packet, Properties, Publish, Version};

const FILTERS: usize = 30;

#[derive(Clone, Copy, Debug, Default)]
struct Toggle {
    is_on: bool,
    pending: Option<(u16, bool)>,
}

/// The session.
pub(super) struct Toggler {
    connect: Connect,
    random: Rng,
    toggles: [Toggle; FILTERS],
    next_id: u16,
    checks: u32,
}

impl Toggler {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            connect: Connect::persistent(Version::V5, "toggler"),
            random: Rng::with_seed(seed ^ 0x7066_13E5),
            toggles: [Toggle::default(); FILTERS],
            next_id: 0,
            checks: 0,
        }
    }

    pub(super) fn set_up(&self, broker: &Broker) {
        let mut client = broker.connect(&self.connect);
        client.subscribe("chaos/toggle/end", 1);
        client.disconnect();
    }

    /// Subscribes and unsubscribes until the connection ends.
    pub(super) fn work(&mut self, address: SocketAddr, progress: &AtomicU64) {
        let mut client = Client::connect(address, &self.connect);
        let version = client.version();
        loop {
            while self
                .toggles
                .iter()
                .filter(|toggle| toggle.pending.is_some())
                .count()
                < 5
            {
                let index = self.random.usize(..FILTERS);
                let toggle = &mut self.toggles[index];
                if toggle.pending.is_some() {
                    continue;
                }
                self.next_id = self.next_id.checked_add(1).unwrap_or(1);
                toggle.pending = Some((self.next_id, !toggle.is_on));
                // Every second filter is a wildcard.
                let filter = filter(index);
                let bytes = if toggle.is_on {
                    wire::unsubscribe(version, self.next_id, &[&filter])
                } else {
                    let filters = [Filter::new(filter, 1)];
                    wire::subscribe(version, self.next_id, &filters, &Properties::default())
                };
                if client.try_send(&bytes).is_err() {
                    return;
                }
            }
            match client.poll(Instant::now() + DRAIN_WITHIN) {
                Received::Packet(
                    Packet::Suback { id, codes, .. } | Packet::Unsuback { id, codes, .. },
                ) => {
                    assert!(codes.iter().all(|code| *code < 0x80), "toggler: {codes:?}");
                    progress.fetch_add(1, Ordering::Relaxed);
                    self.settle(id);
                }
                // Probes of the last check whose acknowledgement the kill undid.
                Received::Packet(Packet::Publish(publish)) if publish.dup => {
                    let puback = wire::ack(AckKind::Puback, publish.id);
                    if client.try_send(&puback).is_err() {
                        return;
                    }
                }
                Received::Closed => return,
                other => panic!("toggler: {other:?}"),
            }
        }
    }

    fn settle(&mut self, id: u16) {
        for toggle in &mut self.toggles {
            if let Some((_, is_on)) = toggle.pending.take_if(|(pending, _)| *pending == id) {
                toggle.is_on = is_on;
            }
        }
    }

    /// Changes that were under way when the broker was killed.
    pub(super) fn in_doubt(&self) -> u64 {
        let pending = self
            .toggles
            .iter()
            .filter(|toggle| toggle.pending.is_some());
        pending.count() as u64
    }

    /// Probes every topic and compares with what was acknowledged; then settles what was not.
    pub(super) fn check(&mut self, broker: &Broker, in_doubt: InDoubt, found: &mut Vec<String>) {
        let probe = self.probe(broker); // What holds must not hang on the session's return.
        let mut client = resume(broker, &self.connect, found);
        let Some(seen) = collect(&mut client, &probe, found) else {
            return;
        };
        self.compare(&seen, "acknowledged", found);
        match in_doubt {
            InDoubt::AskedAgain => self.resend(&mut client, found),
            InDoubt::Observed => {
                for (index, toggle) in self.toggles.iter_mut().enumerate() {
                    if toggle.pending.take().is_some() {
                        toggle.is_on = seen.contains(&index);
                    }
                }
            }
        }
        client.disconnect();
        self.check_again(broker, found);
    }

    /// Probes once more: nothing was asked since the last time, so nothing may have changed.
    pub(super) fn check_again(&mut self, broker: &Broker, found: &mut Vec<String>) {
        let mut client = resume(broker, &self.connect, found);
        let probe = self.probe(broker);
        if let Some(seen) = collect(&mut client, &probe, found) {
            self.compare(&seen, "seen before", found);
        }
        client.disconnect();
    }

    /// Publishes to every topic; the payload is new.
    fn probe(&mut self, broker: &Broker) -> String {
        let mut prober = broker.connect(&Connect::v5("prober"));
        self.checks += 1;
        let probe = self.checks.to_string();
        for index in 0..FILTERS {
            prober.publish(&Publish::new(format!("chaos/toggle/{index}/x"), &probe).qos(1));
        }
        // Queued behind all the others.
        prober.publish(&Publish::new("chaos/toggle/end", &probe).qos(1));
        probe
    }

    fn compare(&self, seen: &HashSet<usize>, why: &str, found: &mut Vec<String>) {
        for (index, toggle) in self.toggles.iter().enumerate() {
            let is_on = seen.contains(&index);
            if toggle.pending.is_none() && is_on != toggle.is_on {
                let was = toggle.is_on;
                found.push(format!(
                    "lost: subscription {index} is {is_on}, {why} {was}"
                ));
            }
        }
    }

    /// What was not acknowledged may have taken effect in part, so it is asked for again, as a
    /// client would.
    fn resend(&mut self, client: &mut Client, found: &mut Vec<String>) {
        for (index, toggle) in self.toggles.iter_mut().enumerate() {
            let Some((_, wanted)) = toggle.pending.take() else {
                continue;
            };
            let filter = filter(index);
            let codes = if wanted {
                client.subscribe_all(&[Filter::new(filter, 1)])
            } else {
                client.unsubscribe(&[&filter])
            };
            if codes.iter().any(|code| *code >= 0x80) {
                found.push(format!("toggler: asked again, then {codes:?}"));
            }
            toggle.is_on = wanted;
        }
    }
}

/// The filters that match a probe.
fn collect(client: &mut Client, probe: &str, found: &mut Vec<String>) -> Option<HashSet<usize>> {
    let mut seen = HashSet::new();
    loop {
        match client.poll(Instant::now() + DRAIN_WITHIN) {
            Received::Packet(Packet::Publish(publish)) => {
                client.acknowledge(&publish);
                if publish.text() != probe {
                    continue; // of an earlier check, its acknowledgement lost by the kill
                }
                match publish.topic.split('/').nth(2).map(str::parse::<usize>) {
                    Some(Ok(index)) => seen.insert(index),
                    _ => return Some(seen),
                };
            }
            other => {
                found.push(format!(
                    "lost: the toggler's fixed subscription ({other:?})"
                ));
                return None;
            }
        }
    }
}

fn filter(index: usize) -> String {
    if index.is_multiple_of(2) {
        format!("chaos/toggle/{index}/x")
    } else {
        format!("chaos/toggle/{index}/#")
    }
}
