//! What links count.

use bifrust_plugin_api::{Counter, Gauge, Meter, Meters};

use crate::hello::{Reason, Refusal};

/// Numbers of one node's links.
#[derive(Debug)]
pub(crate) struct Metrics {
    pub(crate) dialled: Gauge,
    pub(crate) accepted: Gauge,
    pub(crate) lost: Counter,
    pub(crate) faults: Counter,
    pub(crate) dropped: Counter,
    refused: Vec<Counter>,
    refused_by_peer: Vec<Counter>,
}

impl Metrics {
    pub(crate) fn new(meters: &dyn Meters) -> Self {
        let by_reason = |name, help| {
            let reasons = Reason::ALL.iter();
            let meter = |reason: &Reason| Meter::new(name, help).label("reason", reason.name());
            reasons
                .map(|reason| meters.counter(meter(reason)))
                .collect()
        };
        let links = |side| {
            let meter = Meter::new("bifrust_rpc_links", "Links to other nodes that are up.");
            meters.gauge(meter.label("side", side))
        };
        Self {
            dialled: links("dialled"),
            accepted: links("accepted"),
            lost: meters.counter(Meter::new(
                "bifrust_rpc_links_lost",
                "Links that ended without being closed by either side.",
            )),
            faults: meters.counter(Meter::new(
                "bifrust_rpc_link_faults",
                "Links that ended because the peer broke a rule.",
            )),
            dropped: meters.counter(Meter::new(
                "bifrust_rpc_one_way_dropped",
                "One-way messages that reached no service.",
            )),
            refused: by_reason("bifrust_rpc_refused", "Connections that this node refused."),
            refused_by_peer: by_reason(
                "bifrust_rpc_refused_by_peer",
                "Connections that the other node refused.",
            ),
        }
    }

    pub(crate) fn count(&self, refusal: &Refusal) {
        let (counters, reason) = match refusal {
            Refusal::Own { reason, .. } => (&self.refused, reason),
            Refusal::Theirs { reason, .. } => (&self.refused_by_peer, reason),
        };
        let index = Reason::ALL.iter().position(|known| known == reason);
        if let Some(counter) = index.and_then(|index| counters.get(index)) {
            counter.add(1);
        }
    }
}
