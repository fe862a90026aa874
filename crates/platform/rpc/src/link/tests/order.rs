//! Who goes before whom.

use super::*;

fn with(priority: Priority, lane: u32, payload: Vec<u8>) -> Outgoing {
    Outgoing {
        priority,
        lane,
        ..outgoing(payload)
    }
}

fn first_bytes(effects: Vec<Effect<u32>>) -> Vec<u8> {
    let incoming = requests(effects).into_iter();
    incoming.map(|call| call.body.payload[0]).collect()
}

#[test]
fn consensus_goes_before_what_is_already_there() {
    let mut bed = Bed::new();
    let long = WINDOW_MIN as usize / 2 - 100;
    for (priority, first) in [
        (Priority::Bulk, 3),
        (Priority::Data, 2),
        (Priority::Consensus, 1),
    ] {
        let mut payload = bytes(long);
        payload[0] = first;
        let message = with(priority, 0, payload);
        bed.a.one_way(0, message).expect("there is room");
    }
    let message = with(Priority::Consensus, 0, vec![0]);
    bed.a.one_way(0, message).expect("there is room");
    let order = first_bytes(bed.reach_b());
    assert_eq!(order, [0, 1, 2, 3]);
}

#[test]
fn nobody_starves() {
    let mut bed = Bed::new();
    for _ in 0..5 {
        let message = with(Priority::Data, 0, bytes(40_000));
        bed.a.one_way(0, message).expect("there is room");
    }
    let message = with(Priority::Bulk, 0, vec![1]);
    bed.a.one_way(0, message).expect("there is room");
    // One turn is enough for what is small, though data fills it.
    let mut out = VecDeque::new();
    bed.a.take(64 << 10, &mut out);
    let mut buffer: BytesMut = out.iter().flatten().collect();
    let mut effects = Vec::new();
    bed.b.receive(0, &mut buffer, &mut effects).expect("fine");
    let mut calls = requests(effects).into_iter();
    assert!(calls.any(|call| call.priority == Priority::Bulk));
}

#[test]
fn a_long_message_is_in_nobodys_way_but_its_lanes() {
    let mut bed = Bed::new();
    let mut long = bytes(4 * PAYLOAD_MAX);
    long[0] = 1;
    for (lane, payload) in [
        (5, long.clone()),
        (5, vec![2]),
        (
            5,
            long.iter()
                .map(|byte| byte + u8::from(*byte == 1) * 2)
                .collect(),
        ),
        (5, vec![4]),
        (6, vec![10]),
        (0, vec![11]),
    ] {
        let message = with(Priority::Data, lane, payload);
        bed.a.one_way(0, message).expect("there is room");
    }
    assert_eq!(first_bytes(bed.reach_b()), [10, 11, 1, 2, 3, 4]);
    assert!(bed.a.is_idle());
}

#[test]
fn lanes_keep_their_order_when_credit_is_short() {
    let mut bed = Bed::new();
    let mut sent = Vec::new();
    for i in 0..30_u8 {
        let len = match i % 3 {
            0 => 3 * PAYLOAD_MAX,
            _ => 10,
        };
        let mut payload = bytes(len);
        payload[0] = i;
        let message = with(Priority::Data, 1, payload);
        if bed.a.one_way(0, message).is_ok() {
            sent.push(i);
        }
    }
    assert!(bed.a.has_waiting());
    let mut arrived = Vec::new();
    while !bed.a.is_idle() {
        let calls = requests(bed.reach_b());
        let cost = calls.iter().map(|call| call.cost).sum();
        arrived.extend(calls.iter().map(|call| call.body.payload[0]));
        bed.b.calls_done([0, cost, 0]);
        bed.reach_a();
    }
    assert_eq!(arrived, sent);
}

#[test]
fn a_tenant_that_floods_waits_for_itself() {
    let mut bed = Bed::new();
    let flood = Outgoing {
        flow: 1,
        ..outgoing(bytes(20_000))
    };
    while bed.a.one_way(0, flood.clone()).is_ok() {
        if bed.a.waiting[Priority::Data.index()].len() > 20 {
            break;
        }
    }
    let other = Outgoing {
        flow: 2,
        ..outgoing(vec![99])
    };
    bed.a.one_way(0, other).expect("there is room");
    let calls = requests(bed.reach_b());
    let cost = calls.iter().map(|call| call.cost).sum();
    bed.b.calls_done([0, cost, 0]);
    bed.reach_a();
    let order = first_bytes(bed.reach_b());
    let place = order.iter().position(|first| *first == 99);
    assert!(place.is_some_and(|place| place <= 4), "{order:?}");
}
