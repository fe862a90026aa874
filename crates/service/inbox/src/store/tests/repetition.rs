//! Publishes that come again.

use super::*;

#[test]
fn a_keyed_publish_enters_a_queue_once() {
    let mut bed = Bed::new(Store::default());
    let opened = attached(bed.apply(Command::Attach(Box::new(attach_at(10)))));
    let publish = |text: &str, id, generation, floor| {
        let insert = insert(opened.incarnation, text, Qos::ExactlyOnce);
        Command::Insert(keyed(insert, id, generation, floor))
    };
    bed.apply_twice(publish("a", 1, 5, 0));
    bed.apply_twice(publish("b", 2, 7, 5));
    bed.reopen();
    bed.apply_twice(publish("c", 3, 6, 5));
    bed.apply(publish("late a", 1, 5, 0));
    bed.apply(publish("released b", 2, 7, 8));
    bed.apply_twice(publish("d", 1, 8, 8));
    assert_eq!(
        payloads(&fetch(&bed, opened.incarnation, 0)),
        ["a", "b", "c", "d"]
    );
}

#[test]
fn publishers_are_forgotten_once_they_have_released_all() {
    let mut bed = Bed::new(Store::default());
    let opened = attached(bed.apply(Command::Attach(Box::new(attach_at(10)))));
    let publisher = SessionKey {
        tenant: TenantNumber(7),
        client: ClientId::new("p").unwrap(),
    };
    let attach = Attach {
        session: publisher.clone(),
        ..attach_at(20)
    };
    let sender = attached(bed.apply(Command::Attach(Box::new(attach))));
    let (epoch, stamp, packet_id) = (sender.epoch, at(30), 1);
    bed.apply(Command::BeginInbound(BeginInbound {
        session: publisher.clone(),
        epoch,
        stamp,
        packet_id,
    }));
    let mut insert = keyed(insert(opened.incarnation, "a", Qos::ExactlyOnce), 1, 1, 1);
    if let Some(keyed) = &mut insert.key {
        keyed.key.session = sender.incarnation;
    }
    bed.apply_twice(Command::Insert(insert));
    let remembered = |bed: &Bed<Store>| {
        let query = Query::Publishers {
            session: session(),
            incarnation: opened.incarnation,
            after: None,
            limit: 9,
        };
        bed.query(query)
    };
    let all = vec![publisher.client.clone()];
    let tidy = Command::Tidy(Tidy {
        session: session(),
        incarnation: opened.incarnation,
        publishers: all.clone(),
    });
    bed.apply_twice(tidy.clone());
    assert_eq!(remembered(&bed), Answer::Publishers(all));
    bed.apply(Command::ReleaseInbound(ReleaseInbound {
        session: publisher,
        epoch,
        stamp,
        packet_id,
    }));
    bed.apply_twice(tidy);
    assert_eq!(remembered(&bed), Answer::Publishers(Vec::new()));
}

#[test]
fn wills_are_taken_once_each_and_mix_with_nothing_else() {
    let mut bed = Bed::new(Store::default());
    let opened = attached(bed.apply(Command::Attach(Box::new(attach_at(10)))));
    let publisher = SessionKey {
        tenant: TenantNumber(7),
        client: ClientId::new("p").unwrap(),
    };
    // Two connections of the publisher, both of whose wills wait to be sent.
    let connections = [20, 30].map(|ms| {
        let attach = Attach {
            session: publisher.clone(),
            will: Some(wills::will(0)),
            ..attach_at(ms)
        };
        attached(bed.apply(Command::Attach(Box::new(attach)))).epoch
    });
    let send = |text: &str, connection, qos| {
        Command::Insert(Insert {
            key: Some(Keyed {
                key: RoutingKey::of_will(connection),
                floor: 0,
            }),
            ..insert(opened.incarnation, text, qos)
        })
    };
    let publish = || {
        let insert = insert(opened.incarnation, "publish", Qos::ExactlyOnce);
        Command::Insert(keyed(insert, 1, 5, 0))
    };
    bed.apply(Command::Detach(Box::new(detach_at(40, opened.epoch))));
    bed.apply_twice(publish());
    bed.apply_twice(send("new", connections[1], Qos::AtLeastOnce));
    bed.apply_twice(send("old", connections[0], Qos::AtMostOnce));
    bed.apply(send("new again", connections[1], Qos::AtLeastOnce));
    bed.apply(publish());
    let queued = fetch(&bed, opened.incarnation, 0);
    assert_eq!(payloads(&queued), ["publish", "new", "old"]);
    let remembered = |bed: &Bed<Store>| {
        let query = Query::Publishers {
            session: session(),
            incarnation: opened.incarnation,
            after: None,
            limit: 9,
        };
        bed.query(query)
    };
    let all = vec![publisher.client.clone()];
    assert_eq!(remembered(&bed), Answer::Publishers(all.clone()));
    let tidy = Command::Tidy(Tidy {
        session: session(),
        incarnation: opened.incarnation,
        publishers: all.clone(),
    });
    for (connection, left) in [(connections[0], all), (connections[1], Vec::new())] {
        bed.apply(Command::WillSent(WillSent {
            session: publisher.clone(),
            epoch: connection,
        }));
        bed.apply_twice(tidy.clone());
        assert_eq!(remembered(&bed), Answer::Publishers(left));
    }
}
