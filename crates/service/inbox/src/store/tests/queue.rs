//! What a queue takes, keeps and gives up.

use super::*;

#[test]
fn a_queue_survives_the_connection_and_the_restart() {
    let mut bed = Bed::new(Store::default());
    let first = attached(bed.apply_twice(Command::Attach(Box::new(attach_at(10)))).0);
    assert!(!first.session_present && first.is_durable);
    let effects = bed
        .apply(Command::Insert(insert(
            first.incarnation,
            "a",
            Qos::AtLeastOnce,
        )))
        .1;
    assert!(matches!(&effects[..], [Effect::Deliver { delivery, .. }] if delivery.seq == 1));
    let detach = Detach {
        sent_before: Some(2),
        ..detach_at(20, first.epoch)
    };
    bed.apply_twice(Command::Detach(Box::new(detach)));
    let effects = bed
        .apply(Command::Insert(insert(
            first.incarnation,
            "b",
            Qos::AtLeastOnce,
        )))
        .1;
    assert_eq!(effects, [], "nobody is there to push to");
    bed.reopen();
    let second = attached(bed.apply(Command::Attach(Box::new(attach_at(30)))));
    assert!(second.session_present && second.epoch > first.epoch);
    assert_eq!((second.first_seq, second.next_seq), (1, 3));
    let deliveries = fetch(&bed, second.incarnation, second.sent_before);
    assert_eq!(payloads(&deliveries), ["a", "b"]);
    let possibly_sent: Vec<_> = deliveries.iter().map(|d| d.possibly_sent).collect();
    assert_eq!(possibly_sent, [true, false]);
}

#[test]
fn numbers_of_settled_entries_are_not_used_again() {
    let mut bed = Bed::new(Store::default());
    let opened = attached(bed.apply(Command::Attach(Box::new(attach_at(10)))));
    for seq in 1..=200 {
        bed.apply(Command::Insert(insert(
            opened.incarnation,
            "a",
            Qos::AtLeastOnce,
        )));
        let settle = Settle {
            session: session(),
            epoch: opened.epoch,
            received: Vec::new(),
            done: vec![seq],
        };
        bed.apply_twice(Command::Settle(settle));
        if seq % 7 == 0 {
            bed.reopen();
        }
    }
    assert_eq!(bed.rows(BODY), []);
    bed.reopen();
    let again = attached(bed.apply(Command::Attach(Box::new(attach_at(20)))));
    assert_eq!((again.first_seq, again.next_seq), (201, 201));
}

#[test]
fn a_full_queue_refuses_the_newest_and_says_so() {
    let mut bed = Bed::new(Store::default());
    let opened = attached(bed.apply(Command::Attach(Box::new(attach_at(10)))));
    bed.apply(Command::Detach(Box::new(detach_at(20, opened.epoch))));
    for _ in 0..BOUNDS.messages {
        bed.apply(Command::Insert(insert(
            opened.incarnation,
            "a",
            Qos::AtLeastOnce,
        )));
    }
    let late = Command::Insert(insert(opened.incarnation, "b", Qos::AtLeastOnce));
    let ((reply, effects), _) = bed.apply_twice(late);
    assert_eq!(reply, Reply::Done);
    assert!(matches!(
        &effects[..],
        [Effect::Overflowed {
            message: Some(_),
            ..
        }]
    ));
}

#[test]
fn the_oldest_qos0_makes_room_for_the_newest_only() {
    let mut bed = Bed::new(Store::default());
    let opened = attached(bed.apply(Command::Attach(Box::new(attach_at(10)))));
    bed.apply(Command::Detach(Box::new(detach_at(20, opened.epoch))));
    let put = |bed: &mut Bed<Store>, text: &str, qos| {
        let insert = Insert {
            bounds: Bounds {
                messages: 3,
                drops_oldest_qos0: true,
                ..BOUNDS
            },
            ..insert(opened.incarnation, text, qos)
        };
        bed.apply(Command::Insert(insert)).1.len()
    };
    put(&mut bed, "a", Qos::AtLeastOnce);
    put(&mut bed, "b", Qos::AtMostOnce);
    put(&mut bed, "c", Qos::AtMostOnce);
    assert_eq!(put(&mut bed, "d", Qos::AtMostOnce), 1);
    assert_eq!(put(&mut bed, "e", Qos::AtLeastOnce), 1);
    assert_eq!(
        payloads(&fetch(&bed, opened.incarnation, 0)),
        ["a", "c", "d"]
    );
}

#[test]
fn retained_messages_are_taken_while_there_is_room() {
    let mut bed = Bed::new(Store::default());
    let opened = attached(bed.apply(Command::Attach(Box::new(attach_at(10)))));
    let texts = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let messages = texts.map(|text| {
        let body = Body::new(message(text, Qos::AtLeastOnce));
        (header(Qos::AtLeastOnce), body)
    });
    let (reply, effects) = bed.apply(Command::InsertRetained(InsertRetained {
        session: session(),
        epoch: opened.epoch,
        bounds: BOUNDS,
        messages: messages.into(),
    }));
    assert_eq!((reply, effects.len()), (Reply::Taken(6), 6));
}

#[test]
fn expired_messages_are_named_unless_their_delivery_may_have_begun() {
    let mut bed = Bed::new(Store::default());
    let opened = attached(bed.apply(Command::Attach(Box::new(attach_at(10)))));
    for _ in 0..2 {
        let short = Message {
            expiry_seconds: Some(1),
            ..(*message("short", Qos::AtLeastOnce)).clone()
        };
        let insert = insert(opened.incarnation, "", Qos::AtLeastOnce);
        let body = Body::new(Arc::new(short));
        bed.apply(Command::Insert(Insert { body, ..insert }));
    }
    let page = Page {
        session: session(),
        incarnation: opened.incarnation,
        from: 1,
        before: 3,
        sent_before: 2,
        limit: ALL,
        now_ms: 5_000,
    };
    let Answer::Entries {
        deliveries,
        expired,
        next,
    } = bed.query(Query::Entries(page))
    else {
        panic!("not entries");
    };
    assert_eq!((deliveries.len(), expired, next), (1, vec![2], 3));
}
