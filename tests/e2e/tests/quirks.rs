//! What well-known clients do beyond the standard's examples, each as its bytes.

use std::time::Instant;

use bifrust_e2e::carrier::Carrier;
use bifrust_e2e::client::{PATIENCE, Transport};
use bifrust_e2e::wire::{self, AckKind, Properties, bytes_field, string_field};
use bifrust_e2e::{
    Broker, Client, Connect, Filter, Packet, Property, Publish, VERSIONS, Version, Will,
};

/// A version 3 CONNECT: protocol name, level, flags, then what comes behind the keep alive.
fn old_connect(name: &str, level: u8, flags: u8, payload: &[&[u8]]) -> Vec<u8> {
    let mut body = Vec::new();
    string_field(&mut body, name);
    body.extend_from_slice(&[level, flags, 0, 60]);
    for field in payload {
        bytes_field(&mut body, field);
    }
    wire::packet(0x10, &body)
}

/// A connection that is read byte by byte.
fn open(broker: &Broker) -> Box<dyn Transport> {
    Carrier::under_test().dial(broker.tcp())
}

/// So many bytes, or fewer if the broker closes.
fn read(from: &mut dyn Transport, count: usize) -> Vec<u8> {
    let deadline = Instant::now() + PATIENCE;
    let mut bytes = Vec::new();
    while bytes.len() < count {
        let mut chunk = vec![0; count - bytes.len()];
        match from.receive(&mut chunk, deadline) {
            Ok(0) => break,
            Ok(n) => bytes.extend_from_slice(&chunk[..n]),
            Err(error) => panic!("{error} after {bytes:?}"),
        }
    }
    bytes
}

/// All bytes that come until the broker closes.
fn answer(broker: &Broker, bytes: &[u8]) -> Vec<u8> {
    let mut connection = open(broker);
    connection.send(bytes).expect("open");
    let answer = read(&mut *connection, 100);
    assert!(answer.len() < 100, "it closes");
    answer
}

// Paho C and Java take a bare close as "speaks no 3.1.1" and come back with 3.1.

#[test]
fn a_well_formed_v3_connect_that_is_refused_gets_its_code() {
    let broker = Broker::builder()
        .config("[tenants.no3.settings]\nMQTT3Enabled = false\nMQTT4Enabled = false\n")
        .setting("MaxClientIdLength", 23)
        .setting("MaxLastWillBytes", 10)
        .setting("MaxTopicLevels", 3)
        .setting("MaximumQoS", 1)
        .setting("RetainEnabled", false)
        .start();
    for (name, level) in [("MQIsdp", 3), ("MQTT", 4)] {
        let will = |flags: u8, topic: &str, payload: &[u8]| {
            old_connect(
                name,
                level,
                0x06 | flags,
                &[b"w", topic.as_bytes(), payload],
            )
        };
        let cases: [(&str, Vec<u8>, u8); 7] = [
            (
                "a tenant without version 3",
                old_connect(name, level, 0x82, &[b"c", b"no3/user"]),
                0x01,
            ),
            (
                "an empty identifier that resumes",
                old_connect(name, level, 0, &[b""]),
                0x02,
            ),
            (
                "a long identifier",
                old_connect(name, level, 2, &[&[b'x'; 24]]),
                0x02,
            ),
            ("a large will", will(0, "w", &[b'x'; 20]), 0x03),
            ("a deep will", will(0, "a/b/c/d", b"x"), 0x03),
            ("a will of QoS 2", will(0x10, "w", b"x"), 0x03),
            ("a retained will", will(0x20, "w", b"x"), 0x03),
        ];
        for (what, bytes, code) in cases {
            let answered = answer(&broker, &bytes);
            assert_eq!(answered, [0x20, 2, 0, code], "{name}: {what}");
        }
    }
    // A level that is not known is answered, too (MQTT-3.1.2-2).
    let answered = answer(&broker, &old_connect("MQTT", 3, 2, &[b"c"]));
    assert_eq!(answered, [0x20, 2, 0, 0x01]);
    let answered = answer(&broker, &old_connect("MQIsdp", 4, 2, &[b"c"]));
    assert_eq!(answered, [0x20, 2, 0, 0x01]);
}

#[test]
fn strangers_and_wrong_passwords_get_their_code() {
    let broker = Broker::builder().strict().start();
    for (name, level) in [("MQIsdp", 3), ("MQTT", 4)] {
        let nobody = old_connect(name, level, 2, &[b"c"]);
        let wrong = old_connect(name, level, 0xC2, &[b"c", b"user", b"password"]);
        for connect in [nobody, wrong] {
            assert_eq!(answer(&broker, &connect), [0x20, 2, 0, 0x04], "{name}");
        }
    }
}

#[test]
fn what_a_3_1_client_sends_again_has_dup() {
    let broker = Broker::start();
    let mut client = open(&broker);
    client
        .send(&old_connect("MQIsdp", 3, 2, &[b"c"]))
        .expect("open");
    assert_eq!(read(&mut *client, 4), [0x20, 2, 0, 0]);
    for (packet, answer) in [
        (&[0x8A, 6, 0, 1, 0, 1, b'a', 1][..], &[0x90, 3, 0, 1, 1][..]),
        (&[0xAA, 5, 0, 2, 0, 1, b'a'], &[0xB0, 2, 0, 2]),
        (&[0x6A, 2, 0, 3], &[0x70, 2, 0, 3]),
    ] {
        client.send(packet).expect("open");
        assert_eq!(read(&mut *client, answer.len()), answer, "3.1, 2.1");
    }
}

#[test]
fn a_malformed_v3_connect_is_closed_without_a_word() {
    let broker = Broker::start();
    // MQTT-3.1.4-1.
    for (name, level) in [("MQIsdp", 3), ("MQTT", 4)] {
        let whole = old_connect(name, level, 0xC6, &[b"c", b"w", b"x", b"u", b"p"]);
        let mut cases = vec![
            ("no UTF-8", old_connect(name, level, 2, &[b"\xFF"])),
            ("U+0000", old_connect(name, level, 2, &[b"a\0b"])),
            (
                "a will of QoS 3",
                old_connect(name, level, 0x1E, &[b"c", b"w", b"x"]),
            ),
            (
                "a will with a wildcard",
                old_connect(name, level, 6, &[b"c", b"w/#", b"x"]),
            ),
            ("no will, its QoS", old_connect(name, level, 0x0A, &[b"c"])),
            ("no will, retained", old_connect(name, level, 0x22, &[b"c"])),
            (
                "too much of it",
                old_connect(name, level, 2, &[b"c", b"more"]),
            ),
            ("another name", old_connect("HTTP", level, 2, &[b"c"])),
        ];
        for cut in 2 + 2 + name.len()..whole.len() - 2 {
            cases.push(("cut short", wire::packet(0x10, &whole[2..cut])));
        }
        if level == 4 {
            // MQTT-3.1.2-3, -22.
            cases.push(("the reserved flag", old_connect(name, level, 3, &[b"c"])));
            let password = old_connect(name, level, 0x42, &[b"c", b"p"]);
            cases.push(("a password, no user", password));
        }
        for (what, bytes) in cases {
            let answered = answer(&broker, &bytes);
            assert!(answered.is_empty(), "{name}: {what}: {answered:?}");
        }
    }
}

// MQTT.js keeps what was not acknowledged in a store of its own and sends it again, DUP set, on
// whatever session it gets next.

#[test]
fn publishes_and_releases_stored_by_the_client_are_taken_by_a_clean_session() {
    let broker = Broker::start();
    for version in VERSIONS {
        let mut reader = broker.connect(&Connect::new(version, "reader"));
        reader.subscribe("stored/#", 2);
        let mut client = broker.connect(&Connect::new(version, "mqttjs"));
        client.send_publish(&Publish::new("stored/released", "1").qos(2).id(1));
        client.expect_ack(AckKind::Pubrec, 1);
        assert_eq!(reader.receive().text(), "1");
        client.cut();
        let mut client = broker.connect(&Connect::new(version, "mqttjs"));
        assert!(!client.is_present);
        let again = |text: &str, qos, id| Publish::new("stored/again", text).qos(qos).id(id).dup();
        client.send(&wire::ack(AckKind::Pubrel, 1));
        client.send_publish(&again("2", 1, 2));
        client.send_publish(&again("3", 2, 3));
        client.send(&wire::ack(AckKind::Pubrel, 4));
        // MQTT-3.7.2-1: an unknown PUBREL is answered, at v5 with 0x92, and ends nothing.
        for id in [1, 4] {
            let wanted = |ack: &bifrust_e2e::Ack| ack.kind == AckKind::Pubcomp && ack.id == id;
            if id == 4 {
                client.expect_ack(AckKind::Puback, 2);
                client.expect_ack(AckKind::Pubrec, 3);
            }
            let ack = client.next_ack();
            assert!(wanted(&ack), "{ack:?}");
            let code = if version == Version::V5 { 0x92 } else { 0 };
            assert_eq!(ack.code, code);
        }
        client.send(&wire::ack(AckKind::Pubrel, 3));
        client.expect_ack(AckKind::Pubcomp, 3);
        let got = [reader.receive(), reader.receive()];
        // MQTT-3.3.1-3: DUP is of one hop.
        assert!(got.iter().all(|publish| !publish.dup));
        assert_eq!(got.map(|publish| publish.text()), ["2", "3"]);
        client.ping();
        reader.expect_silence();
    }
}

// Home Assistant subscribes to all it knows in one packet.

#[test]
fn five_hundred_filters_in_one_subscribe_are_granted_with_their_retained_messages() {
    let broker = Broker::start();
    let mut writer = broker.connect(&Connect::v5("writer"));
    for index in 0..500 {
        let topic = format!("homeassistant/sensor/{index}/config");
        writer.publish(&Publish::new(topic, index.to_string()).qos(1).retain());
    }
    for version in VERSIONS {
        for connect in [
            Connect::new(version, "ha"),
            Connect::persistent(version, "ha kept"),
        ] {
            let mut client = broker.connect(&connect);
            let qos = |index: u16| (index % 3) as u8;
            let filters: Vec<Filter> = (0..500)
                .map(|index| Filter::new(format!("homeassistant/+/{index}/#"), qos(index)))
                .collect();
            let codes = client.subscribe_all(&filters);
            let granted: Vec<u8> = (0..500).map(qos).collect();
            assert_eq!(codes, granted);
            let mut texts = client.receive_texts(500);
            texts.sort_by_key(|text| text.parse::<u32>().ok());
            let all: Vec<String> = (0..500).map(|index| index.to_string()).collect();
            assert_eq!(texts, all);
            client.expect_silence();
        }
    }
}

// Zigbee2MQTT retains its map of devices.

#[test]
fn retained_messages_over_a_quarter_of_a_megabyte_are_kept_and_sent() {
    let mut broker = Broker::start();
    let map: Vec<u8> = (0..400 * 1024_u32).map(|n| (n % 251) as u8).collect();
    let mut writer = broker.connect(&Connect::v3("zigbee2mqtt"));
    let devices = "zigbee2mqtt/bridge/devices";
    writer.publish(&Publish::new(devices, &map).qos(1).retain());
    for is_restarted in [false, true] {
        if is_restarted {
            broker.kill();
            broker.restart();
        }
        for version in VERSIONS {
            for connect in [
                Connect::new(version, "reader"),
                Connect::persistent(version, format!("kept {version:?}")),
            ] {
                let mut reader = broker.connect(&connect);
                reader.subscribe("zigbee2mqtt/#", 1);
                let got = reader.receive();
                assert!(got.retain && got.topic == devices && got.payload == map);
                reader.disconnect();
            }
        }
    }
}

// PubSubClient reads into 256 bytes, speaks 3.1.1 and cannot say so.

#[test]
fn answers_to_v3_have_the_least_bytes_there_are() {
    let broker = Broker::start();
    let mut connection = open(&broker);
    let mut exchange = |bytes: &[u8], count: usize| {
        connection.send(bytes).expect("open");
        read(&mut *connection, count)
    };
    let will = Will::new("w", "x").qos(1);
    let connect = Connect::v3("esp8266").will(will).user("u").password("p");
    assert_eq!(exchange(&connect.encode(), 4), [0x20, 2, 0, 0]);
    let filters = [Filter::new("in/#", 1)];
    let subscribe = wire::subscribe(Version::V3, 2, &filters, &Properties::default());
    assert_eq!(exchange(&subscribe, 5), [0x90, 3, 0, 2, 1]);
    // What is published fits as it is: a header of two bytes, nothing of ours in it.
    let topic = format!("in/{}", "t".repeat(97));
    let publish = Publish::new(&topic, [7; 20]).encode(Version::V3);
    assert_eq!(exchange(&publish, publish.len()), publish);
    let publish = Publish::new(&topic, [7; 20]).qos(1).id(9);
    let publish = publish.encode(Version::V3);
    let both = exchange(&publish, publish.len() + 4);
    let puback = [0x40, 2, 0, 9];
    let copy = match both.strip_prefix(&puback) {
        Some(copy) => copy,
        None => both.strip_suffix(&puback).expect("PUBACK"),
    };
    let (head, id) = copy.split_at(4 + topic.len());
    assert_eq!(head, &publish[..4 + topic.len()]);
    let acknowledge = [&[0x40, 2], &id[..2], wire::PINGREQ].concat();
    assert_eq!(exchange(&acknowledge, 2), [0xD0, 0]);
    let unsubscribe = wire::unsubscribe(Version::V3, 3, &["in/#"]);
    assert_eq!(exchange(&unsubscribe, 4), [0xB0, 2, 0, 3]);
}

#[test]
fn a_v5_client_of_256_bytes_gets_no_larger_packet() {
    let broker = Broker::start();
    // An assigned identifier and a clamped expiry are the most that CONNACK says.
    let connect = Connect::v5("").expiry(u32::MAX);
    let mut client = broker.connect(&connect.property(Property::MaximumPacketSize(256)));
    let filters: Vec<Filter> = (0..240)
        .map(|index| Filter::new(format!("f/{index}"), 1))
        .collect();
    assert_eq!(client.subscribe_all(&filters), [1; 240]);
    let mut writer = broker.connect(&Connect::v5("writer"));
    writer.publish(&Publish::new("f/1", vec![0; 300]).qos(1));
    writer.publish(&Publish::new("f/1", vec![1; 200]).qos(1));
    assert_eq!(client.receive().payload, [1; 200], "MQTT-3.1.2-24");
}

// MQTT Explorer subscribes to everything, and to the broker's own topics.

#[test]
fn a_client_that_subscribes_to_everything_sees_its_tenant_and_no_more() {
    let broker = Broker::start();
    for version in VERSIONS {
        let mut other = broker.connect(&Connect::new(version, "o").user("other/u"));
        other.publish(&Publish::new("theirs", "x").qos(1).retain());
        let mut writer = broker.connect(&Connect::new(version, "writer"));
        writer.publish(&Publish::new("mine", "kept").qos(1).retain());
        let mut explorer = broker.connect(&Connect::new(version, "mqtt-explorer-1"));
        let filters = [Filter::new("#", 0), Filter::new("$SYS/#", 0)];
        assert_eq!(explorer.subscribe_all(&filters), [0, 0]);
        assert_eq!(explorer.receive().text(), "kept");
        writer.publish(&Publish::new("mine", "live").qos(1));
        assert_eq!(explorer.receive().text(), "live");
        explorer.expect_silence();
    }
}

// A v3 client cannot be told no: it is closed (as with BifroMQ), or told yes.

#[test]
fn a_forbidden_v3_publish_is_closed_or_acknowledged_as_the_tenant_says() {
    let broker = Broker::builder()
        .config("[tenants.lenient.settings]\nForbiddenPublishV3 = \"ack\"\n")
        .start();
    let mut watcher = broker.connect(&Connect::v5("watcher").user("lenient/w"));
    watcher.subscribe("$SYS/#", 2);
    watcher.subscribe("#", 2);
    let mut lenient = broker.connect(&Connect::v3("c").user("lenient/u"));
    for qos in 0..=2 {
        let before = broker.numbers();
        // Nobody may publish below $SYS.
        let forbidden = Publish::new("$SYS/forbidden", "x").qos(qos);
        let mut strict = broker.connect(&Connect::v3("c"));
        strict.send_publish(&forbidden);
        strict.expect_closed();
        let closed = broker.await_numbers("a refusal is counted", |numbers| {
            numbers.event("NO_PUB_PERMISSION") > before.event("NO_PUB_PERMISSION")
        });
        lenient.publish(&forbidden);
        lenient.ping();
        let answered = broker.numbers();
        let (kind, closing) = ("PUB_ACTION_DISALLOW", "NO_PUB_PERMISSION");
        assert!(answered.event(kind) > closed.event(kind), "QoS {qos}");
        assert_eq!(answered.event(closing), closed.event(closing));
    }
    let mut five = broker.connect(&Connect::v5("five").user("lenient/u"));
    let forbidden = Publish::new("$SYS/forbidden", "x").qos(1);
    assert_eq!(five.publish(&forbidden), 0x87, "v5 is told the truth");
    lenient.publish(&Publish::new("allowed", "y").qos(2));
    assert_eq!(watcher.receive().text(), "y");
    watcher.expect_silence();
}

// Two devices were given one client identifier.

#[test]
fn two_devices_that_fight_for_one_id_are_counted_and_told_of_once() {
    let broker = Broker::start();
    let series = "bifrust_takeovers_flapping_total";
    for version in VERSIONS {
        let before = broker.numbers();
        let id = format!("twin {version:?}");
        let connect = Connect::new(version, &id).user("acme/device");
        let mut last = broker.connect(&connect);
        for _ in 0..12 {
            let next = broker.connect(&connect);
            match version {
                Version::V3 => last.expect_closed(),
                Version::V5 => last.expect_disconnect(0x8E),
            }
            last = next;
        }
        last.ping();
        let after = broker.numbers();
        assert_eq!(after.event("KICKED") - before.event("KICKED"), 12.0);
        // The first two may be a device that came back.
        assert_eq!(after.of(series) - before.of(series), 10.0);
        let log = broker.log();
        let told = |line: &&str| line.contains("again and again") && line.contains(&id);
        let lines: Vec<&str> = log.lines().filter(told).collect();
        assert_eq!(lines.len(), 1, "{log}");
        assert!(lines[0].contains("WARN") && lines[0].contains("acme"));
    }
    // One that takes over now and then is not told of.
    let mut last = broker.connect(&Connect::v5("roaming"));
    for _ in 0..2 {
        let next = broker.connect(&Connect::v5("roaming"));
        last.expect_disconnect(0x8E);
        last = next;
    }
    assert!(!broker.log().contains("roaming"));
    let mut client = Client::dial(broker.tcp(), Version::V5);
    assert_eq!(client.greet(&Connect::v5("roaming too")), 0);
    client.send(wire::PINGREQ);
    assert!(matches!(client.next_packet(), Packet::Pingresp));
}
