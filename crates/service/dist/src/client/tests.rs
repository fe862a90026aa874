use std::collections::VecDeque;
use std::sync::atomic::AtomicUsize;
use std::thread;

use bifrust_kv::testing::wait;
use bifrust_kv::{Clock, ExecuteError, QueryError};
use bifrust_model::{
    ClientId, Incarnation, Message, NodeId, Qos, SubscriptionOptions, Tenant, TenantName,
};
use bifrust_plugin_api::{Counter, Gauge, Histogram, NoMeters};
use bifrust_storage::{Keyspace, Store};

use super::*;
use crate::store::Gap;
use crate::{LiveMember, MemberId};

const TENANT: TenantNumber = TenantNumber(1);

fn this(incarnation: u64) -> NodeRef {
    NodeRef {
        id: NodeId(5),
        incarnation: Incarnation(incarnation),
    }
}

fn filter(text: &str) -> TopicFilter {
    TopicFilter::new(text.to_owned().into()).unwrap()
}

fn topic(text: &str) -> Topic {
    Topic::new(text.to_owned().into()).unwrap()
}

fn live(shard: u16) -> Receiver {
    let node = this(1);
    Receiver::Live { node, shard }
}

fn inbox(client: &str, incarnation: u64) -> Receiver {
    Receiver::Inbox {
        client: ClientId::new(client).unwrap(),
        incarnation,
        options: SubscriptionOptions::default(),
    }
}

fn keyspaces() -> Vec<Keyspace> {
    [bifrust_kv::keyspaces(), crate::keyspaces()].concat()
}

fn node(store: &Store) -> Node {
    let config = bifrust_kv::Config::default();
    Node::open(store.clone(), config, Clock::new()).unwrap()
}

struct Bed {
    node: Node,
    dist: Dist,
}

impl Bed {
    fn new() -> Self {
        let node = node(&Store::memory(&keyspaces()));
        let dist = Dist::open(&node, this(1), &NoMeters).unwrap();
        Self { node, dist }
    }

    fn add(&self, text: &str, receiver: Receiver) {
        wait(|done| self.dist.add_route(TENANT, &filter(text), receiver, done)).unwrap();
    }

    fn remove(&self, text: &str, receiver: Receiver) {
        wait(|done| {
            self.dist
                .remove_route(TENANT, &filter(text), receiver, done)
        })
        .unwrap();
    }

    fn matched(&self, text: &str) -> Arc<Matched> {
        wait(|done| self.dist.match_topic(TENANT, &topic(text), done)).unwrap()
    }
}

#[test]
fn a_route_change_is_seen_by_the_next_match() {
    let bed = Bed::new();
    assert!(bed.dist.matched(TENANT, "a/b").is_none());
    assert!(bed.matched("a/b").is_empty());
    let empty = bed.dist.matched(TENANT, "a/b").unwrap();
    bed.add("a/+", live(3));
    assert!(empty.is_stale());
    assert!(bed.dist.matched(TENANT, "a/b").is_none());
    let found = bed.matched("a/b");
    assert_eq!(found.live[0].shards, 8);
    bed.add("x/#", live(3));
    assert!(!found.is_stale());
    bed.add("#", inbox("c", 1));
    assert!(found.is_stale());
    let found = bed.matched("a/b");
    assert_eq!(found.inboxes[0].client.as_str(), "c");
    bed.remove("a/+", live(3));
    bed.remove("#", inbox("c", 2));
    assert_eq!(bed.matched("a/b").inboxes.len(), 1);
    bed.remove("#", inbox("c", 1));
    assert!(bed.matched("a/b").is_empty());
    bed.node.stop();
}

#[test]
fn what_is_no_route_is_refused() {
    let bed = Bed::new();
    let add = |filter: &TopicFilter, receiver| {
        wait(|done| bed.dist.add_route(TENANT, filter, receiver, done))
    };
    assert_eq!(
        add(&filter("a"), live(64)),
        Err(RouteError::NoSuchShard(64))
    );
    let long = filter(&"a/".repeat(32_000));
    let client = inbox(&"c".repeat(9_000), 1);
    assert_eq!(add(&long, client), Err(RouteError::TooLong));
    bed.node.stop();
    let refused = add(&filter("a"), live(1));
    assert_eq!(refused, Err(RouteError::Refused(ExecuteError::Stopping)));
    let matched = wait(|done| bed.dist.match_topic(TENANT, &topic("a"), done));
    assert_eq!(matched.unwrap_err(), MatchError::Stopping);
}

/// Threads change routes while others publish: after each answer the next match tells the truth.
#[test]
fn racing_changes_and_matches_never_leave_a_wrong_match() {
    const ROUNDS: usize = 300;
    let bed = Bed::new();
    thread::scope(|scope| {
        for n in 0..4u16 {
            let bed = &bed;
            scope.spawn(move || {
                let text = ["a/+", "#", "a/b", "+/b/#"][usize::from(n)];
                for _ in 0..ROUNDS {
                    bed.add(text, live(n));
                    let mask = bed.matched("a/b").live[0].shards;
                    assert_ne!(mask & 1 << n, 0, "{text} was added");
                    bed.remove(text, live(n));
                    let live = &bed.matched("a/b").live;
                    let mask = live.first().map_or(0, |target| target.shards);
                    assert_eq!(mask & 1 << n, 0, "{text} was removed");
                }
            });
        }
    });
    bed.node.stop();
}

/// The same with topics that mostly nobody has published to before.
#[test]
fn racing_changes_and_new_topics_never_hide_a_route() {
    const ROUNDS: usize = 300;
    let bed = Bed::new();
    thread::scope(|scope| {
        for n in 0..4u16 {
            let bed = &bed;
            scope.spawn(move || {
                let has = |found: &Matched| found.live.iter().any(|t| t.shards & 1 << n != 0);
                for round in 0..ROUNDS {
                    let name = format!("t/{}/{round}", round % 3);
                    let text = [&name, "t/#", "+/+/+", &format!("+/{}/#", round % 3)];
                    let text = text[usize::from(n)];
                    let before = bed.dist.matched(TENANT, &name);
                    bed.add(text, live(n));
                    assert!(before.is_none_or(|before| before.is_stale()), "{text}");
                    let known = bed.dist.matched(TENANT, &name);
                    assert!(known.is_none_or(|known| has(&known)), "{text}");
                    assert!(has(&bed.matched(&name)), "{text}");
                    bed.remove(text, live(n));
                    assert!(!has(&bed.matched(&name)), "{text}");
                }
            });
        }
        for _ in 0..2 {
            scope.spawn(|| {
                for number in 0..10 * ROUNDS {
                    bed.matched(&format!("t/{}/new{number}", number % 3));
                }
            });
        }
    });
    bed.node.stop();
}

#[derive(Default)]
struct OneGauge(Gauge);

impl Meters for OneGauge {
    fn counter(&self, _meter: Meter) -> Counter {
        Counter::default()
    }

    fn gauge(&self, meter: Meter) -> Gauge {
        match meter.name {
            "bifrust_dist_routes" => self.0.clone(),
            _ => Gauge::default(),
        }
    }

    fn histogram(&self, _meter: Meter) -> Histogram {
        Histogram::default()
    }
}

#[test]
fn live_routes_of_an_ended_incarnation_are_swept_and_others_stay() {
    let store = Store::memory(&keyspaces());
    let before = node(&store);
    let dist = Dist::open(&before, this(1), &NoMeters).unwrap();
    let add = |dist: &Dist, text: &str, receiver| {
        wait(|done| dist.add_route(TENANT, &filter(text), receiver, done)).unwrap();
    };
    for n in 0..100 {
        add(&dist, &format!("a/{n}"), live(0));
    }
    add(&dist, "#", inbox("c", 1));
    before.stop();

    let now = node(&store);
    let gauge = OneGauge::default();
    let dist = Dist::open(&now, this(2), &gauge).unwrap();
    let node = this(2);
    add(&dist, "a/7", Receiver::Live { node, shard: 1 });
    // Stopping does what waits first: the sweep's commands.
    while gauge.0.value() > 2 {
        thread::yield_now();
    }
    let found = wait(|done| dist.match_topic(TENANT, &topic("a/7"), done)).unwrap();
    assert_eq!(found.live.len(), 1);
    assert_eq!(found.live[0].node, node);
    assert_eq!(found.inboxes.len(), 1);
    assert_eq!(gauge.0.value(), 2);
    now.stop();
}

#[test]
fn stamps_are_later_than_all_rows_also_if_the_clock_went_back() {
    let latest = Arc::new(AtomicU64::new(u64::MAX - 10));
    let stamps = Stamps {
        clock: Clock::new(),
        latest,
    };
    assert_eq!(stamps.next(), Hlc(u64::MAX - 9));
    assert_eq!(stamps.next(), Hlc(u64::MAX - 8));
}

/// Holds answers back until the test gives them.
#[derive(Default)]
struct Held {
    asked: Mutex<VecDeque<Then<Result<Answer, QueryError>>>>,
    refuses: Mutex<Option<ExecuteError>>,
}

impl RouteRange for Arc<Held> {
    fn change(
        &self,
        _lane: TenantNumber,
        _key: &[u8],
        _command: Command,
        _ack: Ack,
        done: Then<Result<(), ExecuteError>>,
    ) {
        let refuses = *self.refuses.lock().unwrap();
        done(refuses.map_or(Ok(()), Err));
    }

    fn ask(&self, _key: &[u8], _query: Query, done: Then<Result<Answer, QueryError>>) {
        self.asked.lock().unwrap().push_back(done);
    }
}

impl Held {
    fn answer(&self) {
        let done = self.asked.lock().unwrap().pop_front().unwrap();
        done(Ok(Answer::Matched(Targets::default(), Vec::new())));
    }

    fn dist(self: &Arc<Self>) -> Dist {
        let stamps = Stamps {
            clock: Clock::new(),
            latest: Arc::default(),
        };
        let config = Config::default();
        Dist::over(Box::new(self.clone()), this(1), stamps, &config, &NoMeters)
    }
}

#[test]
fn a_change_during_a_read_makes_whoever_comes_later_read_again() {
    let held = Arc::new(Held::default());
    let dist = held.dist();
    let answers = Arc::new(AtomicUsize::new(0));
    let ask = || {
        let answers = answers.clone();
        let done = Box::new(move |matched: Result<Arc<Matched>, MatchError>| {
            matched.unwrap();
            answers.fetch_add(1, Ordering::SeqCst);
        });
        dist.match_topic(TENANT, &topic("a"), done);
    };
    ask();
    dist.add_route(
        TENANT,
        &filter("a"),
        live(0),
        Box::new(|done| done.unwrap()),
    );
    ask();
    assert_eq!(held.asked.lock().unwrap().len(), 1);
    held.answer();
    assert_eq!(answers.load(Ordering::SeqCst), 1);
    assert!(dist.matched(TENANT, "a").is_none());
    held.answer();
    assert_eq!(answers.load(Ordering::SeqCst), 2);
    assert!(dist.matched(TENANT, "a").is_some());
}

#[test]
fn new_topics_that_lead_nowhere_are_not_asked_for() {
    let held = Arc::new(Held::default());
    let dist = held.dist();
    dist.match_topic(TENANT, &topic("a"), Box::new(|_| {}));
    let done = held.asked.lock().unwrap().pop_front().unwrap();
    let gap = Gap {
        start: TENANT.key().to_vec(),
        end: TenantNumber(TENANT.0 + 1).key().to_vec(),
    };
    done(Ok(Answer::Matched(Targets::default(), vec![gap])));
    let asked = |text: &str| {
        let before = held.asked.lock().unwrap().len();
        dist.match_topic(TENANT, &topic(text), Box::new(|_| {}));
        held.asked.lock().unwrap().len() > before
    };
    assert!(!asked("b/c"));
    let known = dist.matched(TENANT, "b").unwrap();
    assert!(known.is_empty() && !known.is_stale());

    // Only a route that may be there counts.
    for (error, is_stale) in [(ExecuteError::Busy, false), (ExecuteError::Unknown, true)] {
        *held.refuses.lock().unwrap() = Some(error);
        let added = wait(|done| dist.add_route(TENANT, &filter("b/#"), live(0), done));
        assert_eq!(added, Err(RouteError::from(error)));
        assert_eq!(known.is_stale(), is_stale);
        assert_eq!(dist.matched(TENANT, "b/d").is_none(), is_stale);
    }
    assert!(asked("b/c"));
    assert!(!asked("c/c"));
}

#[test]
fn only_a_change_known_not_to_be_made_leaves_matches_alone() {
    for (error, is_stale) in [(ExecuteError::Busy, false), (ExecuteError::Unknown, true)] {
        let held = Arc::new(Held::default());
        let dist = held.dist();
        dist.match_topic(TENANT, &topic("a"), Box::new(|_| {}));
        held.answer();
        let matched = dist.matched(TENANT, "a").unwrap();
        *held.refuses.lock().unwrap() = Some(error);
        let added = wait(|done| dist.add_route(TENANT, &filter("a"), live(0), done));
        assert_eq!(added, Err(RouteError::from(error)));
        assert_eq!(matched.is_stale(), is_stale);
    }
}

/// Answers at once what it is told to, and counts.
struct Answering(AtomicUsize, Result<(), PublishError>);

impl Answering {
    fn new(answer: Result<(), PublishError>) -> Arc<Self> {
        Arc::new(Self(AtomicUsize::new(0), answer))
    }

    fn calls(&self) -> usize {
        self.0.swap(0, Ordering::SeqCst)
    }
}

impl Deliverer for Answering {
    fn deliver(
        &self,
        _publication: &Arc<Publication>,
        _matched: &Arc<Matched>,
        _picks: &[Pick],
        done: Then<Result<(), PublishError>>,
    ) {
        self.0.fetch_add(1, Ordering::SeqCst);
        done(self.1);
    }
}

fn publication(text: &str) -> Arc<Publication> {
    let tenant = Tenant {
        number: TENANT,
        name: TenantName::new("acme").unwrap(),
        settings: Default::default(),
    };
    let message = Message {
        topic: topic(text),
        payload: Bytes::from_static(b"x"),
        qos: Qos::AtLeastOnce,
        retain: false,
        stamp: Hlc(1),
        expiry_seconds: None,
        properties: Bytes::new(),
        publisher: ClientId::new("p").unwrap(),
    };
    Arc::new(Publication {
        tenant: Arc::new(tenant),
        message,
        key: None,
    })
}

#[test]
fn a_publication_goes_to_the_kinds_of_receivers_it_matches() {
    let bed = Bed::new();
    let (live_ones, durable) = (Answering::new(Ok(())), Answering::new(Ok(())));
    bed.dist.bind(live_ones.clone(), durable.clone());
    let publish = |text| wait(|done| bed.dist.publish(publication(text), done));
    bed.add("live/#", live(0));
    bed.add("+/inbox", inbox("c", 1));
    for (text, to_live, to_durable) in [
        ("nobody", 0, 0),
        ("live/x", 1, 0),
        ("x/inbox", 0, 1),
        ("live/inbox", 1, 1),
        ("live/inbox", 1, 1),
    ] {
        assert_eq!(publish(text), Ok(()));
        assert_eq!(
            (live_ones.calls(), durable.calls()),
            (to_live, to_durable),
            "{text}"
        );
    }
    bed.node.stop();
    assert_eq!(publish("live/not/cached"), Err(PublishError::Refused));
    // Known without a read.
    assert_eq!(publish("nobody/either"), Ok(()));
}

#[test]
fn a_publication_gets_the_worst_answer() {
    use PublishError::{Refused, Unknown};
    for (first, second, worst) in [
        (Ok(()), Ok(()), Ok(())),
        (Err(Refused), Ok(()), Err(Refused)),
        (Ok(()), Err(Unknown), Err(Unknown)),
        (Err(Refused), Err(Unknown), Err(Unknown)),
    ] {
        let bed = Bed::new();
        bed.dist.bind(Answering::new(first), Answering::new(second));
        bed.add("a", live(0));
        bed.add("a", inbox("c", 1));
        let answer = wait(|done| bed.dist.publish(publication("a"), done));
        assert_eq!(answer, worst);
        bed.node.stop();
    }
}

#[test]
fn nothing_is_taken_before_deliverers_are_bound() {
    let bed = Bed::new();
    bed.add("a", live(0));
    let answer = wait(|done| bed.dist.publish(publication("a"), done));
    assert_eq!(answer, Err(PublishError::Refused));
    bed.node.stop();
}

fn member(slot: u32) -> LiveMember {
    LiveMember {
        node: this(1),
        shard: 0,
        slot,
        generation: 1,
    }
}

fn joins(slot: u32) -> Receiver {
    Receiver::Member {
        session: member(slot),
        options: SubscriptionOptions::default(),
    }
}

#[test]
fn one_member_of_each_group_gets_a_publication() {
    let bed = Bed::new();
    let (live, durable) = (Answering::new(Ok(())), Answering::new(Ok(())));
    bed.dist.bind(live.clone(), durable.clone());
    let publish = || {
        wait(|done| bed.dist.publish(publication("a"), done)).unwrap();
        (live.calls(), durable.calls())
    };
    let join = |receiver| {
        let group = filter("$share/g/a");
        wait(|done| bed.dist.join_group(TENANT, &group, receiver, 2, done))
    };
    assert!(bed.matched("a").is_empty());
    join(joins(1)).unwrap();
    assert_eq!(publish(), (0, 0), "the session has ended");
    let attendance = bed.dist.attend(TENANT, &MemberId::Live(member(1)));
    assert_eq!(publish(), (1, 0));
    join(inbox("c", 1)).unwrap();
    assert_eq!(join(joins(2)), Err(RouteError::GroupFull));
    join(inbox("c", 1)).unwrap();
    assert_eq!(publish(), (1, 0), "online members come first");
    let found = bed.matched("a");
    assert_eq!(found.groups[0].members.len(), 2);
    drop(attendance);
    assert_eq!(publish(), (0, 1));
    bed.add("a", inbox("c", 1));
    assert!(found.is_stale());
    assert_eq!(publish(), (0, 1), "both copies in one call");
    bed.remove("$share/g/a", inbox("c", 1));
    bed.remove("$share/g/a", joins(1));
    assert!(bed.matched("a").groups.is_empty());
    bed.node.stop();
}

#[test]
fn members_of_the_nodes_earlier_incarnations_are_none() {
    let store = Store::memory(&keyspaces());
    let node = node(&store);
    let range = |incarnation| Dist::open(&node, this(incarnation), &NoMeters);
    let dist = range(2).unwrap();
    for incarnation in [1, 2] {
        let session = LiveMember {
            node: this(incarnation),
            ..member(1)
        };
        let options = SubscriptionOptions::default();
        let receiver = Receiver::Member { session, options };
        wait(|done| dist.add_route(TENANT, &filter("$share/g/a"), receiver, done)).unwrap();
    }
    let found = wait(|done| dist.match_topic(TENANT, &topic("a"), done)).unwrap();
    let [group] = &found.groups[..] else {
        panic!("one group");
    };
    let ids: Vec<_> = group
        .members
        .iter()
        .map(|member| member.id.clone())
        .collect();
    let session = LiveMember {
        node: this(2),
        ..member(1)
    };
    assert_eq!(ids, [MemberId::Live(session)]);
    node.stop();
}

#[test]
fn what_an_ended_member_did_not_get_goes_to_another_one() {
    let bed = Bed::new();
    let (live, durable) = (Answering::new(Ok(())), Answering::new(Ok(())));
    bed.dist.bind(live.clone(), durable.clone());
    let pass_on = |from: &str| {
        let from = MemberId::Inbox {
            client: ClientId::new(from).unwrap(),
            incarnation: 1,
        };
        let filter = filter("$share/g/a");
        let passed = wait(|done| bed.dist.pass_on(publication("a"), filter, from, done));
        (passed, live.calls(), durable.calls())
    };
    assert_eq!(pass_on("c"), (Ok(false), 0, 0));
    bed.add("$share/g/a", inbox("c", 1));
    bed.add("a", inbox("plain", 1));
    assert_eq!(pass_on("c"), (Ok(false), 0, 0), "itself");
    assert_eq!(pass_on("d"), (Ok(true), 0, 1));
    bed.add("$share/g/a", joins(1));
    let _attendance = bed.dist.attend(TENANT, &MemberId::Live(member(1)));
    assert_eq!(pass_on("c"), (Ok(true), 1, 0));
    bed.node.stop();
}
