//! Tenants beside each other on one shard.

use bifrust_model::Settings;
use bifrust_mqtt_codec::{Connect, Packet, Qos, Version, encode};
use bytes::BytesMut;

use crate::harness::{Broker, Client, publish};

fn of_tenant(broker: &Broker, tenant: &str, id: &str) -> Client {
    let mut connect = Connect::new(Version::V311, id.to_owned());
    connect.user_name = Some(tenant.into());
    broker.connect(connect).0
}

#[test]
fn a_tenant_that_floods_loses_nothing_and_stops_nobody() {
    let broker = Broker::with(Settings::default(), 1);
    let mut counter = of_tenant(&broker, "flood", "counter");
    counter.subscribe("t", Qos::AtMostOnce);
    let flooders: Vec<_> = (0..8)
        .map(|i| {
            let mut client = of_tenant(&broker, "flood", &format!("f{i}"));
            std::thread::spawn(move || {
                let mut bytes = BytesMut::new();
                for _ in 0..5_000 {
                    let packet = Packet::Publish(publish("t", Qos::AtMostOnce, 0, "x"));
                    encode(&packet, Version::V311, &mut bytes).unwrap();
                }
                client.send_bytes(&bytes);
                client.expect_nothing();
            })
        })
        .collect();
    let mut single = of_tenant(&broker, "quiet", "single");
    single.subscribe("t", Qos::AtLeastOnce);
    for id in 1..=100 {
        single.publish("t", Qos::AtLeastOnce, id, "x");
        for _ in 0..2 {
            match single.read() {
                Packet::Puback(_) => {}
                Packet::Publish(publish) => {
                    let id = publish.packet_id.unwrap();
                    single.send(&Packet::Puback(bifrust_mqtt_codec::Ack::success(id)));
                }
                other => panic!("{other:?}"),
            }
        }
    }
    for flooder in flooders {
        flooder.join().unwrap();
    }
    for _ in 0..8 * 5_000 {
        counter.expect("t", "x");
    }
}
