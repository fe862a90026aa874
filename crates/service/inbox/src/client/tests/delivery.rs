//! Messages on their way into queues and out of them.

use super::*;

#[test]
fn an_online_session_is_pushed_to_and_settles() {
    let bed = Bed::new();
    let (session, opened) = bed.attach(bed.open("a"));
    for text in ["1", "2"] {
        bed.publish(
            message(text, 1),
            vec![target("a", opened.incarnation, &[options(2)])],
        );
        let push = bed.pushes.recv().unwrap();
        assert_eq!(
            (push.epoch, texts(&push.deliveries)),
            (session.epoch, vec![text])
        );
        assert_eq!(push.deliveries[0].qos, Qos::AtLeastOnce);
    }
    let first = PageLimit { messages: 1, ..ALL };
    let fetched = bed.fetch(&session, opened.next_seq, first);
    assert_eq!(
        (texts(&fetched.deliveries), fetched.next, fetched.more),
        (vec!["1"], 2, true)
    );
    let settled = vec![Settle::Done(1), Settle::Done(2)];
    wait(|done| bed.inbox.settle(&session, settled, done)).unwrap();
    let fetched = bed.fetch(&session, opened.next_seq, ALL);
    assert_eq!(
        (fetched.deliveries.len(), fetched.next, fetched.more),
        (0, 3, false)
    );
}

#[test]
fn an_offline_queue_waits_across_restarts() {
    let bed = Bed::new();
    let (session, opened) = bed.attach(bed.open("a"));
    bed.subscribe(&session, "t");
    bed.detach(&session, Cause::Normal, None);
    for text in ["1", "2", "3"] {
        bed.publish(
            message(text, 1),
            vec![target("a", opened.incarnation, &[options(1)])],
        );
    }
    let bed = bed.restart();
    let (again, reopened) = bed.attach(bed.open("a"));
    assert!(reopened.session_present && again.epoch > session.epoch);
    assert_eq!(reopened.subscriptions.len(), 1);
    let fetched = bed.fetch(&again, reopened.next_seq, ALL);
    assert_eq!(texts(&fetched.deliveries), ["1", "2", "3"]);
    assert!(
        fetched
            .deliveries
            .iter()
            .all(|delivery| !delivery.possibly_sent)
    );
}

#[test]
fn qos0_goes_past_the_queue_while_the_session_is_online() {
    let bed = Bed::with(Settings {
        qos0_offline_queue: true,
        ..Settings::default()
    });
    let (session, opened) = bed.attach(bed.open("a"));
    let targets = vec![target("a", opened.incarnation, &[options(2)])];
    bed.publish(message("1", 0), targets.clone());
    let push = bed.pushes.recv().unwrap();
    assert_eq!(
        (push.deliveries[0].seq, texts(&push.deliveries)),
        (0, vec!["1"])
    );
    bed.detach(&session, Cause::Normal, None);
    bed.publish(message("2", 0), targets);
    let (again, reopened) = bed.attach(bed.open("a"));
    let fetched = bed.fetch(&again, reopened.next_seq, ALL);
    assert_eq!(texts(&fetched.deliveries), ["2"]);
}

#[test]
fn overlapping_subscriptions_make_one_copy_with_the_highest_qos_and_all_identifiers() {
    let bed = Bed::new();
    let (_, opened) = bed.attach(bed.open("p"));
    let own = SubscriptionOptions {
        no_local: true,
        id: NonZeroU32::new(1),
        ..options(2)
    };
    let keeping = SubscriptionOptions {
        retain_as_published: true,
        id: NonZeroU32::new(2),
        ..options(0)
    };
    let other = SubscriptionOptions {
        id: NonZeroU32::new(3),
        ..options(1)
    };
    let retained = Message {
        retain: true,
        ..message("m", 2)
    };
    let of = |subscriptions: &[SubscriptionOptions]| {
        vec![target("p", opened.incarnation, subscriptions)]
    };
    bed.publish(retained.clone(), of(&[own]));
    bed.publish(retained.clone(), of(&[own, keeping, other]));
    let delivery = bed.pushes.recv().unwrap().deliveries.remove(0);
    assert_eq!((delivery.qos, delivery.retain), (Qos::AtLeastOnce, true));
    assert_eq!(delivery.subscription_ids.as_slice(), [2, 3]);
    bed.publish(retained, of(&[other]));
    assert!(!bed.pushes.recv().unwrap().deliveries[0].retain);
}

#[test]
fn a_repeated_qos2_publish_is_taken_once_and_its_id_survives_a_restart() {
    let bed = Bed::new();
    let (receiver, opened) = bed.attach(bed.open("a"));
    let (publisher, _) = bed.attach(bed.open("p"));
    let begun = wait(|done| bed.inbox.begin_inbound(&publisher, 7, done)).unwrap();
    let again = wait(|done| bed.inbox.begin_inbound(&publisher, 7, done)).unwrap();
    assert_eq!(begun, again);
    let targets = vec![target("a", opened.incarnation, &[options(2)])];
    for _ in 0..2 {
        let (message, targets) = (message("m", 2), targets.clone());
        bed.publish_keyed(message, targets, Some(begun.key))
            .unwrap();
    }
    assert_eq!(bed.fetch(&receiver, 1, ALL).deliveries.len(), 1);
    let bed = bed.restart();
    let (publisher, reopened) = bed.attach(bed.open("p"));
    assert_eq!(reopened.inbound, std::slice::from_ref(&begun));
    bed.publish_keyed(message("m", 2), targets.clone(), Some(begun.key))
        .unwrap();
    wait(|done| bed.inbox.release_inbound(&publisher, 7, done)).unwrap();
    let next = wait(|done| bed.inbox.begin_inbound(&publisher, 7, done)).unwrap();
    assert!(next.key.generation > begun.key.generation);
    bed.publish_keyed(message("n", 2), targets, Some(next.key))
        .unwrap();
    let (receiver, _) = bed.attach(bed.open("a"));
    assert_eq!(texts(&bed.fetch(&receiver, 1, ALL).deliveries), ["m", "n"]);
}

#[test]
fn received_entries_are_released_after_a_restart() {
    let bed = Bed::new();
    let (session, opened) = bed.attach(bed.open("a"));
    for text in ["1", "2"] {
        bed.publish(
            message(text, 2),
            vec![target("a", opened.incarnation, &[options(2)])],
        );
    }
    wait(|done| bed.inbox.settle(&session, vec![Settle::Received(1)], done)).unwrap();
    let bed = bed.restart();
    let (session, reopened) = bed.attach(bed.open("a"));
    assert_eq!((reopened.released, reopened.next_seq), (vec![1], 2));
    let fetched = bed.fetch(&session, 2, ALL);
    assert!(
        fetched.deliveries[0].possibly_sent,
        "within the window of a lost connection"
    );
}

#[test]
fn expired_entries_are_left_out_and_settled() {
    let bed = Bed::new();
    let (session, opened) = bed.attach(bed.open("a"));
    let short = Message {
        expiry_seconds: Some(1),
        ..message("old", 1)
    };
    let targets = vec![target("a", opened.incarnation, &[options(1)])];
    bed.publish(short, targets.clone());
    bed.publish(message("new", 1), targets);
    let fetched = bed.fetch(&session, 1, ALL);
    assert_eq!(texts(&fetched.deliveries), ["new"]);
    bed.detach(&session, Cause::Lost, None);
    let (_, reopened) = bed.attach(bed.open("a"));
    assert_eq!(reopened.next_seq, 2);
}

#[test]
fn retained_messages_fill_the_queue_and_no_further() {
    let settings = Settings {
        session_inbox_size: 2,
        ..Settings::default()
    };
    let bed = Bed::with(settings);
    let (session, _) = bed.attach(bed.open("a"));
    let messages = ["1", "2", "3"].map(|text| (message(text, 1), options(1)));
    let taken = wait(|done| bed.inbox.insert_retained(&session, messages.into(), done));
    assert_eq!(taken, Ok(2));
    let fetched = bed.fetch(&session, 1, ALL);
    assert!(fetched.deliveries.iter().all(|delivery| delivery.retain));
    assert_eq!(texts(&fetched.deliveries), ["1", "2"]);
}

#[test]
fn a_large_fan_out_reaches_everybody_in_order() {
    let bed = Bed::new();
    let sessions: Vec<_> = (0..600)
        .map(|n| {
            let client = format!("c{n}");
            let (session, opened) = bed.attach(bed.open(&client));
            (session, target(&client, opened.incarnation, &[options(1)]))
        })
        .collect();
    let targets: Vec<_> = sessions.iter().map(|(_, target)| target.clone()).collect();
    for text in ["1", "2", "3"] {
        bed.publish(message(text, 1), targets.clone());
    }
    for (session, _) in sessions {
        assert_eq!(
            texts(&bed.fetch(&session, 1, ALL).deliveries),
            ["1", "2", "3"]
        );
    }
}

#[test]
fn a_publish_reaches_no_more_sessions_than_it_may() {
    const BOUND: usize = 3;
    let bed = Bed::with(Settings {
        max_persistent_fanout: BOUND as u32,
        ..Settings::default()
    });
    let sessions: Vec<_> = (0..=BOUND)
        .map(|n| {
            let client = format!("c{n}");
            let (session, opened) = bed.attach(bed.open(&client));
            (session, target(&client, opened.incarnation, &[options(1)]))
        })
        .collect();
    for count in BOUND - 1..=BOUND + 1 {
        let targets = sessions[..count].iter().map(|(_, target)| target.clone());
        bed.publish(message(&count.to_string(), 1), targets.collect());
    }
    let throttled = |seen: &Event| seen.kind == EventKind::PersistentFanoutThrottled;
    let events: Vec<_> = bed.events.try_iter().filter(throttled).collect();
    assert_eq!(events.len(), 1);
    let detail = &events[0].detail;
    assert_eq!(detail, "1 persistent sessions beyond 3 were left out");
    let metric = &bed.inbox.hub().reporting.metrics.fanout_throttled;
    assert_eq!(metric.value(), 1);
    let expected: [&[&str]; BOUND + 1] = [&["2", "3", "4"], &["2", "3", "4"], &["3", "4"], &[]];
    for ((session, _), expected) in sessions.iter().zip(expected) {
        assert_eq!(texts(&bed.fetch(session, 1, ALL).deliveries), expected);
    }
}
