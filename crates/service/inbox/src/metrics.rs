//! What the inbox counts.

use bifrust_model::Qos;
use bifrust_plugin_api::{Counter, Gauge, Meter, Meters};

/// Handles of the meters.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    /// Durable sessions with a connection.
    pub(crate) online: Gauge,
    /// Messages that queues refused or gave up, by QoS.
    overflowed: [Counter; 3],
    /// Copies not made for persistent sessions beyond the tenant's bound of one publish.
    pub(crate) fanout_throttled: Counter,
    /// QoS 0 messages not queued for a session that is offline.
    pub(crate) unqueued: Counter,
    /// Messages of groups that ended with the session of their member.
    pub(crate) unfinished: Counter,
    /// Wills sent.
    pub(crate) wills_sent: Counter,
    /// Wills that could not be sent yet.
    pub(crate) wills_failed: Counter,
    /// Sessions that ended.
    pub(crate) swept: Counter,
}

impl Metrics {
    pub(crate) fn new(meters: &dyn Meters) -> Self {
        let overflowed = |qos: &str| {
            let meter = Meter::new(
                "bifrust_inbox_overflowed",
                "Messages that a full session queue refused or gave up.",
            );
            meters.counter(meter.label("qos", qos))
        };
        Self {
            online: meters.gauge(Meter::new(
                "bifrust_inbox_sessions_online",
                "Persistent sessions with a connection.",
            )),
            overflowed: [overflowed("0"), overflowed("1"), overflowed("2")],
            fanout_throttled: meters.counter(Meter::new(
                "bifrust_inbox_fanout_throttled",
                "Copies not made for persistent sessions beyond MaxPersistentFanout.",
            )),
            unqueued: meters.counter(Meter::new(
                "bifrust_inbox_qos0_unqueued",
                "QoS 0 messages for sessions that were offline and queue none.",
            )),
            unfinished: meters.counter(Meter::new(
                "bifrust_inbox_group_unfinished",
                "Messages of shared subscriptions that ended with their member's session.",
            )),
            wills_sent: meters.counter(Meter::new("bifrust_inbox_wills_sent", "Wills sent.")),
            wills_failed: meters.counter(Meter::new(
                "bifrust_inbox_wills_failed",
                "Attempts to send a will that have to be made again.",
            )),
            swept: meters.counter(Meter::new(
                "bifrust_inbox_sessions_swept",
                "Ended persistent sessions whose rows are gone.",
            )),
        }
    }

    pub(crate) fn overflowed(&self, qos: Qos) {
        self.overflowed[usize::from(qos.level())].add(1);
    }
}
