//! Clients that a balancer wants elsewhere: at CONNECT, while they are connected, at the stop.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use bifrust_model::{ClientInfo, EventKind, Settings};
use bifrust_mqtt_codec::{Connack, Connect, Packet, Qos, ReasonCode, Version};
use bifrust_plugin_api::{Balancer, Redirect};

use crate::harness::{Broker, Client, staying};

/// Sends clients whose id begins with `moved` elsewhere, as long as there is such a place.
#[derive(Default)]
struct Elsewhere(ArcSwapOption<Redirect>);

impl Balancer for Elsewhere {
    fn redirect(&self, client: &ClientInfo) -> Option<Redirect> {
        let is_concerned = client.client.as_str().starts_with("moved");
        let redirect = self.0.load_full().filter(|_| is_concerned)?;
        Some(Redirect::clone(&redirect))
    }
}

impl Elsewhere {
    fn send_to(&self, reference: Option<&str>, is_permanent: bool) {
        let reference = reference.map(str::to_owned);
        self.0.store(Some(Arc::new(Redirect {
            is_permanent,
            reference,
        })));
    }
}

fn broker() -> (Broker, Arc<Elsewhere>) {
    let elsewhere = Arc::new(Elsewhere::default());
    let broker = Broker::balanced(Settings::default(), 2, elsewhere.clone());
    (broker, elsewhere)
}

/// CONNACK's reason and reference, after which the connection has ended.
fn refused(broker: &Broker, version: Version) -> (u8, Option<String>) {
    let (mut client, connack) = broker.connect(Connect::new(version, "moved".to_owned()));
    assert!(client.try_read().is_none(), "nothing behind a refusal");
    assert!(!connack.session_present);
    let code = match version {
        Version::V5 => connack.reason.0,
        Version::V31 | Version::V311 => connack.reason.to_v3_connack(),
    };
    (code, reference(&connack))
}

fn reference(connack: &Connack) -> Option<String> {
    let properties = connack.properties.as_ref()?;
    properties
        .server_reference
        .as_ref()
        .map(ToString::to_string)
}

/// DISCONNECT's reason and reference, after which the connection has ended.
fn ended(client: &mut Client) -> (u8, Option<String>) {
    let told = match client.read() {
        Packet::Disconnect(disconnect) => {
            let reference = disconnect.properties.and_then(|p| p.server_reference);
            (disconnect.reason.0, reference.map(|text| text.to_string()))
        }
        other => panic!("{other:?} instead of DISCONNECT"),
    };
    assert!(client.try_read().is_none());
    told
}

#[test]
fn at_connect_the_reference_is_told_with_its_code() {
    let (broker, elsewhere) = broker();
    let there = || Some("b.example:1883".to_owned());
    elsewhere.send_to(Some("b.example:1883"), false);
    assert_eq!(refused(&broker, Version::V5), (0x9C, there()));
    elsewhere.send_to(Some("b.example:1883"), true);
    assert_eq!(refused(&broker, Version::V5), (0x9D, there()));
    for version in [Version::V31, Version::V311] {
        assert_eq!(refused(&broker, version), (3, None));
    }
    assert_eq!(broker.events.count(EventKind::ServerRedirected), 4);
    // Who is not concerned stays.
    broker.client(Version::V5, "stays").expect_nothing();
}

#[test]
fn without_an_address_nobody_is_told_to_use_another_server() {
    let (broker, elsewhere) = broker();
    for reference in [None, Some("")] {
        elsewhere.send_to(reference, false);
        // MQTT-3.2.2-8: 0x8B is no code of CONNACK.
        assert_eq!(refused(&broker, Version::V5), (0x88, None));
        assert_eq!(refused(&broker, Version::V311), (3, None));
    }
    // A text that no length field can hold is no address.
    elsewhere.send_to(Some(&"x".repeat(65_536)), false);
    assert_eq!(refused(&broker, Version::V5), (0x88, None));
}

#[test]
fn a_connected_client_is_told_and_its_session_waits_for_it() {
    let (broker, elsewhere) = broker();
    for (reference, is_permanent, code) in [
        (Some("b:1883"), false, 0x9C),
        (Some("b:1883"), true, 0x9D),
        (None, false, 0x8B),
    ] {
        let (mut client, _) = broker.connect(staying(Version::V5, "moved"));
        client.subscribe("t", Qos::AtLeastOnce);
        let mut older = broker.client(Version::V311, "moved too");
        let mut other = broker.client(Version::V5, "stays");
        elsewhere.send_to(reference, is_permanent);
        assert_eq!(ended(&mut client), (code, reference.map(str::to_owned)));
        assert!(older.try_read().is_none(), "v3 is closed");
        other.publish_acked("t", Qos::AtLeastOnce, 1, "kept");
        elsewhere.0.store(None);
        let (mut client, connack) = broker.connect(staying(Version::V5, "moved"));
        assert!(connack.session_present);
        client.expect("t", "kept");
    }
}

#[test]
fn a_reference_is_left_out_with_the_packet_if_the_client_takes_none_that_large() {
    let (broker, elsewhere) = broker();
    let mut connect = staying(Version::V5, "moved");
    connect.properties.maximum_packet_size = std::num::NonZeroU32::new(100);
    let (mut client, _) = broker.connect(connect);
    elsewhere.send_to(Some(&"x".repeat(200)), false);
    assert!(client.try_read().is_none(), "MQTT-3.1.2-24");
}

#[test]
fn a_server_that_stops_says_where_to_go_if_it_knows() {
    let (mut broker, elsewhere) = broker();
    let mut stays = broker.client(Version::V5, "stays");
    let mut moved = broker.client(Version::V5, "moved");
    elsewhere.send_to(Some("b:1883"), false);
    assert_eq!(ended(&mut moved), (0x9C, Some("b:1883".to_owned())));
    broker.stop();
    let reason = ReasonCode::SERVER_SHUTTING_DOWN;
    assert_eq!(stays.read_end(), Some(reason));
}
