//! Section 3.3: PUBLISH: flags, retained messages, subscriptions that overlap, quotas.

use super::{BROKEN, breaks, id_of};
use crate::Scene;
use crate::fields::Publish;
use crate::rows;

rows! {
    what_is_sent_again_is_marked: "3.3.1-1", "4.4.0-1";
    qos_0_is_never_marked: "3.3.1-2";
    the_mark_is_not_passed_on: "3.3.1-3";
    a_qos_of_3_is_malformed: "3.3.1-4";
    retain_replaces: "3.3.1-5";
    an_empty_payload_removes: "3.3.1-6";
    an_empty_payload_is_not_stored: "3.3.1-7";
    without_retain_nothing_is_stored: "3.3.1-8";
    retain_handling_0_sends: "3.3.1-9";
    retain_handling_1_sends_to_new_subscriptions: "3.3.1-10";
    retain_handling_2_does_not_send: "3.3.1-11";
    the_retain_flag_is_cleared: "3.3.1-12";
    the_retain_flag_is_kept_where_asked: "3.3.1-13";
    the_topic_is_the_first_field: "3.3.2-1";
    a_topic_has_no_wildcards: "3.3.2-2";
    messages_match_the_filter: "3.3.2-3";
    each_qos_is_answered: "3.3.4-1";
    overlapping_filters_give_the_highest_qos_in_5: "3.3.4-2";
    identifiers_of_overlapping_filters_are_sent: "3.3.4-3", "3.3.4-4", "3.3.4-5";
    clients_send_no_subscription_identifier: "3.3.4-6";
    more_than_receive_maximum_ends_the_connection: "3.3.4-7";
    no_more_than_receive_maximum_is_sent: "3.3.4-9";
    a_full_window_delays_nothing_else: "3.3.4-10", "4.9.0-3";
}

fn what_is_sent_again_is_marked(scene: &Scene<'_>) {
    let mut peer = scene.v5_kept("c", 0);
    peer.ask("82 [0001 [] <t> 02]", "90 [0001 [] 02]");
    let mut publisher = scene.v5("p");
    publisher.publish("32 [<t> 0001 [] 'one']");
    publisher.publish("34 [<t> 0002 [] 'two']");
    let one = id_of(&peer.expect("32 [<t> ?? ?? [] 'one']"));
    let two = id_of(&peer.expect("34 [<t> ?? ?? [] 'two']"));
    peer.cut();
    let mut peer = scene.v5_kept("c", 1);
    peer.expect(&format!("3a [<t> {one} [] 'one']"));
    peer.expect(&format!("3c [<t> {two} [] 'two']"));
}

fn qos_0_is_never_marked(scene: &Scene<'_>) {
    let mut peer = scene.v5("c");
    peer.ask("82 [0001 [] <t> 02]", "90 [0001 [] 02]");
    peer.ask("30 [<t> [] 'x']", "30 [<t> [] 'x']");
    breaks(scene, &["38 [<t> [] 'x']"], BROKEN);
}

fn the_mark_is_not_passed_on(scene: &Scene<'_>) {
    let mut peer = scene.v5("c");
    peer.ask("82 [0001 [] <t> 02]", "90 [0001 [] 02]");
    let mut publisher = scene.v5("p");
    publisher.publish("3a [<t> 0001 [] 'one']");
    peer.expect("32 [<t> ?? ?? [] 'one']");
    publisher.publish("3c [<t> 0002 [] 'two']");
    peer.expect("34 [<t> ?? ?? [] 'two']");
}

fn a_qos_of_3_is_malformed(scene: &Scene<'_>) {
    let packets = ["36", "37", "3e", "3f"].map(|first| format!("{first} [<t> 0001 [] 'x']"));
    breaks(scene, &packets, &[0x81]);
}

fn retain_replaces(scene: &Scene<'_>) {
    let mut publisher = scene.v5("p");
    publisher.publish("33 [<t> 0001 [03 <old>] 'old']");
    for (packet, seen) in [
        ("33 [<t> 0001 [] 'one']", "33 [<t> ?? ?? [] 'one']"),
        ("35 [<t> 0001 [] 'two']", "35 [<t> ?? ?? [] 'two']"),
        ("31 [<t> [03 <new>] 'new']", "31 [<t> [03 <new>] 'new']"),
    ] {
        publisher.publish(packet);
        publisher.ping();
        let mut peer = scene.v5("c");
        peer.ask("82 [0001 [] <t> 02]", "90 [0001 [] 02]");
        peer.expect(seen);
    }
}

fn an_empty_payload_removes(scene: &Scene<'_>) {
    let mut peer = scene.v5("c");
    for first in ["31", "33"] {
        let (id, seen) = match first {
            "31" => ("", "30"),
            _ => ("0009", "32"),
        };
        peer.publish("33 [<t> 0001 [] 'x']");
        peer.ask("82 [0001 [] <t> 01]", "90 [0001 [] 01]");
        peer.expect("33 [<t> ?? ?? [] 'x']");
        let mut publisher = scene.v5("p");
        // Processed as any other message: passed on.
        publisher.publish(&format!("{first} [<t> {id} []]"));
        let any = if seen == "30" { "" } else { "?? ??" };
        peer.expect(&format!("{seen} [<t> {any} []]"));
        peer.ask("82 [0002 [] <t> 01]", "90 [0002 [] 01]");
        peer.ask("30 [<t> [] 'end']", "30 [<t> [] 'end']");
        peer.ask("a2 [0003 [] <t>]", "b0 [0003 [] 00]");
    }
}

fn an_empty_payload_is_not_stored(scene: &Scene<'_>) {
    let mut peer = scene.v5("c");
    peer.publish("33 [<t> 0001 [03 <a>]]");
    peer.ask("82 [0001 [] <t> 00]", "90 [0001 [] 00]");
    peer.ask("30 [<t> [] 'end']", "30 [<t> [] 'end']");
}

fn without_retain_nothing_is_stored(scene: &Scene<'_>) {
    let mut peer = scene.v5("c");
    peer.publish("32 [<none> 0001 [] 'x']");
    peer.publish("33 [<kept> 0001 [] 'x']");
    peer.publish("32 [<kept> 0001 [] 'y']");
    peer.publish("32 [<kept> 0001 []]");
    peer.ask("82 [0002 [] <none> 00 <kept> 00]", "90 [0002 [] 00 00]");
    peer.expect("31 [<kept> [] 'x']");
    peer.ask("30 [<none> [] 'end']", "30 [<none> [] 'end']");
}

fn retain_handling_0_sends(scene: &Scene<'_>) {
    let mut peer = scene.v5("c");
    peer.publish("33 [<a> 0001 [] 'x']");
    peer.publish("33 [<a/b> 0001 [] 'y']");
    for _ in 0..2 {
        peer.ask("82 [0001 [] <a/#> 00]", "90 [0001 [] 00]");
        peer.expect_all(&["31 [<a> [] 'x']", "31 [<a/b> [] 'y']"]);
    }
}

fn retain_handling_1_sends_to_new_subscriptions(scene: &Scene<'_>) {
    for kept in [false, true] {
        let scene = scene.at(&format!("handling{kept}"));
        let mut peer = match kept {
            true => scene.v5_kept("c", 0),
            false => scene.v5("c"),
        };
        peer.publish("33 [<t> 0001 [] 'x']");
        peer.ask("82 [0001 [] <t> 10]", "90 [0001 [] 00]");
        peer.expect("31 [<t> [] 'x']");
        peer.ask("82 [0002 [] <t> 10]", "90 [0002 [] 00]");
        peer.ask("30 [<t> [] 'end']", "30 [<t> [] 'end']");
        peer.ask("a2 [0003 [] <t>]", "b0 [0003 [] 00]");
        peer.ask("82 [0004 [] <t> 10]", "90 [0004 [] 00]");
        peer.expect("31 [<t> [] 'x']");
    }
}

fn retain_handling_2_does_not_send(scene: &Scene<'_>) {
    let mut peer = scene.v5("c");
    peer.publish("33 [<t> 0001 [] 'x']");
    peer.ask("82 [0001 [] <t> 20]", "90 [0001 [] 00]");
    peer.ask("30 [<t> [] 'end']", "30 [<t> [] 'end']");
    breaks(scene, &["82 [0001 [] <t> 30]"], BROKEN);
}

fn the_retain_flag_is_cleared(scene: &Scene<'_>) {
    let mut peer = scene.v5("c");
    peer.ask("82 [0001 [] <t> 02]", "90 [0001 [] 02]");
    let mut publisher = scene.v5("p");
    for (packet, seen) in [
        ("31 [<t> [] 'x']", "30 [<t> [] 'x']"),
        ("33 [<t> 0001 [] 'x']", "32 [<t> ?? ?? [] 'x']"),
        ("35 [<t> 0001 [] 'x']", "34 [<t> ?? ?? [] 'x']"),
        ("30 [<t> [] 'x']", "30 [<t> [] 'x']"),
    ] {
        publisher.publish(packet);
        peer.expect(seen);
    }
}

fn the_retain_flag_is_kept_where_asked(scene: &Scene<'_>) {
    let mut live = scene.v5("live");
    let mut kept = scene.v5_kept("kept", 0);
    let mut publisher = scene.v5("p");
    for peer in [&mut live, &mut kept] {
        peer.ask("82 [0001 [] <t> 0a]", "90 [0001 [] 02]");
    }
    for (packet, seen) in [
        ("31 [<t> [] 'x']", "31 [<t> [] 'x']"),
        ("30 [<t> [] 'x']", "30 [<t> [] 'x']"),
        ("33 [<t> 0001 [] 'x']", "33 [<t> ?? ?? [] 'x']"),
        ("34 [<t> 0001 [] 'x']", "34 [<t> ?? ?? [] 'x']"),
    ] {
        publisher.publish(packet);
        live.expect(seen);
        kept.expect(seen);
    }
}

fn the_topic_is_the_first_field(scene: &Scene<'_>) {
    let packets = [
        "30 []",
        "30 [00]",
        "30 [0005 'abc']",
        "30 [0002 'a' ff [] 'x']",
        "32 [<t>]",
    ];
    breaks(scene, &packets, BROKEN);
}

fn a_topic_has_no_wildcards(scene: &Scene<'_>) {
    for topic in ["#", "+", "a/#", "a/+/b", "a+", "a#b"] {
        let packets = [
            format!("30 [<{topic}> [] 'x']"),
            format!("32 [<{topic}> 0001 [] 'x']"),
        ];
        breaks(scene, &packets, &[0x81, 0x82, 0x90]);
    }
}

fn messages_match_the_filter(scene: &Scene<'_>) {
    let mut peer = scene.v5("c");
    peer.ask("82 [0001 [] <a/+> 00 <b/#> 01]", "90 [0001 [] 00 01]");
    let mut publisher = scene.v5("p");
    publisher.send("30 [<a> [] 'no'] 30 [<a/b/c> [] 'no'] 30 [<a/b> [] 'yes']");
    peer.expect("30 [<a/b> [] 'yes']");
    publisher.send("30 [<c> [] 'no'] 30 [<b> [] 'yes'] 30 [<b/x/y> [] 'yes']");
    peer.expect("30 [<b> [] 'yes']");
    peer.expect("30 [<b/x/y> [] 'yes']");
}

fn each_qos_is_answered(scene: &Scene<'_>) {
    let mut peer = scene.v5("c");
    peer.send("30 [<t> [] 'x']");
    peer.ping();
    peer.ask("32 [<t> 0001 [] 'x']", "40 [0001 *]");
    peer.ask("34 [<t> 0002 [] 'x']", "50 [0002 *]");
    peer.ask("62 [0002]", "70 [0002 *]");
}

fn overlapping_filters_give_the_highest_qos_in_5(scene: &Scene<'_>) {
    let mut peer = scene.v5("c");
    let filters = "<a/b> 00 <a/+> 02 <a/#> 01";
    peer.ask(&format!("82 [0001 [] {filters}]"), "90 [0001 [] 00 02 01]");
    scene.v5("p").publish("34 [<a/b> 0001 [] 'x']");
    // One copy at the highest QoS, or one each.
    peer.send("82 [0002 [] <end> 00]");
    let mut copies = Vec::new();
    loop {
        match peer.packet() {
            Some(packet) if packet[0] >> 4 == 3 => copies.push(packet[0]),
            Some(packet) if packet[0] == 0x90 => break,
            other => peer.fail(&format!("unexpected: {other:02x?}")),
        }
    }
    assert!(copies.contains(&0x34), "{copies:02x?}");
}

fn identifiers_of_overlapping_filters_are_sent(scene: &Scene<'_>) {
    for kept in [false, true] {
        let scene = scene.at(&format!("identifiers{kept}"));
        let mut peer = match kept {
            true => scene.v5_kept("c", 0),
            false => scene.v5("c"),
        };
        peer.ask("82 [0001 [0b 01] <a/b> 01]", "90 [0001 [] 01]");
        peer.ask("82 [0002 [0b ffff7f] <a/+> 01]", "90 [0002 [] 01]");
        peer.ask("82 [0003 [] <a/#> 01]", "90 [0003 [] 01]");
        scene.v5("p").publish("32 [<a/b> 0001 [] 'x']");
        peer.send("82 [0004 [] <end> 00]");
        let mut copies: Vec<Vec<Vec<u8>>> = Vec::new();
        while let Some(packet) = peer.packet() {
            if packet[0] == 0x90 {
                break;
            }
            let ids = Publish::of(&packet);
            copies.push(ids.values(0x0B).iter().map(|id| id.to_vec()).collect());
        }
        // One copy has all of them; several have one each, and one of those none.
        let mut all = copies.concat();
        all.sort();
        assert_eq!(all, [vec![0x01], vec![0xFF, 0xFF, 0x7F]], "{copies:02x?}");
        assert!(copies.len() == 1 || copies.len() == 3, "{copies:02x?}");
    }
}

fn clients_send_no_subscription_identifier(scene: &Scene<'_>) {
    breaks(
        scene,
        &["30 [<t> [0b 01] 'x']", "32 [<t> 0001 [0b 01] 'x']"],
        BROKEN,
    );
}

fn more_than_receive_maximum_ends_the_connection(scene: &Scene<'_>) {
    let scene = scene.at("receive2");
    let mut peer = scene.send("10 [<MQTT> 05 82 0000 [] <more> <@>]");
    let properties = crate::fields::connack(&peer.expect("20 [00 00 *]"));
    assert_eq!(crate::fields::values(&properties, 0x21), [[0, 2]]);
    // QoS 2 counts until PUBCOMP.
    peer.ask("34 [<t> 0001 [] 'x']", "50 [0001 *]");
    peer.ask("34 [<t> 0002 [] 'x']", "50 [0002 *]");
    peer.ask("62 [0001]", "70 [0001 *]");
    peer.ask("34 [<t> 0003 [] 'x']", "50 [0003 *]");
    peer.send("34 [<t> 0004 [] 'x']");
    peer.expect_dropped(&[0x93]);
}

fn no_more_than_receive_maximum_is_sent(scene: &Scene<'_>) {
    for kept in [false, true] {
        let scene = scene.at(&format!("window{kept}"));
        let mut peer = match kept {
            true => scene.v5_kept_with("c", 0, "21 0002"),
            false => scene.v5_with("c", "21 0002"),
        };
        peer.ask("82 [0001 [] <t> 02]", "90 [0001 [] 02]");
        let mut publisher = scene.v5("p");
        for round in 1..=5 {
            publisher.publish(&format!("34 [<t> {round:04x} [] '{round}']"));
        }
        let one = id_of(&peer.expect("34 [<t> ?? ?? [] '1']"));
        peer.expect("34 [<t> ?? ?? [] '2']");
        peer.ping();
        // PUBREC does not make room, PUBCOMP does.
        peer.ask(&format!("50 [{one}]"), &format!("62 [{one} *]"));
        peer.ping();
        peer.send(&format!("70 [{one}]"));
        let three = id_of(&peer.expect("34 [<t> ?? ?? [] '3']"));
        peer.ping();
        // A PUBREC that refuses does, too.
        peer.send(&format!("50 [{three} 80]"));
        peer.expect("34 [<t> ?? ?? [] '4']");
        peer.ping();
    }
}

fn a_full_window_delays_nothing_else(scene: &Scene<'_>) {
    let mut peer = scene.v5_with("c", "21 0001");
    peer.ask("82 [0001 [] <t> 01]", "90 [0001 [] 01]");
    let mut publisher = scene.v5("p");
    for round in 1..=3 {
        publisher.publish(&format!("32 [<t> {round:04x} [] '{round}']"));
    }
    let one = id_of(&peer.expect("32 [<t> ?? ?? [] '1']"));
    peer.ping();
    peer.ask("82 [0002 [] <u> 00]", "90 [0002 [] 00]");
    peer.ask("a2 [0003 [] <u>]", "b0 [0003 [] 00]");
    peer.ask("32 [<x> 0004 [] 'x']", "40 [0004 *]");
    peer.ask("34 [<x> 0005 [] 'x']", "50 [0005 *]");
    peer.ask("62 [0005]", "70 [0005 *]");
    peer.send(&format!("40 [{one}]"));
    peer.expect("32 [<t> ?? ?? [] '2']");
}
