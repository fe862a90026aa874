//! Requests, their answers, and what becomes of them without one.

use super::*;

#[test]
fn a_request_has_its_answer() {
    let mut bed = Bed::new();
    bed.ask(7, outgoing("question"));
    let asked = requests(bed.reach_b());
    assert_eq!(asked[0].body, Body::payload("question"));
    assert_eq!(asked[0].target.method, 3);
    assert_eq!(asked[0].timeout_ms, 100);
    answer(&mut bed.b, &asked[0], Body::payload("answer"));
    assert_eq!(results(bed.reach_a()), [(7, Ok(Body::payload("answer")))]);
    assert!(bed.a.is_idle() && bed.b.is_idle());
}

#[test]
fn long_payloads_arrive_whole_in_both_directions() {
    let mut bed = Bed::new();
    let long = bytes(3 * PAYLOAD_MAX + 5);
    bed.ask(1, outgoing(long.clone()));
    let asked = requests(bed.reach_b());
    assert_eq!(asked[0].body, Body::payload(long.clone()));
    answer(&mut bed.b, &asked[0], Body::payload(long.clone()));
    assert_eq!(results(bed.reach_a()), [(1, Ok(Body::payload(long)))]);
}

#[test]
fn a_service_refuses_with_a_status() {
    let mut bed = Bed::new();
    bed.ask(1, outgoing("x"));
    let asked = requests(bed.reach_b());
    let status = Status(300);
    let body = Body::header("why");
    bed.b
        .answer(asked[0].id, Priority::Data, asked[0].cost, status, body);
    let header = Bytes::from("why");
    let refused = CallError::Refused { status, header };
    assert_eq!(results(bed.reach_a()), [(1, Err(refused))]);
}

#[test]
fn a_deadline_ends_the_wait_and_tells_the_service() {
    let mut bed = Bed::new();
    bed.ask(1, outgoing("x"));
    let asked = requests(bed.reach_b());
    assert_eq!(bed.a.next_due_ms(), 1_100);
    assert!(bed.tick_a(99).is_empty());
    assert_eq!(results(bed.tick_a(1)), [(1, Err(CallError::Unknown))]);
    assert!(bed.reach_b().is_empty());
    let cancelled = asked[0].cancelled.as_ref().expect("requests have it");
    assert!(cancelled.load(Ordering::Relaxed));
    // A late answer is for nobody, and frees the place.
    assert!(!bed.a.is_idle());
    answer(&mut bed.b, &asked[0], Body::payload("late"));
    assert!(bed.reach_a().is_empty());
    assert!(bed.a.is_idle());
}

#[test]
fn without_a_connection_the_deadline_counts_too() {
    let mut bed = Bed::new();
    bed.a.disconnect(&mut Vec::new());
    bed.ask(1, outgoing("x"));
    assert_eq!(results(bed.tick_a(100)), [(1, Err(CallError::NotSent))]);
    assert!(bed.a.is_idle());
}

#[test]
fn what_was_sent_is_lost_with_the_connection_and_what_waits_is_not() {
    let mut bed = Bed::new();
    for waiter in 0..10 {
        bed.ask(waiter, outgoing("x")); // eight may be open
    }
    bed.reach_b();
    let mut effects = Vec::new();
    bed.a.disconnect(&mut effects);
    let lost = results(effects);
    assert_eq!(lost.len(), 8);
    assert!(
        lost.iter()
            .all(|(_, result)| *result == Err(CallError::Lost))
    );
    bed.b.disconnect(&mut Vec::new());
    bed.connect();
    assert_eq!(requests(bed.reach_b()).len(), 2);
}

#[test]
fn nothing_waits_for_a_peer_that_cannot_be_reached() {
    let mut bed = Bed::new();
    bed.a.disconnect(&mut Vec::new());
    bed.ask(1, outgoing("x"));
    bed.a
        .one_way(bed.now_ms, outgoing("y"))
        .expect("there is room");
    bed.a
        .open(bed.now_ms, outgoing("z"))
        .expect("there is room");
    let mut effects = Vec::new();
    bed.a.refuse_waiting(&CallError::Unreachable, &mut effects);
    assert!(bed.a.is_idle());
    assert!(matches!(
        &effects[..],
        [
            Effect::Answered {
                waiter: 1,
                result: Err(CallError::Unreachable)
            },
            Effect::Closed {
                error: CallError::Unreachable,
                ..
            },
        ]
    ));
}

#[test]
fn only_so_many_requests_are_open_even_if_they_are_given_up() {
    let mut bed = Bed::new();
    let calls: Vec<_> = (0..12).map(|i| bed.ask(i, outgoing("x"))).collect();
    let asked = requests(bed.reach_b());
    assert_eq!(asked.len(), 8);
    for call in calls {
        bed.a.cancel(call);
    }
    bed.ask(20, outgoing("next"));
    // The services work on the eight still.
    assert!(bed.reach_b().is_empty());
    answer(&mut bed.b, &asked[3], Body::default());
    assert!(bed.reach_a().is_empty());
    assert_eq!(requests(bed.reach_b())[0].body, Body::payload("next"));
}

#[test]
fn a_silent_peer_is_found_out() {
    let mut bed = Bed::new();
    bed.a
        .request(bed.now_ms, bed.now_ms + 60_000, outgoing("x"), 1)
        .expect("there is room");
    bed.reach_b();
    assert_eq!(bed.a.next_due_ms(), 2_000);
    assert!(bed.tick_a(1_000).is_empty());
    // It answers a ping as long as it lives.
    bed.reach_b();
    bed.reach_a();
    assert!(bed.tick_a(1_000).is_empty());
    bed.now_ms += 3_000;
    let silent = bed.a.tick(bed.now_ms, &mut Vec::new());
    assert_eq!(silent, Err(LinkError::Silent));
}

#[test]
fn a_node_that_leaves_answers_what_is_open_and_takes_nothing_new() {
    let mut bed = Bed::new();
    bed.ask(1, outgoing("open"));
    let asked = requests(bed.reach_b());
    bed.b.leave();
    bed.ask(2, outgoing("on its way"));
    assert!(bed.reach_b().is_empty());
    answer(&mut bed.b, &asked[0], Body::default());
    let mut effects = bed.reach_a();
    assert!(matches!(effects.remove(0), Effect::Leaving));
    let results = results(effects);
    let header = Bytes::new();
    let status = Status::LEAVING;
    assert_eq!(results[0], (2, Err(CallError::Refused { status, header })));
    assert_eq!(results[1], (1, Ok(Body::default())));
    bed.ask(3, outgoing("waits for another connection"));
    assert!(!bed.a.has_output() && bed.a.has_waiting());
}

#[test]
fn answers_and_parts_of_nothing_end_the_link() {
    for frame in [
        Frame::Answer(Answer {
            id: 77,
            priority: Priority::Data,
            status: 0,
            total: 0,
            header: Bytes::new(),
            payload: Bytes::new(),
        }),
        Frame::Part {
            id: 77,
            side: Side::Asking,
            payload: Bytes::from_static(b"x"),
        },
    ] {
        let mut bed = Bed::new();
        let mut buffer = BytesMut::new();
        frame.write(&mut buffer);
        let refused = bed.a.receive(0, &mut buffer, &mut Vec::new());
        assert_eq!(refused, Err(LinkError::OutOfPlace));
    }
}
