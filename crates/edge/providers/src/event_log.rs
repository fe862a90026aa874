//! Events as log lines.

use bifrust_model::Event;
use bifrust_plugin_api::{EventSet, EventSink};

/// The target that per-event lines have, so that a log filter can switch them on alone.
const TARGET: &str = "bifrust::event";

/// Writes each event as a line at debug level. Off unless the log wants such lines: then no event
/// is even made.
#[derive(Clone, Copy, Debug, Default)]
pub struct EventLog;

impl EventSink for EventLog {
    fn interests(&self) -> EventSet {
        if tracing::enabled!(target: TARGET, tracing::Level::DEBUG) {
            EventSet::ALL
        } else {
            EventSet::NONE
        }
    }

    fn accept(&self, event: &Event) {
        let client = event.client.as_ref();
        tracing::debug!(
            target: TARGET,
            event = event.kind.name(),
            tenant = event.tenant.as_ref().map(|tenant| tenant.as_str()),
            user = client.and_then(|client| client.user.as_deref()),
            client = client.map(|client| client.client.as_str()),
            peer = client
                .and_then(|client| client.peer)
                .or(event.peer)
                .map(tracing::field::display),
            topic = event.topic.as_ref().map(|topic| topic.as_str()),
            reason = event.reason,
            "{}",
            event.detail
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_log_nothing_is_wanted() {
        assert_eq!(EventLog.interests(), EventSet::NONE);
    }
}
