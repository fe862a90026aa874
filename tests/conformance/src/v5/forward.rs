//! Section 3.3.2.3: what travels with a message, and its life.

use super::{BROKEN, breaks};
use crate::fields::{Publish, connack, values};
use crate::rows;
use crate::{Peer, Scene};

rows! {
    larger_packets_are_not_sent: "3.1.2-24";
    what_is_too_large_counts_as_sent: "3.1.2-25";
    the_brokers_aliases_stay_within_the_maximum: "3.1.2-26", "3.3.2-11";
    without_a_maximum_no_alias_is_sent: "3.1.2-27";
    the_payload_format_is_passed_on: "3.3.2-4";
    an_expired_message_is_not_delivered: "3.3.2-5";
    the_expiry_counts_down: "3.3.2-6";
    an_alias_is_one_connections: "3.3.2-7";
    an_alias_of_zero_ends_the_connection: "3.3.2-8";
    every_alias_up_to_the_maximum_is_taken: "3.3.2-12";
    the_response_topic_is_text: "3.3.2-13";
    the_response_topic_has_no_wildcards: "3.3.2-14";
    the_response_topic_is_passed_on: "3.3.2-15";
    correlation_data_is_passed_on: "3.3.2-16";
    user_properties_are_passed_on: "3.3.2-17", "3.3.2-18";
    the_content_type_is_text: "3.3.2-19";
    the_content_type_is_passed_on: "3.3.2-20";
}

/// Sends a message with properties; it has the same when it comes live, stored, and retained.
fn passed_on(scene: &Scene<'_>, properties: &str) {
    let mut live = scene.v5("live");
    let mut kept = scene.v5_kept("kept", 0);
    for peer in [&mut live, &mut kept] {
        peer.ask("82 [0001 [] <t> 01]", "90 [0001 [] 01]");
    }
    kept.cut();
    let packet = format!("33 [<t> 0001 [{properties}] 'load']");
    scene.v5("p").publish(&packet);
    live.expect(&format!("32 [<t> ?? ?? [{properties}] 'load']"));
    let mut kept = scene.v5_kept("kept", 1);
    kept.expect(&format!("32 [<t> ?? ?? [{properties}] 'load']"));
    let mut late = scene.v5("late");
    late.ask("82 [0001 [] <t> 00]", "90 [0001 [] 00]");
    late.expect(&format!("31 [<t> [{properties}] 'load']"));
}

fn larger_packets_are_not_sent(scene: &Scene<'_>) {
    for kept in [false, true] {
        let scene = scene.at(&format!("larger{kept}"));
        let mut peer = match kept {
            true => scene.v5_kept_with("c", 0, "27 00000040"),
            false => scene.v5_with("c", "27 00000040"),
        };
        peer.ask("82 [0001 [] <t> 01]", "90 [0001 [] 01]");
        let mut publisher = scene.v5("p");
        // 2 bytes of header, 3 of topic, 2 of identifier, 1 of properties.
        let fits = "x".repeat(64 - 2 - 3 - 2 - 1);
        publisher.publish(&format!("32 [<t> 0001 [] '{fits}x']"));
        publisher.publish(&format!("30 [<t> [] '{fits}xxx']"));
        publisher.publish(&format!("32 [<t> 0001 [] '{fits}']"));
        peer.expect(&format!("32 [<t> ?? ?? [] '{fits}']"));
        peer.ping();
    }
}

fn what_is_too_large_counts_as_sent(scene: &Scene<'_>) {
    for kept in [false, true] {
        let scene = scene.at(&format!("sent{kept}"));
        let properties = "27 00000040 21 0001";
        let mut peer = match kept {
            true => scene.v5_kept_with("c", 0, properties),
            false => scene.v5_with("c", properties),
        };
        peer.ask("82 [0001 [] <t> 02]", "90 [0001 [] 02]");
        let mut publisher = scene.v5("p");
        let load = "x".repeat(100);
        // They take no room in a window of one.
        for round in 1..=5 {
            publisher.publish(&format!("32 [<t> {round:04x} [] '{load}']"));
            publisher.publish(&format!("34 [<t> {round:04x} [] '{load}']"));
        }
        publisher.publish("32 [<t> 0001 [] 'end']");
        peer.expect("32 [<t> ?? ?? [] 'end']");
        if kept {
            peer.cut();
            // Nor are they there later, when they would fit.
            let mut peer = scene.v5_kept("c", 1);
            peer.expect("3a [<t> ?? ?? [] 'end']");
            peer.ping();
        }
    }
}

fn the_brokers_aliases_stay_within_the_maximum(scene: &Scene<'_>) {
    let mut peer = scene.v5_with("c", "22 0002");
    peer.ask("82 [0001 [] <#> 00]", "90 [0001 [] 00]");
    let mut publisher = scene.v5("p");
    let mut known: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    for round in 0..20 {
        let topic = format!("t{}", round % 4);
        publisher.send(&format!("30 [<{topic}> [] '{round}']"));
        let publish = Publish::of(&peer.packet().unwrap_or_default());
        let aliases = publish.values(0x23);
        if let [alias] = aliases[..] {
            assert!(alias == [0, 1] || alias == [0, 2], "{publish:02x?}");
            if !publish.topic.is_empty() {
                known.retain(|(other, _)| other != alias);
                known.push((alias.to_vec(), publish.topic.clone()));
            }
        }
        let seen = match publish.topic.is_empty() {
            false => Some(&publish.topic),
            true => known
                .iter()
                .find(|(alias, _)| aliases.contains(&alias.as_slice()))
                .map(|(_, topic)| topic),
        };
        assert_eq!(seen.map(Vec::as_slice), Some(topic.as_bytes()));
    }
}

fn without_a_maximum_no_alias_is_sent(scene: &Scene<'_>) {
    for properties in ["", "22 0000"] {
        let mut peer = scene.v5_with("c", properties);
        peer.ask("82 [0001 [] <t> 00]", "90 [0001 [] 00]");
        for _ in 0..5 {
            peer.ask("30 [<t> [] 'x']", "30 [<t> [] 'x']");
        }
    }
}

fn the_payload_format_is_passed_on(scene: &Scene<'_>) {
    passed_on(&scene.at("format1"), "01 01");
    passed_on(&scene.at("format0"), "01 00");
}

/// Waits until at least `seconds` have passed for the broker: a will with that delay is out.
fn pass(scene: &Scene<'_>, seconds: u32) {
    let mut watcher = scene.v5("clock");
    watcher.ask("82 [0001 [] <clock> 00]", "90 [0001 [] 00]");
    let fields = format!("<tick> [18 {seconds:08x}] <clock> <gone> <@>");
    let mut peer = scene.send(&format!("10 [<MQTT> 05 86 0000 [11 00000e10] {fields}]"));
    peer.expect("20 [?? 00 *]");
    peer.cut();
    watcher.expect("30 [<clock> [] 'gone']");
}

fn an_expired_message_is_not_delivered(scene: &Scene<'_>) {
    let mut peer = scene.v5_kept("c", 0);
    peer.ask("82 [0001 [] <t> 02]", "90 [0001 [] 02]");
    peer.leave();
    let mut publisher = scene.v5("p");
    publisher.publish("32 [<t> 0001 [02 00000001] 'short']");
    publisher.publish("34 [<t> 0002 [02 00000001] 'short']");
    publisher.publish("33 [<kept> 0003 [02 00000001] 'short']");
    publisher.publish("32 [<t> 0004 [] 'long']");
    pass(scene, 3);
    let mut peer = scene.v5_kept("c", 1);
    peer.expect("32 [<t> ?? ?? [] 'long']");
    peer.ask("82 [0002 [] <kept> 00]", "90 [0002 [] 00]");
    peer.ask("30 [<kept> [] 'end']", "30 [<kept> [] 'end']");
}

fn the_expiry_counts_down(scene: &Scene<'_>) {
    let mut peer = scene.v5_kept("c", 0);
    peer.ask("82 [0001 [] <t> 01]", "90 [0001 [] 01]");
    peer.leave();
    scene.v5("p").publish("33 [<t> 0001 [02 00000064] 'x']");
    pass(scene, 2);
    let left = |packet: &[u8]| {
        let publish = Publish::of(packet);
        let values = publish.values(0x02);
        assert_eq!(values.len(), 1, "{publish:02x?}");
        u32::from_be_bytes(values[0].try_into().expect("four bytes"))
    };
    let mut peer = scene.v5_kept("c", 1);
    let waited = left(&peer.packet().unwrap_or_default());
    assert!((50..=99).contains(&waited), "{waited} of 100");
    let mut late = scene.v5("late");
    late.ask("82 [0001 [] <t> 00]", "90 [0001 [] 00]");
    let retained = left(&late.packet().unwrap_or_default());
    assert!((50..=99).contains(&retained), "{retained} of 100");
}

/// A client where up to five aliases are taken.
fn aliasing(scene: &Scene<'_>, id: &str) -> Peer {
    let scene = scene.at("alias5");
    let mut peer = scene.send(&format!("10 [<MQTT> 05 82 0000 [] <{id}> <@>]"));
    let properties = connack(&peer.expect("20 [00 00 *]"));
    assert_eq!(values(&properties, 0x22), [[0, 5]], "Topic Alias Maximum");
    peer
}

fn an_alias_is_one_connections(scene: &Scene<'_>) {
    let mut peer = aliasing(scene, "one");
    peer.ask("82 [0001 [] <one/t> 00]", "90 [0001 [] 00]");
    peer.ask("30 [<one/t> [23 0001] 'x']", "30 [<one/t> [] 'x']");
    peer.ask("30 [<> [23 0001] 'y']", "30 [<one/t> [] 'y']");
    peer.leave();
    let mut peer = aliasing(scene, "one");
    peer.send("30 [<> [23 0001] 'x']");
    peer.expect_dropped(&[0x82, 0x94]);
}

fn an_alias_of_zero_ends_the_connection(scene: &Scene<'_>) {
    breaks(scene, &["30 [<t> [23 0000] 'x']"], &[0x94, 0x82]);
}

fn every_alias_up_to_the_maximum_is_taken(scene: &Scene<'_>) {
    let mut peer = aliasing(scene, "every");
    peer.ask("82 [0001 [] <every/#> 01]", "90 [0001 [] 01]");
    for alias in 1..=5 {
        let topic = format!("every/{alias}");
        peer.ask(
            &format!("30 [<{topic}> [23 {alias:04x}] 'x']"),
            &format!("30 [<{topic}> [] 'x']"),
        );
    }
    for alias in (1..=5).rev() {
        peer.send(&format!("32 [<> 0001 [23 {alias:04x}] 'y']"));
        peer.expect_all(&["40 [0001 *]", &format!("32 [<every/{alias}> ?? ?? [] 'y']")]);
    }
    // Given anew, an alias is another topic's.
    peer.ask("30 [<every/new> [23 0003] 'x']", "30 [<every/new> [] 'x']");
    peer.ask("30 [<> [23 0003] 'z']", "30 [<every/new> [] 'z']");
}

fn the_response_topic_is_text(scene: &Scene<'_>) {
    let packets =
        ["0003 eda080", "0001 ff", "0002 6100"].map(|text| format!("30 [<t> [08 {text}] 'x']"));
    breaks(scene, &packets, BROKEN);
}

fn the_response_topic_has_no_wildcards(scene: &Scene<'_>) {
    let packets = ["#", "a/+", "a/#/b"].map(|topic| format!("30 [<t> [08 <{topic}>] 'x']"));
    breaks(scene, &packets, &[0x81, 0x82, 0x90]);
}

fn the_response_topic_is_passed_on(scene: &Scene<'_>) {
    passed_on(scene, "08 <answers/here>");
}

fn correlation_data_is_passed_on(scene: &Scene<'_>) {
    passed_on(scene, "09 (00ff80)");
}

fn user_properties_are_passed_on(scene: &Scene<'_>) {
    passed_on(scene, "26 <b> <1> 26 <a> <2> 26 <b> <1> 26 <> <>");
}

fn the_content_type_is_text(scene: &Scene<'_>) {
    let packets = ["0003 eda080", "0001 ff"].map(|text| format!("30 [<t> [03 {text}] 'x']"));
    breaks(scene, &packets, BROKEN);
}

fn the_content_type_is_passed_on(scene: &Scene<'_>) {
    passed_on(scene, "03 <text/plain; charset=utf-8>");
}
