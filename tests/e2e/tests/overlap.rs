//! Overlapping subscriptions of one session: one copy, the highest granted QoS, all identifiers.

use bifrust_e2e::wire::Properties;
use bifrust_e2e::{Broker, Client, Connect, Filter, Property, Publish, VERSIONS, Version};

fn kinds() -> [(&'static str, Connect); 4] {
    [
        ("v3 transient", Connect::v3("a")),
        ("v5 transient", Connect::v5("b")),
        ("v3 persistent", Connect::persistent(Version::V3, "c")),
        ("v5 persistent", Connect::persistent(Version::V5, "d")),
    ]
}

fn subscribe(client: &mut Client, filter: Filter, id: u32) {
    let properties = match client.version() {
        Version::V5 => Properties(vec![Property::SubscriptionId(id)]),
        Version::V3 => Properties::default(),
    };
    let qos = filter.options & 3;
    assert_eq!(client.subscribe_with(&[filter], &properties), [qos]);
}

#[test]
fn one_copy_at_the_highest_quality_with_all_identifiers() {
    for (kind, connect) in kinds() {
        let broker = Broker::start();
        let mut client = broker.connect(&connect);
        subscribe(&mut client, Filter::new("o/+/x", 0), 10);
        subscribe(&mut client, Filter::new("o/#", 2), 20);
        subscribe(&mut client, Filter::new("o/a/x", 1), 30);
        client.publish(&Publish::new("o/a/x", "three").qos(2));
        let got = client.receive();
        assert_eq!(got.qos, 2, "MQTT-3.3.4-2 {kind}");
        if connect.version == Version::V5 {
            assert_eq!(
                got.properties.subscription_ids(),
                [10, 20, 30],
                "MQTT-3.3.4-4 {kind}"
            );
        }
        client.expect_silence();
        client.unsubscribe(&["o/#"]);
        client.publish(&Publish::new("o/a/x", "two").qos(2));
        let got = client.receive();
        assert_eq!((got.qos, got.text().as_str()), (1, "two"), "{kind}");
        client.expect_silence();
    }
}

#[test]
fn overlapping_while_away() {
    let broker = Broker::start();
    for version in VERSIONS {
        let connect = Connect::persistent(version, format!("{version:?}"));
        let mut client = broker.connect(&connect);
        subscribe(&mut client, Filter::new("away/#", 1), 1);
        subscribe(&mut client, Filter::new("away/+", 2), 2);
        client.disconnect();
        broker
            .connect(&Connect::v5("writer"))
            .publish(&Publish::new("away/x", "x").qos(2));
        let mut client = broker.connect(&connect);
        let got = client.receive();
        assert_eq!(got.qos, 2);
        if version == Version::V5 {
            assert_eq!(got.properties.subscription_ids(), [1, 2]);
        }
        client.expect_silence();
    }
}

#[test]
fn no_local_takes_its_subscription_out_first() {
    for (kind, connect) in kinds() {
        if connect.version == Version::V3 {
            continue;
        }
        let broker = Broker::start();
        let mut client = broker.connect(&connect);
        let mut other = broker.connect(&Connect::v5("other"));
        subscribe(&mut client, Filter::new("l/#", 2).no_local(), 1);
        subscribe(&mut client, Filter::new("l/x", 1), 2);
        client.publish(&Publish::new("l/x", "own").qos(2));
        let got = client.receive();
        assert_eq!(
            (got.qos, got.properties.subscription_ids()),
            (1, vec![2]),
            "{kind}"
        );
        other.publish(&Publish::new("l/x", "others").qos(2));
        let got = client.receive();
        assert_eq!(
            (got.qos, got.properties.subscription_ids()),
            (2, vec![1, 2]),
            "{kind}"
        );
        client.publish(&Publish::new("l/y", "own").qos(2));
        client.expect_silence();
    }
}

#[test]
fn retain_flag_stays_if_any_match_asks_for_it() {
    for (kind, connect) in kinds() {
        if connect.version == Version::V3 {
            continue;
        }
        let broker = Broker::start();
        let mut client = broker.connect(&connect);
        // Without a scan of retained messages: a copy of its own would come from it.
        subscribe(&mut client, Filter::new("k/#", 1).retain_handling(2), 1);
        client.publish(&Publish::new("k/x", "1").qos(1).retain());
        assert!(!client.receive().retain, "MQTT-3.3.1-12 {kind}");
        subscribe(
            &mut client,
            Filter::new("k/+", 1)
                .retain_as_published()
                .retain_handling(2),
            2,
        );
        client.publish(&Publish::new("k/x", "2").qos(1).retain());
        assert!(client.receive().retain, "MQTT-3.3.1-13 {kind}");
        client.publish(&Publish::new("k/x", "3").qos(1));
        assert!(!client.receive().retain, "{kind}");
        client.expect_silence();
    }
}
