//! What a client published right before its connection ended goes the ordinary way.

use bifrust_mqtt_codec::{
    Connect, Disconnect, Packet, Qos, ReasonCode, RetainHandling, SubscriptionOptions, Version,
    encode,
};
use bytes::BytesMut;

use crate::harness::{Broker, Client, ack, publish, staying};

fn goodbye(client: &mut Client) {
    let packet = Disconnect::with_reason(ReasonCode::NORMAL_DISCONNECTION);
    client.send(&Packet::Disconnect(packet));
}

#[test]
fn a_forbidden_publish_before_the_goodbye_is_not_delivered() {
    let broker = Broker::start();
    let mut watcher = broker.client(Version::V5, "w");
    watcher.subscribe("#", Qos::AtLeastOnce);
    for id in ["quick", "slow"] {
        let mut publisher = broker.client(Version::V5, id);
        publisher.publish("allowed/1", Qos::AtLeastOnce, 1, "x");
        publisher.publish("forbidden/1", Qos::AtLeastOnce, 2, "x");
        publisher.publish("forbidden/0", Qos::AtMostOnce, 0, "x");
        publisher.publish("allowed/2", Qos::AtLeastOnce, 3, "x");
        goodbye(&mut publisher);
        publisher.read_end();
        watcher.expect("allowed/1", "x");
        watcher.expect("allowed/2", "x");
        watcher.expect_nothing();
    }
}

#[test]
fn a_permission_that_comes_after_the_end_still_decides() {
    let broker = Broker::start();
    let mut watcher = broker.client(Version::V5, "w");
    watcher.subscribe("#", Qos::AtLeastOnce);
    for (round, topic) in ["forbidden", "allowed"].into_iter().enumerate() {
        let closed = broker.gate.clone().try_acquire_owned().unwrap();
        let (mut older, _) = broker.connect(Connect::new(Version::V5, "slow"));
        older.publish(topic, Qos::AtLeastOnce, 1, "x");
        broker.await_asked(2 * round + 1);
        // The newer connection of the session begins behind what the older one published.
        let mut newer = broker.raw(Version::V5);
        let connect = Connect::new(Version::V5, "slow");
        newer.send(&Packet::Connect(Box::new(connect)));
        newer.publish("allowed/newer", Qos::AtLeastOnce, 1, "x");
        assert_eq!(older.read_end(), Some(ReasonCode::SESSION_TAKEN_OVER));
        drop(closed);
        if topic == "allowed" {
            watcher.expect(topic, "x");
        }
        watcher.expect("allowed/newer", "x");
        watcher.expect_nothing();
        goodbye(&mut newer);
        newer.read_end();
    }
}

/// A retained copy may come before the live messages that led to it; order is not about those.
fn no_retained() -> SubscriptionOptions {
    SubscriptionOptions {
        retain_handling: RetainHandling::DoNotSend,
        ..SubscriptionOptions::with_qos(Qos::AtLeastOnce)
    }
}

#[test]
fn publishes_before_the_goodbye_keep_their_order() {
    let broker = Broker::start();
    let mut live = broker.client(Version::V5, "live");
    live.subscribe_with("+/order", no_retained(), None);
    let (mut kept, _) = broker.connect(staying(Version::V5, "kept"));
    kept.subscribe_with("+/order", no_retained(), None);
    for round in 0..20 {
        // A topic that nobody has used: its receivers have to be looked up, some copies stored.
        let topic = format!("{round}/order");
        let mut publisher = broker.client(Version::V5, &format!("p{round}"));
        // In one write, so that all of it has left when the client closes.
        let mut bytes = BytesMut::new();
        for i in 1..=50 {
            let mut publish = publish(&topic, Qos::AtLeastOnce, i, &format!("{i}"));
            publish.retain = i % 7 == 0;
            encode(&Packet::Publish(publish), Version::V5, &mut bytes).unwrap();
        }
        bytes.extend_from_slice(&[0xE0, 0x00]);
        publisher.send_bytes(&bytes);
        // What came back is not read: the goodbye counts all the same.
        drop(publisher);
        for i in 1..=50 {
            live.expect(&topic, &format!("{i}"));
            kept.expect(&topic, &format!("{i}"));
        }
    }
}

#[test]
fn exactly_once_holds_for_what_was_on_its_way_at_the_end() {
    let broker = Broker::start();
    let mut watcher = broker.client(Version::V5, "w");
    watcher.subscribe("t/#", Qos::ExactlyOnce);
    let (mut kept, _) = broker.connect(staying(Version::V5, "kept"));
    kept.subscribe("t/#", Qos::ExactlyOnce);
    goodbye(&mut kept);
    kept.read_end();
    for round in 0..20 {
        let topic = format!("t/{round}");
        let (mut client, _) = broker.connect(staying(Version::V5, "c"));
        client.publish(&topic, Qos::ExactlyOnce, 9, "once");
        drop(client);
        let (mut client, _) = broker.connect(staying(Version::V5, "c"));
        // No PUBREC came: the client sends again.
        client.publish(&topic, Qos::ExactlyOnce, 9, "once");
        assert_eq!(client.read(), Packet::Pubrec(ack(9)));
        client.send(&Packet::Pubrel(ack(9)));
        assert_eq!(client.read(), Packet::Pubcomp(ack(9)));
        goodbye(&mut client);
        client.read_end();
        watcher.expect(&topic, "once");
        watcher.expect_nothing();
    }
    let (mut kept, _) = broker.connect(staying(Version::V5, "kept"));
    for round in 0..20 {
        kept.expect(&format!("t/{round}"), "once");
    }
    kept.expect_nothing();
}
