//! Wills: when they go out, when they do not, and when later.

use std::time::{Duration, Instant};

use bifrust_e2e::wire::{self, Properties};
use bifrust_e2e::{
    Broker, Client, Connect, Filter, Property, Publish, Received, VERSIONS, Version, Will,
};

fn watcher(broker: &Broker) -> Client {
    let mut watcher = broker.connect(&Connect::v5("watcher"));
    watcher.subscribe("will/#", 2);
    watcher
}

#[test]
fn will_goes_out_when_the_connection_is_lost() {
    let broker = Broker::start();
    let mut watcher = watcher(&broker);
    for version in VERSIONS {
        for qos in 0..=2 {
            let will = Will::new("will/lost", format!("{version:?} {qos}")).qos(qos);
            broker
                .connect(&Connect::new(version, "dying").will(will))
                .cut();
            let got = watcher.receive(); // MQTT-3.1.2-8
            assert_eq!((got.text(), got.qos), (format!("{version:?} {qos}"), qos));
            assert!(!got.retain);
        }
    }
}

#[test]
fn will_is_dropped_by_a_normal_disconnect() {
    let broker = Broker::start();
    let mut watcher = watcher(&broker);
    for version in VERSIONS {
        for connect in [
            Connect::new(version, "a"),
            Connect::persistent(version, "b"),
        ] {
            broker
                .connect(&connect.will(Will::new("will/no", "no")))
                .disconnect();
            watcher.expect_silence(); // MQTT-3.1.2-10, MQTT-3.14.4-3
        }
    }
}

#[test]
fn will_goes_out_when_the_client_asks_for_it() {
    let broker = Broker::start();
    let mut watcher = watcher(&broker);
    let client = broker.connect(&Connect::v5("asking").will(Will::new("will/asked", "yes")));
    client.disconnect_with(0x04, Properties::default());
    assert_eq!(watcher.receive().text(), "yes");
}

#[test]
fn will_goes_out_after_a_protocol_error_and_a_missed_keep_alive() {
    let broker = Broker::start();
    let mut watcher = watcher(&broker);
    for version in VERSIONS {
        let will = Will::new("will/error", "error").qos(1);
        let mut client = broker.connect(&Connect::new(version, "bad").will(will));
        client.send(&[0xF0 | 0x0F, 0]);
        client.expect_disconnect(0x81);
        assert_eq!(watcher.receive().text(), "error");
        let will = Will::new("will/silent", "silent").qos(1);
        let connect = Connect::new(version, "silent").keep_alive(1).will(will);
        let mut client = broker.connect(&connect);
        assert_eq!(watcher.receive().text(), "silent");
        client.expect_disconnect(0x8D);
    }
}

#[test]
fn retained_will_is_kept() {
    let broker = Broker::start();
    for version in VERSIONS {
        let mut watcher = broker.connect(&Connect::v5("watcher"));
        let topic = format!("will/kept/{version:?}");
        watcher.publish(&Publish::new(&topic, "before").qos(1).retain());
        watcher.subscribe(&topic, 1);
        // The scan is over then: what follows is live.
        assert!(watcher.receive().retain);
        let will = Will::new(&topic, "kept").qos(1).retain();
        broker
            .connect(&Connect::new(version, "dying").will(will))
            .cut();
        let got = watcher.receive();
        assert!(!got.retain);
        let mut late = broker.connect(&Connect::v5("late"));
        late.subscribe(&topic, 1); // MQTT-3.1.2-15
        let got = late.receive();
        assert_eq!((got.text().as_str(), got.retain), ("kept", true));
    }
}

#[test]
fn will_properties_reach_the_subscriber() {
    let broker = Broker::start();
    let mut watcher = watcher(&broker);
    let properties = [
        Property::PayloadFormat(1),
        Property::MessageExpiry(1000),
        Property::ContentType("text".into()),
        Property::ResponseTopic("r".into()),
        Property::CorrelationData(vec![1]),
        Property::User("k".into(), "1".into()),
        Property::User("k".into(), "2".into()),
    ];
    let mut will = Will::new("will/properties", "x").qos(1);
    will.properties.0.extend_from_slice(&properties);
    broker.connect(&Connect::v5("dying").will(will)).cut();
    let got = watcher.receive();
    for property in properties {
        let is_there = match property {
            Property::MessageExpiry(_) => {
                got.properties
                    .find(|p| matches!(p, Property::MessageExpiry(_)).then_some(true))
                    == Some(true)
            }
            property => got.properties.has(&property),
        };
        assert!(is_there, "{got:?}");
    }
    assert!(!got.properties.has(&Property::WillDelay(0)));
}

#[test]
fn delayed_will_waits() {
    let broker = Broker::start();
    let mut watcher = watcher(&broker);
    let will = Will::new("will/late", "late").qos(1).delay(2);
    let client = broker.connect(&Connect::v5("dying").expiry(100).will(will));
    let start = Instant::now();
    client.cut();
    assert_eq!(watcher.receive().text(), "late"); // MQTT-3.1.3-9
    let waited = start.elapsed();
    assert!(waited >= Duration::from_millis(1900), "{waited:?}");
    assert!(waited < Duration::from_secs(6), "{waited:?}");
}

#[test]
fn delayed_will_is_cancelled_by_a_reconnect() {
    let broker = Broker::start();
    let mut watcher = watcher(&broker);
    let will = Will::new("will/cancelled", "late").qos(1).delay(2);
    let connect = Connect::v5("dying").expiry(100).will(will);
    broker.connect(&connect).cut();
    let client = broker.connect(&Connect::v5("dying").resume().expiry(100)); // MQTT-3.1.3-9
    assert!(client.is_present);
    let deadline = Instant::now() + Duration::from_secs(4);
    assert!(matches!(watcher.poll(deadline), Received::TimedOut));
}

#[test]
fn delay_ends_with_the_session() {
    let broker = Broker::start();
    let mut watcher = watcher(&broker);
    // By expiry: the lower of the two counts.
    let will = Will::new("will/expired", "expired").qos(1).delay(100);
    let start = Instant::now();
    broker
        .connect(&Connect::v5("expiring").expiry(1).will(will))
        .cut();
    assert_eq!(watcher.receive().text(), "expired");
    assert!(start.elapsed() >= Duration::from_millis(900));
    // Without expiry: at once.
    let will = Will::new("will/now", "now").qos(1).delay(100);
    broker.connect(&Connect::v5("transient").will(will)).cut();
    assert_eq!(watcher.receive().text(), "now");
    // By a clean start that ends it.
    let will = Will::new("will/replaced", "replaced").qos(1).delay(100);
    broker
        .connect(&Connect::v5("replaced").expiry(100).will(will))
        .cut();
    let _newer = broker.connect(&Connect::v5("replaced"));
    assert_eq!(watcher.receive().text(), "replaced");
    watcher.expect_silence();
}

#[test]
fn takeover_sends_the_will_of_v3() {
    let broker = Broker::start();
    let mut watcher = watcher(&broker);
    for newer in VERSIONS {
        let will = Will::new("will/v3", "taken").qos(1);
        let mut client = broker.connect(&Connect::persistent(Version::V3, "v3").will(will));
        let _newer = broker.connect(&Connect::persistent(newer, "v3"));
        client.expect_closed();
        assert_eq!(watcher.receive().text(), "taken");
    }
    watcher.expect_silence();
}

#[test]
fn takeover_sends_the_will_of_v5_unless_delayed_and_resumed() {
    let broker = Broker::start();
    let mut watcher = watcher(&broker);
    let will = |text: &str, delay| Will::new("will/v5", text).qos(1).delay(delay);
    let persistent = || Connect::persistent(Version::V5, "v5");
    // MQTT 3.1.4 non-normative: delay 0 is sent, resumed or not.
    let mut one = broker.connect(&persistent().will(will("no delay", 0)));
    let mut two = broker.connect(&persistent().will(will("delayed, resumed", 100)));
    assert_eq!(watcher.receive().text(), "no delay");
    one.expect_disconnect(0x8E);
    // Delayed and resumed: not sent.
    let mut three = broker.connect(&persistent().will(will("delayed, ended", 100)));
    two.expect_disconnect(0x8E);
    watcher.expect_silence();
    // Delayed, but the session ends.
    let _four = broker.connect(&Connect::v5("v5"));
    three.expect_disconnect(0x8E);
    assert_eq!(watcher.receive().text(), "delayed, ended");
    watcher.expect_silence();
}

#[test]
fn will_reaches_persistent_sessions_that_are_away() {
    let broker = Broker::start();
    let keep = Connect::persistent(Version::V3, "away");
    let mut away = broker.connect(&keep);
    away.subscribe("will/#", 1);
    away.disconnect();
    let mut watcher = watcher(&broker);
    broker
        .connect(&Connect::v3("dying").will(Will::new("will/x", "x").qos(1)))
        .cut();
    watcher.receive();
    assert_eq!(broker.connect(&keep).receive().text(), "x");
}

#[test]
fn own_will_reaches_the_own_session() {
    let broker = Broker::start();
    let connect = Connect::persistent(Version::V5, "self");
    let mut client = broker.connect(&connect.clone().will(Will::new("will/self", "x").qos(1)));
    client.subscribe("will/self", 1);
    client.subscribe_all(&[Filter::new("will/no", 1).no_local()]);
    client.cut();
    let mut client = broker.connect(&connect);
    assert_eq!(client.receive().text(), "x");
}

#[test]
fn wills_of_ended_incarnations_go_out_after_the_restart() {
    for is_killed in [true, false] {
        let mut broker = Broker::start();
        let keep = Connect::persistent(Version::V5, "watcher");
        let mut watcher = broker.connect(&keep);
        watcher.subscribe("will/#", 1);
        let will = |text: &str| Will::new("will/restart", text).qos(1);
        let gone = broker.connect(&Connect::v5("gone").will(will("never")));
        gone.disconnect();
        let transient3 = broker.connect(&Connect::v3("t3").will(will("t3")));
        let transient5 = broker.connect(&Connect::v5("t5").will(will("t5")));
        let kept = broker.connect(&Connect::persistent(Version::V3, "p3").will(will("p3")));
        let late = Connect::v5("p5").resume().expiry(100);
        let delayed = broker.connect(&late.clone().will(will("p5").delay(2)));
        if is_killed {
            broker.kill();
        } else {
            assert!(broker.terminate().success(), "{}", broker.log());
        }
        drop((transient3, transient5, kept, delayed));
        broker.restart();
        let mut watcher = broker.connect(&keep);
        let mut texts = watcher.receive_texts(4);
        texts.sort();
        assert_eq!(texts, ["p3", "p5", "t3", "t5"], "killed: {is_killed}");
        watcher.expect_silence();
        // Nothing goes out twice at the next restart.
        broker.kill();
        broker.restart();
        broker.connect(&keep).expect_silence();
    }
}

#[test]
fn delayed_will_is_cancelled_across_a_restart() {
    let mut broker = Broker::start();
    let keep = Connect::persistent(Version::V5, "watcher");
    broker.connect(&keep).subscribe("will/#", 1);
    let will = Will::new("will/restart", "cancelled").qos(1).delay(3);
    let connect = Connect::v5("back").resume().expiry(100);
    let client = broker.connect(&connect.clone().will(will));
    broker.kill();
    drop(client);
    broker.restart();
    let back = broker.connect(&connect);
    assert!(back.is_present);
    let mut watcher = broker.connect(&keep);
    let deadline = Instant::now() + Duration::from_secs(5);
    assert!(matches!(watcher.poll(deadline), Received::TimedOut));
}

#[test]
fn will_payload_may_be_empty_and_large() {
    let broker = Broker::start();
    let mut watcher = watcher(&broker);
    for size in [0, 60_000] {
        let will = Will::new("will/size", vec![7; size]).qos(1);
        broker.connect(&Connect::v5("sized").will(will)).cut();
        assert_eq!(watcher.receive().payload.len(), size);
    }
}

#[test]
fn will_of_a_client_that_never_reads_goes_out() {
    let broker = Broker::start();
    let mut watcher = watcher(&broker);
    let will = Will::new("will/stuck", "stuck").qos(1);
    let mut stuck = broker.connect(&Connect::v5("stuck").keep_alive(1).will(will));
    stuck.subscribe("flood", 0);
    watcher.publish(&Publish::new("flood", vec![0; 100_000]).qos(0));
    assert_eq!(watcher.receive().text(), "stuck");
    let _ = stuck.try_send(wire::PINGREQ); // the connection is gone by now
}
