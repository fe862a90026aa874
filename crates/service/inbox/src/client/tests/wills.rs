//! Wills that go out, and those that do not.

use super::*;

#[test]
fn a_will_is_sent_until_its_sender_is_done_with_it() {
    let bed = Bed::new();
    let open = Open {
        expiry_seconds: 0,
        ..bed.open("a")
    };
    let open = Open {
        will: will(&open, 30),
        ..open
    };
    let (session, opened) = bed.attach(open);
    assert!(!opened.is_durable);
    bed.detach(&session, Cause::Lost, None);
    let (sent, _, done) = bed.wills.recv().unwrap();
    assert_eq!(&sent.message.payload[..], b"will");
    done(false);
    let (_, _, done) = bed.wills.recv().unwrap();
    done(true);
    let bed = bed.restart();
    let (session, _) = bed.attach(bed.open("b"));
    bed.detach(&session, Cause::Normal, Some(0));
    assert!(bed.wills.try_recv().is_err());
}

#[test]
fn wills_of_connections_that_ended_with_the_process_are_sent() {
    let bed = Bed::new();
    for (client, expiry_seconds) in [("transient", 0), ("durable", 1000)] {
        let open = bed.open(client);
        bed.attach(Open {
            will: will(&open, 0),
            expiry_seconds,
            ..open
        });
    }
    let late = bed.open("late");
    bed.attach(Open {
        will: will(&late, 600),
        ..late
    });
    let bed = bed.restart();
    let mut clients = [(); 2].map(|()| {
        let (will, _, done) = bed.wills.recv().unwrap();
        done(true);
        will.client.client.to_string()
    });
    clients.sort_unstable();
    assert_eq!(clients, ["durable", "transient"]);
    let (_, reopened) = bed.attach(bed.open("durable"));
    assert!(reopened.session_present);
}

#[test]
fn a_normal_end_drops_the_will() {
    let bed = Bed::new();
    let open = bed.open("a");
    let (session, _) = bed.attach(Open {
        will: will(&open, 0),
        ..open
    });
    bed.detach(&session, Cause::Normal, None);
    let open = bed.open("b");
    let (session, _) = bed.attach(Open {
        will: will(&open, 0),
        ..open
    });
    bed.detach(&session, Cause::WithWill, None);
    let (sent, _, done) = bed.wills.recv().unwrap();
    done(true);
    assert_eq!(sent.client.client.as_str(), "b");
}

#[test]
fn a_will_that_is_sent_again_after_a_crash_is_queued_once() {
    let bed = Bed::new();
    let (_, opened) = bed.attach(bed.open("a"));
    let open = bed.open("p");
    let open = Open {
        will: will(&open, 0),
        ..open
    };
    let (session, _) = bed.attach(open);
    bed.detach(&session, Cause::Lost, None);
    let targets = vec![target("a", opened.incarnation, &[options(1)])];
    let (sent, key, done) = bed.wills.recv().unwrap();
    bed.publish_keyed(sent.message, targets.clone(), Some(key))
        .unwrap();
    drop(done); // The process ends before it hears of it.
    let bed = bed.restart();
    let (sent, again, done) = bed.wills.recv().unwrap();
    assert_eq!(again, key);
    bed.publish_keyed(sent.message, targets, Some(again))
        .unwrap();
    done(true);
    let (receiver, _) = bed.attach(bed.open("a"));
    assert_eq!(texts(&bed.fetch(&receiver, 1, ALL).deliveries), ["will"]);
}
