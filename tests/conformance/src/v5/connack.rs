//! Section 3.2: CONNACK.

use super::refuses;
use crate::Scene;
use crate::fields::{connack, values};
use crate::rows;

rows! {
    connack_is_first: "3.2.0-1";
    connack_is_sent_once: "3.2.0-2";
    the_reserved_flags_are_zero: "3.2.2-1";
    clean_start_has_no_session: "3.2.2-2";
    a_session_is_present_where_there_is_one: "3.2.2-3";
    a_failure_has_no_session: "3.2.2-6", "3.2.2-7", "4.13.2-1";
    codes_of_connack_are_its_own: "3.2.2-8";
    the_maximum_qos_is_told: "3.2.2-9", "3.2.2-11";
    filters_of_any_qos_are_taken: "3.2.2-10";
    a_will_beyond_the_maximum_qos_is_refused: "3.2.2-12";
    a_retained_will_is_refused_where_not_supported: "3.2.2-13";
    retained_messages_are_refused_where_not_supported: "3.2.2-14";
    packets_above_the_maximum_end_the_connection: "3.2.2-15";
    connack_is_no_larger_than_asked: "3.2.2-19", "3.2.2-20";
    a_shorter_keep_alive_is_told_and_kept: "3.2.2-21", "3.1.2-21";
    the_clients_keep_alive_counts_otherwise: "3.2.2-22";
    an_alias_beyond_the_maximum_ends_the_connection: "3.2.2-17", "3.2.2-18", "3.3.2-9";
}

fn connack_is_first(scene: &Scene<'_>) {
    let connect = "10 [<MQTT> 05 80 0000 [11 00000e10] <c> <@>]";
    let mut peer = scene.send(&format!("{connect} c0 [] 82 [0001 [] <t> 01]"));
    peer.expect("20 [00 00 *]");
    peer.expect("d0 []");
    peer.expect("90 [0001 [] 01]");
    peer.leave();
    scene.v5("p").publish("32 [<t> 0001 [] 'x']");
    let mut peer = scene.send(&format!("{connect} c0 []"));
    peer.expect("20 [01 00 *]");
    peer.expect_all(&["d0 []", "32 [<t> ?? ?? [] 'x']"]);
}

fn connack_is_sent_once(scene: &Scene<'_>) {
    let mut peer = scene.v5_kept("c", 0);
    peer.ping();
    peer.ask("82 [0001 [] <t> 00]", "90 [0001 [] 00]");
    // Neither a second CONNECT nor another connection of the client brings another one.
    peer.send("10 [<MQTT> 05 80 0000 [] <c> <@>]");
    peer.expect_dropped(&[0x82]);
    let mut older = scene.v5_kept("c", 1);
    scene.v5_kept("c", 1).ping();
    older.expect_dropped(&[0x8E]);
}

fn the_reserved_flags_are_zero(scene: &Scene<'_>) {
    scene.v5_kept("c", 0).leave();
    scene.v5_kept("c", 1).leave();
    let long = "x".repeat(1025);
    let connect = format!("10 [<MQTT> 05 82 0000 [] <{long}> <@>]");
    scene.send(&connect).expect_refused(0x85);
}

fn clean_start_has_no_session(scene: &Scene<'_>) {
    scene.v5_kept("c", 0).leave();
    scene.v5("c").ping();
}

fn a_session_is_present_where_there_is_one(scene: &Scene<'_>) {
    scene.v5_kept("c", 0).leave();
    scene.v5_kept("c", 1).cut();
    scene.v5_kept("c", 1).ping();
    scene.v5("clean").leave();
    scene.v5_kept("clean", 0).ping();
}

fn a_failure_has_no_session(scene: &Scene<'_>) {
    scene.v5_kept("c", 0).leave();
    let connect = "10 [<MQTT> 05 80 0000 [11 00000e10] <c> <@x>]";
    scene.send(connect).expect_refused(0x87);
    // A packet that says what it must not, with a session there.
    let connect = "10 [<MQTT> 05 80 0000 [11 00000e10 21 0000] <c> <@>]";
    scene.send(connect).expect_unconnected(&[0x81, 0x82]);
}

fn codes_of_connack_are_its_own(scene: &Scene<'_>) {
    for (connect, code) in [
        ("10 [<MQTT> 05 83 0000 [] <c> <@>]", [0x81, 0x82]),
        ("10 [<MQTT> 06 82 0000 [] <c> <@>]", [0x84, 0x84]),
        ("10 [<MQTT> 05 86 0000 [] <c> [] <#> <x> <@>]", [0x90, 0x82]),
        ("10 [<MQTT> 05 82 0000 [15 <none>] <c> <@>]", [0x8C, 0x87]),
        (
            "10 [<MQTT> 05 86 0000 [] <c> [01 01] <w> (ff) <@>]",
            [0x99, 0x99],
        ),
    ] {
        scene.send(connect).expect_unconnected(&code);
    }
    let mut peer = scene.send("10 [<MQTT> 05 82 0000 [] <c> <@>]");
    peer.expect("20 [00 00 *]");
}

fn the_maximum_qos_is_told(scene: &Scene<'_>) {
    for (tenant, maximum, above) in [
        ("qos0", 0, "32 [<t> 0001 [] 'x']"),
        ("qos1", 1, "34 [<t> 0001 [] 'x']"),
    ] {
        let scene = scene.at(tenant);
        let mut peer = scene.send("10 [<MQTT> 05 82 0000 [] <told> <@>]");
        let properties = connack(&peer.expect("20 [00 00 *]"));
        assert_eq!(values(&properties, 0x24), [[maximum]], "{tenant}");
        peer.send(above);
        peer.expect_dropped(&[0x9B]);
    }
    let mut peer = scene.send("10 [<MQTT> 05 82 0000 [] <c> <@>]");
    let properties = connack(&peer.expect("20 [00 00 *]"));
    assert!(values(&properties, 0x24).is_empty(), "2 is not told");
}

fn filters_of_any_qos_are_taken(scene: &Scene<'_>) {
    let mut peer = scene.at("qos0").v5("filters");
    peer.send("82 [0001 [] <a> 00 <b> 01 <c> 02]");
    // Granted as asked, or no more than there is.
    peer.expect_one(&["90 [0001 [] 00 01 02]", "90 [0001 [] 00 00 00]"]);
    peer.ask("30 [<c> [] 'x']", "30 [<c> [] 'x']");
}

fn a_will_beyond_the_maximum_qos_is_refused(scene: &Scene<'_>) {
    let connect = |flags| format!("10 [<MQTT> 05 {flags} 0000 [] <will> [] <w> <gone> <@>]");
    refuses(&scene.at("qos0"), &[connect("8e"), connect("96")], &[0x9B]);
    refuses(&scene.at("qos1"), &[connect("96")], &[0x9B]);
}

fn a_retained_will_is_refused_where_not_supported(scene: &Scene<'_>) {
    let connect = "10 [<MQTT> 05 a6 0000 [] <will> [] <w> <gone> <@>]";
    refuses(&scene.at("noretain"), &[connect], &[0x9A]);
}

fn retained_messages_are_refused_where_not_supported(scene: &Scene<'_>) {
    let scene = scene.at("noretain");
    let mut peer = scene.send("10 [<MQTT> 05 82 0000 [] <noretain> <@>]");
    let properties = connack(&peer.expect("20 [00 00 *]"));
    assert_eq!(values(&properties, 0x25), [[0]]);
    peer.send("31 [<t> [] 'x']");
    peer.expect_dropped(&[0x9A]);
}

fn packets_above_the_maximum_end_the_connection(scene: &Scene<'_>) {
    let scene = scene.at("small");
    let mut peer = scene.send("10 [<MQTT> 05 82 0000 [] <small> <@>]");
    let properties = connack(&peer.expect("20 [00 00 *]"));
    assert_eq!(values(&properties, 0x27), [1024_u32.to_be_bytes()]);
    // Exactly that is taken: 3 bytes before the topic, 3 of it, 1 of properties.
    let load = "x".repeat(1024 - 3 - 3 - 1);
    peer.ask("82 [0001 [] <t> 00]", "90 [0001 [] 00]");
    let packet = format!("30 [<t> [] '{load}']");
    peer.ask(&packet, &packet);
    peer.send(&format!("30 [<t> [] '{load}x']"));
    peer.expect_dropped(&[0x95]);
}

fn connack_is_no_larger_than_asked(scene: &Scene<'_>) {
    // What may be left out is, where the client takes little.
    let connect = "10 [<MQTT> 05 82 0000 [27 00000018 17 01] <c> <@>]";
    let packet = scene.send(connect).expect("20 [00 00 *]");
    assert!(packet.len() <= 24, "{packet:02x?}");
    scene.v5_kept("mine", 0).leave();
    let connect = "10 [<MQTT> 05 82 0000 [27 00000018 17 01] <mine> <@x>]";
    let packet = scene.send(connect).expect("20 [00 87 *]");
    assert!(packet.len() <= 24, "{packet:02x?}");
}

fn a_shorter_keep_alive_is_told_and_kept(scene: &Scene<'_>) {
    let scene = scene.at("keepalive");
    let mut peer = scene.send("10 [<MQTT> 05 82 003c [] <short> <@>]");
    let properties = connack(&peer.expect("20 [00 00 *]"));
    assert_eq!(values(&properties, 0x13), [[0, 1]]);
    peer.expect_dropped(&[0x8D]);
}

fn the_clients_keep_alive_counts_otherwise(scene: &Scene<'_>) {
    let mut peer = scene.send("10 [<MQTT> 05 82 0001 [] <c> <@>]");
    let properties = connack(&peer.expect("20 [00 00 *]"));
    assert!(values(&properties, 0x13).is_empty(), "{properties:02x?}");
    peer.expect_dropped(&[0x8D]);
}

fn an_alias_beyond_the_maximum_ends_the_connection(scene: &Scene<'_>) {
    for tenant in ["alias5", "noalias"] {
        let scene = scene.at(tenant);
        let mut peer = scene.send("10 [<MQTT> 05 82 0000 [] <beyond> <@>]");
        let properties = connack(&peer.expect("20 [00 00 *]"));
        let maximum = match values(&properties, 0x22).first() {
            Some(value) => u16::from_be_bytes([value[0], value[1]]),
            None => 0,
        };
        assert!(maximum <= if tenant == "alias5" { 5 } else { 0 });
        peer.send(&format!("30 [<t> [23 {:04x}] 'x']", maximum + 1));
        peer.expect_dropped(&[0x94]);
    }
}
