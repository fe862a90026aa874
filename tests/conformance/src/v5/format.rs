//! Chapters 1 and 2: text, integers, flags, identifiers, properties.

use super::{BROKEN, breaks, id_of, refuses};
use crate::Scene;
use crate::rows;

rows! {
    ill_formed_text_is_refused: "1.5.4-1", "4.13.1-1";
    the_null_character_is_refused: "1.5.4-2", "4.7.3-2";
    a_byte_order_mark_is_kept_in_5: "1.5.4-3";
    integers_have_the_fewest_bytes: "1.5.5-1";
    both_strings_of_a_pair_are_text: "1.5.7-1";
    other_flags_are_refused: "2.1.3-1";
    the_brokers_flags_are_those_of_the_table: "2.1.3-1";
    qos_0_has_no_identifier_in_5: "2.2.1-2";
    an_identifier_of_zero_is_refused: "2.2.1-3";
    the_brokers_identifiers_are_not_in_use: "2.2.1-4";
    acknowledgements_have_the_identifier_of_their_publish: "2.2.1-5";
    suback_and_unsuback_have_the_identifier: "2.2.1-6";
    no_properties_are_a_length_of_zero: "2.2.2-1";
    properties_are_those_of_their_packet: "4.13.1-1";
}

/// Surrogates, an overlong form, a lone continuation, a cut sequence, a code beyond U+10FFFF.
const ILL_FORMED: [&str; 5] = [
    "0003 eda080",
    "0002 c080",
    "0002 6180",
    "0002 e282",
    "0004 f4908080",
];

fn ill_formed_text_is_refused(scene: &Scene<'_>) {
    for text in ILL_FORMED {
        let packets = [
            format!("30 [{text} [] 'x']"),
            format!("30 [<t> [03 {text}] 'x']"),
            format!("82 [0001 [] {text} 00]"),
            format!("a2 [0001 [] {text}]"),
            format!("e0 [00 [1f {text}]]"),
        ];
        breaks(scene, &packets, BROKEN);
    }
}

fn the_null_character_is_refused(scene: &Scene<'_>) {
    let packets = [
        "30 [0003 610062 [] 'x']",
        "30 [<t> [08 0003 610062] 'x']",
        "82 [0001 [] 0003 610062 00]",
        "a2 [0001 [] 0001 00]",
    ];
    breaks(scene, &packets, &[0x81, 0x82, 0x90]);
    let connects = [
        "10 [<MQTT> 05 82 0000 [] 0003 610062 <@>]",
        "10 [<MQTT> 05 86 0000 [] <c> [] 0001 00 <will> <@>]",
        "10 [<MQTT> 05 82 0000 [] <c> 0003 750075]",
    ];
    refuses(scene, &connects, &[0x81, 0x82, 0x85, 0x90]);
}

fn a_byte_order_mark_is_kept_in_5(scene: &Scene<'_>) {
    let mut peer = scene.v5("c");
    peer.ask("82 [0001 [] 0004 efbbbf 'a' 00]", "90 [0001 [] 00]");
    peer.send("30 [<a> [] 'without'] 30 [0004 efbbbf 'a' [03 0004 efbbbf 'b'] 'with']");
    peer.expect("30 [0004 efbbbf 'a' [03 0004 efbbbf 'b'] 'with']");
}

fn integers_have_the_fewest_bytes(scene: &Scene<'_>) {
    // The property length, and a subscription identifier, in more bytes than needed.
    let packets = [
        "30 [<t> 8000 'x']",
        "82 [0001 [0b 8100] <t> 00]",
        "82 [0001 8000 <t> 00]",
    ];
    breaks(scene, &packets, BROKEN);
    // More bytes than there may be.
    breaks(scene, &["30 8080808001"], BROKEN);
    // The broker's own are read by the suite, which insists on the fewest bytes.
    let mut peer = scene.v5("c");
    peer.ask("82 [0001 [0b 8001] <t> 00]", "90 [0001 [] 00]");
    for length in [0, 60, 120, 121, 122, 123, 200, 16_370, 16_384] {
        let load = "x".repeat(length);
        peer.send(&format!("30 [<t> [] '{load}']"));
        peer.expect(&format!("30 [<t> [0b 8001] '{load}']"));
    }
}

fn both_strings_of_a_pair_are_text(scene: &Scene<'_>) {
    for text in ILL_FORMED {
        let packets = [
            format!("30 [<t> [26 {text} <v>] 'x']"),
            format!("30 [<t> [26 <k> {text}] 'x']"),
            format!("82 [0001 [26 <k> {text}] <t> 00]"),
        ];
        breaks(scene, &packets, BROKEN);
        let connect = format!("10 [<MQTT> 05 82 0000 [26 {text} <v>] <c> <@>]");
        refuses(scene, &[connect], BROKEN);
    }
}

fn other_flags_are_refused(scene: &Scene<'_>) {
    let packets = [
        "41 [0001]",
        "52 [0001]",
        "60 [0001]",
        "71 [0001]",
        "80 [0001 [] <t> 00]",
        "a0 [0001 [] <t>]",
        "c1 []",
        "e1 []",
        "f1 []",
    ];
    breaks(scene, &packets, BROKEN);
    refuses(scene, &["11 [<MQTT> 05 82 0000 [] <c> <@>]"], BROKEN);
}

fn the_brokers_flags_are_those_of_the_table(scene: &Scene<'_>) {
    let mut peer = scene.v5("c");
    peer.ask("82 [0001 [] <t> 02]", "90 [0001 [] 02]");
    peer.send("34 [<t> 0004 [] 'x']");
    peer.expect_all(&["50 [0004 *]", "34 [<t> 0001 [] 'x']"]);
    peer.ask("50 [0001]", "62 [0001 *]");
    peer.ask("62 [0004]", "70 [0004 *]");
    peer.ask("a2 [0005 [] <t>]", "b0 [0005 [] 00]");
    peer.ping();
    peer.ask("30 [<#> [] 'x']", "e0 [90 *]");
}

fn qos_0_has_no_identifier_in_5(scene: &Scene<'_>) {
    let mut peer = scene.v5("c");
    peer.ask("82 [0001 [] <t> 02]", "90 [0001 [] 02]");
    peer.ask("30 [<t> [] 'x']", "30 [<t> [] 'x']");
    // What would be an identifier is the properties.
    peer.send("30 [<t> 0001 [] 'x']");
    peer.expect("30 [<t> [] 01 [] 'x']");
}

fn an_identifier_of_zero_is_refused(scene: &Scene<'_>) {
    let packets = [
        "32 [<t> 0000 [] 'x']",
        "34 [<t> 0000 [] 'x']",
        "82 [0000 [] <t> 00]",
        "a2 [0000 [] <t>]",
    ];
    breaks(scene, &packets, BROKEN);
}

fn the_brokers_identifiers_are_not_in_use(scene: &Scene<'_>) {
    let mut peer = scene.v5("c");
    peer.ask("82 [0001 [] <t> 02]", "90 [0001 [] 02]");
    let mut publisher = scene.v5("p");
    let mut ids = Vec::new();
    for round in 1..=20 {
        let first = if round % 2 == 0 { "32" } else { "34" };
        publisher.publish(&format!("{first} [<t> {round:04x} [] 'x']"));
        let id = id_of(&peer.expect(&format!("{first} [<t> ?? ?? [] 'x']")));
        assert!(id != "0000" && !ids.contains(&id), "{id} after {ids:?}");
        ids.push(id);
    }
}

fn acknowledgements_have_the_identifier_of_their_publish(scene: &Scene<'_>) {
    let mut peer = scene.v5("c");
    for id in ["0001", "00ff", "ffff"] {
        peer.ask(&format!("32 [<t> {id} [] 'x']"), &format!("40 [{id} *]"));
        peer.ask(&format!("34 [<t> {id} [] 'x']"), &format!("50 [{id} *]"));
        peer.ask(&format!("62 [{id}]"), &format!("70 [{id} *]"));
    }
    peer.ask("82 [0001 [] <t> 02]", "90 [0001 [] 02]");
    scene.v5("p").publish("34 [<t> 0001 [] 'x']");
    let id = id_of(&peer.expect("34 [<t> ?? ?? [] 'x']"));
    peer.ask(&format!("50 [{id}]"), &format!("62 [{id} *]"));
}

fn suback_and_unsuback_have_the_identifier(scene: &Scene<'_>) {
    let mut peer = scene.v5("c");
    for id in ["0001", "0100", "ffff"] {
        peer.ask(&format!("82 [{id} [] <t> 00]"), &format!("90 [{id} [] 00]"));
        peer.ask(&format!("a2 [{id} [] <t>]"), &format!("b0 [{id} [] 00]"));
    }
}

fn no_properties_are_a_length_of_zero(scene: &Scene<'_>) {
    // Where the length is missing, the packet is malformed.
    breaks(scene, &["30 [<t>]", "82 [0001]", "a2 [0001]"], BROKEN);
    refuses(scene, &["10 [<MQTT> 05 82 0000]"], BROKEN);
    let mut peer = scene.v5("c");
    peer.ask("82 [0001 [] <t> 00]", "90 [0001 [] 00]");
    peer.ask("30 [<t> []]", "30 [<t> []]");
    peer.ask("a2 [0001 [] <t>]", "b0 [0001 [] 00]");
    // CONNACK, too, says how long its properties are: the helper takes them apart.
    let packet = scene
        .send("10 [<MQTT> 05 82 0000 [] <d> <@>]")
        .expect("20 [00 00 *]");
    crate::fields::connack(&packet);
}

fn properties_are_those_of_their_packet(scene: &Scene<'_>) {
    let packets = [
        // Unknown, of another packet, twice, cut short, of a value that is none.
        "30 [<t> [7f 00] 'x']",
        "30 [<t> [11 00000001] 'x']",
        "30 [<t> [03 <a> 03 <b>] 'x']",
        "30 [<t> [02 0000] 'x']",
        "30 [<t> [01 02] 'x']",
        "30 [<t> 10 01 01 'x']",
        "82 [0001 [0b 00] <t> 00]",
        "82 [0001 [0b 01 0b 02] <t> 00]",
        "e0 [00 [21 0001]]",
    ];
    breaks(scene, &packets, BROKEN);
    let connects = [
        "10 [<MQTT> 05 82 0000 [21 0000] <c> <@>]",
        "10 [<MQTT> 05 82 0000 [27 00000000] <c> <@>]",
        "10 [<MQTT> 05 82 0000 [11 00000001 11 00000001] <c> <@>]",
        "10 [<MQTT> 05 82 0000 [17 02] <c> <@>]",
        "10 [<MQTT> 05 82 0000 [16 (01)] <c> <@>]",
        "10 [<MQTT> 05 82 0000 [23 0001] <c> <@>]",
    ];
    refuses(scene, &connects, BROKEN);
}
