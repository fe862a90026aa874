//! Subscriptions and what is noted of their routes.

use super::*;

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
    let was_unrouted = false;
    assert_eq!(
        reply,
        Reply::Subscribed {
            results,
            was_unrouted
        }
    );
    bed.reopen();
    let (reply, _) = bed.apply(subscribe(&["a", "c", "d"], 30));
    let results = vec![
        Subscribed::Replaced,
        Subscribed::New,
        Subscribed::QuotaExceeded,
    ];
    let was_unrouted = true;
    assert_eq!(
        reply,
        Reply::Subscribed {
            results,
            was_unrouted
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
    let existed = vec![true, false];
    assert_eq!(
        reply,
        Reply::Unsubscribed {
            existed,
            was_unrouted
        }
    );
    let page = |after: Option<&str>| {
        bed.query(Query::Subscriptions {
            session: session(),
            incarnation,
            after: after.map(|filter| subscription(filter, 0).filter),
            limit: 1,
        })
    };
    let filter = |name: &str| subscription(name, 0).filter;
    let found = |stands: &[&str], leaves: &[&str], last: Option<&str>| Answer::Subscriptions {
        subscriptions: stands.iter().map(|name| subscription(name, 1)).collect(),
        leaving: leaves.iter().map(|name| filter(name)).collect(),
        last: last.map(filter),
    };
    assert_eq!(page(None), found(&["a"], &[], Some("a")));
    assert_eq!(page(Some("a")), found(&[], &["b"], Some("b")));
    assert_eq!(page(Some("b")), found(&["c"], &[], None));
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
            gone: Vec::new(),
        }));
        let (_, value) = bed.rows(DEADLINE).remove(0);
        assert_eq!(
            SessionDeadline::decode(value).unwrap().is_unrouted,
            is_unrouted
        );
    }
}

#[test]
fn what_has_ended_is_kept_until_its_route_is_known_to_be_gone() {
    let mut bed = Bed::new(Store::default());
    let opened = attached(bed.apply(Command::Attach(Box::new(attach_at(10)))));
    let filters = |names: &[&str]| -> Vec<TopicFilter> {
        let names = names.iter();
        names.map(|name| subscription(name, 0).filter).collect()
    };
    let subscribe = |names: &[&str], ms| {
        Command::Subscribe(Subscribe {
            session: session(),
            epoch: opened.epoch,
            stamp: at(ms),
            subscriptions: names.iter().map(|name| subscription(name, 1)).collect(),
            max_filters: 2,
        })
    };
    let unsubscribe = |names: &[&str], ms| {
        Command::Unsubscribe(Unsubscribe {
            session: session(),
            epoch: opened.epoch,
            stamp: at(ms),
            filters: filters(names),
        })
    };
    let confirm = |names: &[&str], ms| {
        Command::ConfirmRoutes(ConfirmRoutes {
            session: session(),
            incarnation: opened.incarnation,
            changed_at: at(ms).0,
            gone: filters(names),
        })
    };
    bed.apply(subscribe(&["a", "b"], 20));
    bed.apply_twice(confirm(&[], 20));
    bed.apply_twice(unsubscribe(&["a", "b"], 30));
    bed.reopen();
    // Its place is free at once, and it may come back.
    let (reply, _) = bed.apply(subscribe(&["a", "c"], 40));
    let results = vec![Subscribed::New, Subscribed::New];
    let was_unrouted = true;
    assert_eq!(
        reply,
        Reply::Subscribed {
            results,
            was_unrouted
        }
    );
    bed.apply_twice(confirm(&["a", "b"], 30));
    assert_eq!(bed.rows(SUB).len(), 3, "confirmed too late");
    bed.apply_twice(confirm(&["a", "b"], 40));
    assert_eq!(bed.rows(SUB).len(), 2, "what came back is not gone");
    let before = bed.rows(DEADLINE);
    bed.apply_twice(unsubscribe(&["b"], 50));
    assert_eq!(bed.rows(DEADLINE), before, "nothing was there to end");
}
