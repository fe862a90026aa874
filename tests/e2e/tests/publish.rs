//! PUBLISH in its three qualities, both ways.

use std::thread;
use std::time::Duration;

use bifrust_e2e::wire::{self, AckKind, Properties};
use bifrust_e2e::{Broker, Connect, Packet, Property, Publish, VERSIONS, Version};

#[test]
fn delivery_has_the_lower_quality_of_the_two() {
    let broker = Broker::start();
    for version in VERSIONS {
        for reader_version in VERSIONS {
            let mut writer = broker.connect(&Connect::new(version, "writer"));
            let mut reader = broker.connect(&Connect::new(reader_version, "reader"));
            for granted in 0..=2 {
                reader.subscribe(&format!("q/{granted}"), granted);
                for published in 0..=2 {
                    // MQTT-3.8.4-8.
                    let payload = format!("{published} to {granted}");
                    let topic = format!("q/{granted}");
                    let code = writer.publish(&Publish::new(&topic, &payload).qos(published));
                    assert_eq!(code, 0);
                    let got = reader.receive();
                    assert_eq!((got.topic, got.qos), (topic, published.min(granted)));
                    assert_eq!(got.payload, payload.as_bytes());
                    assert!(!got.dup && !got.retain); // MQTT-3.3.1-1, -12
                }
            }
            reader.expect_silence();
        }
    }
}

#[test]
fn payloads_of_every_size_arrive_unaltered() {
    let broker = Broker::start();
    for version in VERSIONS {
        let mut client = broker.connect(&Connect::new(version, "sizes"));
        client.subscribe("size", 2);
        for size in [
            0, 1, 127, 128, 16_383, 16_384, 65_535, 65_536, 300_000, 1_000_000,
        ] {
            let payload: Vec<u8> = (0..size).map(|index| (index * 31 % 251) as u8).collect();
            for qos in 0..=2 {
                client.publish(&Publish::new("size", &payload).qos(qos));
                let got = client.receive();
                assert!(got.payload == payload, "{size} bytes at QoS {qos}");
            }
        }
    }
}

#[test]
fn unmatched_publishes_are_acknowledged() {
    let broker = Broker::start();
    for version in VERSIONS {
        let mut client = broker.connect(&Connect::new(version, "alone"));
        for qos in 1..=2 {
            let code = client.publish(&Publish::new("nobody", "x").qos(qos));
            assert!(
                matches!((version, code), (_, 0) | (Version::V5, 0x10)),
                "{code:#04x}"
            );
        }
    }
}

#[test]
fn repeated_qos2_publish_is_delivered_once() {
    let broker = Broker::start();
    for version in VERSIONS {
        let mut writer = broker.connect(&Connect::new(version, "writer"));
        let mut reader = broker.connect(&Connect::new(version, "reader"));
        reader.subscribe("once", 2);
        let publish = Publish::new("once", "first").qos(2).id(9);
        // MQTT-4.3.3-10: until PUBREL the same identifier is the same message.
        writer.send(&publish.encode(version));
        writer.expect_ack(AckKind::Pubrec, 9);
        writer.send(&publish.clone().dup().encode(version));
        writer.expect_ack(AckKind::Pubrec, 9);
        writer.send(&wire::ack(AckKind::Pubrel, 9));
        writer.expect_ack(AckKind::Pubcomp, 9);
        // MQTT-4.3.3-12: after PUBCOMP it is a new one.
        writer.publish(&Publish::new("once", "second").qos(2).id(9));
        assert_eq!(reader.receive_texts(2), ["first", "second"]);
        reader.expect_silence();
    }
}

#[test]
fn unknown_packet_identifiers_are_answered() {
    let broker = Broker::start();
    for version in VERSIONS {
        let mut client = broker.connect(&Connect::new(version, "unknown"));
        // MQTT 3.7.2.1: PUBCOMP says that nothing was known of it.
        client.send(&wire::ack(AckKind::Pubrel, 77));
        let ack = client.next_ack();
        let expected = if version == Version::V5 { 0x92 } else { 0 };
        assert_eq!(
            (ack.kind, ack.id, ack.code),
            (AckKind::Pubcomp, 77, expected)
        );
        // A late acknowledgement is no reason to close.
        client.send(&wire::ack(AckKind::Puback, 78));
        client.send(&wire::ack(AckKind::Pubcomp, 79));
        client.ping();
    }
    let mut client = broker.connect(&Connect::v5("unknown"));
    client.send(&wire::ack(AckKind::Pubrec, 80)); // MQTT 3.6.2.1
    let ack = client.next_ack();
    assert_eq!((ack.kind, ack.id, ack.code), (AckKind::Pubrel, 80, 0x92));
}

#[test]
fn acknowledgements_keep_the_order_of_the_publishes() {
    let broker = Broker::start();
    for version in VERSIONS {
        let mut client = broker.connect(&Connect::new(version, "order"));
        let ids: Vec<u16> = (0..200).map(|index| 1000 - index * 3).collect();
        let mut bytes = Vec::new();
        for id in &ids {
            let topic = format!("order/{}", id % 7);
            bytes.extend(Publish::new(topic, "x").qos(1).id(*id).encode(version));
        }
        client.send(&bytes);
        for id in &ids {
            client.expect_ack(AckKind::Puback, *id); // MQTT-4.6.0-2
        }
        let mut bytes = Vec::new();
        for id in &ids {
            bytes.extend(Publish::new("order", "x").qos(2).id(*id).encode(version));
        }
        client.send(&bytes);
        for id in &ids {
            client.expect_ack(AckKind::Pubrec, *id); // MQTT-4.6.0-3
        }
        let releases: Vec<u8> = ids
            .iter()
            .flat_map(|id| wire::ack(AckKind::Pubrel, *id))
            .collect();
        client.send(&releases);
        for id in &ids {
            client.expect_ack(AckKind::Pubcomp, *id);
        }
    }
}

#[test]
fn messages_keep_their_order() {
    let broker = Broker::start();
    for version in VERSIONS {
        for qos in 0..=2 {
            let mut writer = broker.connect(&Connect::new(version, "writer"));
            let mut reader = broker.connect(&Connect::new(version, "reader"));
            let topic = format!("ordered/{qos}");
            reader.subscribe(&topic, qos);
            let mut bytes = Vec::new();
            for index in 0..500_u16 {
                let publish = Publish::new(&topic, index.to_string())
                    .qos(qos)
                    .id(index + 1);
                bytes.extend(publish.encode(version));
            }
            writer.send(&bytes);
            let expected: Vec<String> = (0..500).map(|index| index.to_string()).collect();
            assert_eq!(
                reader.receive_texts(500),
                expected,
                "MQTT-4.6.0-6 at QoS {qos}"
            );
        }
    }
}

#[test]
fn what_was_published_right_before_the_goodbye_arrives() {
    let broker = Broker::start();
    for version in VERSIONS {
        for qos in 0..=2 {
            let mut reader = broker.connect(&Connect::new(version, "reader"));
            reader.subscribe("goodbye/#", 2);
            for index in 0..100 {
                // Topics that nobody has published to before: their match is not cached.
                let topic = format!("goodbye/{version:?}/{qos}/{index}");
                let mut writer = broker.connect(&Connect::new(version, "writer"));
                let mut bytes = Publish::new(&topic, "x").qos(qos).id(1).encode(version);
                bytes.extend(wire::disconnect(version, 0, &Properties::default()));
                writer.send(&bytes);
                assert_eq!(reader.receive().topic, topic);
            }
        }
    }
}

#[test]
fn bad_topics_end_the_connection() {
    let broker = Broker::start();
    for version in VERSIONS {
        for topic in ["a/+/b", "a/#", "+", "#"] {
            let mut client = broker.connect(&Connect::new(version, "topic"));
            client.send_publish(&Publish::new(topic, "x")); // MQTT-3.3.2-2
            client.expect_disconnect(0x90);
        }
        let mut client = broker.connect(&Connect::new(version, "topic"));
        client.send_publish(&Publish::new("", "x")); // MQTT-4.7.3-1; no alias in v5 either
        client.expect_disconnect(0x82);
        let mut client = broker.connect(&Connect::new(version, "topic"));
        client.send_publish(&Publish::new("a\0b", "x")); // MQTT-1.5.4-2
        client.expect_disconnect(0x81);
    }
}

#[test]
fn impossible_qualities_and_identifiers_end_the_connection() {
    let broker = Broker::start();
    for version in VERSIONS {
        let mut client = broker.connect(&Connect::new(version, "qos3"));
        client.send(&Publish::new("a", "x").qos(3).id(1).encode(version)); // MQTT-3.3.1-4
        client.expect_disconnect(0x81);
        for qos in 1..=2 {
            let mut client = broker.connect(&Connect::new(version, "zero"));
            client.send(&Publish::new("a", "x").qos(qos).id(0).encode(version)); // MQTT-2.2.1-3
            if version == Version::V3 {
                client.expect_closed();
            } else {
                match client.next_answer() {
                    Packet::Disconnect {
                        code: 0x81 | 0x82, ..
                    } => client.expect_closed(),
                    other => panic!("DISCONNECT expected, got {other:?}"),
                }
            }
        }
    }
}

#[test]
fn properties_reach_the_subscriber_in_order() {
    let broker = Broker::start();
    let mut client = broker.connect(&Connect::v5("properties"));
    client.subscribe("p", 2);
    let sent = Publish::new("p", "text")
        .qos(1)
        .property(Property::PayloadFormat(1)) // MQTT-3.3.2-4
        .property(Property::ContentType("text/plain".into())) // MQTT-3.3.2-20
        .property(Property::ResponseTopic("answer/to/me".into())) // MQTT-3.3.2-15
        .property(Property::CorrelationData(vec![0, 1, 255])) // MQTT-3.3.2-16
        .property(Property::User("b".into(), "1".into()))
        .property(Property::User("a".into(), "2".into()))
        .property(Property::User("b".into(), String::new())); // MQTT-3.3.2-17, -18
    client.publish(&sent);
    let got = client.receive();
    for property in &sent.properties.0 {
        assert!(got.properties.has(property), "{property:?} in {got:?}");
    }
    let user = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    };
    assert_eq!(
        got.properties.user(),
        user(&[("b", "1"), ("a", "2"), ("b", "")])
    );
    assert_eq!(got.properties.0.len(), sent.properties.0.len());
}

#[test]
fn properties_do_not_reach_v3() {
    let broker = Broker::start();
    let mut reader = broker.connect(&Connect::v3("reader"));
    reader.subscribe("p", 1);
    let mut writer = broker.connect(&Connect::v5("writer"));
    writer.publish(
        &Publish::new("p", "x")
            .qos(1)
            .property(Property::ContentType("t".into())),
    );
    assert_eq!(reader.receive().payload, b"x");
}

#[test]
fn requests_are_answered_through_the_response_topic() {
    let broker = Broker::start();
    let mut asking = broker.connect(&Connect::v5("asking"));
    let mut answering = broker.connect(&Connect::v5("answering"));
    asking.subscribe("answers/asking", 1);
    answering.subscribe("requests", 1);
    let request = Publish::new("requests", "?")
        .qos(1)
        .property(Property::ResponseTopic("answers/asking".into()))
        .property(Property::CorrelationData(b"7".to_vec()));
    asking.publish(&request);
    let got = answering.receive();
    let topic = got.properties.find(|p| match p {
        Property::ResponseTopic(topic) => Some(topic.clone()),
        _ => None,
    });
    let correlation = Property::CorrelationData(b"7".to_vec());
    assert!(got.properties.has(&correlation));
    let answer = Publish::new(topic.expect("a response topic"), "!").qos(1);
    answering.publish(&answer.property(correlation.clone()));
    assert!(asking.receive().properties.has(&correlation));
}

#[test]
fn publish_properties_are_checked() {
    let broker = Broker::start();
    let cases = [
        (Property::TopicAlias(33), vec![0x94]), // CONNACK allows 32: MQTT-3.3.2-9
        (Property::TopicAlias(0), vec![0x94, 0x82]), // MQTT-3.3.2-8
        (Property::SubscriptionId(1), vec![0x82]), // MQTT-3.3.4-6
        (
            Property::ResponseTopic("a/+".into()),
            vec![0x82, 0x81, 0x90],
        ), // MQTT-3.3.2-14
        (Property::PayloadFormat(2), vec![0x82, 0x81]),
        (Property::SessionExpiry(1), vec![0x82, 0x81]), // of another packet
    ];
    for (property, reasons) in cases {
        let mut client = broker.connect(&Connect::v5("checked"));
        client.send_publish(&Publish::new("a", "x").property(property.clone()));
        match client.next_answer() {
            Packet::Disconnect { code, .. } => {
                assert!(reasons.contains(&code), "{property:?}: {code:#04x}");
            }
            other => panic!("{property:?}: {other:?}"),
        }
        client.expect_closed();
    }
    let mut client = broker.connect(&Connect::v5("twice"));
    let twice = Publish::new("a", "x").property(Property::MessageExpiry(1));
    client.send_publish(&twice.property(Property::MessageExpiry(1)));
    client.expect_disconnect(0x82);
}

#[test]
fn message_expiry_counts_down_in_the_queue() {
    let broker = Broker::start();
    let keep = Connect::persistent(Version::V5, "late");
    let mut reader = broker.connect(&keep);
    reader.subscribe("expiring", 1);
    reader.disconnect();
    let mut writer = broker.connect(&Connect::v5("writer"));
    let publish = |seconds: u32| {
        Publish::new("expiring", seconds.to_string())
            .qos(1)
            .property(Property::MessageExpiry(seconds))
    };
    writer.publish(&publish(1));
    writer.publish(&publish(1000));
    thread::sleep(Duration::from_millis(2100)); // the passing of time is what is tested
    let mut reader = broker.connect(&keep);
    let got = reader.receive();
    assert_eq!(got.text(), "1000", "MQTT-3.3.2-5: the expired one is gone");
    let left = got.properties.find(|p| match p {
        Property::MessageExpiry(seconds) => Some(*seconds),
        _ => None,
    });
    let left = left.expect("MQTT-3.3.2-6: the received value less the time waited");
    assert!((900..=998).contains(&left), "{left}");
    reader.expect_silence();
}

#[test]
fn leading_wildcards_do_not_match_dollar_topics() {
    let broker = Broker::start();
    for version in VERSIONS {
        let mut client = broker.connect(&Connect::new(version, "dollar"));
        for filter in ["#", "+/x", "+/#"] {
            client.subscribe(filter, 0); // MQTT-4.7.2-1
        }
        client.publish(&Publish::new("$dollar/x", "hidden").qos(1));
        client.expect_silence();
        client.subscribe("$dollar/+", 0);
        client.publish(&Publish::new("$dollar/x", "seen").qos(1));
        assert_eq!(client.receive().text(), "seen");
        client.expect_silence();
    }
}

#[test]
fn malformed_acknowledgements_end_the_connection() {
    let broker = Broker::start();
    for version in VERSIONS {
        let cases: [Vec<u8>; 4] = [
            wire::packet(0x40, &[1]),    // half an identifier
            wire::packet(0x60, &[0, 1]), // PUBREL's flags: MQTT-3.6.1-1
            wire::packet(0x41, &[0, 1]), // PUBACK's flags
            wire::packet(0x50, &[]),     // nothing at all
        ];
        for bytes in cases {
            let mut client = broker.connect(&Connect::new(version, "ack"));
            client.send(&bytes);
            client.expect_disconnect(0x81);
        }
    }
}

#[test]
fn a_topic_alias_stands_for_its_topic() {
    let broker = Broker::start();
    let mut reader = broker.connect(&Connect::v5("reader"));
    reader.subscribe("#", 1);
    let mut writer = broker.connect(&Connect::v5("writer"));
    let aliased = |topic: &str, alias, payload: &str| {
        Publish::new(topic, payload)
            .qos(1)
            .property(Property::TopicAlias(alias))
    };
    for (topic, alias, payload, expected) in [
        ("a/b", 1, "1", "a/b"),
        ("c", 32, "2", "c"),
        ("", 1, "3", "a/b"),
        ("", 32, "4", "c"),
        ("d", 1, "5", "d"), // MQTT-3.3.2.3.4: the number gets a new meaning
        ("", 1, "6", "d"),
    ] {
        assert_eq!(writer.publish(&aliased(topic, alias, payload)), 0);
        let got = reader.receive();
        assert_eq!(
            (got.topic.as_str(), got.text().as_str()),
            (expected, payload)
        );
        let is_alias = |p: &Property| matches!(p, Property::TopicAlias(_)).then_some(());
        assert!(got.properties.find(is_alias).is_none(), "not passed on");
    }
    // A new connection knows nothing of them (MQTT-3.3.2-7), and there are 32 (MQTT-3.3.2-9).
    for (alias, reason) in [(1, 0x82), (33, 0x94), (0, 0x94)] {
        let mut stranger = broker.connect(&Connect::v5("stranger"));
        stranger.send_publish(&aliased("", alias, "x"));
        stranger.expect_disconnect(reason);
    }
    reader.expect_silence();
}

#[test]
fn topics_of_the_server_are_not_published_to() {
    let broker = Broker::start();
    let mut reader = broker.connect(&Connect::v5("reader"));
    reader.subscribe("$SYS/#", 1);
    for topic in ["$SYS/x", "$share/g/x", "$oshare/g/x", "$events/x"] {
        for version in VERSIONS {
            let mut writer = broker.connect(&Connect::new(version, "writer"));
            writer.send_publish(&Publish::new(topic, "x").qos(1));
            if version == Version::V5 {
                assert_eq!(writer.next_ack().code, 0x87, "{topic}");
            } else {
                writer.expect_closed(); // ForbiddenPublishV3
            }
        }
    }
    // Others that begin with a dollar sign are anybody's.
    let mut writer = broker.connect(&Connect::v5("writer"));
    reader.subscribe("$mine/#", 1);
    assert_eq!(writer.publish(&Publish::new("$mine/x", "x").qos(1)), 0);
    assert_eq!(reader.receive().topic, "$mine/x");
    reader.expect_silence();
}
