//! Chapters 1 and 2: text, flags, identifiers.

use crate::Scene;
use crate::rows;

rows! {
    ill_formed_text_ends_the_connection: "1.5.3-1";
    the_null_character_ends_the_connection: "1.5.3-2", "4.7.3-2";
    a_byte_order_mark_is_kept: "1.5.3-3";
    reserved_flags_are_sent_as_the_table_says: "2.2.2-1";
    wrong_flags_end_the_connection: "2.2.2-2";
    an_identifier_of_zero_ends_the_connection: "2.3.1-1", "4.8.0-1";
    the_servers_identifiers_are_not_in_use: "2.3.1-4";
    qos_0_has_no_identifier: "2.3.1-5";
    answers_to_publish_have_its_identifier: "2.3.1-6";
    answers_to_filters_have_their_identifier: "2.3.1-7";
}

/// Surrogates, an overlong form, a lone continuation, a cut sequence, a code beyond U+10FFFF.
const ILL_FORMED: [&str; 5] = [
    "0003 eda080",
    "0002 c080",
    "0002 6180",
    "0002 e282",
    "0004 f4908080",
];

fn ill_formed_text_ends_the_connection(scene: &Scene<'_>) {
    for text in ILL_FORMED {
        for packet in [
            format!("30 [{text} 'x']"),
            format!("82 [0001 {text} 00]"),
            format!("82 [0001 <a> 00 {text} 00]"),
            format!("a2 [0001 {text}]"),
        ] {
            let mut peer = scene.v4("c");
            peer.send(&packet);
            peer.expect_end();
        }
    }
}

fn the_null_character_ends_the_connection(scene: &Scene<'_>) {
    for packet in [
        "30 [0003 610062 'x']",
        "82 [0001 0003 610062 00]",
        "a2 [0001 0001 00]",
    ] {
        let mut peer = scene.v4("c");
        peer.send(packet);
        peer.expect_end();
    }
    for connect in [
        "10 [<MQTT> 04 82 0000 0003 610062 <@>]",
        "10 [<MQTT> 04 86 0000 <c> 0001 00 <will> <@>]",
        "10 [<MQTT> 04 82 0000 <c> 0003 750075]",
    ] {
        scene.send(connect).expect_end();
    }
}

fn a_byte_order_mark_is_kept(scene: &Scene<'_>) {
    let mut peer = scene.v4("c");
    peer.ask("82 [0001 0004 efbbbf 'a' 00]", "90 [0001 00]");
    peer.send("30 [<a> 'without'] 30 [0004 efbbbf 'a' 'with']");
    peer.expect("30 [0004 efbbbf 'a' 'with']");
}

fn reserved_flags_are_sent_as_the_table_says(scene: &Scene<'_>) {
    let mut peer = scene.v4("c");
    peer.ask("82 [0001 <t> 02]", "90 [0001 02]");
    peer.ask("32 [<x> 0002 'x']", "40 [0002]");
    peer.ask("34 [<x> 0003 'x']", "50 [0003]");
    peer.ask("62 [0003]", "70 [0003]");
    peer.ask("30 [<t> 'x']", "30 [<t> 'x']");
    peer.send("34 [<t> 0004 'x']");
    peer.expect_all(&["50 [0004]", "34 [<t> 0001 'x']"]);
    peer.ask("50 [0001]", "62 [0001]");
    peer.ask("a2 [0005 <t>]", "b0 [0005]");
    peer.ask("c000", "d0 []");
}

fn wrong_flags_end_the_connection(scene: &Scene<'_>) {
    for packet in [
        "41 [0001]",
        "48 [0001]",
        "51 [0001]",
        "52 [0001]",
        "60 [0001]",
        "63 [0001]",
        "71 [0001]",
        "80 [0001 <t> 00]",
        "83 [0001 <t> 00]",
        "8a [0001 <t> 00]",
        "a0 [0001 <t>]",
        "a3 [0001 <t>]",
        "c1 []",
        "c8 []",
        "e1 []",
    ] {
        let mut peer = scene.v4("c");
        peer.send(packet);
        peer.expect_end();
    }
    scene.send("11 [<MQTT> 04 82 0000 <c> <@>]").expect_end();
}

fn an_identifier_of_zero_ends_the_connection(scene: &Scene<'_>) {
    for packet in [
        "32 [<t> 0000 'x']",
        "34 [<t> 0000 'x']",
        "82 [0000 <t> 00]",
        "a2 [0000 <t>]",
    ] {
        let mut peer = scene.v4("c");
        peer.send(packet);
        peer.expect_end();
    }
}

fn the_servers_identifiers_are_not_in_use(scene: &Scene<'_>) {
    let mut peer = scene.v4("c");
    peer.ask("82 [0001 <t> 02]", "90 [0001 02]");
    let mut publisher = scene.v4("p");
    let mut used = Vec::new();
    for round in 1..=20 {
        // Half of them stay unanswered, at both QoS.
        publisher.send(&format!("32 [<t> {round:04x} 'x']"));
        publisher.expect("40 [?? ??]");
        let packet = peer.expect("32 [<t> ?? ?? 'x']");
        let id = (packet[5], packet[6]);
        assert_ne!(id, (0, 0), "an identifier of zero");
        assert!(!used.contains(&id), "{id:?} is in use");
        match round % 2 {
            0 => peer.send(&format!("40 [{:02x}{:02x}]", id.0, id.1)),
            _ => used.push(id),
        }
    }
    peer.ping();
}

fn qos_0_has_no_identifier(scene: &Scene<'_>) {
    let mut peer = scene.v4("c");
    peer.ask("82 [0001 <t> 02]", "90 [0001 02]");
    // What looks like an identifier is payload.
    peer.ask("30 [<t> 0007 'x']", "30 [<t> 0007 'x']");
    peer.ask("30 [<t>]", "30 [<t>]");
}

fn answers_to_publish_have_its_identifier(scene: &Scene<'_>) {
    let mut peer = scene.v4("c");
    for id in ["0001", "00ff", "1234", "ffff"] {
        peer.ask(&format!("32 [<t> {id} 'x']"), &format!("40 [{id}]"));
        peer.ask(&format!("34 [<t> {id} 'x']"), &format!("50 [{id}]"));
        peer.ask(&format!("62 [{id}]"), &format!("70 [{id}]"));
    }
    let mut peer = scene.v4("s");
    peer.ask("82 [0001 <t> 02]", "90 [0001 02]");
    let mut publisher = scene.v4("p");
    publisher.ask("34 [<t> 0009 'x']", "50 [0009]");
    let packet = peer.expect("34 [<t> ?? ?? 'x']");
    let id = format!("{:02x}{:02x}", packet[5], packet[6]);
    peer.ask(&format!("50 [{id}]"), &format!("62 [{id}]"));
}

fn answers_to_filters_have_their_identifier(scene: &Scene<'_>) {
    let mut peer = scene.v4("c");
    for id in ["0001", "00ff", "1234", "ffff"] {
        peer.ask(&format!("82 [{id} <t> 01]"), &format!("90 [{id} 01]"));
        peer.ask(&format!("a2 [{id} <t>]"), &format!("b0 [{id}]"));
    }
}
