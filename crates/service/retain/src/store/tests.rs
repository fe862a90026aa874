use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use bifrust_kv::testing::Bed;
use bifrust_model::{ClientId, Qos, Topic};
use proptest::prelude::*;

use super::*;
use crate::schema::{self, body};

const TENANT: TenantNumber = TenantNumber(7);
const ALL: PageLimit = PageLimit {
    messages: usize::MAX,
    bytes: usize::MAX,
};

fn message(topic: &str, payload: &str, stamp: Hlc) -> Message {
    Message {
        topic: Topic::new(topic.to_owned().into()).unwrap(),
        payload: payload.to_owned().into(),
        qos: Qos::AtLeastOnce,
        retain: true,
        stamp,
        expiry_seconds: None,
        properties: Bytes::from_static(b"props"),
        publisher: ClientId::new("p").unwrap(),
    }
}

fn stamped(tenant: TenantNumber, topic: &str, stamp: u64) -> Stamped {
    Stamped {
        key: schema::key(tenant, topic),
        stamp: Hlc(stamp),
    }
}

fn keep(topic: &str, payload: &str, stamp: u64) -> Command {
    keep_message(TENANT, &message(topic, payload, Hlc(stamp)))
}

fn keep_message(tenant: TenantNumber, message: &Message) -> Command {
    Command::Keep {
        topic: stamped(tenant, message.topic.as_str(), message.stamp.0),
        body: body::encode(message),
        expires_ms: message.expires_ms().unwrap_or_default(),
    }
}

fn clear(topic: &str, stamp: u64) -> Command {
    Command::Clear(stamped(TENANT, topic, stamp))
}

fn query(filter: &str) -> Query {
    Query::Scan(scan(filter))
}

fn scan(filter: &str) -> Scan {
    Scan {
        tenant: TENANT,
        filter: TopicFilter::new(filter.to_owned().into()).unwrap(),
        after: None,
        limit: ALL,
        now_ms: 0,
    }
}

fn topics(bed: &Bed<Last>, filter: &str) -> Vec<String> {
    let found = bed.query(query(filter));
    assert!(found.next.is_none());
    names(&found)
}

fn names(found: &Found) -> Vec<String> {
    let topics = found.messages.iter().map(|m| m.topic.as_str().to_owned());
    topics.collect()
}

fn payload(bed: &Bed<Last>, topic: &str) -> Option<String> {
    let found = bed.query(query(topic)).messages.pop()?;
    Some(String::from_utf8(found.payload.to_vec()).unwrap())
}

#[test]
fn the_newest_message_is_the_topics() {
    let mut bed = Bed::new(Last);
    let ((), effects) = bed.apply(keep("a", "1", 1));
    assert_eq!(effects, [Effect::Topics(1)]);
    let ((), effects) = bed.apply(keep("a", "2", 3));
    assert!(effects.is_empty());
    bed.apply(keep("a", "late", 2));
    assert_eq!(payload(&bed, "a").as_deref(), Some("2"));
    let found = bed.query(query("a")).messages.pop().unwrap();
    assert_eq!(found, message("a", "2", Hlc(3)));
}

#[test]
fn a_cleared_topic_stays_clear_of_older_messages() {
    let mut bed = Bed::new(Last);
    bed.apply(keep("a", "1", 1));
    let ((), effects) = bed.apply(clear("a", 3));
    let cleared = Effect::Cleared(stamped(TENANT, "a", 3));
    assert_eq!(effects, [cleared, Effect::Topics(-1)]);
    bed.apply(keep("a", "late", 2));
    assert_eq!(payload(&bed, "a"), None);
    assert_eq!(topics(&bed, "#"), [""; 0]);
    let ((), effects) = bed.apply(keep("a", "new", 4));
    assert_eq!(effects, [Effect::Topics(1)]);
    bed.apply(clear("a", 3));
    assert_eq!(payload(&bed, "a").as_deref(), Some("new"));
}

#[test]
fn a_clear_that_overtakes_its_message_wins() {
    let mut bed = Bed::new(Last);
    bed.apply(clear("a", 2));
    bed.apply(keep("a", "late", 1));
    assert_eq!(payload(&bed, "a"), None);
}

#[test]
fn a_forgotten_clear_leaves_nothing_behind() {
    let mut bed = Bed::new(Last);
    bed.apply(keep("a", "1", 1));
    bed.apply(clear("a", 2));
    bed.apply(keep("b", "1", 1));
    bed.apply(clear("b", 2));
    bed.apply(keep("b", "new", 3));
    let clears = ["a", "b"].map(|topic| stamped(TENANT, topic, 2));
    bed.apply(Command::Forget(clears.into()));
    assert_eq!(bed.rows(META).len(), 1);
    assert_eq!(topics(&bed, "#"), ["b"]);
}

#[test]
fn every_command_may_come_twice_and_late() {
    let mut bed = Bed::new(Last);
    for command in [
        keep("a", "1", 1),
        clear("a", 2),
        keep("a", "2", 3),
        Command::Expire(vec![stamped(TENANT, "a", 3)]),
        keep("a", "3", 4),
        clear("a", 5),
        Command::Forget(vec![stamped(TENANT, "a", 5)]),
        Command::Expire(vec![stamped(TENANT, "never", 1)]),
        Command::Forget(vec![stamped(TENANT, "never", 1)]),
    ] {
        let (_, ((), effects)) = bed.apply_twice(command);
        assert!(effects.is_empty(), "applied again it has no effect");
    }
    bed.apply(keep("a", "9", 9));
    for late in [
        Command::Expire(vec![stamped(TENANT, "a", 3)]),
        Command::Forget(vec![stamped(TENANT, "a", 5)]),
        clear("a", 5),
        keep("a", "2", 3),
    ] {
        bed.apply(late);
        assert_eq!(payload(&bed, "a").as_deref(), Some("9"));
    }
}

#[test]
fn expired_messages_are_not_shown_and_named_for_removal() {
    let mut bed = Bed::new(Last);
    let stamp = Hlc::from_millis(1_000);
    let mut dying = message("a/b", "x", stamp);
    dying.expiry_seconds = Some(2);
    let topic = stamped(TENANT, "a/b", stamp.0);
    bed.apply(keep_message(TENANT, &dying));
    bed.apply(keep("a/c", "y", 5));
    for filter in ["a/b", "a/+"] {
        let at = |now_ms| {
            bed.query(Query::Scan(Scan {
                now_ms,
                ..scan(filter)
            }))
        };
        assert!(names(&at(2_999)).contains(&"a/b".to_owned()));
        let found = at(3_000);
        assert!(!names(&found).contains(&"a/b".to_owned()));
        assert_eq!(found.expired, std::slice::from_ref(&topic));
    }
    let ((), effects) = bed.apply(Command::Expire(vec![topic]));
    assert_eq!(effects, [Effect::Topics(-1), Effect::Expiring(-1)]);
    assert_eq!((bed.rows(BODY).len(), bed.rows(META).len()), (1, 1));
}

fn expiring(topic: &str, stamp_ms: u64, seconds: u32) -> Message {
    Message {
        expiry_seconds: Some(seconds),
        ..message(topic, "x", Hlc::from_millis(stamp_ms))
    }
}

#[test]
fn messages_that_expire_are_counted() {
    let mut bed = Bed::new(Last);
    let ((), effects) = bed.apply(keep_message(TENANT, &expiring("a", 1, 9)));
    assert_eq!(effects, [Effect::Topics(1), Effect::Expiring(1)]);
    let ((), effects) = bed.apply(keep_message(TENANT, &expiring("a", 2, 9)));
    assert!(effects.is_empty());
    let ((), effects) = bed.apply(keep("a", "stays", Hlc::from_millis(3).0));
    assert_eq!(effects, [Effect::Expiring(-1)]);
    bed.apply(keep_message(TENANT, &expiring("a", 4, 9)));
    assert!(bed.reopen().contains(&Effect::Expiring(1)));
    let ((), effects) = bed.apply(clear("a", Hlc::from_millis(5).0));
    assert!(effects.contains(&Effect::Expiring(-1)));
}

#[test]
fn a_sweep_finds_what_has_expired_of_all_tenants_page_by_page() {
    let mut bed = Bed::new(Last);
    let count = sweep::ROWS_MAX as u64 + 10;
    for n in 0..count {
        let tenant = TenantNumber(n % 3);
        bed.apply(keep_message(tenant, &expiring(&format!("t/{n}"), 1_000, 1)));
    }
    bed.apply(keep_message(TENANT, &expiring("late", 1_000, 2)));
    bed.apply(keep("stays", "x", 1));
    bed.apply(clear("cleared", 1));
    let page = |after, now_ms| bed.query(Query::Expired { after, now_ms });
    let none = page(None, 1_999);
    assert!(none.expired.is_empty() && none.next.is_some());

    let mut found = BTreeSet::new();
    let mut after = None;
    loop {
        let page = page(after, 2_000);
        found.extend(page.expired.into_iter().map(|topic| topic.key));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(found.len() as u64, count);
}

#[test]
fn leading_counts_topics_and_lists_clears() {
    let mut bed = Bed::new(Last);
    bed.apply(keep("a", "1", 1));
    bed.apply(keep("b", "1", 2));
    bed.apply(clear("b", 7));
    let cleared = Effect::Cleared(stamped(TENANT, "b", 7));
    let counts = [Effect::Topics(1), Effect::Expiring(0)];
    let expected = [&[cleared][..], &counts, &[Effect::Latest(Hlc(7))]].concat();
    assert_eq!(bed.reopen(), expected);
}

#[test]
fn system_topics_are_hidden_from_leading_wildcards() {
    let mut bed = Bed::new(Last);
    for topic in ["!", "$SYS/a", "$", "%", "a"] {
        bed.apply(keep(topic, "x", 1));
    }
    assert_eq!(topics(&bed, "#"), ["!", "%", "a"]);
    assert_eq!(topics(&bed, "+"), ["!", "%", "a"]);
    assert_eq!(topics(&bed, "+/a"), [""; 0]);
    assert_eq!(topics(&bed, "$SYS/#"), ["$SYS/a"]);
    assert_eq!(topics(&bed, "$SYS/+"), ["$SYS/a"]);
}

#[test]
fn tenants_stay_apart() {
    let mut bed = Bed::new(Last);
    for tenant in [6, 8] {
        bed.apply(keep_message(
            TenantNumber(tenant),
            &message("a", "x", Hlc(1)),
        ));
    }
    for filter in ["#", "+", "a"] {
        assert_eq!(topics(&bed, filter), [""; 0]);
    }
}

/// Counts look-ups.
struct Counting<'a>(&'a dyn Read, AtomicUsize);

impl Read for Counting<'_> {
    fn get(&self, ks: Keyspace, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.get(ks, key)
    }

    fn range<'a>(
        &'a self,
        ks: Keyspace,
        start: Bound<&[u8]>,
        end: Bound<&[u8]>,
        direction: Direction,
    ) -> bifrust_storage::Rows<'a> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.range(ks, start, end, direction)
    }
}

#[test]
fn what_matches_is_walked_and_what_does_not_is_skipped() {
    let mut bed = Bed::new(Last);
    for site in 0..20 {
        for device in 0..50 {
            bed.apply(keep(&format!("site/{site}/{device}/state"), "x", 1));
        }
    }
    for (filter, matches, look_ups) in [
        ("site/#", 1000, 1),
        ("site/+/+/state", 1000, 1),
        ("site/+/7/state", 20, 41),
        ("site/3/+/#", 50, 2),
        ("site/3/7/state", 1, 1),
        ("other/#", 0, 1),
    ] {
        let counting = Counting(bed.read(), AtomicUsize::new(0));
        let found = scan::page(&counting, &scan(filter)).unwrap();
        assert_eq!(found.messages.len(), matches, "{filter}");
        let made = counting.1.into_inner();
        assert!(made <= look_ups, "{filter}: {made} look-ups");
    }
}

#[test]
fn pages_are_bounded_by_messages_by_bytes_and_by_rows() {
    let mut bed = Bed::new(Last);
    let commands = (0..5000).map(|n| keep(&format!("a/{n:04}"), "0123456789", 1));
    bed.apply_batch(commands);
    let page = |filter: &str, messages, bytes| {
        let limit = PageLimit { messages, bytes };
        bed.query(Query::Scan(Scan {
            limit,
            ..scan(filter)
        }))
    };
    assert_eq!(page("#", 10, usize::MAX).messages.len(), 10);
    // Topic, payload and properties: 21 bytes each.
    assert_eq!(page("#", 10, 63).messages.len(), 3);
    assert_eq!(page("#", 10, 64).messages.len(), 4);
    assert_eq!(page("#", 0, 0).messages.len(), 1);
    assert_eq!(page("#", usize::MAX, usize::MAX).messages.len(), 4096);
    let sparse = page("+", 10, 10);
    assert!(sparse.messages.is_empty());
}

fn names_of(levels: &'static str) -> impl Strategy<Value = String> {
    prop::collection::vec(levels, 1..=4).prop_map(|levels| levels.join("/"))
}

fn filters() -> impl Strategy<Value = TopicFilter> {
    (names_of("[ab!]{0,2}|\\+|\\$s|\u{1}"), any::<bool>()).prop_filter_map(
        "no filter",
        |(name, multi)| {
            let text = match (multi, name.is_empty()) {
                (true, true) => "#".to_owned(),
                (true, false) => format!("{name}/#"),
                (false, _) => name,
            };
            TopicFilter::new(text.into()).ok()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Page by page, the scan finds exactly the topics that match by the rule, each once.
    #[test]
    fn the_scan_finds_what_matches(
        stored in prop::collection::btree_set(names_of("[ab!]{0,2}|\\$s|\u{1}"), 0..40),
        filters in prop::collection::vec(filters(), 1..10),
        messages in 1usize..5,
    ) {
        let mut bed = Bed::new(Last);
        let stored: BTreeSet<_> = stored.into_iter().filter(|topic| !topic.is_empty()).collect();
        bed.apply_batch(stored.iter().map(|topic| keep(topic, "x", 1)));
        for filter in filters {
            let expected: BTreeSet<_> =
                stored.iter().filter(|topic| filter.matches(topic)).cloned().collect();
            let mut all = Vec::new();
            let mut after = None;
            loop {
                let limit = PageLimit { messages, bytes: usize::MAX };
                let filter = filter.clone();
                let found = bed.query(Query::Scan(Scan { filter, limit, after, ..scan("x") }));
                prop_assert!(found.messages.len() <= messages);
                all.extend(names(&found));
                after = found.next;
                if after.is_none() {
                    break;
                }
            }
            prop_assert_eq!(all.len(), expected.len(), "{:?}", filter);
            prop_assert_eq!(all.into_iter().collect::<BTreeSet<_>>(), expected, "{:?}", filter);
        }
    }
}
