use bifrust_model::Settings;
use bifrust_mqtt_codec::{
    Connect, Disconnect, Packet, Qos, ReasonCode, Subscribe, Subscription, SubscriptionOptions,
    Unsubscribe, Version,
};

use crate::harness::{Broker, Client, ack, packet_id, publish};

#[test]
fn messages_flow_between_transient_sessions() {
    let broker = Broker::start();
    for version in [Version::V311, Version::V5] {
        // Several, so that both shards have some.
        let mut subscribers: Vec<_> = (0..4)
            .map(|i| broker.client(version, &format!("s{i}")))
            .collect();
        for subscriber in &mut subscribers {
            assert_eq!(
                subscriber.subscribe("a/+", Qos::ExactlyOnce),
                ReasonCode::GRANTED_QOS_2
            );
        }
        let mut publisher = broker.client(version, "p");
        for (id, qos) in [
            (1, Qos::AtMostOnce),
            (2, Qos::AtLeastOnce),
            (3, Qos::ExactlyOnce),
        ] {
            let payload = format!("{qos:?}");
            publisher.publish_acked("a/b", qos, id, &payload);
            for subscriber in &mut subscribers {
                assert_eq!(subscriber.expect("a/b", &payload).qos, qos);
            }
        }
    }
}

#[test]
fn what_was_published_right_before_the_goodbye_arrives() {
    let broker = Broker::start();
    let mut subscriber = broker.client(Version::V311, "s");
    subscriber.subscribe("#", Qos::AtMostOnce);
    for i in 0..50 {
        let mut publisher = broker.raw(Version::V311);
        publisher.send(&Packet::Connect(Box::new(Connect::new(Version::V311, "p"))));
        // A topic that nobody has used: its receivers have to be looked up.
        publisher.publish(&format!("t/{i}"), Qos::AtMostOnce, 0, "x");
        let goodbye = Disconnect::with_reason(ReasonCode::NORMAL_DISCONNECTION);
        publisher.send(&Packet::Disconnect(goodbye));
        drop(publisher);
        subscriber.expect(&format!("t/{i}"), "x");
    }
}

#[test]
fn more_filters_than_routes_may_wait_are_all_taken() {
    let broker = Broker::narrow(64);
    let subscribe = |client: &mut Client, name: &str| {
        let subscriptions = (0..500).map(|n| Subscription {
            filter: format!("{name}/{n}/+").into(),
            options: SubscriptionOptions::with_qos(Qos::AtMostOnce),
        });
        client.send(&Packet::Subscribe(Subscribe {
            packet_id: packet_id(1),
            subscriptions: subscriptions.collect(),
            subscription_id: None,
            user_properties: Default::default(),
        }));
    };
    for round in 0..2 {
        // Both shards have some; those of the round before are being taken out.
        let mut clients: Vec<_> = (0..4)
            .map(|n| {
                let name = format!("{round}-{n}");
                (broker.client(Version::V5, &name), name)
            })
            .collect();
        for (client, name) in &mut clients {
            subscribe(client, name);
        }
        for (client, _) in &mut clients {
            match client.read() {
                Packet::Suback(suback) => {
                    assert_eq!(suback.reasons, [ReasonCode::GRANTED_QOS_0; 500]);
                }
                other => panic!("{other:?} instead of SUBACK"),
            }
        }
        let mut publisher = broker.client(Version::V5, "p");
        for (client, name) in &mut clients {
            let topic = format!("{name}/499/x");
            publisher.publish(&topic, Qos::AtMostOnce, 0, "x");
            client.expect(&topic, "x");
        }
    }
}

#[test]
fn order_is_kept_over_thousands() {
    let broker = Broker::start();
    let mut subscriber = broker.client(Version::V311, "s");
    subscriber.subscribe("t", Qos::AtLeastOnce);
    let mut publisher = broker.client(Version::V311, "p");
    let count = 5000;
    for i in 0..count {
        let id = u16::try_from(i % 60_000 + 1).unwrap();
        publisher.publish("t", Qos::AtLeastOnce, id, &i.to_string());
    }
    for i in 0..count {
        subscriber.expect("t", &i.to_string());
    }
    for i in 0..count {
        let id = u16::try_from(i % 60_000 + 1).unwrap();
        assert_eq!(publisher.read(), Packet::Puback(ack(id)));
    }
}

#[test]
fn large_messages_pass_whole() {
    let broker = Broker::start();
    let mut subscriber = broker.client(Version::V5, "s");
    subscriber.subscribe("t", Qos::AtMostOnce);
    let mut publisher = broker.client(Version::V5, "p");
    let payload: String = ('a'..='z').cycle().take(900_000).collect();
    for _ in 0..3 {
        publisher.publish_acked("t", Qos::AtLeastOnce, 1, &payload);
        subscriber.expect("t", &payload);
    }
}

#[test]
fn overlapping_subscriptions_give_one_copy() {
    let broker = Broker::start();
    let mut client = broker.client(Version::V5, "c");
    client.subscribe_with(
        "a/#",
        SubscriptionOptions::with_qos(Qos::AtMostOnce),
        Some(1),
    );
    client.subscribe_with(
        "a/b",
        SubscriptionOptions::with_qos(Qos::AtLeastOnce),
        Some(2),
    );
    let mut publisher = broker.client(Version::V5, "p");
    publisher.publish_acked("a/b", Qos::ExactlyOnce, 1, "x");
    let got = client.expect("a/b", "x");
    assert_eq!(got.qos, Qos::AtLeastOnce);
    let mut ids = got.properties.subscription_ids.to_vec();
    ids.sort_unstable();
    assert_eq!(ids, [1, 2]);
    client.expect_nothing();
}

#[test]
fn no_local_leaves_out_own_messages() {
    let broker = Broker::start();
    let mut client = broker.client(Version::V5, "c");
    let options = SubscriptionOptions {
        no_local: true,
        ..SubscriptionOptions::with_qos(Qos::AtMostOnce)
    };
    client.subscribe_with("t", options, None);
    client.publish("t", Qos::AtMostOnce, 0, "own");
    let mut other = broker.client(Version::V5, "o");
    other.publish("t", Qos::AtMostOnce, 0, "other");
    client.expect("t", "other");
}

#[test]
fn unsubscribed_topics_are_quiet() {
    let broker = Broker::start();
    let mut client = broker.client(Version::V5, "c");
    client.subscribe("t", Qos::AtMostOnce);
    for expected in [ReasonCode::SUCCESS, ReasonCode::NO_SUBSCRIPTION_EXISTED] {
        client.send(&Packet::Unsubscribe(Unsubscribe {
            packet_id: packet_id(9),
            filters: vec!["t".into()],
            user_properties: Default::default(),
        }));
        match client.read() {
            Packet::Unsuback(unsuback) => assert_eq!(unsuback.reasons, [expected]),
            other => panic!("{other:?}"),
        }
    }
    client.publish_acked("t", Qos::AtLeastOnce, 1, "x");
    client.expect_nothing();
}

#[test]
fn a_newer_connection_takes_over() {
    let broker = Broker::start();
    for _ in 0..4 {
        let mut older = broker.client(Version::V5, "c");
        let mut newer = broker.client(Version::V5, "c");
        assert_eq!(older.read_end(), Some(ReasonCode::SESSION_TAKEN_OVER));
        newer.expect_nothing();
    }
}

#[test]
fn a_transient_session_over_its_bound_is_disconnected() {
    let settings = Settings {
        session_inbox_size: 10,
        max_inflight: 5,
        ..Settings::default()
    };
    let broker = Broker::with(settings, 1);
    let mut stuck = broker.client(Version::V311, "s");
    stuck.subscribe("t", Qos::AtLeastOnce);
    let mut publisher = broker.client(Version::V311, "p");
    for id in 1..=20 {
        publisher.publish_acked("t", Qos::AtLeastOnce, id, "x");
    }
    assert_eq!(stuck.read_end(), None, "v3 is just closed");
    publisher.expect_nothing();
}

#[test]
fn a_will_is_sent_when_the_client_is_lost_and_not_when_it_leaves() {
    let broker = Broker::start();
    let mut watcher = broker.client(Version::V5, "w");
    watcher.subscribe("will/#", Qos::AtLeastOnce);
    for is_lost in [false, true] {
        let mut connect = Connect::new(Version::V5, "c");
        connect.will = Some(Box::new(bifrust_mqtt_codec::Will {
            topic: "will/c".into(),
            payload: "gone".into(),
            qos: Qos::AtLeastOnce,
            ..Default::default()
        }));
        let (mut client, _) = broker.connect(connect);
        if is_lost {
            drop(client);
            watcher.expect("will/c", "gone");
        } else {
            let packet = Disconnect::with_reason(ReasonCode::NORMAL_DISCONNECTION);
            client.send(&Packet::Disconnect(packet));
            assert_eq!(client.read_end(), None);
            watcher.expect_nothing();
        }
    }
}

#[test]
fn tenants_do_not_see_each_other() {
    let broker = Broker::start();
    let connect = |tenant: &str| {
        let mut connect = Connect::new(Version::V311, "same");
        connect.user_name = Some(tenant.to_owned().into());
        broker.connect(connect).0
    };
    let (mut a, mut b) = (connect("a"), connect("b"));
    a.subscribe("t", Qos::AtMostOnce);
    b.subscribe("t", Qos::AtMostOnce);
    a.send(&Packet::Publish(publish("t", Qos::AtMostOnce, 0, "of a")));
    a.expect("t", "of a");
    b.expect_nothing();
    b.publish("t", Qos::AtMostOnce, 0, "of b");
    b.expect("t", "of b");
}

#[test]
fn stopping_tells_clients_and_frees_all() {
    let mut broker = Broker::start();
    let mut v5 = broker.client(Version::V5, "a");
    let mut v3 = broker.client(Version::V311, "b");
    let waiting = std::thread::spawn(move || {
        assert_eq!(v5.read_end(), Some(ReasonCode::SERVER_SHUTTING_DOWN));
        assert_eq!(v3.read_end(), None);
    });
    broker.stop();
    waiting.join().unwrap();
    assert_eq!(broker.connections(), 0);
}
