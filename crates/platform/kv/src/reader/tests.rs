use std::num::NonZeroUsize;

use super::*;

const SLOW: TenantNumber = TenantNumber(1);
const QUICK: TenantNumber = TenantNumber(2);

struct Nothing;

impl Job for Nothing {
    fn run(self: Box<Self>, _read: &dyn Read) {}
    fn refuse(self: Box<Self>, _error: QueryError) {}
}

fn queries(readers: usize) -> Queries {
    Queries::new(&Config {
        readers: NonZeroUsize::new(readers).unwrap(),
        ..Config::default()
    })
}

fn submit(queries: &Queries, lane: TenantNumber, count: usize) {
    for _ in 0..count {
        queries.submit(lane, Box::new(Nothing));
    }
}

/// What a thread is dealt that comes back with `hand`.
fn deal(queries: &Queries, hand: &mut Hand) -> Vec<TenantNumber> {
    let mut state = queries.lock();
    state.put_back(hand);
    queries.deal(&mut state, hand);
    hand.jobs.iter().map(|(lane, _)| *lane).collect()
}

/// Runs the hand's queries: those of the slow tenant take long.
fn run_all(hand: &mut Hand) {
    let took = |lane| Duration::from_millis(if lane == SLOW { 40 } else { 0 });
    let ran = hand.jobs.drain(..).map(|(lane, _)| (lane, took(lane)));
    hand.ran.extend(ran);
}

/// Lets it be known that a tenant's queries are slow.
fn make_slow(queries: &Queries) {
    submit(queries, SLOW, 1);
    let mut hand = Hand::default();
    assert_eq!(deal(queries, &mut hand), [SLOW]);
    run_all(&mut hand);
    assert!(deal(queries, &mut hand).is_empty());
}

#[test]
fn one_thread_is_left_to_quick_queries() {
    let queries = queries(2);
    make_slow(&queries);
    submit(&queries, SLOW, 8);
    let (mut first, mut second) = (Hand::default(), Hand::default());
    assert_eq!(deal(&queries, &mut first), [SLOW]);
    assert!(deal(&queries, &mut second).is_empty());
    submit(&queries, QUICK, 3);
    let dealt = deal(&queries, &mut second);
    assert!(!dealt.is_empty() && dealt.iter().all(|lane| *lane == QUICK));
    // The first one goes on with slow ones once it is through.
    run_all(&mut second);
    while !deal(&queries, &mut second).is_empty() {
        run_all(&mut second);
    }
    run_all(&mut first);
    assert_eq!(deal(&queries, &mut first), [SLOW]);
}

#[test]
fn a_lone_thread_runs_slow_queries_as_well() {
    let queries = queries(1);
    make_slow(&queries);
    submit(&queries, SLOW, 2);
    let mut hand = Hand::default();
    for _ in 0..2 {
        assert_eq!(deal(&queries, &mut hand), [SLOW]);
        run_all(&mut hand);
    }
    assert!(deal(&queries, &mut hand).is_empty());
}

#[test]
fn a_slow_tenant_gets_fewer_turns() {
    let queries = queries(1);
    make_slow(&queries);
    submit(&queries, SLOW, 2);
    submit(&queries, QUICK, 1_000);
    let mut hand = Hand::default();
    let mut quick = 0;
    let mut seen = Vec::new();
    while seen.len() < 2 {
        for lane in deal(&queries, &mut hand) {
            match lane {
                SLOW => seen.push(quick),
                _ => quick += 1,
            }
        }
        run_all(&mut hand);
    }
    // 64 turns of four.
    assert!(seen[1] - seen[0] >= 200, "{seen:?}");
}

#[test]
fn what_a_thread_does_not_come_to_is_first_again_and_keeps_its_room() {
    let queries = Queries::new(&Config {
        readers: NonZeroUsize::MIN,
        queries_max: 8,
        ..Config::default()
    });
    submit(&queries, QUICK, 4);
    let mut hand = Hand::default();
    assert_eq!(deal(&queries, &mut hand).len(), 4);
    let (lane, _) = hand.jobs.pop_front().unwrap();
    hand.ran.push((lane, Duration::from_millis(2)));
    assert_eq!(deal(&queries, &mut hand).len(), 3);
    assert_eq!(queries.lock().room.used().items, 3);
    run_all(&mut hand);
    assert!(deal(&queries, &mut hand).is_empty());
    assert_eq!(queries.lock().room.used().items, 0);
}

#[test]
fn a_closed_queue_leaves_nothing_behind() {
    let queries = queries(2);
    make_slow(&queries);
    submit(&queries, SLOW, 3);
    queries.close();
    let (mut first, mut second) = (Hand::default(), Hand::default());
    assert!(queries.take(&mut first));
    assert!(queries.take(&mut second));
    run_all(&mut first);
    assert!(queries.take(&mut first));
    run_all(&mut first);
    run_all(&mut second);
    assert!(!queries.take(&mut first));
    assert!(!queries.take(&mut second));
}
