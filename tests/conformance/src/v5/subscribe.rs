//! Sections 3.8 to 3.12: SUBSCRIBE, UNSUBSCRIBE, PINGREQ.

use super::{BROKEN, breaks, id_of};
use crate::Scene;
use crate::rows;

rows! {
    subscribe_with_other_flags_is_malformed: "3.8.1-1";
    filters_of_subscribe_are_text: "3.8.3-1";
    subscribe_has_a_filter: "3.8.3-2", "4.13.1-1";
    no_local_keeps_from_oneself: "3.8.3-3";
    no_local_on_a_share_is_an_error: "3.8.3-4";
    reserved_bits_are_malformed: "3.8.3-5";
    subscribe_is_answered: "3.8.4-1", "3.8.4-2";
    the_same_filter_replaces: "3.8.4-3";
    replacing_sends_retained_messages_again: "3.8.4-4";
    replacing_loses_nothing: "3.8.4-4";
    filters_are_taken_one_after_the_other: "3.8.4-5";
    each_filter_has_a_code: "3.8.4-6", "3.8.4-7";
    the_lower_of_both_qos_is_sent: "3.8.4-8";
    suback_is_no_larger_than_asked: "3.9.2-1", "3.9.2-2";
    codes_are_in_the_order_of_filters: "3.9.3-1";
    codes_of_suback_are_its_own: "3.9.3-2", "3.8.4-7";
    unsubscribe_with_other_flags_is_malformed: "3.10.1-1";
    filters_of_unsubscribe_are_text: "3.10.3-1";
    unsubscribe_has_a_filter: "3.10.3-2";
    the_very_same_filter_is_ended: "3.10.4-1";
    nothing_is_added_after_unsubscribe: "3.10.4-2";
    what_was_begun_is_completed: "3.10.4-3";
    unsubscribe_is_answered: "3.10.4-4", "3.10.4-5";
    unsubscribe_is_answered_once: "3.10.4-6";
    unsuback_is_no_larger_than_asked: "3.11.2-1", "3.11.2-2";
    codes_of_unsuback_are_in_order: "3.11.3-1";
    codes_of_unsuback_are_its_own: "3.11.3-2";
    ping_is_answered: "3.12.4-1";
}

fn subscribe_with_other_flags_is_malformed(scene: &Scene<'_>) {
    let packets = ["80", "81", "83", "84", "8a"].map(|first| format!("{first} [0001 [] <t> 00]"));
    breaks(scene, &packets, BROKEN);
}

fn filters_of_subscribe_are_text(scene: &Scene<'_>) {
    let packets =
        ["0003 eda080", "0001 ff", "0005 'abc'"].map(|filter| format!("82 [0001 [] {filter} 00]"));
    breaks(scene, &packets, BROKEN);
}

fn subscribe_has_a_filter(scene: &Scene<'_>) {
    breaks(
        scene,
        &["82 [0001 []]", "82 []", "82 [0001 [] <t>]"],
        BROKEN,
    );
}

fn no_local_keeps_from_oneself(scene: &Scene<'_>) {
    for kept in [false, true] {
        let scene = scene.at(&format!("nolocal{kept}"));
        let mut peer = match kept {
            true => scene.v5_kept("c", 0),
            false => scene.v5("c"),
        };
        peer.ask("82 [0001 [] <t> 06 <end> 02]", "90 [0001 [] 02 02]");
        peer.publish("32 [<t> 0001 [] 'own']");
        peer.send("30 [<t> [] 'own']");
        scene.v5("p").publish("32 [<t> 0001 [] 'other']");
        peer.expect("32 [<t> ?? ?? [] 'other']");
        peer.send("30 [<end> [] 'own']");
        peer.expect("30 [<end> [] 'own']");
    }
}

fn no_local_on_a_share_is_an_error(scene: &Scene<'_>) {
    breaks(scene, &["82 [0001 [] <$share/g/t> 04]"], BROKEN);
}

fn reserved_bits_are_malformed(scene: &Scene<'_>) {
    let packets =
        ["40", "80", "c0", "03", "30"].map(|options| format!("82 [0001 [] <t> {options}]"));
    breaks(scene, &packets, BROKEN);
}

fn subscribe_is_answered(scene: &Scene<'_>) {
    let mut peer = scene.v5("c");
    for id in ["0001", "0100", "ffff"] {
        peer.ask(&format!("82 [{id} [] <t> 02]"), &format!("90 [{id} [] 02]"));
    }
}

fn the_same_filter_replaces(scene: &Scene<'_>) {
    let mut peer = scene.v5("c");
    peer.ask("82 [0001 [0b 01] <t> 02]", "90 [0001 [] 02]");
    peer.ask("82 [0002 [0b 02] <t> 00]", "90 [0002 [] 00]");
    let mut publisher = scene.v5("p");
    publisher.publish("32 [<t> 0001 [] 'x']");
    publisher.publish("32 [<t> 0001 [] 'end']");
    peer.expect("30 [<t> [0b 02] 'x']");
    peer.expect("30 [<t> [0b 02] 'end']");
    // It is one subscription: ended once, it is gone.
    peer.ask("a2 [0003 [] <t>]", "b0 [0003 [] 00]");
    publisher.publish("32 [<t> 0001 [] 'gone']");
    peer.ping();
}

fn replacing_sends_retained_messages_again(scene: &Scene<'_>) {
    let mut peer = scene.v5("c");
    peer.publish("33 [<t/a> 0001 [] 'x']");
    for qos in ["00", "01", "00"] {
        let subscribe = format!("82 [0002 [] <t/+> {qos}]");
        peer.ask(&subscribe, &format!("90 [0002 [] {qos}]"));
        match qos {
            "00" => peer.expect("31 [<t/a> [] 'x']"),
            _ => peer.expect("33 [<t/a> ?? ?? [] 'x']"),
        };
    }
}

fn replacing_loses_nothing(scene: &Scene<'_>) {
    let mut peer = scene.v5("c");
    peer.ask("82 [0001 [] <t> 01]", "90 [0001 [] 01]");
    let mut publisher = scene.v5("p");
    let mut expected = Vec::new();
    for round in 1..=20 {
        publisher.send(&format!("32 [<t> {round:04x} [] '{round:02}']"));
        peer.send(&format!("82 [{round:04x} [] <t> 01]"));
        expected.push(format!("{round:02}"));
    }
    let (mut seen, mut answers) = (Vec::new(), 0);
    while answers < 20 || seen.len() < 20 {
        let packet = peer.packet().unwrap_or_default();
        match packet.first() {
            Some(0x90) => answers += 1,
            Some(0x32) => seen.push(String::from_utf8_lossy(&packet[8..]).into_owned()),
            _ => peer.fail("SUBACK or PUBLISH expected"),
        }
    }
    assert_eq!(seen, expected, "each once, in order");
}

fn filters_are_taken_one_after_the_other(scene: &Scene<'_>) {
    let mut peer = scene.v5("c");
    peer.ask("82 [0001 [0b 05] <a> 00 <b> 01]", "90 [0001 [] 00 01]");
    let mut publisher = scene.v5("p");
    publisher.publish("34 [<a> 0001 [] 'x']");
    publisher.publish("34 [<b> 0001 [] 'x']");
    peer.expect("30 [<a> [0b 05] 'x']");
    peer.expect("32 [<b> ?? ?? [0b 05] 'x']");
    // The same filter twice: the later one stands.
    peer.ask("82 [0002 [] <d> 02 <d> 00]", "90 [0002 [] 02 00]");
    publisher.publish("32 [<d> 0001 [] 'x']");
    peer.expect("30 [<d> [] 'x']");
}

fn each_filter_has_a_code(scene: &Scene<'_>) {
    let mut peer = scene.v5("c");
    for count in [1, 2, 100] {
        let filters: String = (0..count).map(|n| format!("<t/{n}> 01 ")).collect();
        let codes = "01 ".repeat(count);
        peer.ask(
            &format!("82 [0001 [] {filters}]"),
            &format!("90 [0001 [] {codes}]"),
        );
    }
}

fn the_lower_of_both_qos_is_sent(scene: &Scene<'_>) {
    let mut publisher = scene.v5("p");
    for granted in 0..3_u8 {
        let mut peer = scene.v5("c");
        let subscribe = format!("82 [0001 [] <t> {granted:02x}]");
        peer.ask(&subscribe, &format!("90 [0001 [] {granted:02x}]"));
        for (published, packet) in [
            (0, "30 [<t> [] 'x']"),
            (1, "32 [<t> 0001 [] 'x']"),
            (2, "34 [<t> 0001 [] 'x']"),
        ] {
            publisher.publish(packet);
            match granted.min(published) {
                0 => peer.expect("30 [<t> [] 'x']"),
                1 => peer.expect("32 [<t> ?? ?? [] 'x']"),
                _ => peer.expect("34 [<t> ?? ?? [] 'x']"),
            };
        }
    }
}

/// A client of the guarded broker that takes little.
fn small(scene: &Scene<'_>, id: &str) -> crate::Peer {
    let mut peer = scene.guarded();
    let connect = format!("10 [<MQTT> 05 c2 0000 [27 00000018] <{id}> <@> <p>]");
    peer.ask(&connect, "20 [00 00 *]");
    peer
}

fn suback_is_no_larger_than_asked(scene: &Scene<'_>) {
    let mut peer = small(scene, "suback5s");
    let packet = peer.ask("82 [0001 [] <ok/a> 00 <no> 00 <a#> 00]", "90 [0001 *]");
    assert!(packet.len() <= 24, "{packet:02x?}");
}

fn codes_are_in_the_order_of_filters(scene: &Scene<'_>) {
    let mut peer = scene.v5("c");
    let filters = "<a> 02 <b> 00 <c> 01 <a#> 00 <d> 00 <e> 02";
    let expect = "90 [0001 % 02 00 01 8f 00 02]";
    peer.ask(&format!("82 [0001 [] {filters}]"), expect);
}

fn codes_of_suback_are_its_own(scene: &Scene<'_>) {
    let mut peer = scene.guarded();
    peer.ask(
        "10 [<MQTT> 05 c2 0000 [] <suback5> <@> <p>]",
        "20 [00 00 *]",
    );
    peer.ask(
        "82 [0001 [] <ok/a> 00 <no> 00 <ok/b> 01 <ok/c#> 02 <ok/c> 02]",
        "90 [0001 % 00 87 01 8f 02]",
    );
    let mut peer = scene.at("nowildcard").v5("wild5");
    peer.ask(
        "82 [0001 [] <a/+> 00 <a/b> 01 <#> 02]",
        "90 [0001 % a2 01 a2]",
    );
    let mut peer = scene.at("noid").v5("id5");
    peer.ask("82 [0001 [] <a> 00]", "90 [0001 [] 00]");
    peer.send("82 [0001 [0b 01] <a> 00]");
    match peer.packet() {
        Some(packet) if packet[0] == 0x90 && packet.last() == Some(&0xA1) => {}
        Some(packet) if packet.starts_with(&[0xE0]) && packet.get(2) == Some(&0xA1) => {}
        _ => peer.fail("expected: 0xA1"),
    }
    let mut peer = scene.at("noshare").v5("share5");
    peer.send("82 [0001 [] <$share/g/a> 00]");
    match peer.packet() {
        Some(packet) if packet[0] == 0x90 && packet.last() == Some(&0x9E) => {}
        Some(packet) if packet.starts_with(&[0xE0]) && packet.get(2) == Some(&0x9E) => {}
        _ => peer.fail("expected: 0x9E"),
    }
}

fn unsubscribe_with_other_flags_is_malformed(scene: &Scene<'_>) {
    let packets = ["a0", "a1", "a3", "a6", "aa"].map(|first| format!("{first} [0001 [] <t>]"));
    breaks(scene, &packets, BROKEN);
}

fn filters_of_unsubscribe_are_text(scene: &Scene<'_>) {
    let packets = ["0003 eda080", "0001 ff", "0005 'abc'", "<t> 00"]
        .map(|filter| format!("a2 [0001 [] {filter}]"));
    breaks(scene, &packets, BROKEN);
}

fn unsubscribe_has_a_filter(scene: &Scene<'_>) {
    breaks(scene, &["a2 [0001 []]", "a2 []"], BROKEN);
}

fn the_very_same_filter_is_ended(scene: &Scene<'_>) {
    let mut peer = scene.v5("c");
    peer.ask("82 [0001 [] <a/+> 00]", "90 [0001 [] 00]");
    peer.ask(
        "a2 [0002 [] <a/b> <a/#> <A/+> <a/+/> <+/+>]",
        "b0 [0002 [] 11 11 11 11 11]",
    );
    peer.ask("30 [<a/b> [] 'x']", "30 [<a/b> [] 'x']");
    peer.ask("a2 [0003 [] <a/+>]", "b0 [0003 [] 00]");
    peer.send("30 [<a/b> [] 'x']");
    peer.ping();
}

fn nothing_is_added_after_unsubscribe(scene: &Scene<'_>) {
    for kept in [false, true] {
        let scene = scene.at(&format!("added{kept}"));
        let mut peer = match kept {
            true => scene.v5_kept("c", 0),
            false => scene.v5("c"),
        };
        peer.ask("82 [0001 [] <t> 01 <end> 01]", "90 [0001 [] 01 01]");
        peer.ask("a2 [0002 [] <t>]", "b0 [0002 [] 00]");
        let mut publisher = scene.v5("p");
        publisher.publish("32 [<t> 0001 [] 'x']");
        publisher.publish("32 [<end> 0001 [] 'x']");
        peer.expect("32 [<end> ?? ?? [] 'x']");
    }
}

fn what_was_begun_is_completed(scene: &Scene<'_>) {
    let mut peer = scene.v5_kept("c", 0);
    peer.ask("82 [0001 [] <t> 02]", "90 [0001 [] 02]");
    scene.v5("p").publish("34 [<t> 0001 [] 'x']");
    let id = id_of(&peer.expect("34 [<t> ?? ?? [] 'x']"));
    peer.ask("a2 [0002 [] <t>]", "b0 [0002 [] 00]");
    peer.cut();
    let mut peer = scene.v5_kept("c", 1);
    peer.expect(&format!("3c [<t> {id} [] 'x']"));
    peer.ask(&format!("50 [{id}]"), &format!("62 [{id} *]"));
    peer.send(&format!("70 [{id}]"));
    peer.ping();
}

fn unsubscribe_is_answered(scene: &Scene<'_>) {
    let mut peer = scene.v5("c");
    peer.ask("82 [0001 [] <t> 00]", "90 [0001 [] 00]");
    peer.ask("a2 [1234 [] <t>]", "b0 [1234 [] 00]");
    peer.ask("a2 [ffff [] <t>]", "b0 [ffff [] 11]");
}

fn unsubscribe_is_answered_once(scene: &Scene<'_>) {
    let mut peer = scene.v5("c");
    peer.ask("82 [0001 [] <a> 00 <b> 00 <c> 00]", "90 [0001 [] 00 00 00]");
    peer.ask("a2 [0002 [] <a> <c> <a>]", "b0 [0002 [] 00 00 11]");
    peer.send("30 [<a> [] 'x'] 30 [<c> [] 'x'] 30 [<b> [] 'x']");
    peer.expect("30 [<b> [] 'x']");
    peer.ping();
}

fn unsuback_is_no_larger_than_asked(scene: &Scene<'_>) {
    let mut peer = small(scene, "unsuback5s");
    let packet = peer.ask("a2 [0001 [] <ok/a> <no> <a#>]", "b0 [0001 *]");
    assert!(packet.len() <= 24, "{packet:02x?}");
}

fn codes_of_unsuback_are_in_order(scene: &Scene<'_>) {
    let mut peer = scene.v5("c");
    peer.ask("82 [0001 [] <a> 00 <b> 00]", "90 [0001 [] 00 00]");
    peer.ask(
        "a2 [0002 [] <x> <a> <a#> <b> <y>]",
        "b0 [0002 % 11 00 8f 00 11]",
    );
}

fn codes_of_unsuback_are_its_own(scene: &Scene<'_>) {
    for kept in [false, true] {
        let scene = scene.at(&format!("codes{kept}"));
        let mut peer = match kept {
            true => scene.v5_kept("c", 0),
            false => scene.v5("c"),
        };
        peer.ask("82 [0001 [] <a> 00]", "90 [0001 [] 00]");
        peer.ask("a2 [0002 [] <a> <never> <a#>]", "b0 [0002 % 00 11 8f]");
    }
}

fn ping_is_answered(scene: &Scene<'_>) {
    let mut peer = scene.v5("c");
    peer.send("c000 c000 c000");
    for _ in 0..3 {
        peer.expect("d0 []");
    }
    breaks(scene, &["c0 [00]"], BROKEN);
}
