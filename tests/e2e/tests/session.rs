//! Sessions that outlive connections: resume, expiry, takeover, restart.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use bifrust_e2e::client::PATIENCE;
use bifrust_e2e::wire::{self, AckKind, Properties};
use bifrust_e2e::{
    Broker, Client, Connect, Packet, Property, Publish, Received, VERSIONS, Version,
};

fn other(version: Version) -> Version {
    match version {
        Version::V3 => Version::V5,
        Version::V5 => Version::V3,
    }
}

#[test]
fn persistent_session_keeps_subscriptions_and_messages() {
    let broker = Broker::start();
    for version in VERSIONS {
        let connect = Connect::persistent(version, format!("{version:?}"));
        let mut reader = broker.connect(&connect);
        assert!(!reader.is_present); // MQTT-3.2.2-3
        for qos in 0..=2 {
            reader.subscribe(&format!("kept/{qos}"), qos);
        }
        reader.disconnect();
        let mut writer = broker.connect(&Connect::new(version, "writer"));
        for index in 0..20 {
            writer.publish(&Publish::new("kept/1", format!("1-{index}")).qos(1));
            writer.publish(&Publish::new("kept/2", format!("2-{index}")).qos(2));
            writer.publish(&Publish::new("kept/0", "not kept").qos(2));
        }
        let mut reader = broker.connect(&connect);
        assert!(reader.is_present);
        for index in 0..20 {
            for qos in 1..=2 {
                let got = reader.receive();
                assert_eq!((got.qos, got.text()), (qos, format!("{qos}-{index}")));
                assert!(!got.dup, "never sent before: {got:?}");
            }
        }
        reader.expect_silence();
        writer.publish(&Publish::new("kept/0", "now").qos(0));
        assert_eq!(reader.receive().text(), "now");
    }
}

#[test]
fn clean_start_discards_what_was_there() {
    let broker = Broker::start();
    for version in VERSIONS {
        let id = format!("{version:?}");
        let mut client = broker.connect(&Connect::persistent(version, &id));
        client.subscribe("gone", 1);
        client.disconnect();
        broker
            .connect(&Connect::v5("writer"))
            .publish(&Publish::new("gone", "x").qos(1));
        // MQTT-3.1.2-4 (3.1.1: -6).
        let mut client = broker.connect(&Connect::new(version, &id));
        assert!(!client.is_present);
        client.publish(&Publish::new("gone", "y").qos(1));
        client.expect_silence();
        client.disconnect();
        let client = broker.connect(&Connect::persistent(version, &id));
        assert!(!client.is_present, "MQTT-3.1.2-6: nothing was resumed");
    }
}

#[test]
fn session_of_one_version_is_resumed_by_the_other() {
    let broker = Broker::start();
    for version in VERSIONS {
        let id = format!("from {version:?}");
        let mut client = broker.connect(&Connect::persistent(version, &id));
        client.subscribe("crossing", 2);
        client.disconnect();
        broker
            .connect(&Connect::v3("writer"))
            .publish(&Publish::new("crossing", "x").qos(2));
        let mut client = broker.connect(&Connect::persistent(other(version), &id));
        assert!(client.is_present);
        assert_eq!(client.receive().text(), "x");
        broker
            .connect(&Connect::persistent(version, &id))
            .unsubscribe(&["crossing"]);
    }
}

#[test]
fn session_without_expiry_ends_with_its_connection() {
    let broker = Broker::start();
    let mut client = broker.connect(&Connect::v5("zero").resume());
    client.subscribe("x", 1);
    client.disconnect();
    assert!(!broker.connect(&Connect::v5("zero").resume()).is_present); // MQTT 3.1.2.11.2
    let mut client = broker.connect(&Connect::v3("clean"));
    client.subscribe("x", 1);
    client.disconnect();
    assert!(!broker.connect(&Connect::v3("clean").resume()).is_present);
}

#[test]
fn session_expires_after_its_time() {
    let broker = Broker::start();
    let mut client = broker.connect(&Connect::v5("expiring").expiry(2));
    client.subscribe("expiring", 1);
    client.disconnect();
    assert!(
        broker
            .connect(&Connect::v5("expiring").resume().expiry(2))
            .is_present
    );
    // The dropped connection above starts the time again; its passing is what is tested.
    thread::sleep(Duration::from_millis(3600));
    assert!(
        !broker
            .connect(&Connect::v5("expiring").resume().expiry(2))
            .is_present
    );
}

#[test]
fn disconnect_changes_the_expiry() {
    let broker = Broker::start();
    let with = |seconds| Properties(vec![Property::SessionExpiry(seconds)]);
    // MQTT 3.14.2.2.2: ended at once by 0.
    let client = broker.connect(&Connect::v5("ended").expiry(100));
    client.disconnect_with(0, with(0));
    assert!(!broker.connect(&Connect::v5("ended").resume()).is_present);
    // Prolonged.
    let client = broker.connect(&Connect::v5("longer").expiry(1));
    client.disconnect_with(0, with(100));
    thread::sleep(Duration::from_millis(2200)); // the passing of time is what is tested
    assert!(broker.connect(&Connect::v5("longer").resume()).is_present);
}

#[test]
fn newer_connection_takes_the_session_over() {
    let broker = Broker::start();
    for version in VERSIONS {
        for newer_version in VERSIONS {
            let id = format!("{version:?} {newer_version:?}");
            let mut older = broker.connect(&Connect::persistent(version, &id));
            older.subscribe("take/over", 1);
            let mut newer = broker.connect(&Connect::persistent(newer_version, &id));
            assert!(newer.is_present);
            older.expect_disconnect(0x8E); // MQTT-3.1.4-3
            newer.publish(&Publish::new("take/over", "x").qos(1));
            assert_eq!(newer.receive().text(), "x");
            newer.unsubscribe(&["take/over"]);
        }
    }
}

/// Connects again at once, whatever happens, until it was let in often enough.
fn fight(address: SocketAddr, connect: &Connect, turns: usize) {
    let deadline = Instant::now() + PATIENCE;
    let mut served = 0;
    while served < turns {
        assert!(Instant::now() < deadline, "starved after {served} turns");
        let mut client = Client::dial(address, connect.version);
        if client.try_send(&connect.encode()).is_err() {
            continue;
        }
        match client.poll(deadline) {
            Received::Packet(Packet::Connack { code: 0, .. }) => served += 1,
            // Superseded while it waited, or closed.
            Received::Packet(Packet::Connack { code: 0x89, .. }) | Received::Closed => continue,
            other => panic!("{other:?}"),
        }
        // Until the other one takes over, or has had enough.
        let told = client.poll(Instant::now() + Duration::from_millis(100));
        let is_taken_over = matches!(
            told,
            Received::Packet(Packet::Disconnect { code: 0x8E, .. })
        );
        assert!(
            is_taken_over || matches!(told, Received::TimedOut | Received::Closed),
            "{told:?}"
        );
    }
}

#[test]
fn clients_that_fight_for_a_session_are_served_in_turns() {
    let broker = Broker::start();
    for connect in [
        Connect::persistent(Version::V5, "kept"),
        Connect::v5("not kept"),
    ] {
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| fight(broker.tcp(), &connect, 30));
            }
        });
    }
}

#[test]
fn transient_session_is_taken_over_without_its_state() {
    let broker = Broker::start();
    for version in VERSIONS {
        let mut older = broker.connect(&Connect::new(version, "transient"));
        older.subscribe("lost", 1);
        let mut newer = broker.connect(&Connect::new(version, "transient"));
        assert!(!newer.is_present);
        older.expect_disconnect(0x8E);
        newer.publish(&Publish::new("lost", "x").qos(1));
        newer.expect_silence();
    }
}

#[test]
fn one_of_many_contenders_keeps_the_session() {
    let broker = Broker::start();
    let connect = Connect::persistent(Version::V5, "contended");
    let clients: Vec<Option<Client>> = thread::scope(|scope| {
        let contend = || {
            let mut client = Client::dial(broker.tcp(), Version::V5);
            client.send(&connect.encode());
            match client.poll(Instant::now() + PATIENCE) {
                Received::Packet(Packet::Connack { code: 0, .. }) => Some(client),
                // Superseded while waiting for its turn.
                Received::Packet(Packet::Connack { .. } | Packet::Disconnect { .. })
                | Received::Closed => None,
                other => panic!("{other:?}"),
            }
        };
        let threads: Vec<_> = (0..20).map(|_| scope.spawn(contend)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("no panic"))
            .collect()
    });
    let mut last = broker.connect(&connect);
    for mut loser in clients.into_iter().flatten() {
        loser.expect_disconnect(0x8E);
    }
    last.ping();
}

#[test]
fn unacknowledged_messages_come_again_with_dup_and_their_identifiers() {
    let broker = Broker::start();
    for version in VERSIONS {
        for qos in 1..=2 {
            let connect = Connect::persistent(version, format!("{version:?} {qos}"));
            let mut reader = broker.connect(&connect);
            let topic = format!("again/{version:?}/{qos}");
            reader.subscribe(&topic, qos);
            let mut writer = broker.connect(&Connect::v5("writer"));
            for index in 0..5 {
                writer.publish(&Publish::new(&topic, index.to_string()).qos(qos));
            }
            let first: Vec<Publish> = (0..5).map(|_| reader.next_publish()).collect();
            reader.acknowledge(&first[0]);
            reader.ping(); // the acknowledgement has been read
            // MQTT-4.4.0-1, -4.6.0-1: the rest again, in order, under their identifiers.
            let mut reader = broker.connect(&connect);
            assert!(reader.is_present);
            for sent in &first[1..] {
                let again = reader.receive();
                assert_eq!((again.id, &again.payload), (sent.id, &sent.payload));
                assert!(again.dup, "MQTT-3.3.1-1");
            }
            reader.expect_silence();
        }
    }
}

#[test]
fn nothing_is_resent_on_a_standing_connection() {
    let broker = Broker::start();
    for version in VERSIONS {
        let connect = Connect::persistent(version, format!("{version:?}"));
        let mut reader = broker.connect(&connect);
        reader.subscribe("once", 1);
        broker
            .connect(&Connect::v5("writer"))
            .publish(&Publish::new("once", "x").qos(1));
        let first = reader.next_publish();
        let deadline = Instant::now() + Duration::from_secs(3);
        assert!(matches!(reader.poll(deadline), Received::TimedOut)); // MQTT-4.4.0-1
        reader.acknowledge(&first);
        reader.unsubscribe(&["once"]);
    }
}

#[test]
fn pubrel_comes_again_where_pubrec_was_seen() {
    let broker = Broker::start();
    for version in VERSIONS {
        let connect = Connect::persistent(version, format!("{version:?}"));
        let mut reader = broker.connect(&connect);
        reader.subscribe("released", 2);
        let mut writer = broker.connect(&Connect::v5("writer"));
        writer.publish(&Publish::new("released", "one").qos(2));
        writer.publish(&Publish::new("released", "two").qos(2));
        let (one, two) = (reader.next_publish(), reader.next_publish());
        reader.send(&wire::ack(AckKind::Pubrec, one.id));
        reader.expect_ack(AckKind::Pubrel, one.id);
        reader.cut();
        let mut reader = broker.connect(&connect);
        // MQTT-4.4.0-1, MQTT-4.3.3-6: PUBREL for the first, PUBLISH only for the second.
        reader.expect_ack(AckKind::Pubrel, one.id);
        let again = reader.next_publish();
        assert_eq!(
            (again.id, again.text().as_str(), again.dup),
            (two.id, "two", true)
        );
        reader.send(&wire::ack(AckKind::Pubcomp, one.id));
        reader.acknowledge(&again);
        reader.expect_silence();
        drop(reader);
        let mut reader = broker.connect(&connect);
        reader.expect_silence();
        reader.unsubscribe(&["released"]);
    }
}

#[test]
fn qos2_from_a_persistent_publisher_is_delivered_once_across_reconnect() {
    let mut broker = Broker::start();
    for kill in [false, true] {
        for version in VERSIONS {
            let connect = Connect::persistent(version, format!("{version:?} {kill}"));
            let topic = format!("exactly/{version:?}/{kill}");
            let keep = Connect::persistent(version, format!("reader {version:?} {kill}"));
            let mut reader = broker.connect(&keep);
            reader.subscribe(&topic, 2);
            let mut writer = broker.connect(&connect);
            let publish = Publish::new(&topic, "once").qos(2).id(3);
            writer.send(&publish.encode(version));
            writer.expect_ack(AckKind::Pubrec, 3);
            writer.cut();
            if kill {
                broker.kill();
                broker.restart();
                reader = broker.connect(&keep);
                assert!(reader.is_present);
            }
            let mut writer = broker.connect(&connect);
            assert!(writer.is_present);
            writer.send(&publish.clone().dup().encode(version)); // MQTT-4.3.3-10
            writer.expect_ack(AckKind::Pubrec, 3);
            writer.send(&wire::ack(AckKind::Pubrel, 3));
            writer.expect_ack(AckKind::Pubcomp, 3);
            assert_eq!(reader.receive().text(), "once");
            reader.expect_silence();
            writer.publish(&Publish::new(&topic, "second").qos(2).id(3));
            assert_eq!(reader.receive().text(), "second");
            reader.expect_silence();
        }
    }
}

#[test]
fn sessions_outlive_every_kind_of_restart() {
    for is_killed in [false, true] {
        let mut broker = Broker::start();
        for version in VERSIONS {
            for name in ["away", "here"] {
                let id = format!("{name} {version:?}");
                let mut client = broker.connect(&Connect::persistent(version, &id));
                client.subscribe("restart/#", 2);
                client.subscribe(&format!("own/{id}"), 1);
                if name == "away" {
                    client.disconnect();
                }
            }
        }
        let mut online = broker.connect(&Connect::persistent(Version::V5, "online"));
        online.subscribe("restart/#", 1);
        let mut transient = broker.connect(&Connect::v5("transient"));
        transient.subscribe("restart/#", 1);
        let mut writer = broker.connect(&Connect::v5("writer"));
        for index in 0..50 {
            let qos = 1 + index % 2;
            writer.publish(&Publish::new("restart/x", index.to_string()).qos(qos as u8));
        }
        let held: Vec<Publish> = (0..10).map(|_| online.next_publish()).collect();
        if is_killed {
            broker.kill();
        } else {
            assert!(broker.terminate().success(), "{}", broker.log());
        }
        broker.restart();
        let expected: Vec<String> = (0..50).map(|index: u32| index.to_string()).collect();
        for name in ["away", "here"] {
            for version in VERSIONS {
                let id = format!("{name} {version:?}");
                let mut client = broker.connect(&Connect::persistent(version, &id));
                assert!(client.is_present, "{name} {version:?}");
                assert_eq!(client.receive_texts(50), expected, "{name} {version:?}");
                client.expect_silence();
                client.publish(&Publish::new(format!("own/{id}"), "subscribed").qos(1));
                assert_eq!(client.receive().text(), "subscribed");
            }
        }
        let mut online = broker.connect(&Connect::persistent(Version::V5, "online"));
        for (index, text) in expected.iter().enumerate() {
            let again = online.receive();
            assert_eq!(&again.text(), text);
            if let Some(before) = held.get(index) {
                assert_eq!((again.id, again.dup), (before.id, true));
            }
        }
        assert!(
            !broker
                .connect(&Connect::v5("transient").resume())
                .is_present
        );
    }
}

#[test]
fn acknowledgements_right_before_the_end_count() {
    let broker = Broker::start();
    for version in VERSIONS {
        for qos in 1..=2 {
            let connect = Connect::persistent(version, format!("{version:?} {qos}"));
            let topic = format!("count/{version:?}/{qos}");
            let mut reader = broker.connect(&connect);
            reader.subscribe(&topic, qos);
            let mut writer = broker.connect(&Connect::v5("writer"));
            for index in 0..50 {
                writer.publish(&Publish::new(&topic, index.to_string()).qos(qos));
            }
            let mut bytes = Vec::new();
            for _ in 0..50 {
                let publish = reader.next_publish();
                if qos == 2 {
                    reader.send(&wire::ack(AckKind::Pubrec, publish.id));
                    reader.expect_ack(AckKind::Pubrel, publish.id);
                    bytes.extend(wire::ack(AckKind::Pubcomp, publish.id));
                } else {
                    bytes.extend(wire::ack(AckKind::Puback, publish.id));
                }
            }
            // Together with the goodbye: read in order, they are acknowledged (MQTT-4.3.2-4).
            bytes.extend(wire::disconnect(version, 0, &Properties::default()));
            reader.send(&bytes);
            reader.expect_closed();
            let mut reader = broker.connect(&connect);
            assert!(reader.is_present);
            reader.expect_silence();
        }
    }
}

#[test]
fn acknowledged_messages_do_not_come_back_after_a_restart() {
    let mut broker = Broker::start();
    let connect = Connect::persistent(Version::V5, "reader");
    let mut reader = broker.connect(&connect);
    reader.subscribe("acked", 2);
    let mut writer = broker.connect(&Connect::v5("writer"));
    for index in 0..10 {
        writer.publish(&Publish::new("acked", index.to_string()).qos(2));
    }
    reader.receive_texts(10);
    reader.ping(); // the last PUBCOMP has been read
    assert!(broker.terminate().success());
    broker.restart();
    let mut reader = broker.connect(&connect);
    assert!(reader.is_present);
    reader.expect_silence();
}
