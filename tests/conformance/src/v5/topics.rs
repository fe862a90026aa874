//! Section 4.7: topic names and filters.

use super::breaks;
use crate::Scene;
use crate::rows;

rows! {
    topic_names_have_no_wildcards: "4.7.0-1";
    number_signs_are_last_and_alone: "4.7.1-1";
    plus_signs_are_whole_levels: "4.7.1-2";
    dollar_topics_are_not_for_leading_wildcards: "4.7.2-1";
    names_and_filters_have_a_character: "4.7.3-1";
    names_and_filters_have_no_null_character: "4.7.3-2";
    names_and_filters_are_not_too_long: "4.7.3-3";
    names_are_not_normalised: "4.7.3-4";
}

fn topic_names_have_no_wildcards(scene: &Scene<'_>) {
    let mut peer = scene.v5("c");
    peer.ask("82 [0001 [] <a/+> 00 <b/#> 00]", "90 [0001 [] 00 00]");
    peer.ask("30 [<a/x> [] 'x']", "30 [<a/x> [] 'x']");
    peer.ask("30 [<b/x/y> [] 'x']", "30 [<b/x/y> [] 'x']");
    breaks(
        scene,
        &["30 [<a/+> [] 'x']", "30 [<#> [] 'x']"],
        &[0x81, 0x82, 0x90],
    );
}

/// Fails the filter, or ends the connection.
fn refused(scene: &Scene<'_>, filter: &str) {
    let mut peer = scene.v5("c");
    peer.send(&format!("82 [0001 [] {filter} 00]"));
    match peer.packet() {
        None => {}
        Some(packet) if packet[0] == 0x90 && packet.last() == Some(&0x8F) => {}
        Some(packet) if packet[0] == 0xE0 => {}
        Some(_) => peer.fail("expected: 0x8F, or the end"),
    }
}

fn number_signs_are_last_and_alone(scene: &Scene<'_>) {
    for filter in ["<a#>", "<a/#/b>", "<#/a>", "<a/b#>", "<##>"] {
        refused(scene, filter);
    }
    let mut peer = scene.v5("c");
    peer.ask("82 [0001 [] <a/b/#> 00]", "90 [0001 [] 00]");
    peer.send("30 [<a> [] 'no'] 30 [<a/bc> [] 'no']");
    peer.ask("30 [<a/b> [] 'yes']", "30 [<a/b> [] 'yes']");
    peer.ask("30 [<a/b/c/d> [] 'yes']", "30 [<a/b/c/d> [] 'yes']");
}

fn plus_signs_are_whole_levels(scene: &Scene<'_>) {
    for filter in ["<a+>", "<a/b+>", "<+a/b>", "<a/+b/c>", "<++>"] {
        refused(scene, filter);
    }
    let mut peer = scene.v5("c");
    peer.ask("82 [0001 [] <a/+/c> 00 <+/x> 00]", "90 [0001 [] 00 00]");
    peer.send("30 [<a/c> [] 'no'] 30 [<a/b/b/c> [] 'no'] 30 [<x> [] 'no']");
    for topic in ["a/b/c", "a//c", "/x", "y/x"] {
        let packet = format!("30 [<{topic}> [] 'yes']");
        peer.ask(&packet, &packet);
    }
}

fn dollar_topics_are_not_for_leading_wildcards(scene: &Scene<'_>) {
    let mut peer = scene.v5("c");
    peer.ask("82 [0001 [] <#> 00]", "90 [0001 [] 00]");
    let mut plus = scene.v5("plus");
    plus.ask("82 [0001 [] <+/a> 00]", "90 [0001 [] 00]");
    let mut named = scene.v5("named");
    named.ask("82 [0001 [] <$x/#> 00]", "90 [0001 [] 00]");
    let mut publisher = scene.v5("p");
    publisher.send("30 [<$x/a> [] 'hidden'] 31 [<$x/b> [] 'kept'] 30 [<x/a> [] 'seen']");
    named.expect("30 [<$x/a> [] 'hidden']");
    named.expect("30 [<$x/b> [] 'kept']");
    for peer in [&mut peer, &mut plus] {
        peer.expect("30 [<x/a> [] 'seen']");
        peer.ping();
    }
    // Retained ones neither.
    peer.ask("82 [0002 [] <#> 00]", "90 [0002 [] 00]");
    publisher.send("30 [<end> [] 'y']");
    peer.expect("30 [<end> [] 'y']");
}

fn names_and_filters_have_a_character(scene: &Scene<'_>) {
    let packets = ["30 [<> [] 'x']", "32 [<> 0001 [] 'x']"];
    breaks(scene, &packets, &[0x81, 0x82, 0x90]);
    refused(scene, "<>");
    let mut peer = scene.v5("c");
    peer.ask("82 [0001 [] </> 00 < > 00]", "90 [0001 [] 00 00]");
    peer.ask("30 [</> [] 'x']", "30 [</> [] 'x']");
    peer.ask("30 [< > [] 'x']", "30 [< > [] 'x']");
}

fn names_and_filters_have_no_null_character(scene: &Scene<'_>) {
    let packets = [
        "30 [0001 00 [] 'x']",
        "82 [0001 [] 0002 6100 00]",
        "a2 [0001 [] 0002 0061]",
    ];
    breaks(scene, &packets, &[0x81, 0x82, 0x90]);
}

fn names_and_filters_are_not_too_long(scene: &Scene<'_>) {
    // Two bytes of length: nothing longer can be written. What is longer than a tenant allows is
    // refused.
    let mut peer = scene.v5("c");
    let long = "x".repeat(4096);
    peer.ask(&format!("82 [0001 [] <{long}> 00]"), "90 [0001 [] 00]");
    peer.ask(
        &format!("30 [<{long}> [] 'x']"),
        &format!("30 [<{long}> [] 'x']"),
    );
    let longest = "x".repeat(65_535);
    peer.ask(&format!("82 [0002 [] <{longest}> 00]"), "90 [0002 % 8f]");
    peer.ask(&format!("32 [<{longest}> 0001 [] 'x']"), "40 [0001 90 *]");
}

fn names_are_not_normalised(scene: &Scene<'_>) {
    let mut peer = scene.v5("c");
    // Composed and decomposed, upper and lower case, trailing slash, space, full width.
    let filters = "<A/b> 00 <caf\u{e9}> 00 <a/b/> 00 <a /b> 00 <\u{ff41}> 00";
    peer.ask(
        &format!("82 [0001 [] {filters}]"),
        "90 [0001 [] 00 00 00 00 00]",
    );
    for topic in ["a/b", "cafe\u{301}", "a/b//", "a", "/a/b", "a/b "] {
        peer.send(&format!("30 [<{topic}> [] 'no']"));
    }
    for topic in ["A/b", "caf\u{e9}", "a/b/", "a /b", "\u{ff41}"] {
        let packet = format!("30 [<{topic}> [] 'yes']");
        peer.ask(&packet, &packet);
    }
}
