//! Two tenants with the same client ids and topics know nothing of each other.

use bifrust_e2e::{Broker, Client, Connect, Packet, Publish, VERSIONS, Version, Will};

fn pair(broker: &Broker, connect: &Connect) -> [Client; 2] {
    ["red", "blue"].map(|tenant| broker.connect(&of(tenant, connect)))
}

fn of(tenant: &str, connect: &Connect) -> Connect {
    connect.clone().user(format!("{tenant}/user"))
}

#[test]
fn same_ids_and_topics_stay_apart() {
    for version in VERSIONS {
        for connect in [
            Connect::new(version, "same"),
            Connect::persistent(version, "kept"),
        ] {
            let broker = Broker::start();
            let [mut red, mut blue] = pair(&broker, &connect);
            // Neither took the other over.
            red.subscribe("t/#", 2);
            blue.subscribe("t/#", 2);
            for qos in 0..=2 {
                red.publish(&Publish::new("t/x", "red").qos(qos));
                blue.publish(&Publish::new("t/x", "blue").qos(qos));
                assert_eq!(red.receive().text(), "red");
                assert_eq!(blue.receive().text(), "blue");
            }
            red.expect_silence();
            blue.expect_silence();
        }
    }
}

#[test]
fn what_is_no_tenant_is_refused() {
    let broker = Broker::start();
    for tenant in ["", "-x", "not a tenant", &"x".repeat(65)] {
        let mut client = Client::dial(broker.tcp(), Version::V5);
        client.send(&of(tenant, &Connect::v5("c")).encode());
        match client.next_packet() {
            Packet::Connack { code, .. } => assert_eq!(code, 0x86, "{tenant:?}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn retained_messages_stay_apart() {
    let broker = Broker::start();
    let [mut red, mut blue] = pair(&broker, &Connect::v5("same"));
    red.publish(&Publish::new("r", "red").qos(1).retain());
    blue.subscribe("#", 1);
    blue.expect_silence();
    blue.publish(&Publish::new("r", "").qos(1).retain());
    red.subscribe("r", 1);
    assert_eq!(red.receive().text(), "red");
}

#[test]
fn sessions_and_queues_stay_apart_across_a_restart() {
    let mut broker = Broker::start();
    let connect = Connect::persistent(Version::V5, "same");
    for mut client in pair(&broker, &connect) {
        client.subscribe("q", 1);
        client.disconnect();
    }
    let writer = Connect::v5("writer");
    for tenant in ["red", "blue"] {
        broker
            .connect(&of(tenant, &writer))
            .publish(&Publish::new("q", tenant).qos(1));
    }
    broker.kill();
    broker.restart();
    for tenant in ["red", "blue"] {
        let mut client = broker.connect(&of(tenant, &connect));
        assert!(client.is_present);
        assert_eq!(client.receive().text(), tenant);
        client.expect_silence();
    }
}

#[test]
fn wills_stay_apart() {
    let broker = Broker::start();
    let [mut red, mut blue] = pair(&broker, &Connect::v5("watcher"));
    red.subscribe("will", 1);
    blue.subscribe("will", 1);
    let dying = Connect::v5("dying").will(Will::new("will", "red").qos(1));
    broker.connect(&of("red", &dying)).cut();
    assert_eq!(red.receive().text(), "red");
    blue.expect_silence();
}

#[test]
fn clients_without_a_tenant_share_the_dev_tenant() {
    let broker = Broker::start();
    let mut nameless = broker.connect(&Connect::v5("nameless"));
    let mut plain = broker.connect(&Connect::v5("plain").user("someone"));
    let mut dev = broker.connect(&Connect::v5("dev").user("dev/someone"));
    for client in [&mut nameless, &mut plain, &mut dev] {
        client.subscribe("shared", 1);
    }
    nameless.publish(&Publish::new("shared", "x").qos(1));
    for client in [&mut nameless, &mut plain, &mut dev] {
        assert_eq!(client.receive().text(), "x");
    }
}

#[test]
fn another_user_takes_no_session_over() {
    let broker = Broker::start();
    // C4: refused with 0x87, v3 0x05; the owner notices nothing.
    for connect in [
        Connect::v5("mine"),
        Connect::persistent(Version::V5, "kept"),
    ] {
        let mut owner = broker.connect(&connect.clone().user("red/owner"));
        owner.subscribe("o", 1);
        let v3 = Connect::v3(&connect.client_id).user("red/thief");
        assert_eq!(broker.refuse(&v3), 0x05);
        assert_eq!(broker.refuse(&connect.clone().user("red/thief")), 0x87);
        owner.publish(&Publish::new("o", "x").qos(1));
        assert_eq!(owner.receive().text(), "x");
        owner.disconnect();
        let again = broker.connect(&connect.clone().user("red/owner"));
        assert_eq!(again.is_present, !connect.properties.0.is_empty());
    }
    // Also while the owner is away.
    assert_eq!(
        broker.refuse(&Connect::persistent(Version::V5, "kept").user("red/thief")),
        0x87
    );
    assert_eq!(broker.refuse(&Connect::v5("kept").user("red/thief")), 0x87);
}
