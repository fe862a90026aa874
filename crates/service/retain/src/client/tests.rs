use bifrust_kv::Clock;
use bifrust_kv::testing::wait;
use bifrust_model::{ClientId, Qos, TenantName, Topic};
use bifrust_plugin_api::{Counter, Gauge, Histogram};
use bifrust_storage::{Keyspace, Store};

use super::*;

/// Hands out the same meters each time.
#[derive(Default)]
struct OneOfEach(Gauge);

impl Meters for OneOfEach {
    fn counter(&self, _meter: Meter) -> Counter {
        Counter::default()
    }

    fn gauge(&self, _meter: Meter) -> Gauge {
        self.0.clone()
    }

    fn histogram(&self, _meter: Meter) -> Histogram {
        Histogram::default()
    }
}

struct Bed {
    node: Node,
    retain: Retain,
    topics: Gauge,
    tenant: Arc<Tenant>,
}

impl Bed {
    fn new() -> Self {
        Self::over(Store::memory(&keyspaces()))
    }

    fn over(store: Store) -> Self {
        let config = bifrust_kv::Config::default();
        let node = Node::open(store, config, Clock::new()).unwrap();
        let meters = OneOfEach::default();
        // Swept when a test says so.
        let retain = Retain::open_unswept(&node, &meters).unwrap();
        let tenant = Arc::new(Tenant {
            number: TenantNumber(1),
            name: TenantName::new("acme").unwrap(),
            settings: Default::default(),
        });
        Self {
            node,
            retain,
            topics: meters.0,
            tenant,
        }
    }

    fn store(&self, topic: &str, payload: &str, stamp: Hlc) {
        let message = message(topic, payload, stamp);
        wait(|done| self.retain.store(&self.tenant, &message, done)).unwrap();
    }

    fn page(&self, filter: &str, from: Option<Cursor>, messages: usize, now_ms: u64) -> Page {
        let filter = TopicFilter::new(filter.to_owned().into()).unwrap();
        let limit = PageLimit {
            messages,
            bytes: usize::MAX,
        };
        let tenant = self.tenant.number;
        wait(|done| self.retain.scan(tenant, &filter, from, limit, now_ms, done)).unwrap()
    }
}

fn keyspaces() -> Vec<Keyspace> {
    [bifrust_kv::keyspaces(), crate::keyspaces()].concat()
}

fn message(topic: &str, payload: &str, stamp: Hlc) -> Message {
    Message {
        topic: Topic::new(topic.to_owned().into()).unwrap(),
        payload: payload.to_owned().into(),
        qos: Qos::AtLeastOnce,
        retain: true,
        stamp,
        expiry_seconds: Some(10),
        properties: bytes::Bytes::new(),
        publisher: ClientId::new("p").unwrap(),
    }
}

#[test]
fn what_was_stored_is_seen_by_the_next_scan() {
    let bed = Bed::new();
    for (n, topic) in ["a/b", "a/c", "a", "b"].into_iter().enumerate() {
        bed.store(topic, "x", Hlc(n as u64 + 1));
    }
    assert_eq!(bed.topics.value(), 4);
    let first = bed.page("a/#", None, 2, 0);
    assert_eq!(first.messages.len(), 2);
    let second = bed.page("a/#", first.next, 2, 0);
    let topics: Vec<_> = first.messages.iter().chain(&second.messages).collect();
    let topics: Vec<_> = topics.iter().map(|m| m.topic.as_str()).collect();
    assert_eq!(topics, ["a", "a/b", "a/c"]);
    assert_eq!(second.next, None);
    bed.store("a", "", Hlc(9));
    assert_eq!(bed.page("a", None, 2, 0).messages, []);
    assert_eq!(bed.topics.value(), 3);
    bed.node.stop();
}

#[test]
fn a_scan_removes_what_has_expired() {
    let bed = Bed::new();
    bed.store("a", "x", Hlc::from_millis(1_000));
    bed.store("b", "x", Hlc::from_millis(9_000));
    let page = bed.page("#", None, 9, 11_000);
    assert_eq!(page.messages.len(), 1);
    assert_eq!(page.messages[0].topic.as_str(), "b");
    // The removal is in the queue before the page is given.
    bed.store("c", "x", Hlc::from_millis(12_000));
    assert_eq!(bed.topics.value(), 2);
    bed.node.stop();
}

#[test]
fn a_sweep_removes_what_has_expired_and_no_scan_meets() {
    let bed = Bed::new();
    bed.store("a", "x", Hlc::from_millis(1_000));
    bed.store("b", "x", Hlc::from_millis(9_000));
    for (now_ms, left) in [(10_999, 2), (11_000, 1), (18_999, 1), (19_000, 0)] {
        wait(|done| bed.retain.sweep(now_ms, done));
        // The removal is in the queue before this.
        bed.store("c", "", Hlc::from_millis(now_ms));
        assert_eq!(bed.topics.value(), left, "at {now_ms}");
    }
    assert_eq!(bed.retain.0.sweeper.begin(), None);
    bed.node.stop();
}

#[test]
fn clears_are_forgotten_in_time_and_remembered_over_a_restart() {
    let store = Store::memory(&keyspaces());
    let bed = Bed::over(store.clone());
    bed.store("a", "x", Hlc::from_millis(1_000));
    bed.store("a", "", Hlc::from_millis(2_000));
    bed.node.stop();

    let bed = Bed::over(store.clone());
    assert_eq!(bed.topics.value(), 0);
    assert_eq!(bed.retain.latest_stamp(), Hlc::from_millis(2_000));
    bed.store("a", "late", Hlc::from_millis(1_500));
    assert_eq!(bed.page("a", None, 1, 0).messages, []);
    bed.store("b", "x", Hlc::from_millis(70_000));
    bed.node.stop();

    let rows = store.read().range(
        Keyspace("retain_meta"),
        std::ops::Bound::Unbounded,
        std::ops::Bound::Unbounded,
        bifrust_storage::Direction::Forward,
    );
    assert_eq!(rows.count(), 1);
}

#[test]
fn a_topic_too_long_for_a_key_is_refused() {
    let bed = Bed::new();
    let long = message(&"a/".repeat(33_000), "x", Hlc(1));
    let stored = wait(|done| bed.retain.store(&bed.tenant, &long, done));
    assert_eq!(stored, Err(RetainError::TooLong));
    bed.node.stop();
    let fine = message("a", "x", Hlc(1));
    let stored = wait(|done| bed.retain.store(&bed.tenant, &fine, done));
    assert!(matches!(stored, Err(RetainError::Refused(_))));
}
