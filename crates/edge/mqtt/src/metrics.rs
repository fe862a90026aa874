//! What a shard counts. Numbers gather in the shard and reach the shared meters at each tick, so
//! that shards do not share cache lines per message.

use bifrust_model::Qos;
use bifrust_plugin_api::{Counter, Gauge, Meter, Meters};

/// Why a message did not reach a live receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Drop {
    /// The receiver's queue is full.
    Full,
    /// The message's life ended.
    Expired,
    /// Larger than the client takes.
    Oversize,
    /// It could not be handed to durable receivers.
    Undelivered,
    /// Not allowed, or not valid.
    Refused,
    /// More groups than the tenant may use at a time.
    Fanout,
    /// The picked member of its group has gone, and no other one is there.
    Memberless,
    /// QoS 2 of a group: written to a member whose session ended before it was complete.
    Unfinished,
}

const DROPS: [(Drop, &str); 8] = [
    (Drop::Full, "full"),
    (Drop::Expired, "expired"),
    (Drop::Oversize, "oversize"),
    (Drop::Undelivered, "undelivered"),
    (Drop::Refused, "refused"),
    (Drop::Fanout, "group_fanout"),
    (Drop::Memberless, "no_member"),
    (Drop::Unfinished, "unfinished"),
];

/// Why a connection was given up below MQTT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Its listener has as many as it may have.
    Full,
    /// A PROXY header is awaited, and it does not come from a proxy that is trusted.
    UntrustedProxy,
    /// What should be a PROXY header is none.
    ProxyHeader,
    /// Its TLS handshake failed, or a record of it cannot be read.
    Tls,
    /// It asked for no WebSocket that is served.
    Http,
    /// Its page, or its way here, is not allowed.
    Forbidden,
    /// It broke the rules of WebSocket.
    WebSocket,
}

const REFUSALS: [(Refused, &str); 7] = [
    (Refused::Full, "full"),
    (Refused::UntrustedProxy, "untrusted-proxy"),
    (Refused::ProxyHeader, "proxy-header"),
    (Refused::Tls, "tls"),
    (Refused::Http, "http"),
    (Refused::Forbidden, "forbidden"),
    (Refused::WebSocket, "websocket"),
];

/// The counter of connections that were given up below MQTT.
pub(crate) fn refused_counter(meters: &dyn Meters, why: Refused) -> Counter {
    let reason = REFUSALS.iter().find(|(refused, _)| *refused == why);
    let meter = Meter::new(
        "bifrust_connections_refused",
        "Connections that were given up below MQTT.",
    );
    meters.counter(meter.label("reason", reason.map_or("", |(_, reason)| reason)))
}

/// A number that gathers here until [`Tally::publish`].
struct Tally {
    gathered: u64,
    counter: Counter,
}

impl Tally {
    fn new(counter: Counter) -> Self {
        Self {
            gathered: 0,
            counter,
        }
    }

    fn publish(&mut self) {
        if self.gathered != 0 {
            self.counter.add(std::mem::take(&mut self.gathered));
        }
    }
}

/// What all shards have received, by QoS.
pub(crate) fn received(meters: &dyn Meters) -> [Counter; 3] {
    let help = "PUBLISH packets received from clients.";
    by_qos(meters, "bifrust_messages_received", help)
}

/// What all shards have sent, by QoS.
pub(crate) fn sent(meters: &dyn Meters) -> [Counter; 3] {
    let help = "PUBLISH packets sent to clients.";
    by_qos(meters, "bifrust_messages_sent", help)
}

fn by_qos(meters: &dyn Meters, name: &'static str, help: &'static str) -> [Counter; 3] {
    [0, 1, 2].map(|qos: u8| {
        let meter = Meter::new(name, help).label("qos", qos.to_string());
        meters.counter(meter)
    })
}

/// The numbers of one shard.
pub(crate) struct Metrics {
    connections: Gauge,
    received: [Tally; 3],
    sent: [Tally; 3],
    bytes_received: Tally,
    bytes_sent: Tally,
    stalled: Tally,
    dropped: [Tally; DROPS.len()],
    refused: [Tally; REFUSALS.len()],
}

impl Metrics {
    pub(crate) fn new(meters: &dyn Meters) -> Self {
        let counter = |name, help| Tally::new(meters.counter(Meter::new(name, help)));
        Self {
            connections: meters.gauge(Meter::new(
                "bifrust_connections",
                "Network connections that are open.",
            )),
            received: received(meters).map(Tally::new),
            sent: sent(meters).map(Tally::new),
            bytes_received: counter("bifrust_bytes_received", "Bytes received from clients."),
            bytes_sent: counter("bifrust_bytes_sent", "Bytes sent to clients."),
            stalled: counter(
                "bifrust_subscribers_stalled",
                "Clients whose socket took nothing for a long time.",
            ),
            dropped: DROPS.map(|(_, reason)| {
                let meter = Meter::new(
                    "bifrust_messages_dropped",
                    "Messages that did not reach a receiver.",
                );
                Tally::new(meters.counter(meter.label("reason", reason)))
            }),
            refused: REFUSALS.map(|(why, _)| Tally::new(refused_counter(meters, why))),
        }
    }

    pub(crate) fn connections(&self, by: i64) {
        self.connections.add(by);
    }

    #[inline]
    pub(crate) fn received(&mut self, qos: Qos) {
        self.received[usize::from(qos.level())].gathered += 1;
    }

    #[inline]
    pub(crate) fn sent(&mut self, qos: Qos) {
        self.sent[usize::from(qos.level())].gathered += 1;
    }

    pub(crate) fn bytes_received(&mut self, n: usize) {
        self.bytes_received.gathered += n as u64;
    }

    pub(crate) fn bytes_sent(&mut self, n: usize) {
        self.bytes_sent.gathered += n as u64;
    }

    pub(crate) fn stalled(&mut self) {
        self.stalled.gathered += 1;
    }

    pub(crate) fn dropped(&mut self, reason: Drop) {
        if let Some(at) = DROPS.iter().position(|(drop, _)| *drop == reason) {
            self.dropped[at].gathered += 1;
        }
    }

    pub(crate) fn refused(&mut self, why: Refused) {
        if let Some(at) = REFUSALS.iter().position(|(refused, _)| *refused == why) {
            self.refused[at].gathered += 1;
        }
    }

    /// Passes on what has gathered.
    pub(crate) fn publish(&mut self) {
        for tally in self.received.iter_mut().chain(&mut self.sent) {
            tally.publish();
        }
        for tally in self.dropped.iter_mut().chain(&mut self.refused) {
            tally.publish();
        }
        self.stalled.publish();
        self.bytes_received.publish();
        self.bytes_sent.publish();
    }
}
