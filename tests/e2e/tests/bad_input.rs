//! What no client should send, and clients that do not behave: each gets a clear answer, and no
//! other client notices.

use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use bifrust_e2e::client::PATIENCE;
use bifrust_e2e::wire::{self, AckKind, Properties, string_field};
use bifrust_e2e::{
    Broker, Client, Connect, Filter, Packet, Property, Publish, Received, VERSIONS, Version, Will,
};

/// A client beside the misbehaving ones, whose messages must flow.
struct Bystander {
    client: Client,
    round: u32,
}

impl Bystander {
    fn new(broker: &Broker) -> Self {
        let mut client = broker.connect(&Connect::v5("bystander").keep_alive(0));
        client.subscribe("bystander", 2);
        Self { client, round: 0 }
    }

    fn check(&mut self) {
        self.round += 1;
        let text = self.round.to_string();
        let start = Instant::now();
        self.client
            .publish(&Publish::new("bystander", &text).qos(2));
        assert_eq!(self.client.receive().text(), text);
        assert!(
            start.elapsed() < Duration::from_secs(5),
            "served after {:?}",
            start.elapsed()
        );
    }
}

/// Packets of every kind that a client may send.
fn valid_packets(version: Version) -> Vec<Vec<u8>> {
    let will = Will::new("w", "w").qos(1).property(Property::WillDelay(5));
    let connect = Connect::persistent(version, "mutant")
        .will(will)
        .user("dev/u")
        .password("p");
    let properties = [
        Property::ContentType("c".into()),
        Property::ResponseTopic("r".into()),
        Property::CorrelationData(vec![1, 2]),
        Property::User("k".into(), "v".into()),
        Property::MessageExpiry(9),
    ];
    let mut publish = Publish::new("m/a", "payload").qos(2).id(5);
    publish.properties.0.extend_from_slice(&properties);
    let ids = Properties(vec![
        Property::SubscriptionId(300),
        Property::User("a".into(), "".into()),
    ]);
    let reason = Properties(vec![Property::Reason("why".into())]);
    vec![
        connect.encode(),
        publish.encode(version),
        Publish::new("m/b", "x").encode(version),
        wire::subscribe(
            version,
            6,
            &[Filter::new("m/+", 1), Filter::new("n/#", 0)],
            &ids,
        ),
        wire::unsubscribe(version, 7, &["m/+", "n/#"]),
        wire::ack(AckKind::Puback, 1),
        wire::ack(AckKind::Pubrec, 1),
        wire::ack(AckKind::Pubrel, 5),
        wire::ack(AckKind::Pubcomp, 1),
        wire::PINGREQ.to_vec(),
        wire::disconnect(version, 4, &reason),
    ]
}

/// Reads until the broker closes or has nothing more to say.
fn drain(client: &mut Client) {
    let _ = client.socket().shutdown(Shutdown::Write); // it may be closed already
    let deadline = Instant::now() + PATIENCE;
    loop {
        match client.poll(deadline) {
            Received::Packet(_) => {}
            Received::Closed => return,
            Received::TimedOut => panic!("the broker neither closed nor spoke"),
        }
    }
}

#[test]
fn random_bytes_harm_nobody() {
    let broker = Broker::start();
    let mut bystander = Bystander::new(&broker);
    let mut random = fastrand::Rng::with_seed(4711);
    for round in 0..300 {
        let version = VERSIONS[round % 2];
        let mut client = Client::dial(broker.tcp(), version);
        if round % 3 > 0 {
            assert_eq!(client.greet(&Connect::new(version, "noise")), 0);
        }
        let length = random.usize(1..200);
        let bytes: Vec<u8> = (0..length).map(|_| random.u8(..)).collect();
        let _ = client.try_send(&bytes); // it may close at the first byte
        drain(&mut client);
        if round % 20 == 0 {
            bystander.check();
        }
    }
}

#[test]
fn mutated_packets_harm_nobody() {
    let broker = Broker::start();
    let mut bystander = Bystander::new(&broker);
    let mut random = fastrand::Rng::with_seed(4712);
    for version in VERSIONS {
        for (kind, valid) in valid_packets(version).into_iter().enumerate() {
            for _ in 0..40 {
                let mut bytes = valid.clone();
                for _ in 0..random.usize(1..4) {
                    match random.u8(0..4) {
                        0 => {
                            let at = random.usize(..bytes.len());
                            bytes[at] = random.u8(..);
                        }
                        1 => {
                            let at = random.usize(..bytes.len());
                            bytes[at] ^= 1 << random.u8(0..8);
                        }
                        2 => bytes.insert(random.usize(..=bytes.len()), random.u8(..)),
                        _ if bytes.len() > 1 => {
                            bytes.remove(random.usize(..bytes.len()));
                        }
                        _ => {}
                    }
                }
                let mut client = Client::dial(broker.tcp(), version);
                if kind > 0 {
                    assert_eq!(client.greet(&Connect::new(version, "mutating")), 0);
                }
                let _ = client.try_send(&bytes); // it may be closed at once
                drain(&mut client);
            }
            bystander.check();
        }
    }
}

#[test]
fn every_truncated_packet_is_malformed() {
    let broker = Broker::start();
    for version in VERSIONS {
        for (kind, valid) in valid_packets(version).into_iter().enumerate() {
            let body = &valid[2..];
            for length in 0..body.len() {
                // A shorter packet that is well framed; some cuts are packets of their own.
                let bytes = wire::packet(valid[0], &body[..length]);
                let mut client = Client::dial(broker.tcp(), version);
                if kind > 0 {
                    assert_eq!(client.greet(&Connect::new(version, "cut")), 0);
                }
                client.send(&bytes);
                drain(&mut client);
            }
        }
    }
    Bystander::new(&broker).check();
}

#[test]
fn packets_of_the_wrong_side_and_of_no_kind_are_malformed() {
    let broker = Broker::start();
    for version in VERSIONS {
        let wrong: [&[u8]; 8] = [
            &[0x00, 0],
            &[0x20, 2, 0, 0],
            &[0x90, 3, 0, 1, 0],
            &[0xB0, 2, 0, 1],
            &[0xD0, 0],
            &[0xC1, 0], // PINGREQ's flags
            &[0xC0, 1, 0],
            &[0xF1, 0],
        ];
        for bytes in wrong {
            let mut client = broker.connect(&Connect::new(version, "wrong"));
            client.send(bytes);
            match (version, client.poll(Instant::now() + PATIENCE)) {
                (Version::V3, Received::Closed) => {}
                (
                    Version::V5,
                    Received::Packet(Packet::Disconnect {
                        code: 0x81 | 0x82, ..
                    }),
                ) => {
                    client.expect_closed();
                }
                (_, other) => panic!("{bytes:?}: {other:?}"),
            }
        }
        // A remaining length of more than four bytes (MQTT 1.5.5).
        let mut client = broker.connect(&Connect::new(version, "wrong"));
        client.send(&[0x30, 0x80, 0x80, 0x80, 0x80, 0x01]);
        client.expect_disconnect(0x81);
        // An AUTH nobody asked for.
        let mut client = broker.connect(&Connect::new(version, "wrong"));
        client.send(&[0xF0, 0]);
        match (version, client.poll(Instant::now() + PATIENCE)) {
            (Version::V3, Received::Closed) => {}
            (Version::V5, Received::Packet(Packet::Disconnect { code, .. })) if code >= 0x80 => {}
            (_, other) => panic!("AUTH: {other:?}"),
        }
    }
}

#[test]
fn text_that_is_no_utf8_is_malformed_everywhere() {
    let broker = Broker::start();
    for version in VERSIONS {
        for (kind, valid) in valid_packets(version).into_iter().enumerate() {
            // Every single letter of the fields "m/a", "n/#", "r", "c", "k", "why" in turn.
            for at in 2..valid.len() {
                if !valid[at].is_ascii_alphabetic() || kind == 0 && at < 8 {
                    continue;
                }
                let mut bytes = valid.clone();
                bytes[at] = 0xFF;
                let mut client = Client::dial(broker.tcp(), version);
                if kind > 0 {
                    assert_eq!(client.greet(&Connect::new(version, "utf8")), 0);
                }
                client.send(&bytes);
                drain(&mut client);
            }
        }
    }
    Bystander::new(&broker).check();
}

#[test]
fn slow_and_silent_connects_are_closed_in_time() {
    let broker = Broker::builder()
        .config("[limits]\nconnect_timeout_seconds = 2\n")
        .start();
    let mut bystander = Bystander::new(&broker);
    let start = Instant::now();
    let connect = Connect::v5("slow").encode();
    let mut silent = Client::dial(broker.tcp(), Version::V5);
    let mut half = Client::dial(broker.tcp(), Version::V5);
    half.send(&connect[..connect.len() / 2]);
    let mut loris = Client::dial(broker.tcp(), Version::V5);
    let long = Connect::v5("x".repeat(900)).encode();
    let mut is_closed = false;
    for byte in &long {
        bystander.check();
        if loris.try_send(&[*byte]).is_err() {
            is_closed = true;
            break;
        }
        match loris.poll(Instant::now() + Duration::from_millis(20)) {
            Received::TimedOut => {}
            Received::Closed | Received::Packet(_) => {
                is_closed = true;
                break;
            }
        }
    }
    let waited = start.elapsed();
    assert!(
        is_closed && waited < Duration::from_secs(6),
        "a byte now and then buys no time"
    );
    assert!(waited > Duration::from_millis(1800), "{waited:?}");
    silent.expect_refusal();
    half.expect_refusal();
    // WebSocket upgrades are under the same limit.
    let mut stream = TcpStream::connect(broker.ws()).expect("accepts");
    stream
        .write_all(b"GET /mqtt HTTP/1.1\r\nHost: x\r\n")
        .expect("open");
    let mut client = Client::over(Box::new(stream), Version::V3);
    let start = Instant::now();
    client.expect_closed();
    assert!(start.elapsed() < Duration::from_secs(6));
}

#[test]
fn half_closed_connections_end() {
    let broker = Broker::start();
    let mut watcher = broker.connect(&Connect::v5("watcher"));
    watcher.subscribe("half", 0);
    for version in VERSIONS {
        let will = Will::new("half", "gone");
        let mut client = broker.connect(&Connect::new(version, "half").keep_alive(0).will(will));
        client.socket().shutdown(Shutdown::Write).expect("open");
        client.expect_closed();
        assert_eq!(watcher.receive().text(), "gone");
    }
}

#[test]
fn a_subscriber_that_never_reads_delays_nobody() {
    let broker = Broker::builder()
        .setting("SessionInboxSize", 1000)
        .setting("SessionInboxBytes", 4 * 1024 * 1024)
        .start();
    let payload = vec![b'f'; 20_000];
    let count = 2000_u32;
    for (qos, connect) in [
        (0, Connect::v5("stuck 0")),
        (1, Connect::v5("stuck 1")),
        (
            1,
            Connect::persistent(Version::V5, "stuck kept").receive_maximum(60_000),
        ),
    ] {
        let mut stuck = broker.connect(&connect);
        stuck.subscribe("flood", qos);
        let mut reader = broker.connect(&Connect::v5("reader"));
        reader.subscribe("flood", qos);
        let mut writer = broker.connect(&Connect::v5("writer"));
        for index in 0..count {
            let mut bytes = index.to_be_bytes().to_vec();
            bytes.extend_from_slice(&payload);
            writer.publish(&Publish::new("flood", bytes).qos(1));
            let got = reader.receive();
            assert_eq!(
                got.payload[..4],
                index.to_be_bytes(),
                "{}",
                connect.client_id
            );
        }
        drop(writer);
        // What it gets when it reads again: in order, a gap at most where its bound was met.
        let mut last = None;
        let mut seen = 0_u32;
        let mut is_closed = false;
        loop {
            match stuck.poll(Instant::now() + Duration::from_secs(1)) {
                Received::Packet(Packet::Publish(publish)) => {
                    let index = publish
                        .payload
                        .first_chunk()
                        .map(|b| u32::from_be_bytes(*b));
                    assert!(index > last, "{index:?} after {last:?}");
                    last = index;
                    seen += 1;
                    if qos > 0 {
                        let _ = stuck.try_send(&wire::ack(AckKind::Puback, publish.id));
                    }
                }
                Received::Packet(Packet::Disconnect { code, .. }) => assert_eq!(code, 0x97),
                Received::Closed => {
                    is_closed = true;
                    break;
                }
                Received::TimedOut => break,
                other => panic!("{other:?}"),
            }
        }
        assert!(
            seen > 0 && seen < count,
            "{}: {seen} of {count}",
            connect.client_id
        );
        if connect.client_id == "stuck 1" {
            assert!(
                is_closed,
                "a transient session over its bound is disconnected (0x97)"
            );
        }
        if connect.client_id == "stuck kept" {
            assert!(!is_closed, "a persistent one refuses the newest");
            assert!(seen >= 200, "{seen} within 4 MiB and the socket's buffers");
        }
    }
}

#[test]
fn a_publisher_that_never_reads_its_acknowledgements_is_slowed_alone() {
    let broker = Broker::start();
    let mut bystander = Bystander::new(&broker);
    let mut client = broker.connect(&Connect::v3("deaf").keep_alive(0));
    client
        .socket()
        .set_write_timeout(Some(Duration::from_millis(500)))
        .expect("an option");
    let mut id = 0_u16;
    // Until the broker stops reading, closes, or has taken a quarter of a million.
    for _ in 0..2500 {
        let mut bytes = Vec::new();
        for _ in 0..100 {
            id = id.checked_add(1).unwrap_or(1);
            bytes.extend(Publish::new("deaf", "x").qos(1).id(id).encode(Version::V3));
        }
        if client.try_send(&bytes).is_err() {
            break;
        }
    }
    bystander.check();
    client.cut();
    bystander.check();
}

#[test]
fn strange_names_are_quoted_wherever_they_are_written() {
    let config = "[log]\nformat = \"json\"\nlevel = \"debug\"\nconnections = true\n";
    let broker = Broker::builder().config(config).start();
    let strange = "\"\\\n\r\t\u{1b}[31m\u{7f}\u{85}\u{2028}{}$%s'`\u{202e}";
    for version in VERSIONS {
        let worst: String = strange.chars().cycle().take(300).collect();
        for id in [strange, &worst] {
            let mut client = broker.connect(&Connect::new(version, id).user(strange));
            client.subscribe(&format!("{strange}/#"), 1);
            client.publish(&Publish::new(format!("{strange}/x"), strange).qos(1));
            assert_eq!(client.receive().topic, format!("{strange}/x"));
            client.publish(
                &Publish::new(format!("kept {strange}"), strange)
                    .qos(1)
                    .retain(),
            );
            client.ping();
            client.send(&[0x00, 0x00]);
            client.expect_disconnect(0x81);
        }
    }
    let log = broker.log();
    let mut lines = 0;
    for line in log.lines() {
        let parsed: Result<serde_json::Value, _> = serde_json::from_str(line);
        assert!(parsed.is_ok(), "a log line that is no JSON: {line:?}");
        assert!(!line.contains('\u{1b}'), "a raw escape: {line:?}");
        lines += 1;
    }
    assert!(lines > 0);
}

#[test]
fn connections_come_and_go_without_end() {
    let broker = Broker::start();
    let mut bystander = Bystander::new(&broker);
    for round in 0..1500 {
        let version = VERSIONS[round % 2];
        match round % 5 {
            0 => drop(TcpStream::connect(broker.tcp())),
            1 => Client::dial(broker.tcp(), version).send(&[0x10]),
            2 => {
                let mut client = Client::dial(broker.tcp(), version);
                client.send(&Connect::new(version, "never heard").encode());
            }
            3 => broker.connect(&Connect::new(version, "churn")).cut(),
            _ => broker.connect(&Connect::new(version, "churn")).disconnect(),
        }
        if round % 100 == 0 {
            bystander.check();
        }
    }
    bystander.check();
}

#[test]
fn packets_held_behind_connect_are_bounded() {
    let broker = Broker::start();
    let mut bystander = Bystander::new(&broker);
    let mut client = Client::dial(broker.tcp(), Version::V3);
    client
        .socket()
        .set_write_timeout(Some(Duration::from_secs(1)))
        .expect("an option");
    let mut bytes = Connect::v3("greedy").encode();
    for _ in 0..200 {
        bytes.extend(Publish::new("behind", vec![0; 50_000]).encode(Version::V3));
    }
    let _ = client.try_send(&bytes); // all of it is served in time, or the excess is refused
    bystander.check();
    match client.poll(Instant::now() + PATIENCE) {
        Received::Packet(Packet::Connack { code: 0, .. }) | Received::Closed => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn user_properties_without_end_are_bounded_by_the_packet() {
    let broker = Broker::start();
    let mut client = broker.connect(&Connect::v5("many"));
    client.subscribe("many", 1);
    let mut publish = Publish::new("many", "x").qos(1);
    publish.properties.0 = vec![Property::User(String::new(), String::new()); 20_000];
    client.publish(&publish);
    assert_eq!(client.receive().properties.0.len(), 20_000);
    let mut body = Vec::new();
    string_field(&mut body, "many");
    body.extend_from_slice(&[0, 9]);
    wire::variable(&mut body, 200_000_000); // a property length beyond the packet
    client.send(&wire::packet(0x32, &body));
    client.expect_disconnect(0x81);
}
