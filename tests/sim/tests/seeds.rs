//! The seeds that are run each time, and what many nodes do without faults.

use std::time::Duration;

use bifrust_cluster::Event;
use bifrust_sim::{Fault, Plan, Violation, World};

/// Fixed ones: the first hundred, and each that ever found something.
const FOUND: [u64; 5] = [429, 455, 897, 1_310, 4558];

#[test]
fn a_seed_happens_the_same_way_each_time() {
    for seed in [1, 12, 57] {
        assert_eq!(
            bifrust_sim::run(seed).unwrap(),
            bifrust_sim::run(seed).unwrap()
        );
    }
    assert_ne!(
        bifrust_sim::run(1).unwrap().trace,
        bifrust_sim::run(2).unwrap().trace
    );
}

#[test]
fn the_even_fixed_seeds_find_nothing() {
    for seed in (0..100).step_by(2).chain(FOUND) {
        holds(bifrust_sim::run(seed).map(drop));
    }
}

#[test]
fn the_odd_fixed_seeds_find_nothing() {
    for seed in (1..100).step_by(2) {
        holds(bifrust_sim::run(seed).map(drop));
    }
}

fn holds(result: Result<(), Violation>) {
    if let Err(violation) = result {
        panic!("{violation}");
    }
}

/// Changes of the landscape reach all within `bound`, and a quiet node sends at most 20 KiB/s.
fn many(nodes: usize, seed: u64, bound: Duration) {
    let formed = Duration::from_secs(60);
    let mut world = World::new(Plan::calm(nodes, formed), seed);
    holds(world.run_until(formed));
    holds(world.check_agreement());

    let quiet = Duration::from_secs(20);
    let before = world.bytes_out().to_vec();
    holds(world.run_until(formed + quiet));
    for (before, after) in before.iter().zip(world.bytes_out()) {
        let per_second = (after - before) / quiet.as_secs();
        assert!(per_second <= 20 * 1024, "{per_second} bytes per second");
    }

    let mut now = formed + quiet;
    for round in 0..5 {
        let name = format!("row {round}");
        holds(world.put_row(round * nodes / 5, &name, "value"));
        now += bound;
        holds(world.run_until(now));
        holds(world.check_agreement());
        holds(world.remove_row(round * nodes / 5, &name));
        now += bound;
        holds(world.run_until(now));
        holds(world.check_agreement());
    }
}

#[test]
fn changes_reach_fifty_nodes_within_two_seconds() {
    many(50, 1, Duration::from_secs(2));
}

#[test]
fn changes_reach_two_hundred_nodes_within_five_seconds() {
    many(200, 2, Duration::from_secs(5));
}

fn told_down(world: &World) -> Vec<String> {
    let told = world.told().iter();
    told.filter(|(_, _, event)| matches!(event, Event::HostDown { .. }))
        .map(|(at, node, event)| format!("{at:?} {node}: {event}"))
        .collect()
}

#[test]
fn a_third_of_all_packets_lost_for_ten_minutes_evicts_nobody() {
    let end = Duration::from_secs(620);
    let plan = Plan::calm(5, end).with(10, 600, Fault::Loss(0.3));
    let mut world = World::new(plan, 3);
    world.run_until(end).unwrap();
    world.check_agreement().unwrap();
    assert_eq!(told_down(&world), [""; 0]);
}

#[test]
fn a_killed_node_is_seen_by_all_within_five_seconds() {
    for (nodes, seed) in [(3, 1), (3, 2), (5, 3), (8, 4), (12, 5)] {
        let crash = Fault::Crash {
            node: 1,
            is_reset: false,
            is_emptied: false,
        };
        let end = Duration::from_secs(25);
        let plan = Plan::calm(nodes, end).with(20, 30, crash);
        let mut world = World::new(plan, seed);
        world.run_until(end).unwrap();
        world.check_agreement().unwrap();
    }
}

#[test]
fn three_parts_of_six_nodes_are_one_again_within_thirty_seconds() {
    for seed in 0..4 {
        let parts = [[0, 1], [2, 3], [4, 5]];
        let parts = parts.iter().map(|part| part.iter().copied().collect());
        let end = Duration::from_secs(90);
        let plan = Plan::calm(6, end).with(20, 40, Fault::Split(parts.collect()));
        let mut world = World::new(plan, seed);
        world.run_until(Duration::from_secs(59)).unwrap();
        let in_sight = world.nodes().iter().filter_map(|node| node.core());
        assert!(
            in_sight
                .into_iter()
                .all(|core| core.topology().hosts.len() == 2)
        );
        world.run_until(end).unwrap();
        world.check_agreement().unwrap();
    }
}

#[test]
fn nodes_that_do_not_hear_each_other_stay_as_long_as_others_hear_both() {
    for seed in 0..4 {
        let end = Duration::from_secs(120);
        let plan = Plan::calm(5, end).with(15, 90, Fault::Pair(1, 3));
        let mut world = World::new(plan, seed);
        world.run_until(end).unwrap();
        assert_eq!(told_down(&world), [""; 0]);
        world.check_agreement().unwrap();
    }
}

#[test]
fn a_node_that_hears_nobody_takes_nobody_with_it() {
    for seed in 0..4 {
        let end = Duration::from_secs(90);
        let plan = Plan::calm(5, end).with(15, 40, Fault::Deaf(2));
        let mut world = World::new(plan, seed);
        world.run_until(end).unwrap();
        world.check_agreement().unwrap();
        let deaf = world.nodes()[2].start().id;
        let flaps = world.told().iter().filter(|(_, node, event)| {
            *node != 2 && matches!(event, Event::HostDown { host, .. } if host.node.id != deaf)
        });
        assert_eq!(flaps.count(), 0);
    }
}
