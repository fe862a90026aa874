//! Section 4.7: topic names and filters.

use crate::Scene;
use crate::rows;

rows! {
    wildcards_are_for_filters: "4.7.1-1";
    the_multi_level_wildcard_is_last_and_alone: "4.7.1-2";
    the_multi_level_wildcard_matches_its_parent_too: "4.7.1-2";
    the_single_level_wildcard_is_a_whole_level: "4.7.1-3";
    leading_wildcards_do_not_match_dollar_topics: "4.7.2-1";
    topics_have_a_character: "4.7.3-1";
    topics_have_no_null_character: "4.7.3-2";
    topics_are_no_longer_than_their_length_says: "4.7.3-3";
    topics_are_compared_as_they_are: "4.7.3-4";
}

fn wildcards_are_for_filters(scene: &Scene<'_>) {
    let mut peer = scene.v4("c");
    peer.ask("82 [0001 <a/+> 00 <b/#> 00]", "90 [0001 00 00]");
    peer.ask("30 [<a/x> 'x']", "30 [<a/x> 'x']");
    peer.ask("30 [<b/x/y> 'x']", "30 [<b/x/y> 'x']");
    peer.send("30 [<a/+> 'x']");
    peer.expect_end();
}

/// Ends the connection, or fails the filter.
fn refused(scene: &Scene<'_>, filter: &str) {
    let mut peer = scene.v4("c");
    peer.send(&format!("82 [0001 {filter} 00]"));
    match peer.packet() {
        None => {}
        Some(packet) if packet == [0x90, 3, 0, 1, 0x80] => {}
        Some(_) => peer.fail("expected: the end, or 0x80"),
    }
}

fn the_multi_level_wildcard_is_last_and_alone(scene: &Scene<'_>) {
    for filter in ["<a#>", "<a/#/b>", "<#/a>", "<a/b#>", "<##>"] {
        refused(scene, filter);
    }
    let mut peer = scene.v4("c");
    peer.ask("82 [0001 <#> 00 <a/#> 00 </#> 00]", "90 [0001 00 00 00]");
}

fn the_multi_level_wildcard_matches_its_parent_too(scene: &Scene<'_>) {
    let mut peer = scene.v4("c");
    peer.ask("82 [0001 <a/b/#> 00]", "90 [0001 00]");
    peer.send("30 [<a> 'no'] 30 [<a/bc> 'no'] 30 [<a/b> 'yes'] 30 [<a/b/c/d> 'yes']");
    peer.expect("30 [<a/b> 'yes']");
    peer.expect("30 [<a/b/c/d> 'yes']");
}

fn the_single_level_wildcard_is_a_whole_level(scene: &Scene<'_>) {
    for filter in ["<a+>", "<a/b+>", "<+a/b>", "<a/+b/c>", "<++>"] {
        refused(scene, filter);
    }
    let mut peer = scene.v4("c");
    peer.ask("82 [0001 <a/+/c> 00 <+/x> 00]", "90 [0001 00 00]");
    peer.send("30 [<a/c> 'no'] 30 [<a/b/b/c> 'no'] 30 [<a/b/c> 'yes'] 30 [<a//c> 'yes']");
    peer.send("30 [<x> 'no'] 30 [</x> 'yes'] 30 [<y/x> 'yes']");
    for topic in ["a/b/c", "a//c", "/x", "y/x"] {
        peer.expect(&format!("30 [<{topic}> 'yes']"));
    }
}

fn leading_wildcards_do_not_match_dollar_topics(scene: &Scene<'_>) {
    let mut peer = scene.v4("c");
    peer.ask("82 [0001 <#> 00 <+/a> 00]", "90 [0001 00 00]");
    let mut named = scene.v4("named");
    named.ask("82 [0001 <$x/#> 00]", "90 [0001 00]");
    let mut publisher = scene.v4("p");
    publisher.send("30 [<$x/a> 'hidden'] 31 [<$x/b> 'kept'] 30 [<x/a> 'seen']");
    named.expect("30 [<$x/a> 'hidden']");
    named.expect("30 [<$x/b> 'kept']");
    // Once or twice, as two filters match.
    peer.expect("30 [<x/a> 'seen']");
    publisher.send("30 [<end> 'x']");
    while peer.expect_one(&["30 [<x/a> 'seen']", "30 [<end> 'x']"])[4] != b'e' {}
    // Retained ones neither.
    peer.ask("82 [0002 <#> 00]", "90 [0002 00]");
    publisher.send("30 [<end> 'y']");
    peer.expect("30 [<end> 'y']");
}

fn topics_have_a_character(scene: &Scene<'_>) {
    for packet in [
        "30 [<> 'x']",
        "32 [<> 0001 'x']",
        "82 [0001 <> 00]",
        "a2 [0001 <>]",
    ] {
        let mut peer = scene.v4("c");
        peer.send(packet);
        match peer.packet() {
            None => {}
            Some(packet) if packet == [0x90, 3, 0, 1, 0x80] => {}
            // There is no such subscription to end.
            Some(packet) if packet == [0xB0, 2, 0, 1] => {}
            Some(_) => peer.fail("expected: the end, or a failure"),
        }
    }
    let mut peer = scene.v4("c");
    peer.ask("82 [0001 </> 00 < > 00]", "90 [0001 00 00]");
    peer.ask("30 [</> 'x']", "30 [</> 'x']");
    peer.ask("30 [< > 'x']", "30 [< > 'x']");
}

fn topics_have_no_null_character(scene: &Scene<'_>) {
    for packet in [
        "30 [0001 00 'x']",
        "82 [0001 0002 6100 00]",
        "a2 [0001 0002 0061]",
    ] {
        let mut peer = scene.v4("c");
        peer.send(packet);
        peer.expect_end();
    }
}

fn topics_are_no_longer_than_their_length_says(scene: &Scene<'_>) {
    // Two bytes of length: nothing longer can be written. What is longer than a tenant allows is refused.
    let mut peer = scene.v4("c");
    let long = "x".repeat(4096);
    peer.ask(&format!("82 [0001 <{long}> 00]"), "90 [0001 00]");
    peer.ask(&format!("30 [<{long}> 'x']"), &format!("30 [<{long}> 'x']"));
    let longest = "x".repeat(65_535);
    peer.ask(&format!("82 [0002 <{longest}> 00]"), "90 [0002 80]");
    peer.send(&format!("30 [<{longest}> 'x']"));
    peer.expect_end();
}

fn topics_are_compared_as_they_are(scene: &Scene<'_>) {
    let mut peer = scene.v4("c");
    // Composed and decomposed, upper and lower case, trailing slash, space, full width.
    let filters = "<A/b> 00 <caf\u{e9}> 00 <a/b/> 00 <a /b> 00 <\u{ff41}> 00";
    peer.ask(&format!("82 [0001 {filters}]"), "90 [0001 00 00 00 00 00]");
    for topic in ["a/b", "cafe\u{301}", "a/b//", "a", "/a/b", "a/b "] {
        peer.send(&format!("30 [<{topic}> 'no']"));
    }
    for topic in ["A/b", "caf\u{e9}", "a/b/", "a /b", "\u{ff41}"] {
        peer.ask(
            &format!("30 [<{topic}> 'yes']"),
            &format!("30 [<{topic}> 'yes']"),
        );
    }
}
