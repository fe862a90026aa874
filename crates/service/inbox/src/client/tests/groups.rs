//! One copy for a session itself, one for each of its groups.

use bifrust_dist::{Group, Load, Member, MemberId, Pick, StoredPick};

use super::*;

#[test]
fn a_session_takes_a_copy_for_itself_and_one_for_each_of_its_groups_once() {
    let bed = Bed::new();
    let (receiver, opened) = bed.attach(bed.open("a"));
    let (_, other) = bed.attach(bed.open("b"));
    let (publisher, _) = bed.attach(bed.open("p"));
    let begun = wait(|done| bed.inbox.begin_inbound(&publisher, 7, done)).unwrap();
    let plain = vec![
        target("a", opened.incarnation, &[options(1)]),
        target("b", other.incarnation, &[options(1)]),
    ];
    let loads: Vec<_> = (0..2).map(|_| Arc::default()).collect();
    let group = |name: &str, load: &Arc<Load>| {
        let filter = TopicFilter::new(format!("$share/{name}/t").into()).unwrap();
        let id = MemberId::Inbox {
            client: ClientId::new("a").unwrap(),
            incarnation: opened.incarnation,
        };
        Group::new(filter, vec![Member::new(id, options(2), load.clone())])
    };
    let groups = vec![group("g", &loads[0]), group("h", &loads[1])];
    let matched = Matched::new(smallvec::SmallVec::new(), plain).with_groups(groups);
    let matched = Arc::new(matched);
    let publication = Arc::new(Publication {
        tenant: bed.tenant.clone(),
        message: message("m", 2),
        key: Some(begun.key),
    });
    let picks = [0, 1].map(|group| Pick { group, member: 0 });
    for _ in 0..2 {
        let deliverer = bed.inbox.deliverer();
        wait(|done| deliverer.deliver(&publication, &matched, &picks, done)).unwrap();
    }
    let deliveries = bed.fetch(&receiver, 1, ALL).deliveries;
    let levels: Vec<u8> = deliveries.iter().map(|taken| taken.qos.level()).collect();
    assert_eq!(levels, [1, 2, 2]);
}

#[test]
fn picks_of_a_begun_publish_survive_a_restart_and_only_grow() {
    let bed = Bed::new();
    let (publisher, _) = bed.attach(bed.open("p"));
    let begun = wait(|done| bed.inbox.begin_inbound(&publisher, 7, done)).unwrap();
    assert!(begun.picks.is_empty());
    let picks: Vec<StoredPick> = ["$share/g/t", "$oshare/h/t"]
        .iter()
        .map(|filter| StoredPick {
            filter: TopicFilter::new((*filter).into()).unwrap(),
            member: MemberId::Inbox {
                client: ClientId::new("a").unwrap(),
                incarnation: 5,
            },
        })
        .collect();
    let store = |bed: &Bed, session: &SessionRef, key, picks: &[StoredPick]| {
        wait(|done| bed.inbox.store_picks(session, key, picks, done))
    };
    store(&bed, &publisher, begun.key, &picks).unwrap();
    // An older one, applied late.
    store(&bed, &publisher, begun.key, &picks[..1]).unwrap();
    let later = RoutingKey {
        generation: begun.key.generation + 1,
        ..begun.key
    };
    let refused = Err(InboxError::Refused);
    assert_eq!(store(&bed, &publisher, later, &picks), refused);
    let bed = bed.restart();
    let (newer, _) = bed.attach(bed.open("p"));
    let fenced = Err(InboxError::Fenced);
    assert_eq!(store(&bed, &publisher, begun.key, &picks), fenced);
    let again = wait(|done| bed.inbox.begin_inbound(&newer, 7, done)).unwrap();
    assert_eq!(again.picks, picks);
    wait(|done| bed.inbox.release_inbound(&newer, 7, done)).unwrap();
    let next = wait(|done| bed.inbox.begin_inbound(&newer, 7, done)).unwrap();
    assert!(next.picks.is_empty());
}

#[test]
fn an_ended_session_passes_on_what_its_groups_gave_it() {
    let bed = Bed::new();
    bed.inbox.start();
    let (session, opened) = bed.attach(bed.open("a"));
    bed.subscribe(&session, "$share/g/t");
    bed.subscribe(&session, "t");
    let filter = TopicFilter::new("$share/g/t".into()).unwrap();
    let id = MemberId::Inbox {
        client: ClientId::new("a").unwrap(),
        incarnation: opened.incarnation,
    };
    let group = Group::new(filter, vec![Member::new(id, options(2), Arc::default())]);
    let plain = vec![target("a", opened.incarnation, &[options(1)])];
    let matched = Matched::new(smallvec::SmallVec::new(), plain).with_groups(vec![group]);
    let matched = Arc::new(matched);
    for (text, level) in [("1", 1), ("2", 2), ("3", 1)] {
        let publication = Arc::new(Publication {
            tenant: bed.tenant.clone(),
            message: message(text, level),
            key: None,
        });
        let picks = [Pick {
            group: 0,
            member: 0,
        }];
        let deliverer = bed.inbox.deliverer();
        wait(|done| deliverer.deliver(&publication, &matched, &picks, done)).unwrap();
    }
    let changes = bed.routes.listen();
    bed.attach(Open {
        clean_start: true,
        ..bed.open("a")
    });
    while changes.recv().unwrap() != 2 || bed.routes.passed.lock().unwrap().len() < 2 {}
    let passed = bed.routes.passed.lock().unwrap().clone();
    // QoS 2 may have been sent (MQTT-4.8.2-5); what the session got for itself ends with it.
    let expected = ["1", "3"].map(|text| ("a".into(), "$share/g/t".into(), text.into()));
    assert_eq!(passed, expected);
}
