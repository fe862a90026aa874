use bifrust_model::Settings;
use bifrust_mqtt_codec::{
    Connect, Packet, Publish, PublishProperties, Qos, ReasonCode, Subscribe, Subscription,
    SubscriptionOptions, Version,
};

use crate::harness::{Broker, packet_id, publish, unmatched};

#[test]
fn connack_says_what_is_not_served() {
    let broker = Broker::start();
    let (_, connack) = broker.connect(Connect::new(Version::V5, ""));
    let properties = connack.properties.unwrap();
    assert!(properties.shared_subscription_available);
    assert_eq!(properties.topic_alias_maximum, 32);
    assert_eq!(properties.receive_maximum.unwrap().get(), 1000);
    assert!(properties.assigned_client_id.unwrap().starts_with("auto-"));
    assert_eq!(properties.session_expiry, None);
}

#[test]
fn unfit_connects_get_their_code() {
    let broker = Broker::start();
    let mut method = Connect::new(Version::V5, "c");
    method.properties.authentication_method = Some("SCRAM".into());
    let mut no_id = Connect::new(Version::V311, "");
    no_id.clean_start = false;
    let level3 = Connect::new(Version::V31, "");
    for (connect, reason) in [
        (method, ReasonCode::BAD_AUTHENTICATION_METHOD),
        (no_id, ReasonCode::CLIENT_IDENTIFIER_NOT_VALID),
        (level3, ReasonCode::CLIENT_IDENTIFIER_NOT_VALID),
        (
            Connect::new(Version::V5, "x".repeat(1025)),
            ReasonCode::CLIENT_IDENTIFIER_NOT_VALID,
        ),
    ] {
        let (mut client, connack) = broker.connect(connect);
        assert_eq!(connack.reason, reason);
        assert_eq!(client.read_end(), None);
    }
}

#[test]
fn violations_end_the_connection_with_their_code() {
    let broker = Broker::start();
    let alias = Packet::Publish(Publish {
        properties: PublishProperties {
            topic_alias: Some(33),
            ..Default::default()
        },
        ..publish("t", Qos::AtMostOnce, 0, "")
    });
    let second = Packet::Connect(Box::new(Connect::new(Version::V5, "c")));
    let wildcard = Packet::Publish(publish("t/#", Qos::AtMostOnce, 0, ""));
    for (packet, reason) in [
        (alias, ReasonCode::TOPIC_ALIAS_INVALID),
        (second, ReasonCode::PROTOCOL_ERROR),
        (wildcard, ReasonCode::TOPIC_NAME_INVALID),
    ] {
        let mut client = broker.client(Version::V5, "c");
        client.send(&packet);
        assert_eq!(client.read_end(), Some(reason), "{packet:?}");
    }
    let mut client = broker.client(Version::V5, "c");
    client.send_bytes(&[0xf7, 0x00]);
    assert_eq!(client.read_end(), Some(ReasonCode::MALFORMED_PACKET));
    let mut client = broker.raw(Version::V5);
    client.send_bytes(&[0xc0, 0x00]);
    assert!(client.try_read().is_none(), "CONNECT comes first");
}

#[test]
fn too_much_in_flight_ends_v5() {
    let settings = Settings {
        receiving_maximum: 2,
        ..Settings::default()
    };
    let broker = Broker::with(settings, 1);
    let mut client = broker.client(Version::V5, "c");
    for id in 1..=3 {
        client.publish("t", Qos::ExactlyOnce, id, "");
    }
    assert_eq!(
        client.read_end(),
        Some(ReasonCode::RECEIVE_MAXIMUM_EXCEEDED)
    );
}

#[test]
fn an_oversize_packet_is_refused_by_its_announced_length() {
    let broker = Broker::start();
    let mut client = broker.client(Version::V5, "c");
    client.send_bytes(&[0x30, 0xff, 0xff, 0xff, 0x7f]);
    assert_eq!(client.read_end(), Some(ReasonCode::PACKET_TOO_LARGE));
}

#[test]
fn forbidden_topics_are_answered() {
    let broker = Broker::start();
    for id in ["quick", "slow"] {
        let mut client = broker.client(Version::V5, id);
        let reason = client.subscribe("forbidden/x", Qos::AtMostOnce);
        assert_eq!(reason, ReasonCode::NOT_AUTHORIZED);
        client.publish("forbidden/x", Qos::AtLeastOnce, 1, "");
        client.publish("fine", Qos::AtLeastOnce, 2, "");
        match client.read() {
            Packet::Puback(ack) => assert_eq!(ack.reason, ReasonCode::NOT_AUTHORIZED),
            other => panic!("{other:?}"),
        }
        assert_eq!(client.read(), Packet::Puback(unmatched(2)));
    }
}

#[test]
fn each_filter_has_its_answer() {
    let settings = Settings {
        max_topic_filters_per_sub: 4,
        shared_subscription_enabled: false,
        ..Settings::default()
    };
    let broker = Broker::with(settings, 1);
    let filters = ["a", "b#", "$share/g/t", "forbidden", "one/too/many"];
    for version in [Version::V5, Version::V311] {
        let mut client = broker.client(version, "c");
        let subscription = |filter: &&str| Subscription {
            filter: (*filter).to_owned().into(),
            options: SubscriptionOptions::with_qos(Qos::AtLeastOnce),
        };
        client.send(&Packet::Subscribe(Subscribe {
            packet_id: packet_id(5),
            subscriptions: filters.iter().map(subscription).collect(),
            subscription_id: None,
            user_properties: Default::default(),
        }));
        let Packet::Suback(suback) = client.read() else {
            panic!("no SUBACK");
        };
        let codes: Vec<u8> = suback.reasons.iter().map(|reason| reason.0).collect();
        match version {
            Version::V5 => assert_eq!(codes, [0x01, 0x8f, 0x9e, 0x87, 0x97]),
            _ => assert_eq!(codes, [0x01, 0x80, 0x80, 0x80, 0x80]),
        }
    }
}

#[test]
fn packets_behind_connect_are_held_and_served() {
    let broker = Broker::start();
    let mut client = broker.raw(Version::V5);
    client.send(&Packet::Connect(Box::new(Connect::new(
        Version::V5,
        "slow-c",
    ))));
    for id in 1..=3 {
        client.publish("t", Qos::AtLeastOnce, id, "");
    }
    assert!(matches!(client.read(), Packet::Connack(_)));
    for id in 1..=3 {
        assert_eq!(client.read(), Packet::Puback(unmatched(id)));
    }
}

#[test]
fn a_fast_publisher_is_slowed_and_loses_nothing() {
    let settings = Settings {
        msg_pub_per_sec: 20,
        ..Settings::default()
    };
    let broker = Broker::with(settings, 1);
    let mut client = broker.client(Version::V5, "c");
    let begun = std::time::Instant::now();
    for id in 1..=50 {
        client.publish("t", Qos::AtLeastOnce, id, "");
    }
    for id in 1..=50 {
        assert_eq!(client.read(), Packet::Puback(unmatched(id)));
    }
    assert!(begun.elapsed().as_millis() >= 1800);
}

#[test]
fn silence_ends_within_the_keep_alive() {
    let broker = Broker::start();
    let mut connect = Connect::new(Version::V5, "c");
    connect.keep_alive = 1;
    let (mut client, _) = broker.connect(connect);
    let begun = std::time::Instant::now();
    assert_eq!(client.read_end(), Some(ReasonCode::KEEP_ALIVE_TIMEOUT));
    let silent = begun.elapsed().as_millis();
    assert!((1450..2600).contains(&silent), "{silent} ms");
}

#[test]
fn a_peer_that_does_not_connect_is_left() {
    let broker = Broker::start();
    let mut client = broker.raw(Version::V5);
    client.send_bytes(&[0x10, 0x20, 0x00]);
    assert!(client.try_read().is_none());
}
