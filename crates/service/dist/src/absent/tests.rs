use std::collections::BTreeSet;
use std::sync::Mutex;
use std::thread;

use bifrust_kv::testing::Bed;
use bifrust_model::{ClientId, Hlc, SubscriptionOptions, TopicFilter};
use bifrust_plugin_api::NoMeters;
use proptest::prelude::*;

use super::*;
use crate::schema::command::Command;
use crate::schema::route_key::{self, ReceiverKey};
use crate::store::{Answer, Query, Routes};

const TENANT: TenantNumber = TenantNumber(7);

fn absent() -> Absent {
    Absent::new(16 << 20, &NoMeters)
}

fn key(filter: &str) -> Bytes {
    key_of(TENANT, filter)
}

fn key_of(tenant: TenantNumber, filter: &str) -> Bytes {
    let filter = TopicFilter::new(filter.to_owned().into()).unwrap();
    let receiver = ReceiverKey::Inbox {
        client: ClientId::new("c").unwrap(),
        incarnation: 1,
    };
    route_key::encode(tenant, &filter, &receiver)
}

/// Rows and what is known of their gaps, each changed when the test says so.
struct Rig {
    rows: Bed<Routes>,
    absent: Absent,
    stamp: u64,
}

impl Rig {
    fn new() -> Self {
        Self {
            rows: Bed::new(Routes),
            absent: absent(),
            stamp: 0,
        }
    }

    fn add(&mut self, filter: &str) {
        self.apply_add(filter);
        self.absent.added(TENANT, &key(filter));
    }

    fn apply_add(&mut self, filter: &str) {
        self.stamp += 1;
        let stamp = Hlc(self.stamp);
        let key = key(filter);
        self.rows.apply(Command::PutInbox {
            key,
            options: SubscriptionOptions::default(),
            stamp,
        });
    }

    fn remove(&mut self, filter: &str) {
        self.stamp += 1;
        let stamp = Hlc(self.stamp);
        let key = key(filter);
        self.rows.apply(Command::DropInbox { key, stamp });
    }

    fn gaps(&self, topic: &str) -> Vec<Gap> {
        let tenant = TENANT;
        let topic = topic.to_owned().into();
        match self.rows.query(Query::Match { tenant, topic }) {
            Answer::Matched(_, gaps) => gaps,
            _ => panic!("another question was answered"),
        }
    }

    fn read(&self, topic: &str) {
        let since = self.absent.moment(TENANT);
        self.absent.enter(TENANT, since, self.gaps(topic));
    }

    fn knows(&self, topic: &str) -> bool {
        self.absent.known_empty(TENANT, topic).is_some()
    }
}

#[test]
fn one_read_tells_of_all_topics_in_the_same_gaps() {
    let mut bed = Rig::new();
    assert!(!bed.knows("a"));
    bed.read("a");
    for topic in ["a", "b/c", "", "$SYS/x", "a/b/c/d"] {
        assert!(bed.knows(topic), "{topic}");
    }
    assert!(bed.absent.known_empty(TenantNumber(8), "a").is_none());

    for filter in ["site/1/temp", "site/5/temp", "+/cmd/5", "$share/g/all/#"] {
        bed.add(filter);
    }
    // Cut, not forgotten.
    for topic in ["other/1", "site/0/temp", "site/10/temp", "site/1/x", "al"] {
        assert!(bed.knows(topic), "{topic}");
    }
    for topic in ["site/1/temp", "x/cmd/5", "site/cmd/5", "all"] {
        assert!(!bed.knows(topic), "{topic}");
    }
    bed.remove("site/1/temp");
    assert!(!bed.knows("site/1/temp"), "not known before it is read");
    bed.read("site/1/temp");
    assert!(bed.knows("site/1/temp"));
}

#[test]
fn a_counter_that_runs_down_costs_one_read() {
    let mut bed = Rig::new();
    for filter in ["t/5/x", "t/8/x", "+/y", "u"] {
        bed.add(filter);
    }
    bed.read("t/7999");
    for number in (6000..7999).rev() {
        assert!(bed.knows(&format!("t/{number}")));
    }
}

#[test]
fn an_added_route_makes_the_shared_answer_stale() {
    let mut bed = Rig::new();
    bed.read("a");
    let held = bed.absent.known_empty(TENANT, "a").unwrap();
    assert!(held.is_empty() && !held.is_stale());
    bed.remove("a");
    assert!(!held.is_stale());
    bed.add("b");
    assert!(held.is_stale());
    assert!(!bed.absent.known_empty(TENANT, "a").unwrap().is_stale());
}

#[test]
fn a_route_added_under_a_read_is_not_in_its_gaps() {
    let mut bed = Rig::new();
    let since = bed.absent.moment(TENANT);
    let seen = bed.gaps("a");
    bed.add("b");
    bed.absent.enter(TENANT, since, seen);
    assert!(bed.knows("a") && !bed.knows("b"));

    // Too many of them, or too long ones, are not all known any more.
    for count in [ADDED_MAX, ADDED_MAX + 1] {
        let mut bed = Rig::new();
        let since = bed.absent.moment(TENANT);
        let seen = bed.gaps("a");
        for number in 0..count {
            bed.add(&format!("b/{number}"));
        }
        bed.absent.enter(TENANT, since, seen);
        assert_eq!(bed.knows("a"), count == ADDED_MAX);
        assert!(!bed.knows("b/0"));
    }
    let mut bed = Rig::new();
    let since = bed.absent.moment(TENANT);
    let seen = bed.gaps("a");
    bed.add("b");
    bed.add(&"c".repeat(ADDED_BYTES_MAX));
    bed.absent.enter(TENANT, since, seen);
    assert!(!bed.knows("a"));
}

#[test]
fn gaps_stay_within_their_bound() {
    let absent = Absent::new(20_000, &NoMeters);
    let gap = |tenant: u64, number: u64| Gap {
        start: [&TenantNumber(tenant).key()[..], &number.to_be_bytes()].concat(),
        end: [&TenantNumber(tenant).key()[..], &number.to_be_bytes(), &[0]].concat(),
    };
    let enter = |tenant: u64, number: u64| {
        let since = absent.moment(TenantNumber(tenant));
        absent.enter(TenantNumber(tenant), since, vec![gap(tenant, number)]);
    };
    for number in 0..1000 {
        enter(1, number);
        assert!(absent.usage().1 <= 20_000);
    }
    assert!(absent.usage().0 > 100);
    // Whoever floods gives up its own: others keep theirs.
    let place = absent.place(TenantNumber(1));
    let quiet = (2..).find(|tenant| absent.place(TenantNumber(*tenant)) != place);
    let quiet = quiet.unwrap();
    enter(quiet, 1);
    for number in 1000..2000 {
        enter(1, number);
    }
    let part = absent.read(absent.place(TenantNumber(quiet)));
    assert_eq!(part.gaps.by_end.len(), 1);
}

#[test]
fn a_walk_that_takes_too_long_is_left_to_a_read() {
    let mut bed = Rig::new();
    let deep = "a/".repeat(200);
    bed.add(&format!("{deep}b"));
    bed.read(&format!("{deep}c"));
    assert!(!bed.knows(&format!("{deep}c")));
    assert!(bed.knows(&format!("a/a/b/{deep}c")));
}

/// Threads add and remove routes while others read and enter gaps, and gaps are given up.
#[test]
fn racing_reads_changes_and_evictions_never_hide_a_route() {
    let absent = Absent::new(2_000, &NoMeters);
    let rows = Mutex::new(BTreeSet::new());
    let name = |number: usize| format!("t/{}", number % 40);
    let read = |tenant: TenantNumber, topic: &str| {
        let since = absent.moment(tenant);
        let at = key_of(tenant, topic);
        let rows: BTreeSet<Bytes> = rows.lock().unwrap().clone();
        if !rows.contains(&at) {
            let own = tenant.key().to_vec()..TenantNumber(tenant.0 + 1).key().to_vec();
            let below = rows
                .iter()
                .rfind(|row| **row < at && row[..] > own.start[..]);
            let above = rows.iter().find(|row| **row > at && row[..] < own.end[..]);
            let start = below.map_or(own.start, |row| [&row[..], &[0]].concat());
            let end = above.map_or(own.end, |row| row.to_vec());
            absent.enter(tenant, since, vec![Gap { start, end }]);
        }
    };
    thread::scope(|scope| {
        for thread in 0..4usize {
            let (absent, rows, name, read) = (&absent, &rows, &name, &read);
            scope.spawn(move || {
                // Each thread has routes of its own.
                let tenant = TenantNumber(1 + thread as u64 % 2);
                for round in 0..2_000 {
                    let own = name(round * 4 + thread);
                    let key = key_of(tenant, &own);
                    let before = absent.known_empty(tenant, &own);
                    rows.lock().unwrap().insert(key.clone());
                    absent.added(tenant, &key);
                    assert!(before.is_none_or(|before| before.is_stale()));
                    read(tenant, &name(round * 7 + thread));
                    assert!(absent.known_empty(tenant, &own).is_none(), "{own}");
                    if round % 3 > 0 {
                        rows.lock().unwrap().remove(&key);
                        read(tenant, &own);
                    }
                }
            });
        }
    });
    assert!(absent.usage().1 <= 2_000);
    // No gap that is left holds a row.
    let rows = rows.into_inner().unwrap();
    let held = |row: &Bytes| (0..PARTS).any(|at| absent.read(at).gaps.around(row).is_some());
    assert!(rows.len() > 10 && !rows.iter().any(held));
}

#[derive(Clone, Debug)]
enum Op {
    Add(String),
    Remove(String),
    Read(String),
    /// A read whose answer comes after routes were added, the last of them not yet answered.
    SlowRead(String, Vec<String>, String),
}

fn topics() -> impl Strategy<Value = String> {
    prop::collection::vec("[ab!]{0,2}|\\$s|\u{1}", 1..=4)
        .prop_map(|levels| levels.join("/"))
        .prop_filter("empty", |name| !name.is_empty())
}

fn filters() -> impl Strategy<Value = String> {
    let levels = prop::collection::vec("[ab!]{0,2}|\\+|\\$s|\u{1}", 1..=4);
    (levels, 0..6u8).prop_filter_map("no filter", |(levels, kind)| {
        let name = levels.join("/");
        let text = match kind {
            0 if name.is_empty() => "#".to_owned(),
            0 | 1 => format!("{name}/#"),
            2 => format!("$share/g/{name}"),
            _ => name,
        };
        TopicFilter::new(text.clone().into()).ok().map(|_| text)
    })
}

fn ops() -> impl Strategy<Value = Op> {
    prop_oneof![
        2 => filters().prop_map(Op::Add),
        1 => filters().prop_map(Op::Remove),
        3 => topics().prop_map(Op::Read),
        1 => (topics(), prop::collection::vec(filters(), 0..3), filters())
            .prop_map(|(topic, added, late)| Op::SlowRead(topic, added, late)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// A topic is only known to lead nowhere if no filter matches it, and known once it was read.
    #[test]
    fn what_is_known_is_true(
        ops in prop::collection::vec(ops(), 1..40),
        asked in prop::collection::vec(topics(), 1..10),
    ) {
        let mut bed = Rig::new();
        let mut filters = BTreeSet::new();
        for op in ops {
            let mut read = None;
            match op {
                Op::Add(filter) => {
                    bed.add(&filter);
                    filters.insert(filter);
                }
                // Sometimes one that is there.
                Op::Remove(filter) => {
                    let filter = filters.range(filter.clone()..).next().cloned().unwrap_or(filter);
                    bed.remove(&filter);
                    filters.remove(&filter);
                }
                Op::Read(topic) => {
                    bed.read(&topic);
                    read = Some(topic);
                }
                Op::SlowRead(topic, added, late) => {
                    let since = bed.absent.moment(TENANT);
                    let seen = bed.gaps(&topic);
                    for filter in added {
                        bed.add(&filter);
                        filters.insert(filter);
                    }
                    bed.apply_add(&late);
                    bed.absent.enter(TENANT, since, seen);
                    bed.absent.added(TENANT, &key(&late));
                    filters.insert(late);
                }
            }
            let matches = |topic: &str| {
                filters.iter().any(|filter| TopicFilter::new(filter.clone().into()).unwrap().matches(topic))
            };
            for topic in &asked {
                prop_assert!(!bed.knows(topic) || !matches(topic), "{}", topic);
            }
            if let Some(topic) = read {
                prop_assert_eq!(bed.knows(&topic), !matches(&topic), "{}", topic);
            }
        }
        bed.absent.usage();
    }
}
