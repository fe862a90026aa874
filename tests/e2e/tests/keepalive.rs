//! Keep alive. Each test lets real time pass: that is its subject.

use std::thread;
use std::time::{Duration, Instant};

use bifrust_e2e::wire::{self, PINGREQ};
use bifrust_e2e::{Broker, Client, Connect, Packet, Publish, Received, VERSIONS, Version};

/// Between 1.5 times the keep alive and that plus a second, with some room for a busy machine.
fn assert_closed_in_time(start: Instant, keep_alive: f64) {
    let waited = start.elapsed().as_secs_f64();
    let (least, most) = (keep_alive * 1.5, keep_alive * 1.5 + 1.0);
    assert!(
        waited > least - 0.1 && waited < most + 0.5,
        "{waited} outside {least}..{most}"
    );
}

#[test]
fn silent_clients_are_closed_between_one_and_a_half_times_and_a_second_more() {
    let broker = Broker::start();
    thread::scope(|scope| {
        for version in VERSIONS {
            for keep_alive in [1, 2, 4] {
                let broker = &broker;
                scope.spawn(move || {
                    let id = format!("{version:?} {keep_alive}");
                    let connect = Connect::new(version, id).keep_alive(keep_alive);
                    let mut client = broker.connect(&connect);
                    let start = Instant::now();
                    client.expect_disconnect(0x8D); // MQTT-3.1.2-22 (3.1.1: -24)
                    assert_closed_in_time(start, f64::from(keep_alive));
                });
            }
        }
    });
}

#[test]
fn complete_packets_of_any_kind_keep_the_connection() {
    let broker = Broker::start();
    thread::scope(|scope| {
        for version in VERSIONS {
            let broker = &broker;
            scope.spawn(move || {
                let connect = Connect::new(version, format!("{version:?}")).keep_alive(1);
                let mut client = broker.connect(&connect);
                for round in 0..8 {
                    thread::sleep(Duration::from_millis(900));
                    match round % 3 {
                        0 => client.send(PINGREQ),
                        1 => {
                            client.send_publish(&Publish::new("alive", "x"));
                        }
                        _ => client.send(&wire::ack(wire::AckKind::Puback, 1)),
                    }
                }
                client.ping();
                let start = Instant::now();
                client_is_closed(&mut client, version);
                assert_closed_in_time(start, 1.0);
            });
        }
    });
}

fn client_is_closed(client: &mut Client, version: Version) {
    loop {
        match client.poll(Instant::now() + Duration::from_secs(10)) {
            Received::Packet(Packet::Pingresp) => {}
            Received::Packet(Packet::Disconnect { code: 0x8D, .. }) if version == Version::V5 => {}
            Received::Closed => return,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn packets_from_the_broker_do_not_count() {
    let broker = Broker::start();
    let mut reader = broker.connect(&Connect::v5("reader").keep_alive(1));
    reader.subscribe("traffic", 0);
    let mut writer = broker.connect(&Connect::v5("writer"));
    let start = Instant::now();
    loop {
        writer.publish(&Publish::new("traffic", "x").qos(1));
        match reader.poll(Instant::now() + Duration::from_millis(50)) {
            Received::Packet(Packet::Publish(_)) | Received::TimedOut => {}
            Received::Packet(Packet::Disconnect { code: 0x8D, .. }) | Received::Closed => break,
            other => panic!("{other:?}"),
        }
        assert!(
            start.elapsed() < Duration::from_secs(10),
            "it was never closed"
        );
    }
    assert_closed_in_time(start, 1.0);
}

#[test]
fn keep_alive_0_never_closes() {
    let broker = Broker::start();
    let mut clients = VERSIONS.map(|version| {
        broker.connect(&Connect::new(version, format!("{version:?}")).keep_alive(0))
    });
    let deadline = Instant::now() + Duration::from_secs(6);
    for client in &mut clients {
        assert!(matches!(client.poll(deadline), Received::TimedOut)); // MQTT 3.1.2.10
        client.ping();
    }
}

#[test]
fn a_packet_that_keeps_arriving_counts_by_the_thousand_bytes() {
    let broker = Broker::start();
    thread::scope(|scope| {
        let broker = &broker;
        scope.spawn(move || {
            let mut client = broker.connect(&Connect::v5("arriving").keep_alive(1));
            let bytes = Publish::new("slow", vec![0; 8000])
                .qos(1)
                .id(1)
                .encode(Version::V5);
            for part in bytes.chunks(1100) {
                thread::sleep(Duration::from_millis(700));
                client.send(part);
            }
            client.expect_ack(wire::AckKind::Puback, 1);
        });
        scope.spawn(move || {
            let mut client = broker.connect(&Connect::v5("dribbling").keep_alive(1));
            let start = Instant::now();
            let bytes = Publish::new("slow", vec![0; 8000])
                .qos(1)
                .id(1)
                .encode(Version::V5);
            for part in bytes.chunks(100) {
                if client.try_send(part).is_err() {
                    break;
                }
                match client.poll(Instant::now() + Duration::from_millis(400)) {
                    Received::TimedOut => {}
                    Received::Closed | Received::Packet(Packet::Disconnect { .. }) => break,
                    other => panic!("{other:?}"),
                }
                assert!(
                    start.elapsed() < Duration::from_secs(10),
                    "it was never closed"
                );
            }
            assert_closed_in_time(start, 1.0);
        });
    });
}
