//! Flow control: receive maximum in both directions, windows, order, resending within them.

use bifrust_e2e::wire::{self, AckKind};
use bifrust_e2e::{Ack, Broker, Connect, Packet, Publish, VERSIONS, Version};

fn kinds(maximum: u16) -> [Connect; 2] {
    [
        Connect::v5("transient").receive_maximum(maximum),
        Connect::persistent(Version::V5, "persistent").receive_maximum(maximum),
    ]
}

#[test]
fn receive_maximum_of_the_client_is_kept() {
    let broker = Broker::start();
    for maximum in [1, 2, 7] {
        for connect in kinds(maximum) {
            for qos in 1..=2 {
                let mut reader = broker.connect(&connect);
                reader.subscribe("window", qos);
                let mut writer = broker.connect(&Connect::v5("writer"));
                for index in 0..20 {
                    writer.publish(&Publish::new("window", index.to_string()).qos(qos));
                }
                // MQTT-3.3.4-7, -9; other packets still flow (MQTT 4.9).
                let mut held: Vec<Publish> = (0..maximum).map(|_| reader.next_publish()).collect();
                reader.expect_silence();
                let mut texts = Vec::new();
                while texts.len() < 20 {
                    let publish = held.remove(0);
                    reader.acknowledge(&publish);
                    texts.push(publish.text());
                    if texts.len() + held.len() < 20 {
                        held.push(reader.next_publish());
                    }
                }
                let expected: Vec<String> = (0..20).map(|index| index.to_string()).collect();
                assert_eq!(texts, expected);
                reader.expect_silence();
                reader.unsubscribe(&["window"]);
            }
        }
    }
}

#[test]
fn pubrec_does_not_free_the_window() {
    let broker = Broker::start();
    for connect in kinds(1) {
        let mut reader = broker.connect(&connect);
        reader.subscribe("window", 2);
        let mut writer = broker.connect(&Connect::v5("writer"));
        writer.publish(&Publish::new("window", "one").qos(2));
        writer.publish(&Publish::new("window", "two").qos(2));
        let one = reader.next_publish();
        reader.send(&wire::ack(AckKind::Pubrec, one.id));
        reader.expect_ack(AckKind::Pubrel, one.id);
        reader.expect_silence(); // MQTT 4.9: freed by PUBCOMP
        reader.send(&wire::ack(AckKind::Pubcomp, one.id));
        assert_eq!(reader.receive().text(), "two");
        // A PUBREC with an error ends its delivery and frees the place (MQTT-4.3.3-3 f.).
        writer.publish(&Publish::new("window", "three").qos(2));
        writer.publish(&Publish::new("window", "four").qos(2));
        let three = reader.next_publish();
        let mut refusal = wire::ack(AckKind::Pubrec, three.id);
        refusal[1] = 3;
        refusal.push(0x97);
        reader.send(&refusal);
        assert_eq!(reader.receive().text(), "four");
        reader.expect_silence();
    }
}

#[test]
fn qos0_does_not_need_the_window() {
    let broker = Broker::start();
    for connect in kinds(1) {
        let mut reader = broker.connect(&connect);
        reader.subscribe("window", 1);
        reader.subscribe("free", 0);
        let mut writer = broker.connect(&Connect::v5("writer"));
        writer.publish(&Publish::new("window", "held").qos(1));
        let held = reader.next_publish();
        writer.publish(&Publish::new("free", "passes").qos(1));
        assert_eq!(reader.next_publish().text(), "passes"); // MQTT-3.3.4-7 counts QoS above 0
        reader.acknowledge(&held);
    }
}

#[test]
fn resending_stays_within_the_new_receive_maximum() {
    let broker = Broker::start();
    let persistent = || Connect::persistent(Version::V5, "shrinking");
    let mut reader = broker.connect(&persistent().receive_maximum(10));
    reader.subscribe("window", 1);
    let mut writer = broker.connect(&Connect::v5("writer"));
    for index in 0..15 {
        writer.publish(&Publish::new("window", index.to_string()).qos(1));
    }
    let first: Vec<Publish> = (0..10).map(|_| reader.next_publish()).collect();
    reader.expect_silence();
    reader.cut();
    let mut reader = broker.connect(&persistent().receive_maximum(3));
    let mut held: Vec<Publish> = (0..3).map(|_| reader.next_publish()).collect();
    reader.expect_silence();
    for index in 0..15_usize {
        let publish = held.remove(0);
        assert_eq!(publish.text(), index.to_string());
        match first.get(index) {
            Some(sent) => assert_eq!((publish.id, publish.dup), (sent.id, true)),
            None => assert!(!publish.dup, "never written before: {publish:?}"),
        }
        reader.acknowledge(&publish);
        if index < 12 {
            held.push(reader.next_publish());
        }
    }
    reader.expect_silence();
}

#[test]
fn acknowledgements_may_come_in_any_order() {
    let broker = Broker::start();
    for connect in [
        Connect::v3("a"),
        Connect::v5("b"),
        Connect::persistent(Version::V3, "c"),
        Connect::persistent(Version::V5, "d"),
    ] {
        let mut reader = broker.connect(&connect);
        reader.subscribe("any", 1);
        let mut writer = broker.connect(&Connect::v5("writer"));
        for _ in 0..3 {
            for index in 0..50 {
                writer.publish(&Publish::new("any", index.to_string()).qos(1));
            }
            let mut held: Vec<Publish> = (0..50).map(|_| reader.next_publish()).collect();
            let ids: std::collections::HashSet<u16> = held.iter().map(|p| p.id).collect();
            assert_eq!(
                ids.len(),
                50,
                "MQTT-2.2.1-4: identifiers in use are not used again"
            );
            held.reverse();
            for publish in &held {
                reader.acknowledge(publish);
            }
        }
        reader.expect_silence();
    }
}

#[test]
fn identifiers_wrap_past_65535() {
    let broker = Broker::start();
    for connect in [
        Connect::v5("transient"),
        Connect::persistent(Version::V5, "persistent"),
    ] {
        let mut reader = broker.connect(&connect.receive_maximum(1000));
        reader.subscribe("wrap", 1);
        let mut writer = broker.connect(&Connect::v5("writer"));
        let mut last = 0;
        let mut wraps = 0;
        for batch in 0..132_u32 {
            let mut bytes = Vec::new();
            for index in 0..500_u16 {
                let text = (batch * 500 + u32::from(index)).to_string();
                bytes.extend(
                    Publish::new("wrap", text)
                        .qos(1)
                        .id(index + 1)
                        .encode(Version::V5),
                );
            }
            writer.send(&bytes);
            let mut acks = Vec::new();
            for index in 0..500_u32 {
                let publish = reader.next_publish();
                assert_eq!(publish.text(), (batch * 500 + index).to_string());
                acks.extend(wire::ack(AckKind::Puback, publish.id));
                wraps += u32::from(publish.id < last);
                last = publish.id;
            }
            reader.send(&acks);
            for index in 0..500 {
                writer.expect_ack(AckKind::Puback, index + 1);
            }
        }
        assert_eq!(wraps, 1);
    }
}

#[test]
fn excess_of_the_brokers_receive_maximum_ends_the_connection() {
    // More publishes at once than may be unanswered: the broker answers in time or closes with
    // 0x93 (MQTT-3.3.4-8), and it never answers out of order or twice.
    let broker = Broker::builder().setting("ReceivingMaximum", 2).start();
    let mut keep = broker.connect(&Connect::persistent(Version::V5, "keep"));
    keep.subscribe("excess", 1);
    let mut client = broker.connect(&Connect::v5("eager"));
    let mut bytes = Vec::new();
    for id in 1..=500 {
        bytes.extend(
            Publish::new("excess", "x")
                .qos(1)
                .id(id)
                .encode(Version::V5),
        );
    }
    let _ = client.try_send(&bytes); // the broker may close before it has read them all
    let mut next = 1;
    loop {
        match client.next_answer() {
            Packet::Ack(Ack {
                id, code: 0 | 0x10, ..
            }) if id == next => next += 1,
            Packet::Disconnect { code: 0x93, .. } => break,
            other => panic!("{other:?}"),
        }
        if next > 500 {
            return;
        }
    }
    client.expect_closed();
}

#[test]
fn v3_may_send_more_than_the_broker_answers_at_once() {
    let broker = Broker::builder().setting("ReceivingMaximum", 2).start();
    let mut keep = broker.connect(&Connect::persistent(Version::V3, "keep"));
    keep.subscribe("excess", 2);
    let mut client = broker.connect(&Connect::v3("eager"));
    let mut bytes = Vec::new();
    for id in 1..=500 {
        bytes.extend(
            Publish::new("excess", id.to_string())
                .qos(1)
                .id(id)
                .encode(Version::V3),
        );
    }
    client.send(&bytes);
    for id in 1..=500 {
        client.expect_ack(AckKind::Puback, id);
    }
    let expected: Vec<String> = (1..=500).map(|id: u32| id.to_string()).collect();
    assert_eq!(keep.receive_texts(500), expected);
}

#[test]
fn mixed_qualities_on_one_topic_keep_order_per_quality() {
    let broker = Broker::start();
    for version in VERSIONS {
        for connect in [
            Connect::new(version, "a"),
            Connect::persistent(version, "b"),
        ] {
            let mut reader = broker.connect(&connect);
            reader.subscribe("mixed", 2);
            let mut writer = broker.connect(&Connect::new(version, "writer"));
            let mut bytes = Vec::new();
            for index in 0..300_u16 {
                let qos = (index % 3) as u8;
                let publish = Publish::new("mixed", index.to_string())
                    .qos(qos)
                    .id(index + 1);
                bytes.extend(publish.encode(version));
            }
            writer.send(&bytes);
            let mut seen: [Vec<u16>; 3] = Default::default();
            for _ in 0..300 {
                let publish = reader.receive();
                let value = publish.text().parse().expect("a number");
                seen[usize::from(publish.qos)].push(value);
            }
            for values in seen {
                assert_eq!(values.len(), 100);
                assert!(values.is_sorted(), "C6: {values:?}");
            }
        }
    }
}
