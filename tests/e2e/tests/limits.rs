//! Settings per tenant at their defaults and when set, and what is said at each bound.

use bifrust_e2e::wire::{self, AckKind, Properties};
use bifrust_e2e::{Broker, Connect, Filter, Packet, Property, Publish, VERSIONS, Version, Will};

#[test]
fn topics_of_the_longest_kind_pass_and_longer_ones_do_not() {
    let broker = Broker::start();
    // MaxTopicLength 4096 bytes, MaxTopicLevels 256, MaxTopicLevelLength 4096.
    let long = "t".repeat(4096);
    let deep = vec!["a"; 256].join("/");
    for version in VERSIONS {
        for kind in [
            Connect::new(version, "a"),
            Connect::persistent(version, "b"),
        ] {
            let mut client = broker.connect(&kind);
            for topic in [&long, &deep] {
                client.publish(&Publish::new(topic, "kept").qos(1).retain());
                client.subscribe(topic, 1);
                let got = client.receive();
                assert!(got.topic == *topic && got.retain);
                client.publish(&Publish::new(topic, "").qos(1).retain());
                let got = client.receive();
                assert!(got.topic == *topic && got.payload.is_empty());
                client.unsubscribe(&[topic]);
            }
            client.disconnect();
        }
        for topic in ["t".repeat(4097), vec!["a"; 257].join("/")] {
            let mut client = broker.connect(&Connect::new(version, "too-long"));
            let codes = client.subscribe_all(&[Filter::new(&topic, 1), Filter::new("ok", 1)]);
            let refused = if version == Version::V5 { 0x8F } else { 0x80 };
            assert_eq!(codes, [refused, 1]);
            let id = client.send_publish(&Publish::new(&topic, "x").qos(1));
            if version == Version::V5 {
                match client.next_packet() {
                    Packet::Ack(ack) => assert_eq!((ack.id, ack.code), (id, 0x90)),
                    Packet::Disconnect { code, .. } => assert_eq!(code, 0x90),
                    other => panic!("a refusal expected, got {other:?}"),
                }
            } else {
                client.expect_closed();
            }
        }
    }
}

#[test]
fn packets_above_the_limit_are_refused_by_their_announced_length() {
    let broker = Broker::start();
    for version in VERSIONS {
        let mut client = broker.connect(&Connect::new(version, "large"));
        client.subscribe("large", 1);
        let overhead = 2 + "large".len() + 2 + usize::from(version == Version::V5);
        let most = 1024 * 1024 - 1 - 3 - overhead;
        client.publish(&Publish::new("large", vec![1; most]).qos(1));
        assert_eq!(client.receive().payload.len(), most);
        // Only the head of a packet that is one byte too long, never the body.
        let mut head = vec![0x32];
        wire::variable(&mut head, 1024 * 1024 - 3);
        client.send(&head);
        client.expect_disconnect(0x95);
    }
    // The longest length there is (MQTT 2.1.4).
    for version in VERSIONS {
        let mut client = broker.connect(&Connect::new(version, "longest"));
        client.send(&[0x30, 0xFF, 0xFF, 0xFF, 0x7F]);
        client.expect_disconnect(0x95);
    }
}

#[test]
fn packet_limit_follows_the_setting() {
    let broker = Broker::builder()
        .setting("MaxUserPayloadBytes", 2048)
        .setting("MaxLastWillBytes", 1024)
        .start();
    let mut client = broker.connect(&Connect::v5("small"));
    assert!(client.connack.has(&Property::MaximumPacketSize(2048)));
    client.publish(&Publish::new("small", vec![0; 2000]).qos(1));
    client.send_publish(&Publish::new("small", vec![0; 2048]).qos(1));
    client.expect_disconnect(0x95);
}

#[test]
fn messages_larger_than_the_client_takes_are_dropped_for_it_alone() {
    let broker = Broker::start();
    for kind in [Connect::v5("a"), Connect::persistent(Version::V5, "b")] {
        let narrow = kind.property(Property::MaximumPacketSize(200));
        let mut narrow = broker.connect(&narrow);
        let mut wide = broker.connect(&Connect::v5("wide"));
        narrow.subscribe("size", 1);
        wide.subscribe("size", 1);
        wide.publish(&Publish::new("size", vec![0; 500]).qos(1));
        wide.publish(&Publish::new("size", "small").qos(1));
        assert_eq!(wide.receive().payload.len(), 500);
        assert_eq!(wide.receive().text(), "small");
        assert_eq!(narrow.receive().text(), "small"); // MQTT-3.1.2-24, -25
        narrow.expect_silence();
    }
}

#[test]
fn wills_above_the_limit_are_refused() {
    let broker = Broker::start();
    // MaxLastWillBytes: 64 KiB; a field holds 65535 bytes, so a lower one is set as well.
    let will = Will::new("w", vec![0; 65_535]);
    broker.connect(&Connect::v5("full").will(will)).ping();
    let broker = Broker::builder().setting("MaxLastWillBytes", 100).start();
    broker
        .connect(&Connect::v5("fits").will(Will::new("w", vec![0; 90])))
        .ping();
    let above = Will::new("w", vec![0; 200]);
    let code = broker.refuse(&Connect::v5("above").will(above.clone()));
    assert!(matches!(code, 0x95 | 0x97), "{code:#04x}");
    let code = broker.refuse(&Connect::v3("above").will(above));
    assert!((1..=5).contains(&code), "{code:#04x}");
}

#[test]
fn filters_above_the_quota_are_refused_one_by_one() {
    let broker = Broker::builder()
        .setting("MaxTopicFiltersPerSub", 5)
        .setting("MaxTopicFiltersPerInbox", 8)
        .start();
    for version in VERSIONS {
        for connect in [
            Connect::new(version, "a"),
            Connect::persistent(version, format!("b {version:?}")),
        ] {
            let mut client = broker.connect(&connect);
            let full = if version == Version::V5 { 0x97 } else { 0x80 };
            let filters = |range: std::ops::Range<u32>| -> Vec<Filter> {
                range
                    .map(|index| Filter::new(format!("f/{index}"), 1))
                    .collect()
            };
            let codes = client.subscribe_all(&filters(0..7));
            assert_eq!(codes, [1, 1, 1, 1, 1, full, full], "per SUBSCRIBE");
            let codes = client.subscribe_all(&filters(5..10));
            assert_eq!(codes, [1, 1, 1, full, full], "per session");
            // Replacing takes no place.
            assert_eq!(client.subscribe_all(&filters(0..2)), [1, 1]);
            client.unsubscribe(&["f/0"]);
            assert_eq!(client.subscribe_all(&filters(9..10)), [1]);
            client.disconnect();
        }
    }
}

#[test]
fn default_of_filters_in_one_packet() {
    let broker = Broker::start();
    let mut client = broker.connect(&Connect::v5("thousand"));
    let filters: Vec<Filter> = (0..1001)
        .map(|n| Filter::new(format!("f/{n}"), 0))
        .collect();
    let codes = client.subscribe_all(&filters);
    assert!(codes[..1000].iter().all(|code| *code == 0));
    assert_eq!(codes[1000..], [0x97]);
}

#[test]
fn receive_maximum_binds_the_client() {
    let broker = Broker::builder().setting("ReceivingMaximum", 5).start();
    let mut client = broker.connect(&Connect::v5("eager"));
    assert!(client.connack.has(&Property::ReceiveMaximum(5)));
    // Until PUBCOMP a QoS 2 message counts (MQTT 4.9); one more is too many (MQTT-3.3.4-8).
    for id in 1..=5 {
        client.send_publish(&Publish::new("x", "x").qos(2).id(id));
        client.expect_ack(AckKind::Pubrec, id);
    }
    client.send(&wire::ack(AckKind::Pubrel, 1));
    client.expect_ack(AckKind::Pubcomp, 1);
    client.send_publish(&Publish::new("x", "x").qos(2).id(6));
    client.expect_ack(AckKind::Pubrec, 6);
    client.send_publish(&Publish::new("x", "x").qos(2).id(7));
    client.expect_disconnect(0x93);
    // v3 knows no such limit: what has its PUBREC counts no longer.
    let mut client = broker.connect(&Connect::v3("eager"));
    for id in 1..=20 {
        client.send_publish(&Publish::new("x", "x").qos(2).id(id));
        client.expect_ack(AckKind::Pubrec, id);
    }
    for id in 1..=20 {
        client.send(&wire::ack(AckKind::Pubrel, id));
        client.expect_ack(AckKind::Pubcomp, id);
    }
}

#[test]
fn queue_of_an_absent_session_is_bounded() {
    let broker = Broker::builder().setting("SessionInboxSize", 10).start();
    for version in VERSIONS {
        let connect = Connect::persistent(version, format!("{version:?}"));
        let mut reader = broker.connect(&connect);
        reader.subscribe("full", 1);
        reader.disconnect();
        let mut writer = broker.connect(&Connect::new(version, "writer"));
        for index in 0..25 {
            // The publisher is not told: one full receiver never blocks it (C1).
            writer.publish(&Publish::new("full", index.to_string()).qos(1));
        }
        let mut reader = broker.connect(&connect);
        let expected: Vec<String> = (0..10).map(|index| index.to_string()).collect();
        assert_eq!(reader.receive_texts(10), expected, "the newest are dropped");
        reader.expect_silence();
        writer.publish(&Publish::new("full", "again").qos(1));
        assert_eq!(reader.receive().text(), "again");
        reader.unsubscribe(&["full"]);
    }
}

#[test]
fn queue_is_bounded_in_bytes() {
    let broker = Broker::builder()
        .setting("SessionInboxBytes", 65_536)
        .start();
    let connect = Connect::persistent(Version::V5, "bytes");
    let mut reader = broker.connect(&connect);
    reader.subscribe("full", 1);
    reader.disconnect();
    let mut writer = broker.connect(&Connect::v5("writer"));
    for _ in 0..20 {
        writer.publish(&Publish::new("full", vec![0; 10_000]).qos(1));
    }
    let mut reader = broker.connect(&connect);
    let mut count = 0;
    loop {
        writer.ping();
        let deadline = std::time::Instant::now() + bifrust_e2e::client::SILENCE;
        match reader.poll(deadline) {
            bifrust_e2e::Received::Packet(Packet::Publish(publish)) => {
                reader.acknowledge(&publish);
                count += 1;
            }
            bifrust_e2e::Received::TimedOut => break,
            other => panic!("{other:?}"),
        }
    }
    assert!(
        (4..=6).contains(&count),
        "{count} messages of 10,000 bytes within 65,536"
    );
}

#[test]
fn offline_qos0_is_kept_where_asked_for() {
    let broker = Broker::builder().setting("QoS0OfflineQueue", true).start();
    let connect = Connect::persistent(Version::V5, "zero");
    let mut reader = broker.connect(&connect);
    reader.subscribe("zero", 0);
    reader.disconnect();
    let mut writer = broker.connect(&Connect::v5("writer"));
    writer.publish(&Publish::new("zero", "0"));
    writer.publish(&Publish::new("zero", "1").qos(1));
    let mut reader = broker.connect(&connect);
    assert_eq!(reader.receive_texts(2), ["0", "1"]);
}

#[test]
fn expiry_and_keep_alive_are_clamped_and_told() {
    let broker = Broker::builder()
        .setting("MaxSessionExpirySeconds", 100)
        .setting("MinSessionExpirySeconds", 10)
        .setting("MinKeepAliveSeconds", 30)
        .setting("MaxKeepAliveSeconds", 120)
        .start();
    let expiry = |properties: &Properties| {
        properties.find(|p| match p {
            Property::SessionExpiry(seconds) => Some(*seconds),
            _ => None,
        })
    };
    let keep_alive = |properties: &Properties| {
        properties.find(|p| match p {
            Property::ServerKeepAlive(seconds) => Some(*seconds),
            _ => None,
        })
    };
    let said = |connect: Connect| {
        let client = broker.connect(&connect);
        (expiry(&client.connack), keep_alive(&client.connack))
    };
    assert_eq!(
        said(Connect::v5("a").expiry(1000).keep_alive(60)),
        (Some(100), None)
    );
    assert_eq!(
        said(Connect::v5("b").expiry(5).keep_alive(5)),
        (Some(10), Some(30))
    );
    assert_eq!(
        said(Connect::v5("c").expiry(50).keep_alive(600)).1,
        Some(120)
    );
    assert_eq!(
        said(Connect::v5("d").keep_alive(0)).1,
        Some(120),
        "0 is above every cap"
    );
    // A transient session stays one.
    assert!(matches!(said(Connect::v5("e")).0, None | Some(0)));
}

#[test]
fn client_ids_follow_the_setting() {
    let broker = Broker::builder().setting("MaxClientIdLength", 23).start();
    broker.connect(&Connect::v3("x".repeat(23))).ping();
    assert_eq!(broker.refuse(&Connect::v3("x".repeat(24))), 0x02);
    assert_eq!(broker.refuse(&Connect::v5("x".repeat(24))), 0x85);
}

#[test]
fn outbound_window_of_v3_follows_the_setting() {
    let broker = Broker::builder().setting("MaxInflight", 3).start();
    for connect in [Connect::v3("a"), Connect::persistent(Version::V3, "b")] {
        let mut reader = broker.connect(&connect);
        reader.subscribe("window", 1);
        let mut writer = broker.connect(&Connect::v5("writer"));
        for index in 0..10 {
            writer.publish(&Publish::new("window", index.to_string()).qos(1));
        }
        let held: Vec<Publish> = (0..3).map(|_| reader.next_publish()).collect();
        reader.expect_silence();
        for publish in &held {
            reader.acknowledge(publish);
        }
        let expected: Vec<String> = (3..10).map(|index| index.to_string()).collect();
        assert_eq!(reader.receive_texts(7), expected);
    }
}
