use std::num::NonZeroU32;

use proptest::prelude::*;

use super::*;

const TENANT: TenantNumber = TenantNumber(1);

fn filter(text: &str) -> TopicFilter {
    TopicFilter::new(text.to_owned().into()).unwrap()
}

fn options(qos: Qos, id: u32) -> SubscriptionOptions {
    SubscriptionOptions {
        qos,
        id: NonZeroU32::new(id),
        ..SubscriptionOptions::default()
    }
}

fn slots(subscriptions: &mut Subscriptions, topic: &str) -> Vec<u32> {
    let mut slots: Vec<u32> = subscriptions
        .matches(TENANT, topic)
        .targets
        .iter()
        .map(|target| target.slot)
        .collect();
    slots.sort_unstable();
    slots
}

#[test]
fn overlapping_subscriptions_of_one_session_become_one_target() {
    let mut subscriptions = Subscriptions::default();
    subscriptions.add(4, TENANT, &filter("a/b"), options(Qos::AtLeastOnce, 7));
    subscriptions.add(4, TENANT, &filter("a/+"), options(Qos::ExactlyOnce, 8));
    subscriptions.add(4, TENANT, &filter("#"), options(Qos::AtMostOnce, 0));
    let local = subscriptions.matches(TENANT, "a/b");
    assert_eq!(local.targets.len(), 1);
    assert_eq!(local.targets[0].qos, Qos::ExactlyOnce);
    let mut ids = local.targets[0].ids.as_deref().unwrap().to_vec();
    ids.sort_unstable();
    assert_eq!(ids, [7, 8]);
    assert!(slots(&mut subscriptions, "$SYS").is_empty());
}

#[test]
fn no_local_is_taken_off_first_for_own_messages() {
    let mut subscriptions = Subscriptions::default();
    let no_local = SubscriptionOptions {
        no_local: true,
        ..options(Qos::ExactlyOnce, 1)
    };
    subscriptions.add(1, TENANT, &filter("a"), no_local);
    assert!(subscriptions.matches(TENANT, "a").targets[0].has_no_local);
    assert_eq!(subscriptions.own_target(1, TENANT, "a"), None);
    subscriptions.add(1, TENANT, &filter("+"), options(Qos::AtMostOnce, 2));
    let own = subscriptions.own_target(1, TENANT, "a").unwrap();
    assert_eq!(
        (own.qos, own.ids.as_deref()),
        (Qos::AtMostOnce, Some(&[2][..]))
    );
}

#[test]
fn changes_outdate_exactly_what_they_touch() {
    let mut subscriptions = Subscriptions::default();
    let a = subscriptions.matches(TENANT, "a");
    let b = subscriptions.matches(TENANT, "b");
    let other = subscriptions.matches(TenantNumber(2), "a");
    subscriptions.add(1, TENANT, &filter("a"), options(Qos::AtMostOnce, 0));
    assert!(a.is_stale() && !b.is_stale());
    subscriptions.add(1, TENANT, &filter("+"), options(Qos::AtMostOnce, 0));
    assert!(b.is_stale() && !other.is_stale());
    let b = subscriptions.matches(TENANT, "b");
    subscriptions.remove(1, TENANT, &filter("+"));
    assert!(b.is_stale());
    assert!(slots(&mut subscriptions, "b").is_empty());
}

#[test]
fn route_calls_never_race() {
    let mut subscriptions = Subscriptions::default();
    let a = filter("a");
    let (at, step) = subscriptions.add(1, TENANT, &a, options(Qos::AtMostOnce, 0));
    assert_eq!(step, RouteStep::Add);
    let seat = Seat {
        slot: 1,
        generation: 1,
    };
    subscriptions.wait(at, seat);
    assert_eq!(
        subscriptions.remove(1, TENANT, &a),
        Some((at, RouteStep::Nothing))
    );
    let (step, waiters) = subscriptions.routed(at, true);
    assert_eq!((step, waiters.as_slice()), (RouteStep::Remove, &[seat][..]));
    assert_eq!(
        subscriptions
            .add(2, TENANT, &a, options(Qos::AtMostOnce, 0))
            .1,
        RouteStep::Wait
    );
    assert_eq!(subscriptions.routed(at, true).0, RouteStep::Add);
    assert_eq!(subscriptions.routed(at, true).0, RouteStep::Nothing);
    assert_eq!(
        subscriptions.remove(2, TENANT, &a),
        Some((at, RouteStep::Remove))
    );
    assert_eq!(subscriptions.routed(at, false).0, RouteStep::RetryRemoval);
    assert_eq!(subscriptions.retry_removal(at), RouteStep::Remove);
    assert_eq!(subscriptions.routed(at, true).0, RouteStep::Nothing);
    assert!(subscriptions.filter(at).is_none(), "nothing is left of it");
    assert!(subscriptions.by_text.is_empty());
}

#[test]
fn what_ends_leaves_no_memory_behind() {
    let mut subscriptions = Subscriptions::default();
    let filters: Vec<_> = (0..100)
        .map(|n| filter(&format!("a/{}/+/{n}", n / 10)))
        .collect();
    for filter in &filters {
        let own = subscriptions.own(TENANT, filter);
        let (at, _) = subscriptions.add(1, TENANT, &own, options(Qos::AtMostOnce, 0));
        subscriptions.routed(at, true);
    }
    assert_eq!(slots(&mut subscriptions, "a/3/x/35"), [1]);
    for filter in &filters {
        let (at, _) = subscriptions.remove(1, TENANT, filter).unwrap();
        subscriptions.routed(at, true);
    }
    assert!(slots(&mut subscriptions, "a/3/x/35").is_empty());
    assert_eq!(subscriptions.filters.capacity(), 0);
    assert_eq!(subscriptions.tenants[&TENANT].trie.memory(), 0);
}

#[test]
fn a_filter_does_not_keep_its_packet() {
    let subscriptions = Subscriptions::default();
    let packet = ByteString::from("a/+ and much more");
    let slice = TopicFilter::new(packet.slice_ref(&packet[..3])).unwrap();
    let own = subscriptions.own(TENANT, &slice);
    assert_eq!(own, slice);
    assert_ne!(own.as_str().as_ptr(), packet.as_ptr());
}

#[test]
fn results_are_bounded_by_their_bytes() {
    let mut subscriptions = Subscriptions::within(10_000);
    let held: Vec<_> = (0..100)
        .map(|n| subscriptions.matches(TENANT, &format!("topic/{n}")))
        .collect();
    assert!(subscriptions.cache_bytes <= 10_000);
    assert!(held[0].is_stale() && !held[99].is_stale());
    subscriptions.add(1, TENANT, &filter("+/99"), options(Qos::AtMostOnce, 0));
    subscriptions.matches(TENANT, "topic/99");
    for n in 0..100 {
        let exact = filter(&format!("topic/{n}"));
        subscriptions.add(1, TENANT, &exact, options(Qos::AtMostOnce, 0));
    }
    assert_eq!(
        (subscriptions.cache.len(), subscriptions.cache_bytes),
        (0, 0)
    );
}

#[test]
fn who_waited_for_a_forgotten_filter_does_not_wait_for_the_next_one() {
    let mut subscriptions = Subscriptions::default();
    let seat = Seat {
        slot: 1,
        generation: 1,
    };
    let add = |subscriptions: &mut Subscriptions, text: &TopicFilter| {
        subscriptions.add(1, TENANT, text, options(Qos::AtMostOnce, 0))
    };
    let gone = filter("a/+");
    let (at, _) = add(&mut subscriptions, &gone);
    subscriptions.routed(at, true);
    subscriptions.remove(1, TENANT, &gone).unwrap();
    // Its removal is under way.
    assert_eq!(add(&mut subscriptions, &gone), (at, RouteStep::Wait));
    subscriptions.wait(at, seat);
    subscriptions.remove(1, TENANT, &gone).unwrap();
    subscriptions.routed(at, true);
    let next = filter("b/+");
    assert_eq!(add(&mut subscriptions, &next), (at, RouteStep::Add));
    assert!(subscriptions.routed(at, true).1.is_empty());
}

fn level() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "b", "", "$s"]).prop_map(str::to_owned)
}

fn any_filter() -> impl Strategy<Value = String> {
    let level = prop_oneof![3 => level(), 1 => Just("+".to_owned())];
    (prop::collection::vec(level, 1..4), any::<bool>()).prop_map(|(levels, multi)| {
        let text = levels.join("/");
        if multi { format!("{text}/#") } else { text }
    })
}

proptest! {
    #[test]
    fn matching_agrees_with_the_filters_themselves(
        filters in prop::collection::vec(any_filter(), 0..12),
        removed in prop::collection::vec(any::<bool>(), 12),
        topic in prop::collection::vec(level(), 1..4),
    ) {
        let topic = topic.join("/");
        prop_assume!(!topic.is_empty());
        let mut subscriptions = Subscriptions::default();
        let mut expected = Vec::new();
        for (slot, text) in filters.iter().enumerate() {
            if text.is_empty() { continue; }
            subscriptions.matches(TENANT, &topic);
            subscriptions.add(slot as u32, TENANT, &filter(text), options(Qos::AtMostOnce, 0));
        }
        for (slot, text) in filters.iter().enumerate() {
            if text.is_empty() { continue; }
            subscriptions.matches(TENANT, &topic);
            if removed[slot] {
                let (at, _) = subscriptions.remove(slot as u32, TENANT, &filter(text)).unwrap();
                subscriptions.routed(at, true);
                subscriptions.routed(at, true);
            } else if filter(text).matches(&topic) {
                expected.push(slot as u32);
            }
        }
        prop_assert_eq!(slots(&mut subscriptions, &topic), expected);
    }
}
