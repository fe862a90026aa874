use std::collections::BTreeSet;

use bifrust_model::NodeRef;
use bifrust_model::{Incarnation, NodeId};
use bifrust_plugin_api::NoMeters;
use proptest::prelude::*;
use smallvec::smallvec;

use super::*;
use crate::LiveTarget;

const TENANT: TenantNumber = TenantNumber(3);

fn cache(entries: usize, bytes: usize) -> Cache {
    let config = Config {
        cache_entries_max: NonZeroUsize::new(entries).unwrap(),
        cache_bytes_max: NonZeroUsize::new(bytes).unwrap(),
        ..Config::default()
    };
    Cache::new(&config, &NoMeters)
}

fn roomy() -> Cache {
    cache(1_000_000, usize::MAX)
}

fn filter(text: &str) -> TopicFilter {
    TopicFilter::new(text.to_owned().into()).unwrap()
}

/// A match that can be told from others.
fn matched(shards: u64) -> Matched {
    let node = NodeRef {
        id: NodeId(1),
        incarnation: Incarnation(1),
    };
    Matched::new(smallvec![LiveTarget { node, shards }], Vec::new())
}

type Answers = Arc<Mutex<Vec<Result<Arc<Matched>, MatchError>>>>;

fn begin(cache: &Cache, tenant: TenantNumber, topic: &str, answers: &Answers) -> bool {
    let answers = answers.clone();
    let done = Box::new(move |answer| answers.lock().unwrap().push(answer));
    matches!(cache.begin(tenant, topic, done), Next::Read)
}

fn keep(cache: &Cache, tenant: TenantNumber, topic: &str) -> Arc<Matched> {
    let answers = Answers::default();
    assert!(begin(cache, tenant, topic, &answers));
    assert!(matches!(
        cache.finish(tenant, topic, Ok(matched(1))),
        Next::Nothing
    ));
    let answer = answers.lock().unwrap().pop().unwrap();
    answer.unwrap()
}

#[test]
fn a_kept_match_is_found_and_is_the_same() {
    let cache = roomy();
    assert!(cache.get(TENANT, "a").is_none());
    let kept = keep(&cache, TENANT, "a");
    assert!(Arc::ptr_eq(&kept, &cache.get(TENANT, "a").unwrap()));
    assert!(!kept.is_stale());
    assert!(cache.get(TenantNumber(4), "a").is_none());
    assert!(cache.get(TENANT, "a/b").is_none());
}

#[test]
fn one_read_serves_all_who_ask_meanwhile() {
    let cache = roomy();
    let answers = Answers::default();
    assert!(begin(&cache, TENANT, "a", &answers));
    assert!(!begin(&cache, TENANT, "a", &answers));
    assert!(!begin(&cache, TENANT, "a", &answers));
    assert!(answers.lock().unwrap().is_empty());
    cache.finish(TENANT, "a", Ok(matched(1)));
    assert_eq!(answers.lock().unwrap().len(), 3);
    assert!(!begin(&cache, TENANT, "a", &answers));
    assert_eq!(answers.lock().unwrap().len(), 4);
}

#[test]
fn a_read_under_which_a_route_changed_is_not_kept() {
    let cache = roomy();
    let early = Answers::default();
    assert!(begin(&cache, TENANT, "a/b", &early));
    cache.invalidate(TENANT, &filter("a/+"));
    assert!(matches!(
        cache.finish(TENANT, "a/b", Ok(matched(1))),
        Next::Nothing
    ));
    // Right for whoever asked before the change, and marked as not to be kept.
    let answer = early.lock().unwrap().pop().unwrap().unwrap();
    assert!(answer.is_stale());
    assert!(cache.get(TENANT, "a/b").is_none());
    assert_eq!(cache.usage(), (0, 0, 0));
}

#[test]
fn whoever_asks_after_the_change_gets_a_later_read() {
    let cache = roomy();
    let (early, late) = (Answers::default(), Answers::default());
    assert!(begin(&cache, TENANT, "a", &early));
    cache.invalidate(TENANT, &filter("#"));
    assert!(!begin(&cache, TENANT, "a", &late));
    assert!(matches!(
        cache.finish(TENANT, "a", Ok(matched(1))),
        Next::Read
    ));
    assert_eq!(early.lock().unwrap().len(), 1);
    assert!(late.lock().unwrap().is_empty());
    assert!(matches!(
        cache.finish(TENANT, "a", Ok(matched(2))),
        Next::Nothing
    ));
    let answer = late.lock().unwrap().pop().unwrap().unwrap();
    assert_eq!(answer.live[0].shards, 2);
    assert!(!answer.is_stale());
    assert!(Arc::ptr_eq(&answer, &cache.get(TENANT, "a").unwrap()));
}

#[test]
fn a_failed_read_is_told_to_all_and_leaves_nothing() {
    let cache = roomy();
    let answers = Answers::default();
    begin(&cache, TENANT, "a", &answers);
    begin(&cache, TENANT, "a", &answers);
    cache.finish(TENANT, "a", Err(MatchError::Busy));
    let answers = std::mem::take(&mut *answers.lock().unwrap());
    assert_eq!(answers.len(), 2);
    assert!(answers.iter().all(|a| matches!(a, Err(MatchError::Busy))));
    assert_eq!(cache.usage(), (0, 0, 0));
}

#[test]
fn the_cache_stays_within_its_bound_of_entries() {
    let cache = cache(10, usize::MAX);
    let all: Vec<_> = (0..50)
        .map(|n| keep(&cache, TENANT, &format!("a/{n}")))
        .collect();
    assert_eq!(cache.usage().0, 10);
    // Whoever still holds one that was given up can tell.
    let fresh = all.iter().filter(|matched| !matched.is_stale()).count();
    assert_eq!(fresh, 10);
}

#[test]
fn the_cache_stays_within_its_bound_of_bytes() {
    let cache = cache(1000, 10_000);
    for n in 0..100 {
        keep(&cache, TENANT, &format!("a/{n}"));
        assert!(cache.usage().1 <= 10_000);
    }
    assert!(cache.usage().0 > 10);
    let large = keep(&cache, TENANT, &"x/".repeat(10_000));
    assert!(large.is_stale(), "larger than the bound, not kept");
}

#[test]
fn a_match_in_use_outlives_those_that_are_not() {
    let cache = cache(8, usize::MAX);
    let hot = keep(&cache, TENANT, "hot");
    for n in 0..200 {
        keep(&cache, TENANT, &format!("cold/{n}"));
        assert!(!hot.is_stale(), "after {n}");
    }
}

#[test]
fn a_tenant_that_floods_gives_up_its_own() {
    let cache = cache(20, usize::MAX);
    let place = cache.place(TENANT);
    let mut others = (0..).map(TenantNumber);
    let quiet = others.find(|t| cache.place(*t) != place).unwrap();
    let kept = keep(&cache, quiet, "a");
    for n in 0..100 {
        keep(&cache, TENANT, &n.to_string());
    }
    assert!(Arc::ptr_eq(&kept, &cache.get(quiet, "a").unwrap()));
    // With nothing of its own to give up, a new tenant takes from others.
    let cache = self::cache(1, usize::MAX);
    keep(&cache, TENANT, "a");
    keep(&cache, quiet, "a");
    assert_eq!(cache.usage().0, 1);
}

#[test]
fn invalidation_looks_only_at_branches_that_can_match() {
    let cache = roomy();
    for site in 0..100 {
        for device in 0..1000 {
            keep(&cache, TENANT, &format!("site/{site}/{device}"));
        }
    }
    // 100,000 topics: a walk over all of them for each of these would take minutes.
    for device in 0..200 {
        cache.invalidate(TENANT, &filter(&format!("site/+/{device}")));
        cache.invalidate(TENANT, &filter(&format!("site/1/{device}/#")));
        cache.invalidate(TENANT, &filter("other/#"));
        cache.invalidate(TenantNumber(9), &filter("#"));
    }
    assert_eq!(cache.usage().0, 80_000);
    cache.invalidate(TENANT, &filter("site/7/#"));
    assert_eq!(cache.usage().0, 79_200);
    cache.invalidate(TENANT, &filter("#"));
    assert_eq!(cache.usage(), (0, 0, 0));
}

#[test]
fn racing_reads_changes_and_evictions_keep_the_invariants() {
    let cache = cache(20, usize::MAX);
    let held = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for thread in 0..4usize {
            let (cache, held) = (&cache, &held);
            scope.spawn(move || {
                let answers = Answers::default();
                for round in 0..2_000 {
                    let tenant = TenantNumber(round as u64 % 3);
                    let topic = format!("a/{}", (round * 7 + thread) % 40);
                    if begin(cache, tenant, &topic, &answers) {
                        while let Next::Read = cache.finish(tenant, &topic, Ok(matched(1))) {}
                    }
                    if round % 50 == thread {
                        cache.invalidate(tenant, &filter("a/+"));
                    }
                }
                let answers = std::mem::take(&mut *answers.lock().unwrap());
                held.lock().unwrap().extend(answers.into_iter().flatten());
            });
        }
    });
    let (entries, _, indexed) = cache.usage();
    assert_eq!(entries, indexed);
    assert!(entries <= 20);
    // What is not stale is in the cache, so nobody holds a fresh match that a change would not reach.
    let mut fresh: Vec<_> = held.into_inner().unwrap();
    fresh.retain(|matched| !matched.is_stale());
    fresh.sort_by_key(Arc::as_ptr);
    fresh.dedup_by(|a, b| Arc::ptr_eq(a, b));
    assert!(fresh.len() <= entries, "{} {entries}", fresh.len());
}

fn names() -> impl Strategy<Value = String> {
    prop::collection::vec("[ab!]{0,2}|\\$s|\u{1}", 1..=4)
        .prop_map(|levels| levels.join("/"))
        .prop_filter("empty", |name| !name.is_empty())
}

fn filters() -> impl Strategy<Value = TopicFilter> {
    let levels = prop::collection::vec("[ab!]{0,2}|\\+|\\$s|\u{1}", 1..=4);
    (levels, any::<bool>()).prop_filter_map("no filter", |(levels, multi)| {
        let name = levels.join("/");
        let text = match (multi, name.is_empty()) {
            (true, true) => "#".to_owned(),
            (true, false) => format!("{name}/#"),
            (false, _) => name,
        };
        TopicFilter::new(text.into()).ok()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// A route change makes exactly those matches stale that it belongs into.
    #[test]
    fn invalidation_is_exact(
        topics in prop::collection::btree_set(names(), 0..40),
        reading in prop::collection::btree_set(names(), 0..10),
        filter in filters(),
    ) {
        let cache = roomy();
        let kept: Vec<_> = topics.iter().map(|topic| keep(&cache, TENANT, topic)).collect();
        let reading: BTreeSet<_> = reading.difference(&topics).collect();
        let answers = Answers::default();
        for topic in &reading {
            prop_assert!(begin(&cache, TENANT, topic, &answers));
        }
        cache.invalidate(TENANT, &filter);
        for (topic, kept) in topics.iter().zip(kept) {
            prop_assert_eq!(kept.is_stale(), filter.matches(topic), "{} {}", filter, topic);
            prop_assert_eq!(cache.get(TENANT, topic).is_none(), filter.matches(topic));
        }
        for topic in reading {
            cache.finish(TENANT, topic, Ok(matched(1)));
            prop_assert_eq!(cache.get(TENANT, topic).is_none(), filter.matches(topic));
        }
    }
}
