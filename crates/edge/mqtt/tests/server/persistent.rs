use bifrust_mqtt_codec::{Packet, Qos, ReasonCode, Version};

use crate::harness::{Broker, ack, staying};

#[test]
fn messages_wait_for_a_session_that_comes_back() {
    let broker = Broker::start();
    for version in [Version::V311, Version::V5] {
        let id = format!("c-{version:?}");
        let (mut client, connack) = broker.connect(staying(version, &id));
        assert!(!connack.session_present);
        client.subscribe(&format!("q/{id}"), Qos::ExactlyOnce);
        drop(client);
        let topic = format!("q/{id}");
        let mut publisher = broker.client(version, "p");
        for i in 1..=300 {
            let qos = [Qos::AtLeastOnce, Qos::ExactlyOnce][usize::from(i % 2)];
            publisher.publish_acked(&topic, qos, i, &i.to_string());
        }
        let (mut client, connack) = broker.connect(staying(version, &id));
        assert!(connack.session_present);
        for i in 1..=300 {
            client.expect(&topic, &i.to_string());
        }
        client.expect_nothing();
    }
}

#[test]
fn an_online_persistent_session_gets_messages_in_order() {
    let broker = Broker::start();
    let (mut client, _) = broker.connect(staying(Version::V5, "c"));
    client.subscribe("t", Qos::AtLeastOnce);
    let mut publisher = broker.client(Version::V5, "p");
    for i in 1..=500 {
        publisher.publish("t", Qos::AtLeastOnce, i, &i.to_string());
    }
    for i in 1..=500 {
        client.expect("t", &i.to_string());
    }
    for i in 1..=500 {
        assert_eq!(publisher.read(), Packet::Puback(ack(i)));
    }
    client.expect_nothing();
}

#[test]
fn what_was_sent_and_not_acknowledged_comes_again() {
    let broker = Broker::start();
    let (mut client, _) = broker.connect(staying(Version::V5, "c"));
    client.subscribe("t", Qos::ExactlyOnce);
    let mut publisher = broker.client(Version::V5, "p");
    for (i, qos) in [(1, Qos::AtLeastOnce), (2, Qos::ExactlyOnce)] {
        publisher.publish_acked("t", qos, i, &i.to_string());
    }
    let first: Vec<_> = (0..2).map(|_| client.read()).collect();
    drop(client);
    let (mut client, connack) = broker.connect(staying(Version::V5, "c"));
    assert!(connack.session_present);
    for (packet, payload) in first.iter().zip(["1", "2"]) {
        let Packet::Publish(sent) = packet else {
            panic!("{packet:?}");
        };
        let again = client.expect("t", payload);
        assert!(again.dup);
        assert_eq!(again.packet_id, sent.packet_id);
    }
    client.expect_nothing();
}

#[test]
fn exactly_once_goes_on_after_a_reconnect() {
    let broker = Broker::start();
    let mut watcher = broker.client(Version::V5, "w");
    watcher.subscribe("t", Qos::ExactlyOnce);
    let (mut client, _) = broker.connect(staying(Version::V5, "c"));
    client.publish("t", Qos::ExactlyOnce, 9, "once");
    assert_eq!(client.read(), Packet::Pubrec(ack(9)));
    drop(client);
    watcher.expect("t", "once");
    let (mut client, _) = broker.connect(staying(Version::V5, "c"));
    // The PUBREC was lost on the way: the client sends again.
    client.publish("t", Qos::ExactlyOnce, 9, "once");
    assert_eq!(client.read(), Packet::Pubrec(ack(9)));
    client.send(&Packet::Pubrel(ack(9)));
    assert_eq!(client.read(), Packet::Pubcomp(ack(9)));
    client.publish_acked("t", Qos::ExactlyOnce, 9, "another");
    watcher.expect("t", "another");
    watcher.expect_nothing();
}

#[test]
fn a_clean_start_ends_the_old_session() {
    let broker = Broker::start();
    let (mut client, _) = broker.connect(staying(Version::V5, "c"));
    client.subscribe("t", Qos::AtLeastOnce);
    drop(client);
    let mut clean = broker.client(Version::V5, "c");
    let mut publisher = broker.client(Version::V5, "p");
    publisher.publish_acked("t", Qos::AtLeastOnce, 1, "x");
    clean.expect_nothing();
    let (_, connack) = broker.connect(staying(Version::V5, "c"));
    assert!(!connack.session_present);
}

#[test]
fn a_takeover_keeps_the_session() {
    let broker = Broker::start();
    let (mut older, _) = broker.connect(staying(Version::V5, "c"));
    older.subscribe("t", Qos::AtLeastOnce);
    let (mut newer, connack) = broker.connect(staying(Version::V5, "c"));
    assert!(connack.session_present);
    assert_eq!(older.read_end(), Some(ReasonCode::SESSION_TAKEN_OVER));
    let mut publisher = broker.client(Version::V5, "p");
    publisher.publish_acked("t", Qos::AtLeastOnce, 1, "x");
    newer.expect("t", "x");
}
