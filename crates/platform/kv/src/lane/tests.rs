use proptest::prelude::*;

use super::*;

const A: TenantNumber = TenantNumber(1);
const B: TenantNumber = TenantNumber(2);

fn room(items: usize, bytes: usize) -> Room {
    Room::new(Usage { items, bytes })
}

#[test]
fn a_flooding_lane_delays_itself() {
    let mut lanes = Lanes::new();
    for n in 0..10_000 {
        lanes.push(A, 1_024, (A, n));
    }
    for n in 0..10 {
        lanes.push(B, 1_024, (B, n));
    }
    let served: Vec<_> = std::iter::from_fn(|| lanes.pop()).collect();
    let last_of_b = served.iter().position(|item| *item == (B, 9)).unwrap();
    assert!(last_of_b < 2 * 16 + 10, "B waited for {last_of_b} items");
    assert_eq!(served.len(), 10_010);
}

#[test]
fn turns_are_shared_by_bytes_not_by_count() {
    let mut lanes = Lanes::new();
    for _ in 0..10_000 {
        lanes.push(A, 64, (A, 64));
        lanes.push(B, 6_400, (B, 6_400));
    }
    let served: Vec<_> = (0..5_000).map_while(|_| lanes.pop()).collect();
    let bytes_of = |lane| {
        let of_lane = served.iter().filter(|(served, _)| *served == lane);
        of_lane.map(|(_, bytes)| bytes).sum::<usize>()
    };
    let (a, b) = (bytes_of(A), bytes_of(B));
    assert!(a.abs_diff(b) <= 2 * QUANTUM_BYTES, "{a} and {b} bytes");
}

#[test]
fn an_item_larger_than_many_quanta_gets_through() {
    let mut lanes = Lanes::new();
    lanes.push(A, 100 * QUANTUM_BYTES, "large");
    for _ in 0..200 {
        lanes.push(B, QUANTUM_BYTES, "small");
    }
    let served: Vec<_> = std::iter::from_fn(|| lanes.pop()).collect();
    let at = served.iter().position(|item| *item == "large").unwrap();
    assert!((98..=101).contains(&at), "{at}");
    assert!(lanes.is_empty());
}

#[test]
fn one_lane_fills_half_and_leaves_room_for_newcomers() {
    let mut room = room(100, 1 << 20);
    let taken = |room: &mut Room, lane| (0..200).filter(|_| room.take(lane, 1)).count();
    assert_eq!(taken(&mut room, A), 50);
    assert_eq!(taken(&mut room, B), 25);
    assert!(room.take(TenantNumber(3), 1));
}

#[test]
fn a_huge_item_goes_in_alone_and_only_then() {
    let mut room = room(100, 1_000);
    assert!(room.take(A, 5_000));
    assert!(!room.take(A, 1));
    assert!(!room.take(B, 1));
    let huge = Usage {
        items: 1,
        bytes: 5_000,
    };
    room.give(A, huge);
    assert_eq!(room.used(), Usage::default());
    assert!(room.take(B, 1));
}

proptest! {
    #[test]
    fn nothing_is_lost_and_each_lane_keeps_its_order(
        steps in proptest::collection::vec((0u64..4, 0usize..50_000, any::<bool>()), 0..300),
    ) {
        let mut lanes = Lanes::new();
        let mut pushed: HashMap<u64, Vec<usize>> = HashMap::new();
        let mut popped: HashMap<u64, Vec<usize>> = HashMap::new();
        let mut note = |item: Option<(u64, usize)>| {
            if let Some((lane, n)) = item {
                popped.entry(lane).or_default().push(n);
            }
        };
        for (n, (lane, bytes, pops)) in steps.into_iter().enumerate() {
            lanes.push(TenantNumber(lane), bytes, (lane, n));
            pushed.entry(lane).or_default().push(n);
            if pops {
                note(lanes.pop());
            }
        }
        while !lanes.is_empty() {
            note(lanes.pop());
        }
        prop_assert_eq!(pushed, popped);
    }
}
