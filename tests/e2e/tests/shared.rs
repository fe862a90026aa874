//! Shared subscriptions (5.0, 4.8.2): one member of each group gets each message, for all versions.

use std::time::{Duration, Instant};

use bifrust_e2e::wire::{self, AckKind, Properties};
use bifrust_e2e::{
    Broker, Client, Connect, Filter, Packet, Property, Publish, Received, VERSIONS, Version,
};

/// How long one of several clients is listened to.
const TURN: Duration = Duration::from_millis(5);

/// What each client gets, until `count` messages are there in all; each is acknowledged.
fn drain(clients: &mut [Client], count: usize) -> Vec<Vec<Publish>> {
    let mut got: Vec<Vec<Publish>> = clients.iter().map(|_| Vec::new()).collect();
    let deadline = Instant::now() + bifrust_e2e::client::PATIENCE;
    while got.iter().map(Vec::len).sum::<usize>() < count {
        assert!(
            Instant::now() < deadline,
            "{count} messages expected: {got:?}"
        );
        for (client, got) in clients.iter_mut().zip(&mut got) {
            while let Received::Packet(Packet::Publish(publish)) =
                client.poll(Instant::now() + TURN)
            {
                client.acknowledge(&publish);
                got.push(publish);
            }
        }
    }
    for client in clients {
        client.expect_silence();
    }
    got
}

fn texts(publishes: &[Publish]) -> Vec<String> {
    publishes.iter().map(Publish::text).collect()
}

#[test]
fn one_member_gets_each_message() {
    let broker = Broker::start();
    for version in VERSIONS {
        for qos in 0..3 {
            let mut members: Vec<Client> = ["a", "b", "c", "d"]
                .iter()
                .enumerate()
                .map(|(at, name)| match at % 2 {
                    0 => broker.connect(&Connect::new(version, *name)),
                    _ => broker.connect(&Connect::persistent(version, *name)),
                })
                .collect();
            for member in &mut members {
                member.subscribe("$share/group/one/+", qos);
            }
            let mut writer = broker.connect(&Connect::new(version, "writer"));
            for number in 0..80 {
                writer.publish(&Publish::new("one/x", number.to_string()).qos(qos));
            }
            let got = drain(&mut members, 80);
            let mut all: Vec<u32> = got
                .iter()
                .flatten()
                .map(|publish| publish.text().parse().unwrap())
                .collect();
            all.sort_unstable();
            assert_eq!(all, (0..80).collect::<Vec<_>>(), "each once");
            assert!(got.iter().all(|got| got.len() > 5), "all take part");
            assert!(got.iter().flatten().all(|publish| publish.qos == qos));
            for mut member in members {
                member.unsubscribe(&["$share/group/one/+"]);
            }
        }
    }
}

#[test]
fn groups_and_plain_subscriptions_are_apart() {
    let broker = Broker::start();
    for connect in [Connect::v5("m"), Connect::persistent(Version::V5, "m")] {
        let mut member = broker.connect(&connect);
        let subscribe = |client: &mut Client, filter, qos, id| {
            let properties = Properties(vec![Property::SubscriptionId(id)]);
            let codes = client.subscribe_with(&[Filter::new(filter, qos)], &properties);
            assert_eq!(codes, [qos]);
        };
        subscribe(&mut member, "apart/x", 1, 1);
        subscribe(&mut member, "$share/g/apart/x", 2, 2);
        subscribe(&mut member, "$share/h/apart/#", 0, 3);
        subscribe(&mut member, "$oshare/g/apart/+", 1, 4);
        // At QoS 2 from a persistent session: the copies of one session are told apart.
        let mut writer = broker.connect(&Connect::persistent(Version::V5, "w"));
        writer.publish(&Publish::new("apart/x", "x").qos(2));
        let mut members = [member];
        let mut got: Vec<_> = drain(&mut members, 4)[0]
            .iter()
            .map(|publish| (publish.properties.subscription_ids(), publish.qos))
            .collect();
        got.sort();
        let expected = [(vec![1], 1), (vec![2], 2), (vec![3], 0), (vec![4], 1)];
        assert_eq!(got, expected);
        let [member] = members;
        member.disconnect();
        broker.connect(&Connect::v5("m")).disconnect(); // Ends the session.
    }
}

#[test]
fn options_of_shared_filters() {
    let broker = Broker::start();
    let mut writer = broker.connect(&Connect::v5("writer"));
    writer.publish(&Publish::new("options/x", "kept").qos(1).retain());
    for connect in [Connect::v5("m"), Connect::persistent(Version::V5, "m")] {
        let mut member = broker.connect(&connect);
        let filter = Filter::new("$share/g/options/+", 1).retain_as_published();
        assert_eq!(member.subscribe_all(&[filter]), [1]);
        member.expect_silence(); // 3.8.4: no retained messages
        writer.publish(&Publish::new("options/x", "new").qos(2).retain());
        let got = member.receive();
        assert!(got.retain && got.qos == 1, "{got:?}");
        assert_eq!(
            member.subscribe_all(&[Filter::new("$share/g/options/+", 0)]),
            [0]
        );
        writer.publish(&Publish::new("options/x", "newer").qos(2).retain());
        let got = member.receive();
        assert!(!got.retain && got.qos == 0, "{got:?}");
        member.disconnect();
        broker.connect(&Connect::v5("m")).disconnect();
    }
    // MQTT-3.8.3-4
    let mut member = broker.connect(&Connect::v5("m"));
    let filters = [Filter::new("$share/g/a", 1).no_local()];
    member.send(&wire::subscribe(
        Version::V5,
        1,
        &filters,
        &Properties::default(),
    ));
    member.expect_disconnect(0x82);
    for filter in ["$share/g+/a", "$share//a", "$share/g", "$oshare/g/"] {
        let mut member = broker.connect(&Connect::v5("m"));
        let codes = member.subscribe_all(&[Filter::new(filter, 1)]);
        assert_eq!(codes, [0x8F], "MQTT-4.8.2-1, -2: {filter}");
    }
}

#[test]
fn settings_bound_groups() {
    let broker = Broker::builder()
        .setting("SharedSubscriptionEnabled", false)
        .start();
    for version in VERSIONS {
        let mut client = broker.connect(&Connect::new(version, "shared"));
        if version == Version::V5 {
            assert!(client.connack.has(&Property::SharedAvailable(0)));
        }
        let code = if version == Version::V5 { 0x9E } else { 0x80 };
        let filters = [Filter::new("$share/group/a", 1), Filter::new("plain", 1)];
        assert_eq!(client.subscribe_all(&filters), [code, 1]);
        client.publish(&Publish::new("a", "x").qos(1));
        client.expect_silence();
    }

    let broker = Broker::builder()
        .setting("MaxSharedGroupMembers", 2)
        .setting("MaxGroupFanout", 3)
        .start();
    for persistent in [false, true] {
        let connect = |name: &str| match persistent {
            true => broker.connect(&Connect::persistent(Version::V5, name)),
            false => broker.connect(&Connect::v5(name)),
        };
        let mut members = ["a", "b", "c"].map(connect);
        members[0].subscribe("$share/g/a", 1);
        members[1].subscribe("$share/g/a", 1);
        let filter = [Filter::new("$share/g/a", 1)];
        assert_eq!(members[2].subscribe_all(&filter), [0x97]);
        members[0].subscribe("$share/g/a", 2);
        assert_eq!(members[2].unsubscribe(&["$share/g/a"]), [0x11]);
        members[0].unsubscribe(&["$share/g/a"]);
        members[2].subscribe("$share/g/a", 1);
        for group in 0..4 {
            members[0].subscribe(&format!("$share/{group}/fanout"), 1);
        }
        members[1].publish(&Publish::new("fanout", "x").qos(1));
        drain(&mut members, 3);
        for (name, member) in ["a", "b", "c"].iter().zip(members) {
            member.disconnect();
            broker.connect(&Connect::v5(*name)).disconnect();
        }
    }
}

#[test]
fn online_members_come_first_and_a_group_of_offline_ones_keeps_messages() {
    let mut broker = Broker::start();
    let away = Connect::persistent(Version::V5, "away");
    let mut client = broker.connect(&away);
    client.subscribe("$share/g/first/#", 1);
    client.disconnect();
    let mut there = broker.connect(&Connect::v5("there"));
    there.subscribe("$share/g/first/#", 1);
    let mut writer = broker.connect(&Connect::v5("writer"));
    for number in 0..20 {
        writer.publish(&Publish::new("first/x", number.to_string()).qos(1));
    }
    assert_eq!(there.receive_texts(20).len(), 20);
    there.disconnect();
    for number in 20..30 {
        writer.publish(&Publish::new("first/x", number.to_string()).qos(1));
    }
    broker.kill();
    broker.restart();
    let mut client = broker.connect(&away);
    assert!(client.is_present);
    let expected: Vec<String> = (20..30).map(|number| number.to_string()).collect();
    assert_eq!(client.receive_texts(10), expected);
    let mut writer = broker.connect(&Connect::v5("writer"));
    writer.publish(&Publish::new("first/x", "live").qos(1));
    assert_eq!(client.receive().text(), "live", "it is a member still");
}

#[test]
fn what_a_gone_member_did_not_acknowledge_moves() {
    let broker = Broker::start();
    for (version, to) in [
        (Version::V5, Connect::v5("other")),
        (Version::V5, Connect::persistent(Version::V5, "other")),
        (Version::V3, Connect::v3("other")),
    ] {
        for qos in 0..3 {
            let connect = match version {
                Version::V5 => Connect::v5("first").receive_maximum(2),
                Version::V3 => Connect::v3("first"),
            };
            let mut first = broker.connect(&connect);
            first.subscribe("$share/g/moves", qos);
            let mut writer = broker.connect(&Connect::v5("writer"));
            for number in 0..6 {
                writer.publish(&Publish::new("moves", number.to_string()).qos(qos));
            }
            let written = match (qos, version) {
                (0, _) | (_, Version::V3) => 6,
                _ => 2,
            };
            for number in 0..written {
                assert_eq!(first.next_publish().text(), number.to_string());
            }
            let mut other = broker.connect(&to);
            other.subscribe("$share/g/moves", qos);
            first.cut();
            let moved = match qos {
                1 => 0..6,
                _ => written..6, // MQTT-4.8.2-5 for QoS 2
            };
            let expected: Vec<String> = moved.map(|number| number.to_string()).collect();
            assert_eq!(other.receive_texts(expected.len()), expected, "QoS {qos}");
            other.expect_silence();
            other.unsubscribe(&["$share/g/moves"]);
        }
    }
}

#[test]
fn what_an_ended_persistent_member_did_not_acknowledge_moves() {
    let broker = Broker::start();
    for version in VERSIONS {
        let mut first = broker.connect(&Connect::persistent(version, "first"));
        first.subscribe("$share/g/ends", 1);
        let mut writer = broker.connect(&Connect::v5("writer"));
        for number in 0..3 {
            writer.publish(&Publish::new("ends", number.to_string()).qos(1));
            assert_eq!(first.next_publish().text(), number.to_string());
        }
        first.cut();
        for number in 3..6 {
            writer.publish(&Publish::new("ends", number.to_string()).qos(1));
        }
        let mut other = broker.connect(&Connect::persistent(version, "other"));
        other.subscribe("$share/g/ends", 1);
        other.expect_silence(); // The session lives on.
        broker.connect(&Connect::new(version, "first")).disconnect();
        let mut moved = other.receive_texts(6);
        moved.sort();
        assert_eq!(moved, ["0", "1", "2", "3", "4", "5"]);
        other.unsubscribe(&["$share/g/ends"]);
    }
}

#[test]
fn a_failure_code_discards_the_message() {
    let broker = Broker::start();
    for qos in [1, 2] {
        let mut first = broker.connect(&Connect::v5("first"));
        first.subscribe("$share/g/refused", qos);
        let mut other = broker.connect(&Connect::v5("other"));
        let mut writer = broker.connect(&Connect::v5("writer"));
        writer.publish(&Publish::new("refused", "x").qos(qos));
        let got = first.next_publish();
        let kind = if qos == 1 { 0x40 } else { 0x50 };
        let [high, low] = got.id.to_be_bytes();
        first.send(&[kind, 4, high, low, 0x83, 0]); // MQTT-4.8.2-6
        first.ping();
        other.subscribe("$share/g/refused", qos);
        first.cut();
        other.expect_silence();
    }
}

#[test]
fn a_full_member_is_passed_over() {
    let broker = Broker::builder().setting("SessionInboxSize", 5).start();
    for version in VERSIONS {
        let mut full = match version {
            Version::V5 => broker.connect(&Connect::v5("full").receive_maximum(1)),
            Version::V3 => broker.connect(&Connect::v3("full")),
        };
        full.subscribe("$share/g/full", 1);
        let in_flight = if version == Version::V5 { 1 } else { 128 };
        let mut writer = broker.connect(&Connect::v5("writer"));
        let publish = |writer: &mut Client, number: usize| {
            let code = writer.publish(&Publish::new("full", number.to_string()).qos(1));
            assert_eq!(code, 0);
        };
        for number in 0..in_flight + 5 {
            publish(&mut writer, number);
        }
        let mut other = broker.connect(&Connect::new(version, "other"));
        other.subscribe("$share/g/full", 1);
        for number in 0..20 {
            publish(&mut writer, number);
            assert_eq!(other.receive().text(), number.to_string());
        }
        other.disconnect();
        publish(&mut writer, 99); // Nobody has room: dropped, and nobody is thrown out.
        let mut only = [full];
        assert_eq!(drain(&mut only, in_flight + 5)[0].len(), in_flight + 5);
    }
}

#[test]
fn an_ordered_group_keeps_publishers_together() {
    let broker = Broker::start();
    for version in VERSIONS {
        let mut members: Vec<Client> = (0..4)
            .map(|n| match n % 2 {
                0 => broker.connect(&Connect::new(version, format!("m{n}"))),
                _ => broker.connect(&Connect::persistent(version, format!("m{n}"))),
            })
            .collect();
        for member in &mut members {
            member.subscribe("$oshare/g/ordered/#", 1);
        }
        let mut writers: Vec<Client> = (0..12)
            .map(|n| broker.connect(&Connect::new(version, format!("w{n}"))))
            .collect();
        for number in 0..20 {
            for (n, writer) in writers.iter_mut().enumerate() {
                let topic = format!("ordered/{n}/{number}");
                writer.publish(&Publish::new(topic, number.to_string()).qos(1));
            }
        }
        let got = drain(&mut members, 12 * 20);
        assert!(got.iter().filter(|got| !got.is_empty()).count() > 1);
        for n in 0..12 {
            let topic = format!("ordered/{n}/");
            let of_writer = |got: &Vec<Publish>| {
                let of = got
                    .iter()
                    .filter(|publish| publish.topic.starts_with(&topic));
                texts(&of.cloned().collect::<Vec<_>>())
            };
            let runs: Vec<_> = got
                .iter()
                .map(of_writer)
                .filter(|run| !run.is_empty())
                .collect();
            let expected: Vec<String> = (0..20).map(|number| number.to_string()).collect();
            assert_eq!(runs, [expected], "one member, in order");
        }
        for mut member in members {
            member.unsubscribe(&["$oshare/g/ordered/#"]);
        }
    }
}

#[test]
fn whoever_left_a_group_gets_nothing_more_of_it() {
    let broker = Broker::start();
    for connect in [Connect::v5("m"), Connect::persistent(Version::V3, "m")] {
        let mut member = broker.connect(&connect);
        member.subscribe("$share/g/left", 1);
        let mut writer = broker.connect(&Connect::v5("writer"));
        writer.publish(&Publish::new("left", "1").qos(1));
        assert_eq!(member.receive().text(), "1");
        member.unsubscribe(&["$share/g/left"]);
        writer.publish(&Publish::new("left", "2").qos(1));
        member.expect_silence();
        member.subscribe("$share/g/left", 1);
        writer.publish(&Publish::new("left", "3").qos(1));
        assert_eq!(member.receive().text(), "3");
    }
}

#[test]
fn a_will_goes_to_one_member() {
    let broker = Broker::start();
    let mut members = [Connect::v5("a"), Connect::persistent(Version::V5, "b")]
        .map(|connect| broker.connect(&connect));
    for member in &mut members {
        member.subscribe("$share/g/will", 1);
    }
    for number in 0..10 {
        let will = bifrust_e2e::Will::new("will", number.to_string()).qos(1);
        broker
            .connect(&Connect::v5(format!("w{number}")).will(will))
            .cut();
    }
    drain(&mut members, 10);
}

/// An acknowledged QoS 2 publish that its publisher repeats after a crash of the broker reaches one
/// member once.
#[test]
fn repeated_exactly_once_publishes_stay_with_their_member() {
    let mut broker = Broker::start();
    let members = ["a", "b", "c"].map(|name| Connect::persistent(Version::V5, name));
    for connect in &members {
        let mut member = broker.connect(connect);
        member.subscribe("$share/g/once", 2);
        member.disconnect();
    }
    let connect = Connect::persistent(Version::V5, "writer");
    let mut writer = broker.connect(&connect);
    for id in 1..=20 {
        let publish = Publish::new("once", id.to_string()).qos(2).id(id);
        writer.send(&publish.encode(Version::V5));
    }
    writer.expect_ack(AckKind::Pubrec, 1);
    broker.kill();
    broker.restart();
    let mut writer = broker.connect(&connect);
    assert!(writer.is_present);
    for id in 1..=20 {
        let publish = Publish::new("once", id.to_string()).qos(2).id(id).dup();
        writer.send(&publish.encode(Version::V5));
    }
    for id in 1..=20 {
        writer.expect_ack(AckKind::Pubrec, id);
        writer.send(&wire::ack(AckKind::Pubrel, id));
    }
    let mut members = members.map(|connect| broker.connect(&connect));
    let got = drain(&mut members, 20);
    let mut all: Vec<u32> = got
        .iter()
        .flatten()
        .map(|publish| publish.text().parse().unwrap())
        .collect();
    all.sort_unstable();
    assert_eq!(all, (1..=20).collect::<Vec<_>>());
}
