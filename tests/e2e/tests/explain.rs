//! Reason strings, and clients that want none (MQTT-5 3.1.2.11.7).

use bifrust_e2e::{Broker, Client, Connect, Packet, Property, Publish, Version};

fn reason_string(properties: &bifrust_e2e::wire::Properties) -> Option<String> {
    properties.find(|property| match property {
        Property::Reason(text) => Some(text.clone()),
        _ => None,
    })
}

/// What a client is told about a filter and a publish that are refused.
fn told(broker: &Broker, connect: &Connect) -> (Option<String>, Option<String>) {
    let mut client = broker.connect(connect);
    client.send(&bifrust_e2e::wire::subscribe(
        Version::V5,
        7,
        &[bifrust_e2e::Filter::new("a/#/b", 1)],
        &Default::default(),
    ));
    let suback = match client.next_answer() {
        Packet::Suback {
            codes, properties, ..
        } => {
            assert_eq!(codes, [0x8f]);
            reason_string(&properties)
        }
        other => panic!("{other:?}"),
    };
    client.send_publish(&Publish::new("four/are/too/many", "x").qos(1));
    let puback = client.next_ack();
    assert_eq!(puback.code, 0x90);
    (suback, reason_string(&puback.properties))
}

#[test]
fn failures_are_explained_unless_the_client_wants_no_problem_information() {
    let broker = Broker::builder().setting("MaxTopicLevels", 3).start();
    let (suback, puback) = told(&broker, &Connect::v5("c"));
    assert!(suback.is_some_and(|text| text.contains("filter")));
    assert!(puback.is_some_and(|text| text.contains("topic")));
    let none = Connect::v5("c").property(Property::RequestProblem(0));
    assert_eq!(told(&broker, &none), (None, None));
}

#[test]
fn whoever_is_sent_away_is_told_why() {
    let broker = Broker::start();
    // CONNACK and DISCONNECT may explain whatever the client wishes (MQTT-3.1.2-29).
    let wish = Property::RequestProblem(0);
    let mut client = broker.connect(&Connect::v5("c").property(wish));
    client.send(&Publish::new("a/+", "x").encode(Version::V5));
    match client.next_packet() {
        Packet::Disconnect { code, properties } => {
            assert_eq!(code, 0x90);
            assert!(reason_string(&properties).is_some());
        }
        other => panic!("{other:?}"),
    }
    let mut refused = Client::dial(broker.tcp(), Version::V5);
    let long = Connect::v5("x".repeat(60_000));
    refused.send(&long.encode());
    match refused.next_packet() {
        Packet::Connack {
            code, properties, ..
        } => {
            assert_eq!(code, 0x85);
            assert!(reason_string(&properties).is_some());
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_explanation_that_the_client_cannot_take_is_left_out() {
    let broker = Broker::start();
    let mut client = broker.connect(&Connect::v5("c").property(Property::MaximumPacketSize(20)));
    client.send(&Publish::new("a/+", "x").encode(Version::V5));
    match client.next_packet() {
        Packet::Disconnect { code, properties } => {
            assert_eq!((code, reason_string(&properties)), (0x90, None));
        }
        other => panic!("{other:?}"),
    }
}
