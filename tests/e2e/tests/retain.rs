//! Retained messages.

use std::thread;
use std::time::{Duration, Instant};

use bifrust_e2e::client::{PATIENCE, SILENCE};
use bifrust_e2e::wire::Properties;
use bifrust_e2e::{
    Broker, Client, Connect, Filter, Packet, Property, Publish, Received, VERSIONS, Version,
};

#[test]
fn retained_message_meets_new_subscribers() {
    let broker = Broker::start();
    for version in VERSIONS {
        let mut writer = broker.connect(&Connect::new(version, "writer"));
        for qos in 0..=2 {
            let topic = format!("r/{version:?}/{qos}");
            let mut live = broker.connect(&Connect::v5("live"));
            live.subscribe_all(&[Filter::new(&topic, 2).retain_handling(2)]);
            writer.publish(&Publish::new(&topic, "old").qos(qos).retain());
            writer.publish(&Publish::new(&topic, "new").qos(qos).retain());
            assert_eq!(live.receive_texts(2), ["old", "new"]);
            if qos == 0 {
                // QoS 0 promises nothing about when: wait until it is there.
                wait_for_retained(&broker, &topic, Some("new"));
            }
            for granted in 0..=2 {
                let mut reader = broker.connect(&Connect::new(version, "reader"));
                reader.subscribe(&topic, granted);
                let got = reader.receive(); // MQTT-3.3.1-6, -8 (3.1.1), MQTT-3.8.4-4
                assert_eq!((got.text().as_str(), got.retain), ("new", true), "{topic}");
                assert_eq!(got.qos, qos.min(granted));
                reader.expect_silence();
            }
        }
    }
}

/// Subscribes anew until the retained value is this one, or until there is none.
fn wait_for_retained(broker: &Broker, topic: &str, value: Option<&str>) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut client = broker.connect(&Connect::v5("waiting"));
        client.subscribe(topic, 1);
        let found = match client.poll(Instant::now() + SILENCE) {
            Received::Packet(Packet::Publish(publish)) => Some(publish.text()),
            _ => None,
        };
        if found.as_deref() == value {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "{topic} is {found:?}, never {value:?}"
        );
    }
}

/// Leaves a retained message and takes it by a new subscription: its scan is over then, so that
/// whatever comes next is live (C3 lets a message come both ways).
fn subscribe_behind_the_scan(client: &mut Client, filter: Filter) {
    client.publish(&Publish::new(&filter.filter, "before").qos(1).retain());
    client.subscribe_all(&[filter]);
    let got = client.receive();
    assert!(got.retain && got.text() == "before", "{got:?}");
}

#[test]
fn standing_subscribers_see_it_without_the_flag() {
    let broker = Broker::start();
    for version in VERSIONS {
        let mut client = broker.connect(&Connect::new(version, "client"));
        subscribe_behind_the_scan(&mut client, Filter::new("standing", 1));
        client.publish(&Publish::new("standing", "x").qos(1).retain());
        assert!(!client.receive().retain); // MQTT-3.3.1-9 of 3.1.1
        client.publish(&Publish::new("standing", "").qos(1).retain());
        let got = client.receive();
        assert!(got.payload.is_empty() && !got.retain); // MQTT-3.3.1-7: delivered as usual
    }
    let mut client = broker.connect(&Connect::v5("client"));
    subscribe_behind_the_scan(
        &mut client,
        Filter::new("standing", 1).retain_as_published(),
    );
    client.publish(&Publish::new("standing", "x").qos(1).retain());
    assert!(client.receive().retain); // MQTT-3.3.1-13
    client.publish(&Publish::new("standing", "x").qos(1));
    assert!(!client.receive().retain);
}

#[test]
fn empty_payload_clears() {
    let broker = Broker::start();
    for version in VERSIONS {
        let mut client = broker.connect(&Connect::new(version, "client"));
        for qos in 0..=2 {
            client.publish(&Publish::new("clear", "x").qos(1).retain());
            client.publish(&Publish::new("clear", "").qos(qos).retain()); // MQTT-3.3.1-10 (3.1.1)
            if qos == 0 {
                wait_for_retained(&broker, "clear", None);
            }
            client.publish(&Publish::new("clear", "not kept").qos(1)); // MQTT-3.3.1-8
            client.subscribe("clear", 1);
            client.expect_silence();
            client.unsubscribe(&["clear"]);
        }
    }
}

#[test]
fn retain_handling_chooses() {
    let broker = Broker::start();
    let mut client = broker.connect(&Connect::v5("client"));
    client.publish(&Publish::new("h", "x").qos(1).retain());
    client.subscribe_all(&[Filter::new("h", 1).retain_handling(2)]);
    client.expect_silence(); // MQTT-3.3.1-11
    client.subscribe_all(&[Filter::new("h", 1).retain_handling(1)]);
    client.expect_silence(); // MQTT-3.3.1-10: the subscription existed
    client.subscribe_all(&[Filter::new("h", 1).retain_handling(0)]);
    assert!(client.receive().retain); // MQTT-3.3.1-9, MQTT-3.8.4-4
    client.unsubscribe(&["h"]);
    client.subscribe_all(&[Filter::new("h", 1).retain_handling(1)]);
    assert!(client.receive().retain);
    client.expect_silence();
    // v3 repeats them at every SUBSCRIBE (MQTT-3.8.4-3 of 3.1.1).
    let mut old = broker.connect(&Connect::v3("old"));
    for _ in 0..2 {
        old.subscribe("h", 1);
        assert!(old.receive().retain);
    }
}

#[test]
fn wildcards_find_all_that_match() {
    let broker = Broker::start();
    for version in VERSIONS {
        let root = format!("wild{version:?}");
        let mut client = broker.connect(&Connect::new(version, "client"));
        for topic in ["a", "a/b", "a/b/c", "x/b", "/", "b//c", ""] {
            let topic = format!("{root}/{topic}");
            client.publish(&Publish::new(&topic, &topic).qos(1).retain());
        }
        client.publish(&Publish::new(&root, &root).qos(1).retain());
        client.publish(&Publish::new(format!("$hidden/{root}"), "x").qos(1).retain());
        let cases: [(&str, &[&str]); 6] = [
            (
                "/#",
                &["", "/", "/a", "/a/b", "/a/b/c", "/b//c", "/x/b", "//"],
            ),
            ("/+", &["/", "/a"]),
            ("/+/b", &["/a/b", "/x/b"]),
            ("/a/#", &["/a", "/a/b", "/a/b/c"]),
            ("/+/+", &["//", "/a/b", "/x/b"]),
            ("/b/+/c", &["/b//c"]),
        ];
        for (filter, expected) in cases {
            let filter = format!("{root}{filter}");
            client.subscribe(&filter, 1);
            let mut expected: Vec<String> = expected
                .iter()
                .map(|rest| format!("{root}{rest}"))
                .collect();
            let mut got: Vec<String> = (0..expected.len())
                .map(|_| client.receive().topic)
                .collect();
            expected.sort();
            got.sort();
            assert_eq!(got, expected, "{filter}");
            client.expect_silence();
            client.unsubscribe(&[&filter]);
        }
        client.subscribe(&format!("+/{root}"), 1); // MQTT-4.7.2-1
        client.expect_silence();
        client.subscribe(&format!("$hidden/{root}"), 1);
        assert!(client.receive().retain);
    }
}

#[test]
fn all_properties_are_kept() {
    let broker = Broker::start();
    let mut client = broker.connect(&Connect::v5("client"));
    let sent = Publish::new("kept", "x")
        .qos(2)
        .retain()
        .property(Property::PayloadFormat(1))
        .property(Property::ContentType("text/plain".into()))
        .property(Property::ResponseTopic("answer".into()))
        .property(Property::CorrelationData(vec![1, 2]))
        .property(Property::User("b".into(), "1".into()))
        .property(Property::User("a".into(), "2".into()));
    client.publish(&sent);
    let id = Properties(vec![Property::SubscriptionId(7)]);
    client.subscribe_with(&[Filter::new("kept", 2)], &id);
    let got = client.receive();
    assert_eq!((got.qos, got.retain), (2, true));
    for property in &sent.properties.0 {
        assert!(got.properties.has(property), "{property:?} in {got:?}");
    }
    assert_eq!(got.properties.subscription_ids(), [7]);
    let expected = [("b", "1"), ("a", "2")].map(|(k, v)| (k.to_owned(), v.to_owned()));
    assert_eq!(got.properties.user(), expected);
}

#[test]
fn retained_messages_expire() {
    let broker = Broker::start();
    let mut client = broker.connect(&Connect::v5("client"));
    let publish = |topic: &str, seconds| {
        Publish::new(topic, "x")
            .qos(1)
            .retain()
            .property(Property::MessageExpiry(seconds))
    };
    client.publish(&publish("expiry/short", 1));
    client.publish(&publish("expiry/long", 1000));
    thread::sleep(Duration::from_millis(2100)); // the passing of time is what is tested
    client.subscribe("expiry/#", 1);
    let got = client.receive();
    assert_eq!(got.topic, "expiry/long", "MQTT-3.3.2-5");
    let left = got.properties.find(|p| match p {
        Property::MessageExpiry(seconds) => Some(*seconds),
        _ => None,
    });
    assert!(
        (900..=998).contains(&left.expect("MQTT-3.3.2-6")),
        "{left:?}"
    );
    client.expect_silence();
}

#[test]
fn retained_messages_outlive_restarts() {
    let mut broker = Broker::start();
    for is_killed in [false, true] {
        let mut client = broker.connect(&Connect::v5("client"));
        for index in 0..20 {
            let topic = format!("durable/{index}");
            let text = format!("{index} {is_killed}");
            client.publish(&Publish::new(topic, text).qos(1 + index % 2).retain());
        }
        client.publish(&Publish::new("durable/0", "").qos(1).retain());
        if is_killed {
            broker.kill();
        } else {
            assert!(broker.terminate().success());
        }
        broker.restart();
        let mut client = broker.connect(&Connect::v3("client"));
        client.subscribe("durable/#", 2);
        let mut got = client.receive_texts(19);
        let mut expected: Vec<String> = (1..20)
            .map(|index| format!("{index} {is_killed}"))
            .collect();
        got.sort();
        expected.sort();
        assert_eq!(got, expected);
        client.expect_silence();
    }
}

#[test]
fn many_retained_messages_are_streamed() {
    let broker = Broker::start();
    let mut writer = broker.connect(&Connect::v5("writer"));
    let payload = vec![b'x'; 2000];
    for index in 0..3000_u16 {
        writer.send_publish(
            &Publish::new(format!("many/{index}"), &payload)
                .qos(1)
                .retain()
                .id(index + 1),
        );
        if index % 500 == 499 {
            for id in index - 499..=index {
                writer.expect_ack(bifrust_e2e::AckKind::Puback, id + 1);
            }
        }
    }
    for connect in [
        Connect::v3("v3"),
        Connect::v5("v5"),
        Connect::v5("narrow").receive_maximum(3),
        Connect::persistent(Version::V3, "kept"),
        Connect::persistent(Version::V5, "kept5").receive_maximum(10),
    ] {
        for qos in [0, 1] {
            let mut reader = broker.connect(&connect);
            reader.subscribe("many/+", qos);
            let mut topics: Vec<String> = (0..3000).map(|_| reader.receive().topic).collect();
            topics.sort();
            topics.dedup();
            assert_eq!(topics.len(), 3000, "{} at QoS {qos}", connect.client_id);
            reader.expect_silence();
            reader.unsubscribe(&["many/+"]);
        }
    }
}

#[test]
fn live_and_retained_never_leave_a_gap() {
    // C3: each subscriber sees every acknowledged value, or a newer one, and never goes back.
    let broker = Broker::start();
    let stop = std::sync::atomic::AtomicBool::new(false);
    thread::scope(|scope| {
        let broker = &broker;
        let stop = &stop;
        let writer = scope.spawn(move || {
            let mut writer = broker.connect(&Connect::v5("writer"));
            let mut value = 0_u32;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                value += 1;
                writer.publish(&Publish::new("gap", value.to_string()).qos(1).retain());
            }
            value
        });
        let value = |publish: &Publish| publish.text().parse::<u32>().expect("a number");
        for round in 0..40 {
            let mut reader = broker.connect(&Connect::v5(format!("reader{}", round % 4)));
            reader.subscribe("gap", 1);
            let mut last = value(&reader.receive());
            for _ in 0..10 {
                let got = reader.receive();
                let next = value(&got);
                assert!(next == last + 1 || next == last, "{last} then {got:?}");
                last = next;
            }
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        let last = writer.join().expect("the writer ran");
        let mut reader = broker.connect(&Connect::v5("reader"));
        reader.subscribe("gap", 1);
        assert_eq!(value(&reader.receive()), last);
    });
}
