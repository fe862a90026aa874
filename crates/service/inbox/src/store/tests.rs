mod model;
mod wills;

use std::sync::Arc;

use bifrust_dist::RoutingKey;
use bifrust_kv::testing::Bed;
use bifrust_model::{
    ClientId, Hlc, Incarnation, Message, NodeId, NodeRef, Qos, SessionKey, Subscription,
    SubscriptionOptions, TenantNumber, Topic, TopicFilter,
};
use bifrust_session_dict::ConnectionRef;
use smallvec::SmallVec;

use super::*;
use crate::schema::{Body, EntryHeader, SessionDeadline};
use crate::{PageLimit, Subscribed};

const NEVER: u32 = u32::MAX;

pub(super) const BOUNDS: Bounds = Bounds {
    messages: 6,
    bytes: 10_000,
    queues_qos0: true,
    drops_oldest_qos0: false,
};

pub(super) const ALL: PageLimit = PageLimit {
    messages: 1000,
    bytes: usize::MAX,
};

pub(super) fn session() -> SessionKey {
    SessionKey {
        tenant: TenantNumber(7),
        client: client(),
    }
}

fn client() -> ClientId {
    ClientId::new("c").unwrap()
}

pub(super) fn connection(node_incarnation: u64, slot: u32) -> ConnectionRef {
    ConnectionRef {
        node: NodeRef {
            id: NodeId(1),
            incarnation: Incarnation(node_incarnation),
        },
        shard: 0,
        slot,
        generation: 0,
    }
}

pub(super) fn message(text: &str, qos: Qos) -> Arc<Message> {
    Arc::new(Message {
        topic: Topic::new("t".into()).unwrap(),
        payload: text.to_owned().into(),
        qos,
        retain: false,
        stamp: Hlc::from_millis(1_000),
        expiry_seconds: None,
        properties: bytes::Bytes::new(),
        publisher: ClientId::new("p").unwrap(),
    })
}

pub(super) fn header(qos: Qos) -> EntryHeader {
    EntryHeader {
        qos,
        retain: false,
        ids: SmallVec::new(),
    }
}

pub(super) fn at(ms: u64) -> Hlc {
    Hlc::from_millis(ms)
}

pub(super) fn attach_at(ms: u64) -> Attach {
    Attach {
        session: session(),
        stamp: at(ms),
        user: Some("u".into()),
        owner: connection(1, u32::try_from(ms).unwrap()),
        clean_start: false,
        expiry_seconds: 100,
        window: 2,
        will: None,
    }
}

pub(super) fn detach_at(ms: u64, epoch: u64) -> Detach {
    Detach {
        session: session(),
        epoch,
        stamp: at(ms),
        will: WillFate::Due,
        expiry_seconds: None,
        sent_before: None,
        routed: Vec::new(),
    }
}

pub(super) fn insert(incarnation: u64, text: &str, qos: Qos) -> Insert {
    Insert {
        tenant: TenantNumber(7),
        body: Body::new(message(text, qos)),
        key: None,
        bounds: BOUNDS,
        targets: vec![Target {
            client: client(),
            incarnation,
            header: header(qos),
        }],
    }
}

pub(super) fn keyed(insert: Insert, packet_id: u16, generation: u64, floor: u64) -> Insert {
    let key = RoutingKey {
        session: 77,
        packet_id,
        generation,
    };
    Insert {
        key: Some(Keyed { key, floor }),
        ..insert
    }
}

fn attached((reply, _): (Reply, Vec<Effect>)) -> Attached {
    match reply {
        Reply::Attached(attached) => attached,
        other => panic!("{other:?}"),
    }
}

pub(super) fn fetch(bed: &Bed<Store>, incarnation: u64, sent_before: u64) -> Vec<Delivery> {
    let page = Page {
        session: session(),
        incarnation,
        from: 0,
        before: u64::MAX,
        sent_before,
        limit: ALL,
        now_ms: 0,
    };
    match bed.query(Query::Entries(page)) {
        Answer::Entries { deliveries, .. } => deliveries,
        other => panic!("{other:?}"),
    }
}

fn payloads(deliveries: &[Delivery]) -> Vec<&str> {
    let payloads = deliveries.iter().map(|delivery| &delivery.message.payload);
    payloads
        .map(|payload| std::str::from_utf8(payload).unwrap())
        .collect()
}

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
fn heads_are_given_up_within_their_bound_and_read_again() {
    let heads = Heads::within(100_000);
    let mut bed = Bed::new(Store { heads });
    let name = |n: u64| SessionKey {
        tenant: TenantNumber(7),
        client: ClientId::new(&format!("c{n}")).unwrap(),
    };
    let mut most = 0;
    for n in 1..9_000 {
        let attach = Attach {
            session: name(n),
            ..attach_at(n)
        };
        bed.apply(Command::Attach(Box::new(attach)));
        most = bed.coprocessor().heads.len().max(most);
    }
    assert!(bed.coprocessor().heads.len() < most);
    let again = Attach {
        session: name(1),
        ..attach_at(9_000)
    };
    assert!(attached(bed.apply(Command::Attach(Box::new(again)))).session_present);
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
fn another_user_takes_nothing_over() {
    let mut bed = Bed::new(Store::default());
    bed.apply(Command::Attach(Box::new(attach_at(10))));
    for clean_start in [false, true] {
        let stranger = Attach {
            user: Some("v".into()),
            clean_start,
            ..attach_at(20)
        };
        let ((reply, effects), _) = bed.apply_twice(Command::Attach(Box::new(stranger)));
        assert_eq!((reply, effects), (Reply::OtherUser, Vec::new()));
    }
}

#[test]
fn a_user_may_take_a_client_id_whose_session_has_expired() {
    let mut bed = Bed::new(Store::default());
    let first = attached(bed.apply(Command::Attach(Box::new(attach_at(10)))));
    bed.apply(Command::Detach(Box::new(detach_at(20, first.epoch))));
    let stranger = Attach {
        user: None,
        ..attach_at(20 + 100_000)
    };
    let opened = attached(bed.apply(Command::Attach(Box::new(stranger))));
    assert!(!opened.session_present);
    assert_ne!(opened.incarnation, first.incarnation);
}

#[test]
fn an_older_attach_is_fenced_and_so_is_its_owner() {
    let mut bed = Bed::new(Store::default());
    let first = attached(bed.apply(Command::Attach(Box::new(attach_at(10)))));
    bed.apply(Command::Attach(Box::new(attach_at(20))));
    assert_eq!(
        bed.apply(Command::Attach(Box::new(attach_at(10)))).0,
        Reply::Fenced
    );
    let settle = Settle {
        session: session(),
        epoch: first.epoch,
        received: Vec::new(),
        done: vec![1],
    };
    assert_eq!(bed.apply(Command::Settle(settle)).0, Reply::Fenced);
    let detach = Command::Detach(Box::new(detach_at(30, first.epoch)));
    assert_eq!(bed.apply(detach).0, Reply::Fenced);
}

#[test]
fn a_wall_clock_that_went_back_fences_nobody() {
    let mut bed = Bed::new(Store::default());
    let first = attached(bed.apply(Command::Attach(Box::new(attach_at(10_000)))));
    let restarted = Attach {
        owner: connection(2, 0),
        ..attach_at(50)
    };
    let second = attached(bed.apply(Command::Attach(Box::new(restarted))));
    assert!(second.session_present && second.epoch > first.epoch);
    let subscribe = Subscribe {
        session: session(),
        epoch: second.epoch,
        stamp: at(60),
        subscriptions: vec![subscription("a", 1)],
        max_filters: 9,
    };
    assert!(matches!(
        bed.apply(Command::Subscribe(subscribe)).0,
        Reply::Subscribed { .. }
    ));
}

fn subscription(filter: &str, level: u8) -> Subscription {
    Subscription {
        filter: TopicFilter::new(filter.to_owned().into()).unwrap(),
        options: SubscriptionOptions {
            qos: Qos::from_level(level).unwrap(),
            ..SubscriptionOptions::default()
        },
    }
}

#[test]
fn subscriptions_are_bounded_replaced_and_read_in_pages() {
    let mut bed = Bed::new(Store::default());
    let opened = attached(bed.apply(Command::Attach(Box::new(attach_at(10)))));
    let subscribe = |filters: &[&str], ms| {
        Command::Subscribe(Subscribe {
            session: session(),
            epoch: opened.epoch,
            stamp: at(ms),
            subscriptions: filters
                .iter()
                .map(|filter| subscription(filter, 1))
                .collect(),
            max_filters: 3,
        })
    };
    let ((reply, _), _) = bed.apply_twice(subscribe(&["b", "a"], 20));
    let incarnation = opened.incarnation;
    let results = vec![Subscribed::New, Subscribed::New];
    assert_eq!(
        reply,
        Reply::Subscribed {
            results,
            incarnation
        }
    );
    bed.reopen();
    let (reply, _) = bed.apply(subscribe(&["a", "c", "d"], 30));
    let results = vec![
        Subscribed::Replaced,
        Subscribed::New,
        Subscribed::QuotaExceeded,
    ];
    assert_eq!(
        reply,
        Reply::Subscribed {
            results,
            incarnation
        }
    );
    assert_eq!(
        bed.apply(subscribe(&["b", "a"], 20)).0,
        Reply::Fenced,
        "late"
    );
    let unsubscribe = Command::Unsubscribe(Unsubscribe {
        session: session(),
        epoch: opened.epoch,
        stamp: at(40),
        filters: vec![subscription("b", 0).filter, subscription("x", 0).filter],
    });
    let ((reply, _), _) = bed.apply_twice(unsubscribe);
    assert_eq!(reply, Reply::Unsubscribed(vec![true, false]));
    let page = |after: Option<&str>| {
        bed.query(Query::Subscriptions {
            session: session(),
            incarnation,
            after: after.map(|filter| subscription(filter, 0).filter),
            limit: 1,
        })
    };
    let subscriptions = vec![subscription("a", 1)];
    assert_eq!(
        page(None),
        Answer::Subscriptions {
            subscriptions,
            more: true
        }
    );
    let subscriptions = vec![subscription("c", 1)];
    assert_eq!(
        page(Some("a")),
        Answer::Subscriptions {
            subscriptions,
            more: false
        }
    );
}

#[test]
fn unconfirmed_routes_are_noted_until_the_latest_change_is_confirmed() {
    let mut bed = Bed::new(Store::default());
    let opened = attached(bed.apply(Command::Attach(Box::new(attach_at(10)))));
    for ms in [20, 30] {
        bed.apply(Command::Subscribe(Subscribe {
            session: session(),
            epoch: opened.epoch,
            stamp: at(ms),
            subscriptions: vec![subscription("a", 1)],
            max_filters: 3,
        }));
    }
    for (ms, is_unrouted) in [(20, true), (30, false)] {
        bed.apply_twice(Command::ConfirmRoutes(ConfirmRoutes {
            session: session(),
            incarnation: opened.incarnation,
            changed_at: at(ms).0,
        }));
        let (_, value) = bed.rows(DEADLINE).remove(0);
        assert_eq!(
            SessionDeadline::decode(value).unwrap().is_unrouted,
            is_unrouted
        );
    }
}

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

#[test]
fn an_ended_session_is_swept_in_steps() {
    let mut bed = Bed::new(Store::default());
    let opened = attached(bed.apply(Command::Attach(Box::new(attach_at(10)))));
    bed.apply(Command::Subscribe(Subscribe {
        session: session(),
        epoch: opened.epoch,
        stamp: at(11),
        subscriptions: vec![subscription("a", 1)],
        max_filters: 3,
    }));
    for _ in 0..5 {
        bed.apply(Command::Insert(insert(
            opened.incarnation,
            "a",
            Qos::AtLeastOnce,
        )));
    }
    bed.apply(Command::Insert(keyed(
        insert(opened.incarnation, "a", Qos::ExactlyOnce),
        1,
        1,
        1,
    )));
    let clean = Attach {
        clean_start: true,
        ..attach_at(20)
    };
    let (reply, effects) = bed.apply(Command::Attach(Box::new(clean)));
    let next = attached((reply, Vec::new()));
    assert!(!next.session_present);
    let incarnation = opened.incarnation;
    let due = Effect::SweepDue {
        session: session(),
        incarnation,
    };
    assert!(effects.contains(&due));
    assert_eq!(fetch(&bed, next.incarnation, 0), []);
    let sweep = |filters: &[&str], limit| {
        Command::Sweep(Sweep {
            session: session(),
            incarnation,
            filters: filters
                .iter()
                .map(|filter| subscription(filter, 0).filter)
                .collect(),
            limit,
        })
    };
    assert_eq!(
        bed.apply(sweep(&[], 99)).0,
        Reply::Swept { more: true },
        "still routed"
    );
    assert_eq!(bed.apply(sweep(&["a"], 0)).0, Reply::Swept { more: true });
    assert_eq!(
        bed.apply_twice(sweep(&[], 99)).0.0,
        Reply::Swept { more: false }
    );
    assert_eq!((bed.rows(BODY), bed.rows(SUB)), (vec![], vec![]));
    assert_eq!(bed.rows(META).len(), 1, "the new session's");
    assert_eq!(bed.rows(DEADLINE).len(), 1, "the new session's");
}

#[test]
fn a_session_ends_when_its_time_is_over_and_not_before() {
    let mut bed = Bed::new(Store::default());
    let opened = attached(bed.apply(Command::Attach(Box::new(attach_at(10)))));
    let expire = |ms| {
        Command::Expire(Expire {
            session: session(),
            epoch: opened.epoch,
            stamp: at(ms),
        })
    };
    assert_eq!(bed.apply(expire(900_000)).0, Reply::Fenced, "attached");
    bed.apply(Command::Detach(Box::new(detach_at(20, opened.epoch))));
    assert_eq!(bed.apply(expire(100_019)).0, Reply::Fenced);
    assert_eq!(bed.apply_twice(expire(100_020)).0.0, Reply::Done);
    assert_eq!(bed.query(Query::Exists(session())), Answer::Exists(false));
}

#[test]
fn sessions_that_never_end_have_no_deadline() {
    let mut bed = Bed::new(Store::default());
    let attach = Attach {
        expiry_seconds: NEVER,
        ..attach_at(10)
    };
    let opened = attached(bed.apply(Command::Attach(Box::new(attach))));
    let (_, effects) = bed.apply(Command::Detach(Box::new(detach_at(20, opened.epoch))));
    assert_eq!(effects, []);
}
