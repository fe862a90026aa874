use std::time::Duration;

use bifrust_mqtt_codec::{
    Packet, Publish, Qos, ReasonCode, RetainHandling, SubscriptionOptions, Version,
};

use crate::harness::{Broker, Client, publish, staying};

fn retain(client: &mut Client, topic: &str, payload: &str) {
    client.send(&Packet::Publish(Publish {
        retain: true,
        ..publish(topic, Qos::AtLeastOnce, 1, payload)
    }));
    assert!(matches!(client.read(), Packet::Puback(ack) if !ack.reason.is_error()));
}

#[test]
fn the_last_message_comes_at_subscribe() {
    let broker = Broker::start();
    let mut publisher = broker.client(Version::V5, "p");
    for payload in ["old", "new"] {
        retain(&mut publisher, "r/a", payload);
    }
    retain(&mut publisher, "r/b", "cleared");
    retain(&mut publisher, "r/b", "");
    let mut client = broker.client(Version::V5, "c");
    client.subscribe("r/#", Qos::AtLeastOnce);
    assert!(client.expect("r/a", "new").retain);
    client.expect_nothing();
    retain(&mut publisher, "r/a", "live");
    assert!(
        !client.expect("r/a", "live").retain,
        "live copies do not keep RETAIN"
    );
}

#[test]
fn many_come_page_by_page() {
    let broker = Broker::start();
    let mut publisher = broker.client(Version::V5, "p");
    let count = 1000;
    for i in 0..count {
        retain(&mut publisher, &format!("r/{i:04}"), &i.to_string());
    }
    for connect in [
        staying(Version::V5, "stays"),
        bifrust_mqtt_codec::Connect::new(Version::V5, "goes"),
    ] {
        let (mut client, _) = broker.connect(connect);
        client.subscribe("r/+", Qos::AtLeastOnce);
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..count {
            let Packet::Publish(publish) = client.read() else {
                panic!("not a message");
            };
            client.send(&Packet::Puback(bifrust_mqtt_codec::Ack::success(
                publish.packet_id.unwrap(),
            )));
            assert!(publish.retain);
            assert!(seen.insert(publish.topic.to_string()));
        }
        client.expect_nothing();
    }
}

#[test]
fn retain_handling_is_obeyed() {
    let broker = Broker::start();
    let mut publisher = broker.client(Version::V5, "p");
    retain(&mut publisher, "r", "x");
    let mut client = broker.client(Version::V5, "c");
    let mut subscribe = |handling, comes: bool| {
        let options = SubscriptionOptions {
            retain_handling: handling,
            ..SubscriptionOptions::with_qos(Qos::AtMostOnce)
        };
        client.subscribe_with("r", options, Some(3));
        if comes {
            let got = client.expect("r", "x");
            assert_eq!(got.properties.subscription_ids.as_slice(), [3]);
        }
        client.expect_nothing();
    };
    subscribe(RetainHandling::DoNotSend, false);
    subscribe(RetainHandling::SendIfNew, false);
    subscribe(RetainHandling::SendAtSubscribe, true);
}

#[test]
fn copies_that_still_travel_are_waited_for() {
    let broker = Broker::start();
    let mut publisher = broker.client(Version::V5, "p");
    let count = 3000;
    for i in 0..count {
        publisher.send(&Packet::Publish(Publish {
            retain: true,
            ..publish(&format!("r/{i}"), Qos::AtMostOnce, 0, "x")
        }));
    }
    publisher.expect_nothing();
    // Routed before this subscription was there, and maybe not stored yet.
    let mut client = broker.client(Version::V5, "c");
    client.subscribe("r/+", Qos::AtMostOnce);
    let mut seen = std::collections::BTreeSet::new();
    while seen.len() < count {
        let Packet::Publish(publish) = client.read() else {
            panic!("not a message");
        };
        seen.insert(publish.topic.to_string());
    }
}

/// A broker with a persistent session at a topic whose inserts are refused.
fn refusing(broker: &Broker) -> Client {
    let (mut kept, _) = broker.connect(staying(Version::V5, "kept"));
    kept.subscribe("refused", Qos::ExactlyOnce);
    broker.client(Version::V5, "c")
}

#[test]
fn what_is_stored_cannot_be_refused_any_more() {
    for qos in [Qos::AtLeastOnce, Qos::ExactlyOnce] {
        let broker = Broker::start();
        let mut client = refusing(&broker);
        client.publish("refused", qos, 1, "plain");
        let (Packet::Puback(ack) | Packet::Pubrec(ack)) = client.read() else {
            panic!("no answer");
        };
        assert_eq!(ack.reason, ReasonCode::QUOTA_EXCEEDED);
        // Its copy is there for all who come: "refused" would be a lie (contract C3).
        let broker = Broker::giving_up_after(Duration::from_secs(1));
        let mut client = refusing(&broker);
        client.send(&Packet::Publish(Publish {
            retain: true,
            ..publish("refused", qos, 1, "retained")
        }));
        let answer = client.try_read();
        assert!(matches!(answer, None | Some(Packet::Disconnect(_))));
        let mut later = broker.client(Version::V5, "later");
        later.subscribe("refused", Qos::AtMostOnce);
        later.expect("refused", "retained");
    }
}
