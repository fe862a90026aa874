//! The way from where something happens to those who listen.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bifrust_model::{Event, EventKind};

/// A set of event kinds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventSet(u128);

impl EventSet {
    /// No kind.
    pub const NONE: Self = Self(0);
    /// Every kind.
    pub const ALL: Self = Self(u128::MAX);

    /// The set with `kind` in it.
    pub fn with(self, kind: EventKind) -> Self {
        Self(self.0 | 1 << kind as u8)
    }

    /// Both sets.
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether `kind` is in it.
    pub fn contains(self, kind: EventKind) -> bool {
        self.0 & 1 << kind as u8 != 0
    }
}

/// Takes events. Must not block: a sink that writes elsewhere keeps a bounded queue and counts
/// what it drops.
pub trait EventSink: Send + Sync {
    /// The kinds it wants; asked once.
    fn interests(&self) -> EventSet;

    /// One event of a kind it wants.
    fn accept(&self, event: &Event);
}

/// Counts every event and passes it to the sinks that want its kind. An event nobody wants costs
/// one counter and one branch.
#[derive(Clone)]
pub struct Events(Arc<Shared>);

struct Shared {
    wanted: EventSet,
    sinks: Vec<(EventSet, Box<dyn EventSink>)>,
    counts: Vec<AtomicU64>,
}

impl Events {
    /// Events for these sinks.
    pub fn new(sinks: Vec<Box<dyn EventSink>>) -> Self {
        let sinks: Vec<_> = sinks
            .into_iter()
            .map(|sink| (sink.interests(), sink))
            .collect();
        let wanted = sinks
            .iter()
            .fold(EventSet::NONE, |all, (set, _)| all.union(*set));
        let counts = EventKind::ALL.iter().map(|_| AtomicU64::new(0)).collect();
        Self(Arc::new(Shared {
            wanted,
            sinks,
            counts,
        }))
    }

    /// Counts `kind`, and makes the event only if somebody wants it.
    pub fn emit(&self, kind: EventKind, make: impl FnOnce() -> Event) {
        self.0.counts[kind as usize].fetch_add(1, Ordering::Relaxed);
        if self.0.wanted.contains(kind) {
            let event = make();
            for (_, sink) in self.0.sinks.iter().filter(|(set, _)| set.contains(kind)) {
                sink.accept(&event);
            }
        }
    }

    /// How often `kind` has happened since the start.
    pub fn count(&self, kind: EventKind) -> u64 {
        self.0.counts[kind as usize].load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use bifrust_model::Hlc;

    use super::*;

    struct Log(Arc<Mutex<Vec<EventKind>>>);

    impl EventSink for Log {
        fn interests(&self) -> EventSet {
            EventSet::NONE.with(EventKind::Kicked)
        }

        fn accept(&self, event: &Event) {
            self.0.lock().unwrap().push(event.kind);
        }
    }

    #[test]
    fn an_unwanted_event_is_counted_and_not_made() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let events = Events::new(vec![Box::new(Log(seen.clone()))]);
        events.emit(EventKind::Idle, || unreachable!("nobody wants it"));
        events.emit(EventKind::Kicked, || {
            Event::new(EventKind::Kicked, Hlc::default())
        });
        assert_eq!(events.count(EventKind::Idle), 1);
        assert_eq!(*seen.lock().unwrap(), [EventKind::Kicked]);
    }

    #[test]
    fn every_kind_fits_the_set() {
        assert!(EventKind::ALL.len() <= 128);
    }
}
