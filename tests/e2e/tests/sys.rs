//! `$SYS/broker/`: the numbers of the node, for one tenant.

use std::time::Instant;

use bifrust_e2e::client::PATIENCE;
use bifrust_e2e::{Broker, Client, Connect, Filter, Packet, Publish, Received, VERSIONS, Version};

const CONFIG: &str = "[sys]\ntenant = \"ops\"\ninterval_seconds = 1\n";

/// The first value of this topic that is as it should be.
fn await_value(client: &mut Client, topic: &str, is_right: impl Fn(&str) -> bool) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match client.poll(deadline) {
            Received::Packet(Packet::Publish(publish)) if publish.topic == topic => {
                let value = publish.text();
                if is_right(&value) {
                    return value;
                }
            }
            Received::Packet(Packet::Publish(_)) => {}
            other => panic!("{topic}: {other:?}"),
        }
    }
}

#[test]
fn the_named_tenant_sees_the_numbers_of_the_node() {
    let broker = Broker::builder().config(CONFIG).start();
    let mut published = 0_u64;
    for version in VERSIONS {
        let mut watcher = broker.connect(&Connect::new(version, "w").user("ops/watch"));
        watcher.subscribe("$SYS/#", 0);
        let value = await_value(&mut watcher, "$SYS/broker/version", |_| true);
        assert!(value.starts_with("bifrust version "), "{value}");
        await_value(&mut watcher, "$SYS/broker/uptime", |value| {
            let seconds = value.strip_suffix(" seconds");
            seconds.is_some_and(|seconds| seconds.parse::<u32>().is_ok())
        });
        let mut device = broker.connect(&Connect::new(version, "d").user("acme/device"));
        let connected = "$SYS/broker/clients/connected";
        await_value(&mut watcher, connected, |value| value == "2");
        let received = "$SYS/broker/messages/received";
        for _ in 0..7 {
            device.publish(&Publish::new("t", "x").qos(1));
        }
        published += 7;
        let is_there = |value: &str| value.parse() == Ok(published);
        await_value(&mut watcher, received, is_there);
        await_value(&mut watcher, "$SYS/broker/messages/sent", |value| {
            value.parse::<u64>().is_ok_and(|count| count > 0)
        });
        device.disconnect();
        await_value(&mut watcher, connected, |value| value == "1");
        watcher.disconnect();
    }
}

#[test]
fn other_tenants_see_nothing_and_hash_does_not_match() {
    let broker = Broker::builder().config(CONFIG).start();
    let mut watcher = broker.connect(&Connect::v5("w").user("ops/watch"));
    watcher.subscribe("$SYS/broker/uptime", 1);
    let mut strangers: Vec<Client> = ["default", "acme"]
        .into_iter()
        .map(|tenant| {
            let mut client = broker.connect(&Connect::v5("w").user(format!("{tenant}/watch")));
            let filters = [Filter::new("#", 1), Filter::new("$SYS/#", 1)];
            assert_eq!(client.subscribe_all(&filters), [1, 1]);
            client
        })
        .collect();
    let mut everything = broker.connect(&Connect::v3("e").user("ops/watch"));
    everything.subscribe("#", 1);
    // Two rounds at least.
    for _ in 0..3 {
        assert_eq!(watcher.receive().topic, "$SYS/broker/uptime");
    }
    for client in strangers.iter_mut().chain([&mut everything]) {
        client.expect_silence();
    }
    // The operator's own tenant cannot forge them either.
    let mut forger = broker.connect(&Connect::v5("f").user("ops/watch"));
    let forged = Publish::new("$SYS/broker/version", "x").qos(1).retain();
    assert_eq!(forger.publish(&forged), 0x87);
}

#[test]
fn it_is_off_unless_asked_for_and_leaves_nothing_behind() {
    let broker = Broker::builder().config(CONFIG).start();
    let watch = Connect::v5("w").user("ops/watch");
    let mut watcher = broker.connect(&watch);
    watcher.subscribe("$SYS/broker/version", 0);
    // Live if it came before the first round, else as it is kept.
    let kept = watcher.receive();
    let expiry = kept.properties.find(|property| match property {
        bifrust_e2e::Property::MessageExpiry(seconds) => Some(*seconds),
        _ => None,
    });
    assert!(expiry.is_some_and(|seconds| seconds <= 6), "{expiry:?}");
    // What says the same is stored anew, so that it lives on, and not sent again. Whoever comes in
    // the middle of the first round may see it twice (kept and live).
    watcher.subscribe("$SYS/broker/uptime", 0);
    let mut rounds = 0;
    while rounds < 6 {
        match watcher.receive().topic.as_str() {
            "$SYS/broker/uptime" => rounds += 1,
            topic => assert!(rounds < 3, "{topic} in round {rounds}"),
        }
    }
    let mut second = broker.connect(&Connect::new(Version::V3, "s").user("ops/watch"));
    second.subscribe("$SYS/broker/version", 0);
    assert!(second.receive().retain);
    let broker = Broker::start();
    let mut watcher = broker.connect(&watch);
    watcher.subscribe("$SYS/#", 0);
    watcher.expect_silence();
}
