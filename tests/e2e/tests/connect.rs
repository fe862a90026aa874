//! CONNECT and CONNACK.

use bifrust_e2e::wire::{self, AckKind, Properties, bytes_field, string_field};
use bifrust_e2e::{
    Broker, Client, Connect, Filter, Packet, Property, Publish, VERSIONS, Version, Will,
};

/// A CONNECT of any level, name and flags with an empty properties field at level 5.
fn raw_connect(name: &str, level: u8, flags: u8, client_id: &str) -> Vec<u8> {
    let mut body = Vec::new();
    string_field(&mut body, name);
    body.extend_from_slice(&[level, flags, 0, 60]);
    if level >= 5 {
        body.push(0);
    }
    string_field(&mut body, client_id);
    wire::packet(0x10, &body)
}

#[test]
fn clean_connect_is_accepted_without_a_session() {
    let broker = Broker::start();
    for version in VERSIONS {
        // MQTT-3.2.2-2: no session present on a clean start.
        let mut client = broker.connect(&Connect::new(version, "clean"));
        assert!(!client.is_present);
        client.ping();
        client.disconnect();
    }
}

#[test]
fn connack_of_v5_states_what_is_not_there_and_the_limits() {
    let broker = Broker::start();
    let client = broker.connect(&Connect::v5("limits"));
    let said = &client.connack;
    assert!(!said.has(&Property::SharedAvailable(0)), "{said:?}");
    assert!(said.has(&Property::TopicAliasMaximum(32)), "{said:?}");
    assert!(said.has(&Property::ReceiveMaximum(1000)), "{said:?}");
    assert!(
        said.has(&Property::MaximumPacketSize(1024 * 1024)),
        "{said:?}"
    );
    // Absent means 2, available and available (MQTT 3.2.2.3.4 to .12); 0 would be untrue.
    assert!(!said.has(&Property::RetainAvailable(0)), "{said:?}");
    assert!(!said.has(&Property::WildcardAvailable(0)), "{said:?}");
    assert!(!said.has(&Property::SubscriptionIdAvailable(0)), "{said:?}");
    // MQTT-3.2.2-9: Maximum QoS is 0 or 1 or absent.
    assert!(
        said.find(|p| matches!(p, Property::MaximumQos(_)).then_some(()))
            .is_none()
    );
}

#[test]
fn session_expiry_above_the_limit_is_lowered_and_told() {
    let broker = Broker::start();
    let expiry = |connect: &Connect| {
        broker.connect(connect).connack.find(|p| match p {
            Property::SessionExpiry(seconds) => Some(*seconds),
            _ => None,
        })
    };
    // MQTT 3.2.2.3.2: the property is there if the server uses another value.
    assert_eq!(
        expiry(&Connect::v5("forever").expiry(u32::MAX)),
        Some(604_800)
    );
    let kept = expiry(&Connect::v5("short").expiry(60));
    assert!(kept.is_none_or(|seconds| seconds == 60), "{kept:?}");
}

#[test]
fn unknown_protocol_levels_are_refused() {
    let broker = Broker::start();
    // MQTT-3.1.2-2 (v3.1.1): 0x01 and closed.
    let mut client = Client::dial(broker.tcp(), Version::V3);
    client.send(&raw_connect("MQTT", 3, 2, "odd"));
    assert!(matches!(client.expect_refusal(), None | Some(0x01)));
    for level in [0, 6, 255] {
        // A newer client is answered in the newest form there is.
        let version = if level > 5 { Version::V5 } else { Version::V3 };
        let mut client = Client::dial(broker.tcp(), version);
        client.send(&raw_connect("MQTT", level, 2, "new"));
        let code = client.expect_refusal();
        assert!(
            matches!(code, None | Some(0x01 | 0x84)),
            "level {level}: {code:?}"
        );
    }
}

#[test]
fn another_protocol_name_is_refused() {
    let broker = Broker::start();
    // MQTT-3.1.2-1.
    for name in ["MQTTX", "mqtt", "", "HTTP"] {
        for level in [4, 5] {
            let version = if level == 4 { Version::V3 } else { Version::V5 };
            let mut client = Client::dial(broker.tcp(), version);
            client.send(&raw_connect(name, level, 2, "name"));
            let code = client.expect_refusal();
            assert!(
                matches!(code, None | Some(0x01 | 0x84)),
                "{name:?} at {level}: {code:?}"
            );
        }
    }
}

#[test]
fn the_first_packet_is_connect_and_the_only_one() {
    let broker = Broker::start();
    for version in VERSIONS {
        // MQTT-3.1.0-1.
        let early: [Vec<u8>; 4] = [
            wire::PINGREQ.to_vec(),
            Publish::new("a", "x").encode(version),
            wire::subscribe(version, 1, &[Filter::new("a", 0)], &Properties::default()),
            wire::ack(AckKind::Puback, 1),
        ];
        for bytes in early {
            let mut client = Client::dial(broker.tcp(), version);
            client.send(&bytes);
            client.expect_closed();
        }
        // MQTT-3.1.0-2: a second CONNECT is a protocol error.
        let mut client = broker.connect(&Connect::new(version, "twice"));
        client.send(&Connect::new(version, "twice").encode());
        client.expect_disconnect(0x82);
    }
}

#[test]
fn connect_flags_are_checked() {
    let broker = Broker::start();
    for (version, level) in [(Version::V3, 4), (Version::V5, 5)] {
        // Reserved bit MQTT-3.1.2-3; will QoS or RETAIN without will MQTT-3.1.2-11 and -13 (v5;
        // -13 and -15 in 3.1.1); QoS 3 MQTT-3.1.2-12 (-14).
        for flags in [0x03, 0x0A, 0x12, 0x22, 0x1E] {
            let mut client = Client::dial(broker.tcp(), version);
            client.send(&raw_connect("MQTT", level, flags, "flags"));
            let code = client.expect_refusal();
            let is_known = match version {
                Version::V3 => code.is_none(),
                Version::V5 => matches!(code, None | Some(0x81 | 0x82 | 0x9B)),
            };
            assert!(is_known, "flags {flags:#04x} at {level}: {code:?}");
        }
    }
}

#[test]
fn password_without_user_name_is_for_v5_only() {
    let broker = Broker::start();
    // MQTT-3.1.2-22 of 3.1.1; allowed in 5.0 (3.1.2.9).
    let mut client = Client::dial(broker.tcp(), Version::V3);
    client.send(&Connect::v3("p").password("x").encode());
    assert!(matches!(client.expect_refusal(), None | Some(0x04 | 0x05)));
    broker.connect(&Connect::v5("p").password("x")).ping();
}

#[test]
fn empty_client_ids_are_assigned() {
    let broker = Broker::start();
    // MQTT-3.1.3-6: a unique id; v5 is told it (MQTT-3.2.2-16).
    let assigned = |client: &Client| {
        client.connack.find(|p| match p {
            Property::AssignedClientId(id) => Some(id.clone()),
            _ => None,
        })
    };
    let mut one = broker.connect(&Connect::v5(""));
    let mut two = broker.connect(&Connect::v5(""));
    let (first, second) = (
        assigned(&one).expect("an id"),
        assigned(&two).expect("an id"),
    );
    assert!(!first.is_empty() && first != second);
    one.ping();
    two.ping();
    // The id is the client's own from here on: it may come back under it.
    let mut back = broker.connect(&Connect::v5(first));
    one.expect_disconnect(0x8E);
    back.ping();
    let mut three = broker.connect(&Connect::v3(""));
    let mut four = broker.connect(&Connect::v3(""));
    three.ping();
    four.ping();
}

#[test]
fn empty_client_id_cannot_resume_in_v3() {
    let broker = Broker::start();
    // MQTT-3.1.3-8 of 3.1.1: 0x02, then closed.
    assert_eq!(broker.refuse(&Connect::v3("").resume()), 0x02);
}

#[test]
fn assigned_client_id_may_keep_a_session_in_v5() {
    let broker = Broker::start();
    let mut client = broker.connect(&Connect::v5("").resume().expiry(100));
    let id = client.connack.find(|p| match p {
        Property::AssignedClientId(id) => Some(id.clone()),
        _ => None,
    });
    client.subscribe("kept", 1);
    client.disconnect();
    let again = broker.connect(&Connect::v5(id.expect("an id")).resume().expiry(100));
    assert!(again.is_present);
}

#[test]
fn authentication_methods_are_refused() {
    let broker = Broker::start();
    let connect = Connect::v5("auth").property(Property::AuthMethod("SCRAM-SHA-1".into()));
    assert_eq!(broker.refuse(&connect), 0x8C);
    let with_data = connect.property(Property::AuthData(b"n,,n=user".to_vec()));
    assert_eq!(broker.refuse(&with_data), 0x8C);
}

#[test]
fn authentication_data_needs_a_method() {
    let broker = Broker::start();
    // MQTT 3.1.2.11.10.
    let mut client = Client::dial(broker.tcp(), Version::V5);
    client.send(
        &Connect::v5("data")
            .property(Property::AuthData(vec![1]))
            .encode(),
    );
    assert!(matches!(client.expect_refusal(), None | Some(0x82)));
}

#[test]
fn connect_properties_are_checked() {
    let broker = Broker::start();
    let bad = [
        vec![Property::ReceiveMaximum(0)],
        vec![Property::MaximumPacketSize(0)],
        vec![Property::RequestProblem(2)],
        vec![Property::RequestResponse(2)],
        vec![Property::SessionExpiry(1), Property::SessionExpiry(1)],
        vec![Property::ReceiveMaximum(1), Property::ReceiveMaximum(1)],
        // Properties of other packets (MQTT 2.2.2.2).
        vec![Property::TopicAlias(1)],
        vec![Property::MessageExpiry(1)],
        vec![Property::AssignedClientId("x".into())],
        vec![Property::SubscriptionId(1)],
        vec![Property::WillDelay(1)],
    ];
    for properties in bad {
        let mut connect = Connect::v5("properties");
        connect.properties.0 = properties.clone();
        let mut client = Client::dial(broker.tcp(), Version::V5);
        client.send(&connect.encode());
        let code = client.expect_refusal();
        assert!(
            matches!(code, None | Some(0x81 | 0x82)),
            "{properties:?}: {code:?}"
        );
    }
    let fine = Connect::v5("properties")
        .property(Property::RequestProblem(0))
        .property(Property::RequestResponse(1))
        .property(Property::TopicAliasMaximum(10))
        .property(Property::User("a".into(), "b".into()))
        .property(Property::User("a".into(), "b".into()));
    broker.connect(&fine).ping();
}

#[test]
fn packets_behind_connect_are_held_and_served_in_order() {
    let broker = Broker::start();
    for version in VERSIONS {
        // MQTT-3.1.4-6: the client need not wait for CONNACK.
        let mut client = Client::dial(broker.tcp(), version);
        let mut bytes = Connect::new(version, "eager").encode();
        let filter = [Filter::new("eager/#", 1)];
        bytes.extend(wire::subscribe(version, 7, &filter, &Properties::default()));
        for index in 0..10_u16 {
            let publish = Publish::new("eager/x", index.to_string())
                .qos(1)
                .id(10 + index);
            bytes.extend(publish.encode(version));
        }
        bytes.extend_from_slice(wire::PINGREQ);
        client.send(&bytes);
        assert!(matches!(
            client.next_packet(),
            Packet::Connack { code: 0, .. }
        ));
        assert!(matches!(client.next_answer(), Packet::Suback { id: 7, .. }));
        // MQTT-4.6.0-2; PINGRESP has no place in that order.
        let mut ids = Vec::new();
        for _ in 0..11 {
            match client.next_answer() {
                Packet::Ack(ack) => ids.push(ack.id),
                other => assert_eq!(other, Packet::Pingresp),
            }
        }
        assert_eq!(ids, (10..20).collect::<Vec<u16>>());
        let expected: Vec<String> = (0..10).map(|index| index.to_string()).collect();
        assert_eq!(client.receive_texts(10), expected);
    }
}

#[test]
fn connect_may_arrive_byte_by_byte() {
    let broker = Broker::start();
    for version in VERSIONS {
        let mut client = Client::dial(broker.tcp(), version);
        for byte in Connect::new(version, "slow").encode() {
            client.send(&[byte]);
        }
        assert!(matches!(
            client.next_packet(),
            Packet::Connack { code: 0, .. }
        ));
        for byte in Publish::new("slow", "x").qos(2).id(1).encode(version) {
            client.send(&[byte]);
        }
        client.expect_ack(AckKind::Pubrec, 1);
    }
}

#[test]
fn client_ids_may_be_long_and_strange() {
    let broker = Broker::start();
    for version in VERSIONS {
        for id in ["with space/and+#", "\"\\\u{7f}\u{1}\t", "ünïcödé-\u{1F600}"] {
            broker.connect(&Connect::new(version, id)).ping();
        }
        broker
            .connect(&Connect::new(version, "x".repeat(1024)))
            .ping();
    }
    assert_eq!(broker.refuse(&Connect::v3("x".repeat(1025))), 0x02);
    assert_eq!(broker.refuse(&Connect::v5("x".repeat(1025))), 0x85);
}

#[test]
fn client_ids_are_well_formed_text() {
    let broker = Broker::start();
    // MQTT-1.5.4-1 and -2: no surrogates, no U+0000, well-formed UTF-8.
    let bad: [&[u8]; 5] = [
        b"a\0b",
        b"\xED\xA0\x80",
        b"\xFF\xFE",
        b"\xC0\xAF",
        b"cut\xE2\x82",
    ];
    for (version, level) in [(Version::V3, 4_u8), (Version::V5, 5)] {
        for id in bad {
            let mut body = Vec::new();
            string_field(&mut body, "MQTT");
            body.extend_from_slice(&[level, 2, 0, 60]);
            if level == 5 {
                body.push(0);
            }
            bytes_field(&mut body, id);
            let mut client = Client::dial(broker.tcp(), version);
            client.send(&wire::packet(0x10, &body));
            let code = client.expect_refusal();
            assert!(
                matches!(code, None | Some(0x02 | 0x81 | 0x85)),
                "{id:?}: {code:?}"
            );
        }
    }
}

#[test]
fn will_topics_are_checked() {
    let broker = Broker::start();
    for version in VERSIONS {
        for topic in ["", "a/+", "#", "a/#"] {
            let mut client = Client::dial(broker.tcp(), version);
            client.send(
                &Connect::new(version, "will")
                    .will(Will::new(topic, "x"))
                    .encode(),
            );
            let code = client.expect_refusal();
            assert!(
                version == Version::V3 || matches!(code, None | Some(0x81 | 0x82 | 0x90)),
                "{topic:?}: {code:?}"
            );
        }
    }
}

#[test]
fn disconnect_flags_and_reasons_are_checked() {
    let broker = Broker::start();
    for version in VERSIONS {
        let mut client = broker.connect(&Connect::new(version, "flags"));
        client.send(&[0xE1, 0]); // MQTT-3.14.1-1
        client.expect_disconnect(0x81);
    }
    // MQTT 3.1.2.11.2: an expiry of 0 may not be raised at DISCONNECT.
    let mut client = broker.connect(&Connect::v5("raise"));
    let mut later = Properties::default();
    later.0.push(Property::SessionExpiry(10));
    client.send(&wire::disconnect(Version::V5, 0, &later));
    client.expect_disconnect(0x82);
}

#[test]
fn mqtt_3_1_is_spoken_from_end_to_end() {
    let broker = Broker::start();
    // 3.1 knows no empty client identifier, clean session or not.
    for flags in [0, 2] {
        let mut client = Client::dial(broker.tcp(), Version::V3);
        client.send(&raw_connect("MQIsdp", 3, flags, ""));
        assert_eq!(client.expect_refusal(), Some(0x02));
    }
    // Identifiers over 23 characters are taken, as other servers do.
    let id = "a".repeat(200);
    let mut client = Client::dial(broker.tcp(), Version::V3);
    for round in 0..2 {
        if round > 0 {
            client = Client::dial(broker.tcp(), Version::V3);
        }
        client.send(&raw_connect("MQIsdp", 3, 0, &id));
        match client.next_packet() {
            // 3.1 has no flags in CONNACK, also if the session was there.
            Packet::Connack {
                is_present, code, ..
            } => assert_eq!((is_present, code), (false, 0)),
            other => panic!("{other:?}"),
        }
        if round == 0 {
            client.subscribe("old/#", 2);
            client.cut();
            let mut writer = broker.connect(&Connect::v5("writer"));
            assert_eq!(writer.publish(&Publish::new("old/kept", "1").qos(1)), 0);
            client = Client::dial(broker.tcp(), Version::V3);
        }
    }
    assert_eq!(client.receive_texts(1), ["1"]);
    for qos in 0..=2 {
        client.publish(&Publish::new("old/x", "back").qos(qos));
        assert_eq!(client.receive().qos, qos);
    }
    client.unsubscribe(&["old/#"]);
    client.ping();
    client.disconnect();
}
