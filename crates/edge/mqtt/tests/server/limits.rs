//! Bounds that are met while a client is connected, and what it is told.

use std::io::Write;
use std::time::{Duration, Instant};

use bifrust_model::{EventKind, Settings};
use bifrust_mqtt_codec::{
    Packet, Qos, ReasonCode, Subscribe, Subscription, SubscriptionOptions, Version,
};

use crate::harness::{Broker, ack, packet_id, publish, staying, unmatched};

/// What durable stores take at most: topic and payload.
const DURABLE_MAX: usize = 16 << 20;

#[test]
fn v5_is_told_when_nobody_is_there() {
    let broker = Broker::start();
    let mut client = broker.client(Version::V5, "c");
    client.publish("t", Qos::AtLeastOnce, 1, "x");
    assert_eq!(client.read(), Packet::Puback(unmatched(1)));
    client.publish("t", Qos::ExactlyOnce, 2, "x");
    assert_eq!(client.read(), Packet::Pubrec(unmatched(2)));
    client.send(&Packet::Pubrel(ack(2)));
    assert_eq!(client.read(), Packet::Pubcomp(ack(2)));
    // It is kept, and nobody was there: both are true.
    let mut retained = publish("t", Qos::AtLeastOnce, 3, "kept");
    retained.retain = true;
    client.send(&Packet::Publish(retained));
    assert_eq!(client.read(), Packet::Puback(unmatched(3)));
    let mut older = broker.client(Version::V311, "older");
    older.publish("t", Qos::AtLeastOnce, 1, "x");
    assert_eq!(older.read(), Packet::Puback(ack(1)));
    let mut subscriber = broker.client(Version::V5, "s");
    subscriber.subscribe("t", Qos::AtMostOnce);
    subscriber.expect("t", "kept");
    client.publish("t", Qos::AtLeastOnce, 4, "x");
    assert_eq!(client.read(), Packet::Puback(ack(4)));
}

#[test]
fn durable_receivers_take_messages_up_to_their_bound() {
    let settings = Settings {
        max_user_payload_bytes: 32 << 20,
        ..Settings::default()
    };
    let broker = Broker::with(settings, 1);
    let (mut kept, _) = broker.connect(staying(Version::V5, "kept"));
    kept.subscribe("t", Qos::AtLeastOnce);
    kept.send_bytes(&[0xE0, 0x00]);
    kept.read_end();
    let mut live = broker.client(Version::V5, "live");
    live.subscribe("t", Qos::AtLeastOnce);
    let mut client = broker.client(Version::V5, "c");
    let body = |over: isize| "x".repeat((DURABLE_MAX - 1).strict_add_signed(over));
    for (id, over) in [(1, -1), (2, 0)] {
        let body = body(over);
        client.publish_acked("t", Qos::AtLeastOnce, id, &body);
        live.expect("t", &body);
    }
    for retain in [false, true] {
        let topic = if retain { "kept" } else { "t" };
        let mut over = publish(topic, Qos::AtLeastOnce, 3, &body(1));
        over.payload = "x".repeat(DURABLE_MAX + 1 - topic.len()).into();
        over.retain = retain;
        client.send(&Packet::Publish(over));
        match client.read() {
            Packet::Puback(ack) => assert_eq!(ack.reason, ReasonCode::QUOTA_EXCEEDED),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(broker.events.count(EventKind::ResourceThrottled), 2);
    live.expect_nothing();
    // QoS 0 asks for no promise: who is there gets it.
    client.publish("t", Qos::AtMostOnce, 0, &body(1));
    live.expect("t", &body(1));
    // v3 cannot be told.
    let mut older = broker.client(Version::V311, "older");
    older.publish("t", Qos::AtLeastOnce, 1, &body(1));
    assert_eq!(older.read_end(), None);
    let (mut kept, _) = broker.connect(staying(Version::V5, "kept"));
    kept.expect("t", &body(-1));
    kept.expect("t", &body(0));
    kept.expect_nothing();
}

#[test]
fn changed_limits_reach_clients_that_are_there() {
    let limited = Settings {
        msg_pub_per_sec: 1,
        ..Settings::default()
    };
    let broker = Broker::with(Settings::default(), 1);
    let mut client = broker.client(Version::V5, "c");
    client.publish_acked("t", Qos::AtLeastOnce, 1, "");
    broker.change(limited);
    // Followed within a tick.
    let mut id = 2;
    while broker.events.count(EventKind::ExceedPubRate) == 0 {
        client.publish_acked("t", Qos::AtLeastOnce, id, "");
        id += 1;
    }
    // At one a second these would take a quarter of an hour.
    for id in 1..=900 {
        client.publish("t", Qos::AtLeastOnce, id, "");
    }
    broker.change(Settings::default());
    for id in 1..=900 {
        assert_eq!(client.read(), Packet::Puback(unmatched(id)));
    }
}

#[test]
fn a_subscriber_that_does_not_read_is_told_of_and_stays() {
    let broker = Broker::start();
    let mut stuck = broker.client(Version::V5, "stuck");
    stuck.subscribe("t", Qos::AtMostOnce);
    let mut client = broker.client(Version::V5, "c");
    let payload = "x".repeat(100_000);
    for id in 1..=400 {
        client.publish_acked("t", Qos::AtLeastOnce, id, &payload);
    }
    broker.await_event(EventKind::SubStalled, 1);
    // It reads again and is as good as any.
    stuck.expect("t", &payload);
    stuck.expect("t", &payload);
}

#[test]
fn who_was_silent_too_long_finds_the_socket_shut() {
    let broker = Broker::start();
    let mut connect = bifrust_mqtt_codec::Connect::new(Version::V5, "c");
    connect.keep_alive = 1;
    let (mut client, _) = broker.connect(connect);
    assert_eq!(client.read_end(), Some(ReasonCode::KEEP_ALIVE_TIMEOUT));
    // What it says now is answered with a reset, after which nothing is taken.
    let deadline = Instant::now() + Duration::from_secs(5);
    while client.stream.write(&[0xC0, 0x00]).is_ok() {
        assert!(Instant::now() < deadline, "it is still listened to");
        std::thread::yield_now();
    }
}

#[test]
fn who_takes_no_connack_is_closed_and_takes_nothing_over() {
    let broker = Broker::start();
    let mut first = broker.client(Version::V5, "c");
    let narrow = |id: &str, max: u32| {
        let mut connect = bifrust_mqtt_codec::Connect::new(Version::V5, id.to_owned());
        connect.properties.maximum_packet_size = std::num::NonZeroU32::new(max);
        let mut client = broker.raw(Version::V5);
        client.send(&Packet::Connect(Box::new(connect)));
        let connack = match client.try_read() {
            None => return None,
            Some(Packet::Connack(connack)) => connack,
            Some(other) => panic!("{other:?}"),
        };
        if connack.reason.is_error() {
            assert_eq!(client.try_read(), None);
        }
        Some(connack.reason)
    };
    let least = (5..100).find(|max| narrow("any", *max) == Some(ReasonCode::SUCCESS));
    let least = least.expect("one is enough");
    // The refusal itself takes five bytes.
    for (max, told) in [
        (1, None),
        (4, None),
        (5, Some(ReasonCode::PACKET_TOO_LARGE)),
        (least - 1, Some(ReasonCode::PACKET_TOO_LARGE)),
    ] {
        let before = broker.events.count(EventKind::OversizePacketDropped);
        assert_eq!(narrow("c", max), told, "{max}");
        let after = broker.events.count(EventKind::OversizePacketDropped);
        assert_eq!(after - before, 1, "{max}");
    }
    first.expect_nothing();
}

#[test]
fn who_takes_no_suback_is_closed() {
    let broker = Broker::start();
    let mut connect = bifrust_mqtt_codec::Connect::new(Version::V5, "c".to_owned());
    connect.properties.maximum_packet_size = std::num::NonZeroU32::new(100);
    let (mut client, _) = broker.connect(connect);
    let filters = (0..200).map(|i| Subscription {
        filter: format!("f/{i}").into(),
        options: SubscriptionOptions::with_qos(Qos::AtMostOnce),
    });
    client.send(&Packet::Subscribe(Subscribe {
        packet_id: packet_id(1),
        subscriptions: filters.collect(),
        subscription_id: None,
        user_properties: Default::default(),
    }));
    assert_eq!(client.read_end(), Some(ReasonCode::PACKET_TOO_LARGE));
    assert_eq!(broker.events.count(EventKind::OversizePacketDropped), 1);
}

#[test]
fn an_alias_of_a_topic_over_a_limit_is_known() {
    let settings = Settings {
        max_topic_length: 10,
        max_topic_level_length: 10,
        ..Settings::default()
    };
    let broker = Broker::with(settings, 1);
    let mut client = broker.client(Version::V5, "c");
    let mut aliased = |topic: &str, id: u16| {
        let mut packet = publish(topic, Qos::AtLeastOnce, id, "x");
        packet.properties.topic_alias = Some(1);
        client.send(&Packet::Publish(packet));
        match client.read() {
            Packet::Puback(ack) => ack.reason,
            other => panic!("{other:?}"),
        }
    };
    let long = "0123456789x";
    assert_eq!(aliased("short", 1), ReasonCode::NO_MATCHING_SUBSCRIBERS);
    assert_eq!(aliased(long, 2), ReasonCode::TOPIC_NAME_INVALID);
    // It stands for that topic now (3.3.2.3.4), which is still too long.
    assert_eq!(aliased("", 3), ReasonCode::TOPIC_NAME_INVALID);
    assert_eq!(aliased("", 4), ReasonCode::TOPIC_NAME_INVALID);
    assert_eq!(aliased("again", 5), ReasonCode::NO_MATCHING_SUBSCRIBERS);
    assert_eq!(aliased("", 6), ReasonCode::NO_MATCHING_SUBSCRIBERS);
    assert_eq!(broker.events.count(EventKind::InvalidTopic), 3);
}
