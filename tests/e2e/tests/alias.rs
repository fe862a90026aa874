//! Topic aliases towards clients (MQTT-5 3.3.2.3.4).

use std::collections::HashMap;

use bifrust_e2e::{Broker, Client, Connect, Property, Publish};

/// A client that keeps track of what the aliases stand for.
struct Resolving {
    client: Client,
    max: u16,
    known: HashMap<u16, String>,
    by_alias_alone: usize,
}

impl Resolving {
    fn new(client: Client, max: u16) -> Self {
        Self {
            client,
            max,
            known: HashMap::new(),
            by_alias_alone: 0,
        }
    }

    /// The topic of the next message, and its payload.
    fn receive(&mut self) -> (String, String) {
        let publish = self.client.receive();
        let alias = publish.properties.find(|property| match property {
            Property::TopicAlias(alias) => Some(*alias),
            _ => None,
        });
        if let Some(alias) = alias {
            // MQTT-3.1.2-26, MQTT-3.3.2-8.
            assert!((1..=self.max).contains(&alias), "{alias}");
        }
        let text = publish.text();
        let topic = match (publish.topic.is_empty(), alias) {
            (true, Some(alias)) => {
                self.by_alias_alone += 1;
                self.known.get(&alias).expect("a known alias").clone()
            }
            (true, None) => panic!("neither topic nor alias"),
            (false, Some(alias)) => {
                self.known.insert(alias, publish.topic.clone());
                publish.topic
            }
            (false, None) => publish.topic,
        };
        (topic, text)
    }
}

#[test]
fn every_message_is_of_the_topic_it_was_published_to() {
    let broker = Broker::start();
    let taking = Connect::v5("sub").property(Property::TopicAliasMaximum(3));
    let mut aliasing = Resolving::new(broker.connect(&taking), 3);
    aliasing.client.subscribe("sensors/#", 2);
    let mut plain = broker.connect(&Connect::v5("plain"));
    plain.subscribe("sensors/#", 2);
    let mut publisher = broker.connect(&Connect::v5("pub"));
    let sent: Vec<(String, String)> = (0..300)
        .map(|number| {
            (
                format!("sensors/{}", number / 2 * 7 % 5),
                number.to_string(),
            )
        })
        .collect();
    for (number, (topic, payload)) in sent.iter().enumerate() {
        publisher.publish(&Publish::new(topic.as_str(), payload).qos((number % 3) as u8));
    }
    // Order is kept for each topic and QoS.
    let mut expected = sent.clone();
    let mut got: Vec<_> = sent.iter().map(|_| aliasing.receive()).collect();
    expected.sort();
    got.sort();
    assert_eq!(got, expected);
    assert!(aliasing.by_alias_alone > 0, "no alias was ever used");
    for _ in &sent {
        let publish = plain.receive();
        assert!(!publish.topic.is_empty(), "who takes no alias gets none");
    }
}

#[test]
fn aliases_end_with_the_connection() {
    let broker = Broker::start();
    let connect = Connect::persistent(bifrust_e2e::Version::V5, "sub")
        .property(Property::TopicAliasMaximum(10));
    let mut first = Resolving::new(broker.connect(&connect), 10);
    first.client.subscribe("sensors/kitchen", 1);
    let mut publisher = broker.connect(&Connect::v5("pub"));
    for payload in ["1", "2"] {
        publisher.publish(&Publish::new("sensors/kitchen", payload).qos(1));
        let (topic, text) = first.receive();
        assert_eq!((&*topic, &*text), ("sensors/kitchen", payload));
    }
    assert_eq!(first.by_alias_alone, 1);
    first.client.cut();
    publisher.publish(&Publish::new("sensors/kitchen", "3").qos(1));
    let mut second = Resolving::new(broker.connect(&connect.resume()), 10);
    // MQTT-3.3.2-7: nothing is known on a new connection.
    let (topic, text) = second.receive();
    assert_eq!((&*topic, &*text), ("sensors/kitchen", "3"));
    assert_eq!(second.by_alias_alone, 0);
}

#[test]
fn an_alias_never_makes_a_message_too_large() {
    let broker = Broker::start();
    // PUBLISH of 17 bytes at QoS 0: with a new alias it would have 20.
    let connect = Connect::v5("sub")
        .property(Property::TopicAliasMaximum(10))
        .property(Property::MaximumPacketSize(18));
    let mut client = broker.connect(&connect);
    client.subscribe("abcdefgh", 0);
    let mut publisher = broker.connect(&Connect::v5("pub"));
    for _ in 0..2 {
        publisher.publish(&Publish::new("abcdefgh", "1234").qos(0));
        assert_eq!(client.receive().topic, "abcdefgh");
    }
}
