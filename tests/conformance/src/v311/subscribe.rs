//! Sections 3.8 to 3.12: SUBSCRIBE, UNSUBSCRIBE, PINGREQ.

use crate::Scene;
use crate::rows;

rows! {
    subscribe_with_other_flags_ends_the_connection: "3.8.1-1";
    filters_are_text: "3.8.3-1";
    wildcards_are_refused_where_not_supported: "3.8.3-2";
    subscribe_without_filters_ends_the_connection: "3.8.3-3";
    reserved_bits_end_the_connection: "3.8.3-4";
    subscribe_is_answered_with_its_identifier: "3.8.4-1", "3.8.4-2";
    the_same_filter_again_replaces_the_subscription: "3.8.4-3";
    replacing_a_subscription_sends_retained_messages_again: "3.8.4-3";
    replacing_a_subscription_does_not_interrupt: "3.8.4-3";
    many_filters_are_as_many_subscriptions: "3.8.4-4";
    each_filter_has_its_code: "3.8.4-5", "3.9.3-2";
    the_lower_qos_wins: "3.8.4-6";
    codes_come_in_the_order_of_the_filters: "3.9.3-1";
    a_failed_subscription_gets_0x80: "3.9.3-2", "3.8.4-5";
    unsubscribe_with_other_flags_ends_the_connection: "3.10.1-1";
    filters_to_end_are_text: "3.10.3-1";
    unsubscribe_without_filters_ends_the_connection: "3.10.3-2";
    only_the_very_same_filter_is_ended: "3.10.4-1";
    nothing_new_comes_after_unsuback: "3.10.4-2";
    what_has_begun_is_finished: "3.10.4-3";
    unsubscribe_is_answered_with_its_identifier: "3.10.4-4";
    unsubscribe_is_answered_where_nothing_was: "3.10.4-5";
    many_filters_are_ended_with_one_answer: "3.10.4-6";
    pingreq_is_answered: "3.12.4-1";
}

fn subscribe_with_other_flags_ends_the_connection(scene: &Scene<'_>) {
    for first in ["80", "81", "83", "84", "8a"] {
        let mut peer = scene.v4("c");
        peer.send(&format!("{first} [0001 <t> 00]"));
        peer.expect_end();
    }
}

fn filters_are_text(scene: &Scene<'_>) {
    for filter in ["0003 eda080", "0001 ff", "0005 'abc'"] {
        let mut peer = scene.v4("c");
        peer.send(&format!("82 [0001 {filter} 00]"));
        peer.expect_end();
    }
}

fn wildcards_are_refused_where_not_supported(scene: &Scene<'_>) {
    let mut peer = scene.at("nowildcard").v4("wild4");
    peer.ask("82 [0001 <a/+> 00 <a/b> 01 <#> 02]", "90 [0001 80 01 80]");
}

fn subscribe_without_filters_ends_the_connection(scene: &Scene<'_>) {
    for packet in ["82 [0001]", "82 []", "82 [0001 <t>]"] {
        let mut peer = scene.v4("c");
        peer.send(packet);
        peer.expect_end();
    }
}

fn reserved_bits_end_the_connection(scene: &Scene<'_>) {
    for options in ["03", "04", "08", "10", "40", "80", "fd"] {
        let mut peer = scene.v4("c");
        peer.send(&format!("82 [0001 <t> {options}]"));
        peer.expect_end();
    }
}

fn subscribe_is_answered_with_its_identifier(scene: &Scene<'_>) {
    let mut peer = scene.v4("c");
    for id in ["0001", "0100", "ffff"] {
        peer.ask(&format!("82 [{id} <t> 02]"), &format!("90 [{id} 02]"));
    }
}

fn the_same_filter_again_replaces_the_subscription(scene: &Scene<'_>) {
    let mut peer = scene.v4("c");
    peer.ask("82 [0001 <t> 02]", "90 [0001 02]");
    peer.ask("82 [0002 <t> 00]", "90 [0002 00]");
    let mut publisher = scene.v4("p");
    publisher.ask("32 [<t> 0001 'x']", "40 [0001]");
    publisher.ask("32 [<t> 0001 'end']", "40 [0001]");
    peer.expect("30 [<t> 'x']");
    peer.expect("30 [<t> 'end']");
    // It is one subscription: ended once, it is gone.
    peer.ask("a2 [0003 <t>]", "b0 [0003]");
    publisher.ask("32 [<t> 0001 'gone']", "40 [0001]");
    peer.ping();
}

fn replacing_a_subscription_sends_retained_messages_again(scene: &Scene<'_>) {
    let mut peer = scene.v4("c");
    peer.ask("33 [<t/a> 0001 'x']", "40 [0001]");
    for qos in ["00", "01", "00"] {
        peer.ask(
            &format!("82 [0002 <t/+> {qos}]"),
            &format!("90 [0002 {qos}]"),
        );
        match qos {
            "00" => peer.expect("31 [<t/a> 'x']"),
            _ => peer.expect("33 [<t/a> ?? ?? 'x']"),
        };
    }
}

fn replacing_a_subscription_does_not_interrupt(scene: &Scene<'_>) {
    let mut peer = scene.v4("c");
    peer.ask("82 [0001 <t> 01]", "90 [0001 01]");
    let mut publisher = scene.v4("p");
    let mut expected = Vec::new();
    for round in 1..=20 {
        publisher.send(&format!("32 [<t> {round:04x} '{round:02}']"));
        peer.send(&format!("82 [{round:04x} <t> 01]"));
        expected.push(format!("{round:02}"));
    }
    let mut seen = Vec::new();
    let mut answers = 0;
    while answers < 20 || seen.len() < 20 {
        let packet = peer.packet().unwrap_or_default();
        match packet.first() {
            Some(0x90) => answers += 1,
            Some(0x32) => seen.push(String::from_utf8_lossy(&packet[7..]).into_owned()),
            _ => peer.fail("SUBACK or PUBLISH expected"),
        }
    }
    assert_eq!(seen, expected, "each once, in order");
}

fn many_filters_are_as_many_subscriptions(scene: &Scene<'_>) {
    let mut peer = scene.v4("c");
    peer.ask("82 [0001 <a> 00 <b> 01 <c> 02]", "90 [0001 00 01 02]");
    for (topic, seen) in [
        ("a", "30 [<a> 'x']"),
        ("b", "32 [<b> ?? ?? 'x']"),
        ("c", "34 [<c> ?? ?? 'x']"),
    ] {
        let mut publisher = scene.v4("p");
        publisher.ask(&format!("34 [<{topic}> 0001 'x']"), "50 [0001]");
        peer.expect(seen);
    }
    // The same filter twice in one packet: the later one stands.
    peer.ask("82 [0002 <d> 02 <d> 00]", "90 [0002 02 00]");
    scene.v4("p").ask("32 [<d> 0001 'x']", "40 [0001]");
    peer.expect("30 [<d> 'x']");
}

fn each_filter_has_its_code(scene: &Scene<'_>) {
    let mut peer = scene.v4("c");
    peer.ask("82 [0001 <a> 00]", "90 [0001 00]");
    peer.ask("82 [0002 <b> 01]", "90 [0002 01]");
    peer.ask("82 [0003 <c> 02]", "90 [0003 02]");
}

fn the_lower_qos_wins(scene: &Scene<'_>) {
    let mut publisher = scene.v4("p");
    for granted in 0..3_u8 {
        let mut peer = scene.v4("c");
        peer.ask(
            &format!("82 [0001 <t> {granted:02x}]"),
            &format!("90 [0001 {granted:02x}]"),
        );
        for published in 0..3_u8 {
            match published {
                0 => publisher.send("30 [<t> 'x']"),
                1 => drop(publisher.ask("32 [<t> 0001 'x']", "40 [0001]")),
                _ => {
                    publisher.ask("34 [<t> 0002 'x']", "50 [0002]");
                    publisher.ask("62 [0002]", "70 [0002]");
                }
            }
            match granted.min(published) {
                0 => peer.expect("30 [<t> 'x']"),
                1 => peer.expect("32 [<t> ?? ?? 'x']"),
                _ => peer.expect("34 [<t> ?? ?? 'x']"),
            };
        }
    }
}

fn codes_come_in_the_order_of_the_filters(scene: &Scene<'_>) {
    let mut peer = scene.v4("c");
    peer.ask(
        "82 [0001 <a> 02 <b> 00 <c> 01 <d> 00 <e> 01]",
        "90 [0001 02 00 01 00 01]",
    );
}

fn a_failed_subscription_gets_0x80(scene: &Scene<'_>) {
    let mut peer = scene.guarded();
    peer.ask("10 [<MQTT> 04 c2 0000 <failed4> <@> <p>]", "20 [00 00]");
    peer.ask("82 [0001 <no> 00 <ok/a> 01 <#> 02]", "90 [0001 80 01 80]");
}

fn unsubscribe_with_other_flags_ends_the_connection(scene: &Scene<'_>) {
    for first in ["a0", "a1", "a3", "a6", "aa"] {
        let mut peer = scene.v4("c");
        peer.send(&format!("{first} [0001 <t>]"));
        peer.expect_end();
    }
}

fn filters_to_end_are_text(scene: &Scene<'_>) {
    for filter in ["0003 eda080", "0001 ff", "0005 'abc'", "<t> 00"] {
        let mut peer = scene.v4("c");
        peer.send(&format!("a2 [0001 {filter}]"));
        peer.expect_end();
    }
}

fn unsubscribe_without_filters_ends_the_connection(scene: &Scene<'_>) {
    for packet in ["a2 [0001]", "a2 []"] {
        let mut peer = scene.v4("c");
        peer.send(packet);
        peer.expect_end();
    }
}

fn only_the_very_same_filter_is_ended(scene: &Scene<'_>) {
    let mut peer = scene.v4("c");
    peer.ask("82 [0001 <a/+> 00]", "90 [0001 00]");
    peer.ask("a2 [0002 <a/b> <a/#> <A/+> <a/+/> <+/+>]", "b0 [0002]");
    peer.ask("30 [<a/b> 'x']", "30 [<a/b> 'x']");
    peer.ask("a2 [0003 <a/+>]", "b0 [0003]");
    peer.send("30 [<a/b> 'x']");
    peer.ping();
}

fn nothing_new_comes_after_unsuback(scene: &Scene<'_>) {
    let mut peer = scene.v4("c");
    peer.ask("82 [0001 <t> 01 <end> 01]", "90 [0001 01 01]");
    peer.ask("a2 [0002 <t>]", "b0 [0002]");
    let mut publisher = scene.v4("p");
    publisher.ask("32 [<t> 0001 'x']", "40 [0001]");
    publisher.ask("32 [<end> 0001 'x']", "40 [0001]");
    peer.expect("32 [<end> ?? ?? 'x']");
}

fn what_has_begun_is_finished(scene: &Scene<'_>) {
    let mut peer = scene.v4_kept("c", 0);
    peer.ask("82 [0001 <t> 02]", "90 [0001 02]");
    let mut publisher = scene.v4("p");
    publisher.ask("34 [<t> 0001 'x']", "50 [0001]");
    publisher.ask("62 [0001]", "70 [0001]");
    let begun = peer.expect("34 [<t> ?? ?? 'x']");
    let id = format!("{:02x}{:02x}", begun[5], begun[6]);
    peer.ask("a2 [0002 <t>]", "b0 [0002]");
    peer.cut();
    let mut peer = scene.v4_kept("c", 1);
    peer.expect(&format!("3c [<t> {id} 'x']"));
    peer.ask(&format!("50 [{id}]"), &format!("62 [{id}]"));
    peer.send(&format!("70 [{id}]"));
    peer.ping();
}

fn unsubscribe_is_answered_with_its_identifier(scene: &Scene<'_>) {
    let mut peer = scene.v4("c");
    peer.ask("82 [0001 <t> 00]", "90 [0001 00]");
    peer.ask("a2 [1234 <t>]", "b0 [1234]");
}

fn unsubscribe_is_answered_where_nothing_was(scene: &Scene<'_>) {
    let mut peer = scene.v4("c");
    peer.ask("a2 [ffff <never>]", "b0 [ffff]");
}

fn many_filters_are_ended_with_one_answer(scene: &Scene<'_>) {
    let mut peer = scene.v4("c");
    peer.ask("82 [0001 <a> 00 <b> 00 <c> 00]", "90 [0001 00 00 00]");
    peer.ask("a2 [0002 <a> <never> <c>]", "b0 [0002]");
    peer.send("30 [<a> 'x'] 30 [<c> 'x'] 30 [<b> 'x']");
    peer.expect("30 [<b> 'x']");
    peer.ping();
}

fn pingreq_is_answered(scene: &Scene<'_>) {
    let mut peer = scene.v4("c");
    peer.send("c000 c000 c000");
    for _ in 0..3 {
        peer.expect("d0 []");
    }
    // A length of zero is the only one.
    peer.send("c0 [00]");
    peer.expect_end();
}
