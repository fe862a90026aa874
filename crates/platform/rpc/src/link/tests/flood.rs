//! A peer that sends more than is taken is held, and nothing grows beyond its bound.

use super::*;

#[test]
fn a_flood_is_held_at_the_window_and_then_refused() {
    let mut bed = Bed::new();
    let message = outgoing(bytes(1000));
    let mut sent = 0;
    let refused = loop {
        match bed.a.one_way(bed.now_ms, message.clone()) {
            Ok(()) => sent += 1,
            Err(error) => break error,
        }
        assert!(sent < 10_000);
    };
    assert_eq!(refused, CallError::Full);
    let held = requests(bed.reach_b());
    let cost: u32 = held.iter().map(|message| message.cost).sum();
    assert!(cost <= WINDOW_MIN && cost > WINDOW_MIN - 2000);
    // Nothing more comes before something is done with.
    assert!(bed.reach_b().is_empty());
    bed.b.calls_done([0, cost, 0]);
    assert!(bed.reach_a().is_empty());
    let more = requests(bed.reach_b()).len();
    assert_eq!(held.len() + more, sent);
}

#[test]
fn slow_requests_do_not_take_the_credit_of_others_for_good() {
    let mut bed = Bed::new();
    // Less than what goes back at once is owed all the time.
    for round in 0..200 {
        let len = (small().message_max(Priority::Data) - 100) as usize;
        bed.ask(round, outgoing(bytes(len)));
        let asked = requests(bed.reach_b());
        assert_eq!(asked.len(), 1, "in round {round}");
        answer(&mut bed.b, &asked[0], Body::default());
        assert_eq!(results(bed.reach_a()).len(), 1);
    }
}

#[test]
fn who_sends_beyond_its_credit_loses_the_link() {
    let mut bed = Bed::new();
    let generous = Limits {
        windows: [WINDOW_MIN * 4; 3],
        requests: 100,
        ..small()
    };
    // A peer that counts wrong.
    bed.a = Link::new(bounds(generous));
    bed.a.connect(0, &generous, &mut Vec::new());
    for _ in 0..4 {
        let message = outgoing(bytes(small().windows[1] as usize / 3));
        bed.a.one_way(0, message).expect("it thinks that it may");
    }
    let refused = carry(0, &mut bed.a, &mut bed.b);
    assert!(matches!(refused, Err(LinkError::Overrun)));
    bed.a = Link::new(bounds(generous));
    bed.a.connect(0, &generous, &mut Vec::new());
    for i in 0..9 {
        bed.ask(i, outgoing(""));
    }
    let mut bed_b = Link::new(bounds(small()));
    bed_b.connect(0, &small(), &mut Vec::new());
    let refused = carry(0, &mut bed.a, &mut bed_b);
    assert!(matches!(refused, Err(LinkError::TooMany)), "{refused:?}");
}

#[test]
fn credit_out_of_nothing_ends_the_link() {
    let mut bed = Bed::new();
    for id in [0, 1] {
        let mut buffer = BytesMut::new();
        let frame = Frame::Credit {
            id,
            side: Side::Answering,
            priority: Priority::Data,
            bytes: 1,
        };
        frame.write(&mut buffer);
        let result = bed.a.receive(0, &mut buffer, &mut Vec::new());
        // A stream that is not there any more may still be given credit.
        assert_eq!(result.is_err(), id == 0);
    }
}

#[test]
fn answers_that_nobody_takes_are_bounded() {
    let mut bed = Bed::new();
    let len = small().message_max(Priority::Data) as usize - 100;
    for i in 0..8 {
        bed.ask(i, outgoing("x"));
    }
    for asked in requests(bed.reach_b()) {
        answer(&mut bed.b, &asked, Body::payload(bytes(len)));
    }
    // Two are within the credit, some wait, and the rest is not kept.
    assert!(bed.b.waiting_answer_bytes <= bed.b.bounds.waiting_bytes);
    let results = results(bed.reach_a());
    let dropped = results.iter().filter(|(_, result)| {
        matches!(
            result,
            Err(CallError::Refused {
                status: Status::DROPPED,
                ..
            })
        )
    });
    assert!(dropped.count() > 0 || results.len() < 8);
    while !bed.a.is_idle() {
        bed.reach_b();
        bed.reach_a();
    }
}

#[test]
fn what_no_peer_takes_is_refused_at_once() {
    let mut bed = Bed::new();
    let len = small().message_max(Priority::Data) as usize;
    let refused = bed.a.one_way(0, outgoing(bytes(len)));
    assert_eq!(refused, Err(CallError::TooLarge));
    // Also when it waited for a connection, and this peer takes less than another one would.
    let roomy = bounds(Limits {
        windows: [WINDOW_MIN * 4; 3],
        ..small()
    });
    bed.a = Link::new(roomy);
    bed.ask(5, outgoing(bytes(len)));
    let mut effects = Vec::new();
    bed.a.connect(0, &small(), &mut effects);
    assert_eq!(results(effects), [(5, Err(CallError::TooLarge))]);
    assert!(bed.a.is_idle());
}

#[test]
fn an_answer_that_is_too_large_is_told_instead() {
    let mut bed = Bed::new();
    bed.ask(1, outgoing("x"));
    let asked = requests(bed.reach_b());
    answer(&mut bed.b, &asked[0], Body::payload(bytes(1 << 20)));
    let status = Status::TOO_LARGE;
    let header = Bytes::new();
    let refused = CallError::Refused { status, header };
    assert_eq!(results(bed.reach_a()), [(1, Err(refused))]);
}
