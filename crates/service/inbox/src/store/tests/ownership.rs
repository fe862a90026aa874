//! Who owns a session, and when it ends.

use super::*;

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
