//! SUBSCRIBE, UNSUBSCRIBE and which topics match which filters.

use bifrust_e2e::wire::{self, Properties};
use bifrust_e2e::{Broker, Client, Connect, Filter, Packet, Property, Publish, VERSIONS, Version};

#[test]
fn each_filter_gets_its_own_code_in_order() {
    let broker = Broker::start();
    for version in VERSIONS {
        let mut client = broker.connect(&Connect::new(version, "codes"));
        let filters = [
            Filter::new("a", 2),
            Filter::new("b/#", 0),
            Filter::new("+/c", 1),
        ];
        assert_eq!(client.subscribe_all(&filters), [2, 0, 1]); // MQTT-3.8.4-5 to -7
    }
}

#[test]
fn filters_match_as_the_standard_says() {
    let broker = Broker::start();
    // MQTT 4.7.1.2 and .3, 4.7.3: levels may be empty; `#` matches the parent too.
    let cases: [(&str, &[&str], &[&str]); 10] = [
        (
            "sport/tennis/player1/#",
            &[
                "sport/tennis/player1",
                "sport/tennis/player1/ranking",
                "sport/tennis/player1/a/b",
            ],
            &[
                "sport/tennis",
                "sport/tennis/player10",
                "sport/tennis/player2",
            ],
        ),
        (
            "sport/#",
            &["sport", "sport/", "sport/a/b/c"],
            &["sports", "/sport"],
        ),
        ("#", &["a", "/", "a/b/c", "/a"], &["$a/b"]),
        ("+", &["finance", "a"], &["/finance", "a/b", "$a"]),
        ("/+", &["/finance", "/"], &["finance", "/a/b"]),
        (
            "+/+",
            &["/finance", "a/b", "/"],
            &["finance", "a/b/c", "$a/b"],
        ),
        ("sport/+", &["sport/", "sport/a"], &["sport", "sport/a/b"]),
        (
            "+/tennis/#",
            &["a/tennis", "/tennis/x", "a/tennis/"],
            &["tennis", "a/b/tennis"],
        ),
        ("a//b", &["a//b"], &["a/b", "a/x/b", "a///b"]),
        (
            "ACCOUNTS",
            &["ACCOUNTS"],
            &["Accounts", "ACCOUNTS/", "/ACCOUNTS"],
        ),
    ];
    for version in VERSIONS {
        let mut writer = broker.connect(&Connect::new(version, "writer"));
        for (index, (filter, matching, others)) in cases.iter().enumerate() {
            let mut reader = broker.connect(&Connect::new(version, format!("reader{index}")));
            reader.subscribe(filter, 1);
            for topic in others.iter().chain(*matching) {
                writer.publish(&Publish::new(*topic, "x").qos(1));
            }
            for topic in *matching {
                assert_eq!(reader.receive().topic, *topic, "{filter}");
            }
            reader.expect_silence();
            reader.disconnect();
        }
    }
}

#[test]
fn invalid_filters_are_refused_one_by_one_or_end_the_connection() {
    let broker = Broker::start();
    for version in VERSIONS {
        for filter in ["a/#/b", "a#", "#a", "a+", "+a/b", "a/b+", "##", "++"] {
            let mut client = broker.connect(&Connect::new(version, "invalid"));
            let filters = [Filter::new(filter, 0)];
            client.send(&wire::subscribe(
                version,
                1,
                &filters,
                &Properties::default(),
            ));
            refused(&mut client, filter); // MQTT-4.7.1-1, -2
        }
        let mut client = broker.connect(&Connect::new(version, "invalid"));
        client.send(&wire::subscribe(
            version,
            1,
            &[Filter::new("", 0)],
            &Properties::default(),
        ));
        refused(&mut client, "the empty filter"); // MQTT-4.7.3-1
    }
}

/// A failure code for the filter, or the end of the connection with a reason.
fn refused(client: &mut Client, what: &str) {
    match client.poll(std::time::Instant::now() + bifrust_e2e::client::PATIENCE) {
        bifrust_e2e::Received::Packet(Packet::Suback { codes, .. }) => {
            let expected = if client.version() == Version::V5 {
                0x8F
            } else {
                0x80
            };
            assert_eq!(codes, [expected], "{what}");
        }
        bifrust_e2e::Received::Packet(Packet::Disconnect { code, .. }) => {
            assert!(matches!(code, 0x81 | 0x82 | 0x8F), "{what}: {code:#04x}");
            client.expect_closed();
        }
        bifrust_e2e::Received::Closed if client.version() == Version::V3 => {}
        other => panic!("{what}: {other:?}"),
    }
}

#[test]
fn empty_requests_and_wrong_flags_end_the_connection() {
    let broker = Broker::start();
    for version in VERSIONS {
        let properties: &[u8] = if version == Version::V5 { &[0] } else { &[] };
        let body = |rest: &[u8]| [&[0, 1], properties, rest].concat();
        let cases = [
            ("MQTT-3.8.3-2", wire::packet(0x82, &body(&[])), 0x82),
            ("MQTT-3.10.3-2", wire::packet(0xA2, &body(&[])), 0x82),
            (
                "MQTT-3.8.1-1",
                wire::packet(0x80, &body(&[0, 1, b'a', 0])),
                0x81,
            ),
            (
                "MQTT-3.10.1-1",
                wire::packet(0xA0, &body(&[0, 1, b'a'])),
                0x81,
            ),
            (
                "MQTT-3.8.3-5",
                wire::packet(0x82, &body(&[0, 1, b'a', 0x40])),
                0x81,
            ),
            ("QoS 3", wire::packet(0x82, &body(&[0, 1, b'a', 3])), 0x82),
            ("no options", wire::packet(0x82, &body(&[0, 1, b'a'])), 0x81),
        ];
        for (clause, bytes, reason) in cases {
            let mut client = broker.connect(&Connect::new(version, "bad"));
            client.send(&bytes);
            if version == Version::V3 {
                client.expect_closed();
                continue;
            }
            match client.next_answer() {
                Packet::Disconnect {
                    code: code @ (0x81 | 0x82),
                    ..
                } => {
                    // Both codes name the client's fault; the exact one is a courtesy.
                    let _ = (code, reason);
                    client.expect_closed();
                }
                other => panic!("{clause}: {other:?}"),
            }
        }
        let mut client = broker.connect(&Connect::new(version, "zero"));
        let zero = wire::subscribe(version, 0, &[Filter::new("a", 0)], &Properties::default());
        client.send(&zero); // MQTT-2.2.1-3
        match (
            version,
            client.poll(std::time::Instant::now() + bifrust_e2e::client::PATIENCE),
        ) {
            (Version::V3, bifrust_e2e::Received::Closed) => {}
            (
                Version::V5,
                bifrust_e2e::Received::Packet(Packet::Disconnect {
                    code: 0x81 | 0x82, ..
                }),
            ) => {}
            (_, other) => panic!("identifier 0: {other:?}"),
        }
    }
}

#[test]
fn v3_has_no_subscription_options() {
    let broker = Broker::start();
    let mut client = broker.connect(&Connect::v3("options"));
    let filter = [Filter {
        filter: "a".into(),
        options: 0x04,
    }];
    client.send(&wire::subscribe(
        Version::V3,
        1,
        &filter,
        &Properties::default(),
    ));
    client.expect_closed(); // MQTT-3-8.3-4 of 3.1.1
}

#[test]
fn retain_handling_3_is_a_protocol_error() {
    let broker = Broker::start();
    let mut client = broker.connect(&Connect::v5("handling"));
    let filter = [Filter::new("a", 0).retain_handling(3)];
    client.send(&wire::subscribe(
        Version::V5,
        1,
        &filter,
        &Properties::default(),
    ));
    match client.next_answer() {
        Packet::Disconnect {
            code: 0x81 | 0x82, ..
        } => client.expect_closed(),
        other => panic!("DISCONNECT expected, got {other:?}"),
    }
}

#[test]
fn unsubscribe_ends_deliveries_and_says_what_was_there() {
    let broker = Broker::start();
    for version in VERSIONS {
        let mut client = broker.connect(&Connect::new(version, "unsubscribe"));
        client.subscribe("u/a", 1);
        client.subscribe("u/+", 1);
        let codes = client.unsubscribe(&["u/a", "never", "u/+"]);
        if version == Version::V5 {
            assert_eq!(codes, [0, 0x11, 0]); // MQTT-3.11.3-1, -2
        }
        client.publish(&Publish::new("u/a", "x").qos(1));
        client.expect_silence(); // MQTT-3.10.4-2
        // MQTT-3.10.4-1: compared character by character.
        client.subscribe("u/+", 1);
        client.unsubscribe(&["u/a", "u/#"]);
        client.publish(&Publish::new("u/a", "y").qos(1));
        assert_eq!(client.receive().text(), "y");
    }
}

#[test]
fn a_repeated_subscribe_replaces_the_options() {
    let broker = Broker::start();
    for version in VERSIONS {
        let mut client = broker.connect(&Connect::new(version, "replace"));
        for qos in [0, 2, 1] {
            client.subscribe("r", qos); // MQTT-3.8.4-3
            client.publish(&Publish::new("r", "x").qos(2));
            assert_eq!(client.receive().qos, qos);
            client.expect_silence();
        }
    }
}

#[test]
fn a_repeated_subscribe_loses_nothing() {
    let broker = Broker::start();
    let mut reader = broker.connect(&Connect::v5("reader"));
    reader.subscribe("steady", 1);
    let mut writer = broker.connect(&Connect::v5("writer"));
    for index in 0..200 {
        writer.send_publish(&Publish::new("steady", index.to_string()).qos(1));
        if index % 10 == 0 {
            reader.subscribe("steady", if index % 20 == 0 { 1 } else { 2 }); // MQTT-3.8.4-4
        }
    }
    let expected: Vec<String> = (0..200).map(|index| index.to_string()).collect();
    assert_eq!(reader.receive_texts(200), expected);
    reader.expect_silence();
}

#[test]
fn no_local_keeps_own_messages_away() {
    let broker = Broker::start();
    let mut client = broker.connect(&Connect::v5("own"));
    let mut other = broker.connect(&Connect::v5("other"));
    client.subscribe_all(&[Filter::new("n", 1).no_local()]);
    client.publish(&Publish::new("n", "mine").qos(1)); // MQTT-3.8.3-3
    other.publish(&Publish::new("n", "theirs").qos(1));
    assert_eq!(client.receive().text(), "theirs");
    client.expect_silence();
}

#[test]
fn subscription_identifiers_come_with_the_messages() {
    let broker = Broker::start();
    let id = |id| Properties(vec![Property::SubscriptionId(id)]);
    for (name, connect) in [
        ("transient", Connect::v5("ids")),
        ("persistent", Connect::persistent(Version::V5, "ids-kept")),
    ] {
        let mut client = broker.connect(&connect);
        client.subscribe_with(&[Filter::new("ids/one", 1)], &id(1));
        client.subscribe_with(&[Filter::new("ids/large", 1)], &id(268_435_455));
        client.publish(&Publish::new("ids/one", "x").qos(1));
        assert_eq!(
            client.receive().properties.subscription_ids(),
            [1],
            "MQTT-3.3.4-3 {name}"
        );
        client.publish(&Publish::new("ids/large", "x").qos(0));
        assert_eq!(
            client.receive().properties.subscription_ids(),
            [268_435_455],
            "{name}"
        );
        // A new SUBSCRIBE replaces the identifier, or takes it away (MQTT 3.8.4).
        client.subscribe_with(&[Filter::new("ids/one", 1)], &id(5));
        client.publish(&Publish::new("ids/one", "x").qos(1));
        assert_eq!(
            client.receive().properties.subscription_ids(),
            [5],
            "{name}"
        );
        client.subscribe("ids/one", 1);
        client.publish(&Publish::new("ids/one", "x").qos(1));
        assert!(
            client.receive().properties.subscription_ids().is_empty(),
            "{name}"
        );
    }
    let mut client = broker.connect(&Connect::v5("zero"));
    client.send(&wire::subscribe(
        Version::V5,
        1,
        &[Filter::new("a", 0)],
        &id(0),
    ));
    client.expect_disconnect(0x82);
}

#[test]
fn many_filters_and_many_subscribers() {
    let broker = Broker::start();
    let mut readers: Vec<Client> = (0..50)
        .map(|index| broker.connect(&Connect::v5(format!("reader{index}"))))
        .collect();
    for (index, reader) in readers.iter_mut().enumerate() {
        let filters: Vec<Filter> = (0..100)
            .map(|n| Filter::new(format!("many/{index}/{n}/+"), 1))
            .collect();
        assert!(reader.subscribe_all(&filters).iter().all(|code| *code == 1));
        reader.subscribe("many/all", 1);
    }
    let mut writer = broker.connect(&Connect::v5("writer"));
    for index in 0..50 {
        writer.publish(&Publish::new(format!("many/{index}/{index}/x"), "one").qos(1));
    }
    writer.publish(&Publish::new("many/all", "all").qos(1));
    for reader in &mut readers {
        assert_eq!(reader.receive_texts(2), ["one", "all"]);
    }
}
