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
