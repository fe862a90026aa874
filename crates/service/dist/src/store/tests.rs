use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use bifrust_kv::testing::Bed;
use bifrust_model::{ClientId, NodeRef, Qos, TopicFilter};
use proptest::prelude::*;

use super::*;
use crate::{LiveMember, LiveTarget, MemberId};

const TENANT: TenantNumber = TenantNumber(7);

fn filter(text: &str) -> TopicFilter {
    TopicFilter::new(text.to_owned().into()).unwrap()
}

fn node(id: u128, incarnation: u64) -> NodeRef {
    NodeRef {
        id: NodeId(id),
        incarnation: Incarnation(incarnation),
    }
}

fn live_key(tenant: TenantNumber, text: &str, node: NodeRef) -> Bytes {
    route_key::encode(tenant, &filter(text), &ReceiverKey::Live(node))
}

fn inbox_key(text: &str, client: &str, incarnation: u64) -> Bytes {
    let client = ClientId::new(client).unwrap();
    let receiver = ReceiverKey::Inbox {
        client,
        incarnation,
    };
    route_key::encode(TENANT, &filter(text), &receiver)
}

fn set(text: &str, node: NodeRef, shard: u16, stamp: u64) -> Command {
    Command::SetShard {
        key: live_key(TENANT, text, node),
        shard,
        stamp: Hlc(stamp),
    }
}

fn clear(text: &str, node: NodeRef, shard: u16, stamp: u64) -> Command {
    Command::ClearShard {
        key: live_key(TENANT, text, node),
        shard,
        stamp: Hlc(stamp),
    }
}

fn options(qos: Qos) -> SubscriptionOptions {
    SubscriptionOptions {
        qos,
        ..SubscriptionOptions::default()
    }
}

fn put(text: &str, client: &str, incarnation: u64, qos: Qos, stamp: u64) -> Command {
    Command::PutInbox {
        key: inbox_key(text, client, incarnation),
        options: options(qos),
        stamp: Hlc(stamp),
    }
}

fn drop_route(text: &str, client: &str, incarnation: u64, stamp: u64) -> Command {
    Command::DropInbox {
        key: inbox_key(text, client, incarnation),
        stamp: Hlc(stamp),
    }
}

fn matched(bed: &Bed<Routes>, tenant: TenantNumber, topic: &str) -> Targets {
    let topic = topic.to_owned().into();
    match bed.query(Query::Match { tenant, topic }) {
        Answer::Matched(targets, _) => targets,
        _ => panic!("another question was answered"),
    }
}

fn live(bed: &Bed<Routes>, topic: &str) -> Vec<LiveTarget> {
    matched(bed, TENANT, topic).live.into_vec()
}

fn clients(bed: &Bed<Routes>, topic: &str) -> Vec<String> {
    let inboxes = matched(bed, TENANT, topic).inboxes;
    let names = inboxes.iter().map(|inbox| inbox.client.as_str().to_owned());
    names.collect()
}

#[test]
fn shards_of_one_node_share_a_row() {
    let mut bed = Bed::new(Routes);
    let here = node(1, 4);
    let ((), effects) = bed.apply(set("a/+", here, 0, 1));
    assert_eq!(effects, [Effect::Routes(1)]);
    let ((), effects) = bed.apply(set("a/+", here, 5, 2));
    assert!(effects.is_empty());
    bed.apply(set("#", here, 2, 3));
    bed.apply(set("a/b", node(2, 1), 63, 4));
    let targets = [
        LiveTarget {
            node: here,
            shards: 0b10_0101,
        },
        LiveTarget {
            node: node(2, 1),
            shards: 1 << 63,
        },
    ];
    assert_eq!(live(&bed, "a/b"), targets);
    bed.apply(clear("a/+", here, 0, 5));
    let ((), effects) = bed.apply(clear("a/+", here, 5, 6));
    assert_eq!(effects, [Effect::Routes(-1)]);
    assert_eq!(live(&bed, "a/x")[0].shards, 0b100);
    assert_eq!(bed.rows(ROUTES).len(), 2);
}

#[test]
fn one_session_is_one_target_with_all_its_subscriptions() {
    let mut bed = Bed::new(Routes);
    bed.apply(put("a/#", "c", 1, Qos::AtMostOnce, 1));
    bed.apply(put("a/+", "c", 1, Qos::ExactlyOnce, 2));
    bed.apply(put("a/b", "d", 9, Qos::AtLeastOnce, 3));
    bed.apply(put("b/#", "c", 1, Qos::AtLeastOnce, 4));
    let mut inboxes = matched(&bed, TENANT, "a/b").inboxes;
    inboxes.sort_by(|a, b| a.client.cmp(&b.client));
    assert_eq!(inboxes.len(), 2);
    assert_eq!(inboxes[0].incarnation, 1);
    let granted: Vec<_> = inboxes[0].subscriptions.iter().map(|s| s.qos).collect();
    assert_eq!(granted, [Qos::AtMostOnce, Qos::ExactlyOnce]);
    assert_eq!(inboxes[1].client.as_str(), "d");
}

#[test]
fn a_repeated_subscription_replaces_the_options() {
    let mut bed = Bed::new(Routes);
    bed.apply(put("a", "c", 1, Qos::AtMostOnce, 1));
    let ((), effects) = bed.apply(put("a", "c", 1, Qos::AtLeastOnce, 2));
    assert!(effects.is_empty());
    let inboxes = matched(&bed, TENANT, "a").inboxes;
    assert_eq!(inboxes[0].subscriptions[..], [options(Qos::AtLeastOnce)]);
}

#[test]
fn routes_of_another_session_of_the_client_are_left_alone() {
    let mut bed = Bed::new(Routes);
    bed.apply(put("a", "c", 2, Qos::AtLeastOnce, 10));
    let ((), effects) = bed.apply(drop_route("a", "c", 1, 20));
    assert!(effects.is_empty());
    assert_eq!(clients(&bed, "a"), ["c"]);
}

#[test]
fn every_command_may_come_twice_and_late() {
    let mut bed = Bed::new(Routes);
    let here = node(1, 1);
    for command in [
        set("a", here, 1, 1),
        set("a", here, 2, 2),
        clear("a", here, 1, 3),
        put("a", "c", 1, Qos::AtLeastOnce, 4),
        drop_route("a", "c", 1, 5),
        clear("nowhere", here, 1, 6),
        drop_route("nowhere", "c", 1, 7),
        Command::Sweep {
            keys: vec![live_key(TENANT, "a", here)],
        },
    ] {
        let (_, ((), effects)) = bed.apply_twice(command);
        assert!(effects.is_empty(), "applied again it has no effect");
    }

    // Late: a newer command stands.
    bed.apply(set("a", here, 1, 10));
    bed.apply(set("a", here, 1, 30));
    bed.apply(clear("a", here, 1, 20));
    assert_eq!(live(&bed, "a")[0].shards, 2);
    bed.apply(put("a", "c", 1, Qos::AtMostOnce, 10));
    bed.apply(put("a", "c", 1, Qos::ExactlyOnce, 30));
    bed.apply(put("a", "c", 1, Qos::AtMostOnce, 10));
    bed.apply(drop_route("a", "c", 1, 20));
    let inboxes = matched(&bed, TENANT, "a").inboxes;
    assert_eq!(inboxes[0].subscriptions[..], [options(Qos::ExactlyOnce)]);
}

#[test]
fn leading_counts_the_rows_and_finds_the_latest_stamp() {
    let mut bed = Bed::new(Routes);
    bed.apply(set("a", node(1, 1), 0, 8));
    bed.apply(put("b", "c", 1, Qos::AtLeastOnce, 5));
    assert_eq!(bed.reopen(), [Effect::Routes(2), Effect::Latest(Hlc(8))]);
}

#[test]
fn leading_refuses_a_row_of_a_newer_program() {
    let mut bed = Bed::new(Routes);
    bed.apply(set("a", node(1, 1), 0, 1));
    let key = live_key(TENANT, "a", node(1, 1));
    let value = Bytes::from_static(&[200, 0]);
    assert!(
        stamp_of(&key, value)
            .unwrap_err()
            .to_string()
            .contains("version 200")
    );
    assert!(stamp_of(b"rubbish", Bytes::new()).is_err());
}

#[test]
fn ended_incarnations_are_found_page_by_page() {
    let mut bed = Bed::new(Routes);
    for name in ["a", "b", "c"] {
        bed.apply(set(name, node(1, 3), 0, 1));
        bed.apply(set(name, node(1, 4), 0, 2));
        bed.apply(set(name, node(2, 1), 0, 3));
        bed.apply(put(name, "x", 1, Qos::AtLeastOnce, 4));
    }
    let mut ended = Vec::new();
    let mut from = Some(Bytes::new());
    while let Some(start) = from {
        let query = EndedQuery {
            node: NodeId(1),
            before: Incarnation(4),
            from: start,
            rows_max: 5,
        };
        let Answer::Ended { keys, next } = bed.query(Query::Ended(query)) else {
            panic!("another question was answered");
        };
        ended.extend(keys);
        from = next;
    }
    let expected: Vec<_> = ["a", "b", "c"]
        .map(|name| live_key(TENANT, name, node(1, 3)))
        .into();
    assert_eq!(ended, expected);
    let ((), effects) = bed.apply(Command::Sweep { keys: ended });
    assert_eq!(effects, [Effect::Routes(-3)]);
    assert_eq!(live(&bed, "a").len(), 2);
}

#[test]
fn tenants_stay_apart() {
    let mut bed = Bed::new(Routes);
    for tenant in [6, 8] {
        let key = live_key(TenantNumber(tenant), "#", node(1, 1));
        let (shard, stamp) = (0, Hlc(1));
        bed.apply(Command::SetShard { key, shard, stamp });
    }
    assert!(live(&bed, "a").is_empty());
    assert_eq!(matched(&bed, TenantNumber(8), "a").live.len(), 1);
}

fn session(incarnation: u64, slot: u32) -> LiveMember {
    LiveMember {
        node: node(1, incarnation),
        shard: 2,
        slot,
        generation: 9,
    }
}

fn member_key(text: &str, session: LiveMember) -> Bytes {
    route_key::encode(TENANT, &filter(text), &ReceiverKey::Member(session))
}

fn join(text: &str, session: LiveMember, qos: Qos, stamp: u64) -> Command {
    Command::PutInbox {
        key: member_key(text, session),
        options: options(qos),
        stamp: Hlc(stamp),
    }
}

#[test]
fn members_are_gathered_by_group_and_stay_out_of_the_rest() {
    let mut bed = Bed::new(Routes);
    bed.apply(put("a/+", "plain", 1, Qos::AtMostOnce, 1));
    bed.apply(put("$share/g/a/+", "c", 5, Qos::AtLeastOnce, 1));
    bed.apply(join("$share/g/a/+", session(1, 7), Qos::ExactlyOnce, 1));
    bed.apply(join("$share/h/a/+", session(1, 7), Qos::AtMostOnce, 1));
    bed.apply(join("$oshare/g/a/+", session(1, 7), Qos::AtMostOnce, 1));
    bed.apply(join("$share/g/a/b", session(1, 7), Qos::AtMostOnce, 1));
    bed.apply(join("$share/g/x", session(1, 7), Qos::AtMostOnce, 1));
    let found = matched(&bed, TENANT, "a/b");
    assert!(found.live.is_empty());
    assert_eq!(found.inboxes.len(), 1);
    let groups = found.groups.iter();
    let groups: Vec<_> = groups
        .map(|group| (group.filter.as_str(), group.members.len()))
        .collect();
    let expected = [
        ("$share/g/a/+", 2),
        ("$share/h/a/+", 1),
        ("$oshare/g/a/+", 1),
        ("$share/g/a/b", 1),
    ];
    assert_eq!(groups, expected);
    let member = |client: &str| MemberId::Inbox {
        client: ClientId::new(client).unwrap(),
        incarnation: 5,
    };
    let expected = [
        (member("c"), options(Qos::AtLeastOnce)),
        (MemberId::Live(session(1, 7)), options(Qos::ExactlyOnce)),
    ];
    assert_eq!(found.groups[0].members, expected);

    let key = member_key("$share/h/a/+", session(1, 7));
    bed.apply(Command::DropInbox { key, stamp: Hlc(2) });
    assert_eq!(matched(&bed, TENANT, "a/b").groups.len(), 3);
}

#[test]
fn members_of_ended_incarnations_are_found() {
    let mut bed = Bed::new(Routes);
    for incarnation in 1..=3 {
        bed.apply(join(
            "$share/g/a",
            session(incarnation, 7),
            Qos::AtMostOnce,
            1,
        ));
    }
    bed.apply(put("$share/g/a", "c", 1, Qos::AtMostOnce, 1));
    let query = Query::Ended(EndedQuery {
        node: NodeId(1),
        before: Incarnation(3),
        from: Bytes::new(),
        rows_max: 100,
    });
    let Answer::Ended { keys, .. } = bed.query(query) else {
        panic!("another question was answered");
    };
    let ended = [1, 2].map(|incarnation| member_key("$share/g/a", session(incarnation, 7)));
    assert_eq!(keys, ended);
}

#[test]
fn a_group_has_room_below_its_bound_and_for_its_members() {
    let mut bed = Bed::new(Routes);
    for slot in 0..3 {
        bed.apply(join("$share/g/a", session(1, slot), Qos::AtMostOnce, 1));
    }
    bed.apply(join("$share/h/a", session(1, 9), Qos::AtMostOnce, 1));
    let has_room = |slot, members_max| {
        let query = RoomQuery {
            prefix: route_key::prefix(TENANT, &filter("$share/g/a")).into(),
            key: member_key("$share/g/a", session(1, slot)),
            members_max,
        };
        match bed.query(Query::Room(query)) {
            Answer::Room(has_room) => has_room,
            _ => panic!("another question was answered"),
        }
    };
    assert!(has_room(9, 4));
    assert!(!has_room(9, 3));
    assert!(!has_room(9, 2));
    assert!(has_room(1, 2), "it is one of them");
}

fn names(levels: &'static str, max: usize) -> impl Strategy<Value = String> {
    prop::collection::vec(levels, 1..=max).prop_map(|levels| levels.join("/"))
}

fn filters() -> impl Strategy<Value = String> {
    (names("[ab!]{0,2}|\\+|\\$s|\u{1}", 4), any::<bool>()).prop_filter_map(
        "no filter",
        |(name, multi)| {
            let text = match (multi, name.is_empty()) {
                (true, true) => "#".to_owned(),
                (true, false) => format!("{name}/#"),
                (false, _) => name,
            };
            TopicFilter::new(text.clone().into()).ok().map(|_| text)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// The scan finds exactly the filters that match by the rule.
    #[test]
    fn the_scan_finds_what_matches(
        filters in prop::collection::btree_set(filters(), 0..40),
        topics in prop::collection::vec(names("[ab!]{0,2}|\\$s|\u{1}", 4), 1..10),
    ) {
        let mut bed = Bed::new(Routes);
        // A session per filter, named by the filter's number; every second one as a group's member too.
        let numbered: BTreeMap<_, _> = filters.iter().zip(0..).collect();
        for (text, number) in &numbered {
            bed.apply(put(text, &format!("c{number}"), 1, Qos::AtMostOnce, 1));
            if number % 2 == 0 {
                let shared = format!("$share/g/{text}");
                bed.apply(put(&shared, &format!("c{number}"), 1, Qos::AtMostOnce, 1));
            }
        }
        bed.apply(put("other/filter", "x", 1, Qos::AtMostOnce, 1));
        for topic in topics.iter().filter(|topic| !topic.is_empty()) {
            let expected: BTreeSet<_> = numbered
                .iter()
                .filter(|(text, _)| filter(text).matches(topic))
                .map(|(_, number)| format!("c{number}"))
                .collect();
            let found = clients(&bed, topic);
            prop_assert_eq!(found.len(), expected.len(), "{}", topic);
            prop_assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), expected, "{}", topic);
            // Whether it looks far or not.
            let untidy = Watched::new(bed.read(), u64::MAX);
            let (mut near, gaps) = matching::targets(&untidy, TENANT, topic).unwrap();
            let mut far = matched(&bed, TENANT, topic);
            near.inboxes.sort_by(|a, b| a.client.cmp(&b.client));
            far.inboxes.sort_by(|a, b| a.client.cmp(&b.client));
            prop_assert_eq!(near, far, "{}", topic);
            prop_assert!(gaps.is_empty());
            let groups = matched(&bed, TENANT, topic).groups;
            let expected = numbered.iter().filter(|(text, number)| {
                *number % 2 == 0 && filter(text).matches(topic)
            });
            prop_assert_eq!(groups.len(), expected.count(), "{}", topic);
            prop_assert!(groups.iter().all(|group| group.filter.matches(topic)));
        }
    }
}

/// Notes where reads look, and says that so many rows were removed.
struct Watched<'a> {
    rows: &'a dyn Read,
    removed: u64,
    looks: Mutex<Vec<(Bound<Bytes>, Bound<Bytes>)>>,
}

impl<'a> Watched<'a> {
    fn new(rows: &'a dyn Read, removed: u64) -> Self {
        let looks = Mutex::default();
        Self {
            rows,
            removed,
            looks,
        }
    }

    /// How many looks had to step over the row if it were a removed one.
    fn looks_over(&self, key: &[u8]) -> usize {
        let looks = self.looks.lock().unwrap();
        let spans = looks.iter().filter(|look| {
            let (start, end) = look;
            let bounds = (
                start.as_ref().map(|key| &key[..]),
                end.as_ref().map(|key| &key[..]),
            );
            std::ops::RangeBounds::<[u8]>::contains(&bounds, key)
        });
        spans.count()
    }
}

impl Read for Watched<'_> {
    fn get(&self, ks: Keyspace, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        self.rows.get(ks, key)
    }

    fn range<'a>(
        &'a self,
        ks: Keyspace,
        start: Bound<&[u8]>,
        end: Bound<&[u8]>,
        direction: Direction,
    ) -> bifrust_storage::Rows<'a> {
        let look = (
            start.map(Bytes::copy_from_slice),
            end.map(Bytes::copy_from_slice),
        );
        self.looks.lock().unwrap().push(look);
        self.rows.range(ks, start, end, direction)
    }

    fn removed(&self, _ks: Keyspace) -> u64 {
        self.removed
    }
}

#[test]
fn the_cost_does_not_grow_with_filters_that_do_not_match() {
    let mut bed = Bed::new(Routes);
    for number in 0..2000 {
        bed.apply(set(&format!("site/{number}/+/temp"), node(1, 1), 0, 1));
    }
    let watched = Watched::new(bed.read(), 0);
    let (targets, gaps) = matching::targets(&watched, TENANT, "site/77/x/temp").unwrap();
    assert!(gaps.is_empty());
    assert_eq!(targets.live.len(), 1);
    let reads = watched.looks.into_inner().unwrap().len();
    assert!(reads <= 4, "{reads} reads");
}

#[test]
fn rows_removed_elsewhere_are_not_stepped_over() {
    let mut bed = Bed::new(Routes);
    bed.apply(set("lat/+", node(1, 1), 0, 1));
    bed.apply(set("later", node(1, 1), 0, 1));
    for topic in ["lat/a", "lat/z", "kat", "lat/c/7/d", "zat/x"] {
        let elsewhere = live_key(TENANT, "lat/c/3", node(1, 1));
        let untidy = Watched::new(bed.read(), 100_000);
        let (near, _) = matching::targets(&untidy, TENANT, topic).unwrap();
        // At most the look for the branch that it is in itself: `lat` is there, `lat/c` may be.
        let over = untidy.looks_over(&elsewhere);
        let allowed = 1 + usize::from(topic.starts_with("lat/c"));
        assert!(over <= allowed, "{topic}: {over} looks");
        let tidy = Watched::new(bed.read(), 0);
        let (far, _) = matching::targets(&tidy, TENANT, topic).unwrap();
        assert_eq!(near, far);
    }
}
