//! Streams: both directions, back-pressure, ends.

use super::*;

fn opened(bed: &mut Bed) -> (StreamId, StreamId) {
    let own = bed
        .a
        .open(bed.now_ms, outgoing("open"))
        .expect("there is room");
    let id = requests(bed.reach_b())[0].id;
    let side = Side::Answering;
    (own, StreamId { side, id })
}

fn items(effects: Vec<Effect<u32>>) -> Vec<(StreamId, Body, u32)> {
    let only = |effect| match effect {
        Effect::Item { stream, body, cost } => (stream, body, cost),
        other => panic!("not an item: {other:?}"),
    };
    effects.into_iter().map(only).collect()
}

#[test]
fn items_go_both_ways_until_both_ends() {
    let mut bed = Bed::new();
    let (own, theirs) = opened(&mut bed);
    assert_eq!(bed.a.item(own, &Body::payload("to b")), Ok(true));
    assert_eq!(bed.b.item(theirs, &Body::payload("to a")), Ok(true));
    let to_b = items(bed.reach_b());
    assert_eq!((to_b[0].0, &to_b[0].1), (theirs, &Body::payload("to b")));
    let to_a = items(bed.reach_a());
    assert_eq!((to_a[0].0, &to_a[0].1), (own, &Body::payload("to a")));
    assert!(bed.a.end(own, Status::DONE, Bytes::new()));
    let ended = bed.reach_b();
    assert!(matches!(
        &ended[..],
        [Effect::Ended {
            status: Status::DONE,
            ..
        }]
    ));
    assert_eq!(bed.b.item(theirs, &Body::payload("more")), Ok(true));
    assert!(bed.b.end(theirs, Status(300), Bytes::from("end")));
    assert_eq!(bed.reach_a().len(), 2);
    assert!(bed.a.is_idle() && bed.b.is_idle());
    assert_eq!(bed.a.item(own, &Body::default()), Err(CallError::Lost));
}

#[test]
fn a_slow_reader_holds_its_writer_and_no_one_else() {
    let mut bed = Bed::new();
    let (own, theirs) = opened(&mut bed);
    let item = Body::payload(bytes(10_000));
    let mut sent = 0;
    while bed.a.item(own, &item).expect("it is open") {
        sent += 1;
        assert!(sent < 1000);
    }
    let held = items(bed.reach_b());
    assert_eq!(held.len(), sent);
    assert!(held.iter().map(|item| item.2).sum::<u32>() <= WINDOW_MIN);
    bed.ask(1, outgoing("others go on"));
    assert_eq!(requests(bed.reach_b()).len(), 1);
    for (stream, _, cost) in held {
        assert_eq!(stream, theirs);
        bed.b.item_done(theirs, cost);
    }
    let effects = bed.reach_a();
    assert!(matches!(effects[0], Effect::Writable(stream) if stream == own));
    assert_eq!(bed.a.item(own, &item), Ok(true));
}

#[test]
fn more_streams_wait_until_one_has_ended() {
    let mut bed = Bed::new();
    let (first, _) = opened(&mut bed);
    opened(&mut bed);
    let third = bed
        .a
        .open(bed.now_ms, outgoing("third"))
        .expect("there is room");
    assert!(bed.reach_b().is_empty());
    assert_eq!(bed.a.item(third, &Body::payload("x")), Ok(false));
    bed.a.abandon(first);
    // The place is free on both sides; the next answer or credit lets the third go.
    let closed = bed.reach_b();
    assert!(matches!(&closed[..], [Effect::Closed { .. }]));
    assert_eq!(bed.a.next_due_ms(), 0);
    let woken = bed.tick_a(0);
    assert!(matches!(woken[..], [Effect::Writable(stream)] if stream == third));
    assert_eq!(requests(bed.reach_b())[0].body, Body::payload("third"));
}

#[test]
fn a_stream_is_given_up_from_either_side() {
    let mut bed = Bed::new();
    let (own, theirs) = opened(&mut bed);
    bed.b.abandon(theirs);
    assert_eq!(bed.a.item(own, &Body::payload("on its way")), Ok(true));
    let closed = bed.reach_a();
    assert!(matches!(&closed[..], [Effect::Closed { stream, .. }] if *stream == own));
    assert!(bed.reach_b().is_empty());
    assert!(bed.a.is_idle() && bed.b.is_idle());
}

#[test]
fn who_sends_beyond_a_streams_credit_loses_the_link() {
    let mut bed = Bed::new();
    let (own, _) = opened(&mut bed);
    let stream = bed.a.streams.get_mut(&own).expect("it is open");
    stream.grant(u32::MAX);
    for _ in 0..WINDOW_MIN / 60_000 + 1 {
        bed.a
            .item(own, &Body::payload(bytes(60_000)))
            .expect("it is open");
    }
    let refused = carry(0, &mut bed.a, &mut bed.b);
    assert!(matches!(refused, Err(LinkError::Overrun)));
}
