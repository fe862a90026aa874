//! Sections 3.3 to 3.7: PUBLISH and its acknowledgements.

use crate::Scene;
use crate::rows;

rows! {
    what_is_sent_again_says_so: "3.3.1-1";
    qos_0_is_never_a_duplicate: "3.3.1-2", "4.3.1-1";
    the_duplicate_flag_is_not_passed_on: "3.3.1-3";
    a_qos_of_3_ends_the_connection: "3.3.1-4";
    a_retained_message_is_stored_with_its_qos: "3.3.1-5";
    a_new_subscription_gets_each_retained_message: "3.3.1-6";
    a_retained_qos_0_message_replaces_what_was_there: "3.3.1-7";
    a_new_subscription_gets_them_as_retained: "3.3.1-8";
    an_established_subscription_gets_them_as_not_retained: "3.3.1-9";
    an_empty_retained_message_removes_and_is_passed_on: "3.3.1-10";
    an_empty_retained_message_is_not_stored: "3.3.1-11";
    a_message_that_is_not_retained_changes_nothing: "3.3.1-12";
    the_topic_is_first_and_text: "3.3.2-1";
    a_topic_with_wildcards_ends_the_connection: "3.3.2-2", "4.7.1-1";
    messages_carry_their_own_topic: "3.3.2-3";
    each_qos_has_its_answer: "3.3.4-1";
    overlapping_filters_give_the_highest_qos: "3.3.5-1";
    a_forbidden_publish_ends_the_connection: "3.3.5-2";
    pubrel_with_other_flags_ends_the_connection: "3.6.1-1";
}

fn what_is_sent_again_says_so(scene: &Scene<'_>) {
    let mut peer = scene.v4_kept("c", 0);
    peer.ask("82 [0001 <t> 02]", "90 [0001 02]");
    let mut publisher = scene.v4("p");
    publisher.ask("32 [<t> 0001 'one']", "40 [0001]");
    publisher.ask("34 [<t> 0002 'two']", "50 [0002]");
    publisher.ask("62 [0002]", "70 [0002]");
    let one = peer.expect("32 [<t> ?? ?? 'one']");
    let two = peer.expect("34 [<t> ?? ?? 'two']");
    peer.cut();
    let mut peer = scene.v4_kept("c", 1);
    peer.expect(&format!("3a [<t> {:02x}{:02x} 'one']", one[5], one[6]));
    peer.expect(&format!("3c [<t> {:02x}{:02x} 'two']", two[5], two[6]));
}

fn qos_0_is_never_a_duplicate(scene: &Scene<'_>) {
    let mut peer = scene.v4("c");
    peer.ask("82 [0001 <t> 02]", "90 [0001 02]");
    peer.ask("30 [<t> 'x']", "30 [<t> 'x']");
    // One that says it is gets no further.
    peer.send("38 [<t> 'x']");
    peer.expect_end();
}

fn the_duplicate_flag_is_not_passed_on(scene: &Scene<'_>) {
    let mut peer = scene.v4("c");
    peer.ask("82 [0001 <t> 02]", "90 [0001 02]");
    let mut publisher = scene.v4("p");
    publisher.ask("3a [<t> 0001 'one']", "40 [0001]");
    peer.expect("32 [<t> ?? ?? 'one']");
    publisher.ask("3c [<t> 0002 'two']", "50 [0002]");
    peer.expect("34 [<t> ?? ?? 'two']");
}

fn a_qos_of_3_ends_the_connection(scene: &Scene<'_>) {
    for first in ["36", "37", "3e", "3f"] {
        let mut peer = scene.v4("c");
        peer.send(&format!("{first} [<t> 0001 'x']"));
        peer.expect_end();
    }
}

fn a_retained_message_is_stored_with_its_qos(scene: &Scene<'_>) {
    let mut publisher = scene.v4("p");
    publisher.send("31 [<q/0> 'zero']");
    publisher.ask("33 [<q/1> 0001 'one']", "40 [0001]");
    publisher.ask("35 [<q/2> 0002 'two']", "50 [0002]");
    publisher.ask("62 [0002]", "70 [0002]");
    let mut peer = scene.v4("c");
    peer.ask("82 [0001 <q/+> 02]", "90 [0001 02]");
    peer.expect_all(&[
        "31 [<q/0> 'zero']",
        "33 [<q/1> ?? ?? 'one']",
        "35 [<q/2> ?? ?? 'two']",
    ]);
}

fn a_new_subscription_gets_each_retained_message(scene: &Scene<'_>) {
    let mut publisher = scene.v4("p");
    for (topic, text) in [("a", "old"), ("a", "new"), ("a/b", "deep"), ("z", "other")] {
        publisher.ask(&format!("33 [<{topic}> 0001 '{text}']"), "40 [0001]");
    }
    let mut peer = scene.v4("c");
    peer.ask("82 [0001 <a/#> 00]", "90 [0001 00]");
    peer.expect_all(&["31 [<a> 'new']", "31 [<a/b> 'deep']"]);
    peer.ask("82 [0002 <z> 00]", "90 [0002 00]");
    peer.expect("31 [<z> 'other']");
    peer.ping();
}

fn a_retained_qos_0_message_replaces_what_was_there(scene: &Scene<'_>) {
    let mut publisher = scene.v4("p");
    publisher.ask("33 [<t> 0001 'old']", "40 [0001]");
    publisher.send("31 [<t> 'new']");
    publisher.ping();
    let mut peer = scene.v4("c");
    peer.ask("82 [0001 <t> 01]", "90 [0001 01]");
    peer.expect("31 [<t> 'new']");
    peer.ask("30 [<t> 'end']", "30 [<t> 'end']");
}

fn a_new_subscription_gets_them_as_retained(scene: &Scene<'_>) {
    let mut peer = scene.v4("c");
    peer.ask("33 [<t> 0001 'x']", "40 [0001]");
    for round in 2..=4 {
        let subscribe = format!("82 [{round:04x} <t> 00]");
        peer.ask(&subscribe, &format!("90 [{round:04x} 00]"));
        peer.expect("31 [<t> 'x']");
    }
}

fn an_established_subscription_gets_them_as_not_retained(scene: &Scene<'_>) {
    let mut peer = scene.v4("c");
    peer.ask("82 [0001 <t> 02]", "90 [0001 02]");
    let mut publisher = scene.v4("p");
    publisher.send("31 [<t> 'zero']");
    peer.expect("30 [<t> 'zero']");
    publisher.ask("33 [<t> 0001 'one']", "40 [0001]");
    peer.expect("32 [<t> ?? ?? 'one']");
    publisher.ask("35 [<t> 0002 'two']", "50 [0002]");
    peer.expect("34 [<t> ?? ?? 'two']");
}

fn an_empty_retained_message_removes_and_is_passed_on(scene: &Scene<'_>) {
    for first in ["31", "33"] {
        let id = if first == "33" { "0009" } else { "" };
        let topic = format!("t/{first}");
        let mut publisher = scene.v4("p");
        publisher.ask(&format!("33 [<{topic}> 0001 'x']"), "40 [0001]");
        let mut peer = scene.v4("c");
        peer.ask(&format!("82 [0001 <{topic}> 00]"), "90 [0001 00]");
        peer.expect(&format!("31 [<{topic}> 'x']"));
        publisher.send(&format!("{first} [<{topic}> {id}]"));
        if first == "33" {
            publisher.expect("40 [0009]");
        }
        peer.expect(&format!("30 [<{topic}>]"));
        peer.ask(&format!("82 [0002 <{topic}> 00]"), "90 [0002 00]");
        peer.ask(
            &format!("30 [<{topic}> 'end']"),
            &format!("30 [<{topic}> 'end']"),
        );
    }
}

fn an_empty_retained_message_is_not_stored(scene: &Scene<'_>) {
    let mut peer = scene.v4("c");
    peer.ask("33 [<t> 0001]", "40 [0001]");
    peer.ask("82 [0001 <t> 00]", "90 [0001 00]");
    peer.ask("30 [<t> 'end']", "30 [<t> 'end']");
}

fn a_message_that_is_not_retained_changes_nothing(scene: &Scene<'_>) {
    let mut peer = scene.v4("c");
    peer.ask("32 [<none> 0001 'x']", "40 [0001]");
    peer.ask("33 [<kept> 0001 'x']", "40 [0001]");
    peer.ask("32 [<kept> 0001 'y']", "40 [0001]");
    peer.ask("32 [<kept> 0001]", "40 [0001]");
    peer.ask("82 [0002 <none> 00 <kept> 00]", "90 [0002 00 00]");
    peer.expect("31 [<kept> 'x']");
    peer.ask("30 [<none> 'end']", "30 [<none> 'end']");
}

fn the_topic_is_first_and_text(scene: &Scene<'_>) {
    for packet in [
        "30 []",
        "30 [00]",
        "30 [0005 'abc']",
        "30 [0002 'a' ff 'x']",
        "32 [<t>]",
    ] {
        let mut peer = scene.v4("c");
        peer.send(packet);
        peer.expect_end();
    }
}

fn a_topic_with_wildcards_ends_the_connection(scene: &Scene<'_>) {
    for topic in ["#", "+", "a/#", "a/+/b", "a+", "a#b"] {
        for packet in [
            format!("30 [<{topic}> 'x']"),
            format!("32 [<{topic}> 0001 'x']"),
        ] {
            let mut peer = scene.v4("c");
            peer.send(&packet);
            peer.expect_end();
        }
    }
}

fn messages_carry_their_own_topic(scene: &Scene<'_>) {
    let mut peer = scene.v4("c");
    peer.ask("82 [0001 <a/+> 00 <b/#> 01]", "90 [0001 00 01]");
    let mut publisher = scene.v4("p");
    publisher.send("30 [<a> 'no'] 30 [<a/b/c> 'no'] 30 [<a/b> 'yes']");
    peer.expect("30 [<a/b> 'yes']");
    publisher.send("30 [<c> 'no'] 30 [<b> 'yes'] 30 [<b/x/y> 'yes']");
    peer.expect("30 [<b> 'yes']");
    peer.expect("30 [<b/x/y> 'yes']");
}

fn each_qos_has_its_answer(scene: &Scene<'_>) {
    let mut peer = scene.v4("c");
    peer.send("30 [<t> 'x']");
    peer.ping();
    peer.ask("32 [<t> 0001 'x']", "40 [0001]");
    peer.ask("34 [<t> 0002 'x']", "50 [0002]");
}

fn overlapping_filters_give_the_highest_qos(scene: &Scene<'_>) {
    let mut peer = scene.v4("c");
    peer.ask("82 [0001 <a/b> 00 <a/+> 02 <a/#> 01]", "90 [0001 00 02 01]");
    let mut publisher = scene.v4("p");
    publisher.ask("34 [<a/b> 0001 'x']", "50 [0001]");
    publisher.ask("62 [0001]", "70 [0001]");
    // One copy at the highest QoS, or one each.
    let first = peer.packet().unwrap_or_default();
    let mut copies = vec![first];
    peer.send("82 [0002 <end> 00]");
    loop {
        match peer.packet() {
            Some(packet) if packet[0] >> 4 == 3 => copies.push(packet),
            Some(packet) if packet[0] == 0x90 => break,
            other => peer.fail(&format!("unexpected: {other:02x?}")),
        }
    }
    assert!(copies.iter().any(|copy| copy[0] == 0x34), "{copies:02x?}");
}

fn a_forbidden_publish_ends_the_connection(scene: &Scene<'_>) {
    for packet in ["30 [<no> 'x']", "32 [<no> 0001 'x']", "34 [<no> 0001 'x']"] {
        let mut peer = scene.guarded();
        peer.ask("10 [<MQTT> 04 c2 0000 <forbidden4> <@> <p>]", "20 [00 00]");
        peer.ask("32 [<ok/t> 0001 'x']", "40 [0001]");
        peer.send(packet);
        peer.expect_end();
    }
}

fn pubrel_with_other_flags_ends_the_connection(scene: &Scene<'_>) {
    for first in ["60", "61", "63", "66", "6a"] {
        let mut peer = scene.v4("c");
        peer.ask("34 [<t> 0001 'x']", "50 [0001]");
        peer.send(&format!("{first} [0001]"));
        peer.expect_end();
    }
}
