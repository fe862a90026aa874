//! Sections 3.1.2.4, 3.1.2.5, 3.14 and 4.1: sessions and wills.

use crate::Scene;
use crate::rows;

rows! {
    a_session_that_stays_is_resumed: "3.1.2-4", "3.1.4-3", "4.1.0-1", "3.2.2-2";
    messages_wait_for_a_session_that_stays: "3.1.2-5", "4.5.0-1";
    a_clean_session_starts_anew: "3.1.2-6", "3.1.4-3";
    a_clean_session_leaves_nothing_behind: "3.1.2-6";
    retained_messages_outlive_the_session: "3.1.2-7";
    a_lost_connection_publishes_the_will: "3.1.2-8";
    a_broken_rule_publishes_the_will: "3.1.2-8";
    disconnect_drops_the_will: "3.14.4-3", "3.1.2-10";
    a_will_is_published_once: "3.1.2-10";
    no_will_is_published_without_one: "3.1.2-12";
    a_will_is_not_retained_unless_asked: "3.1.2-16";
    a_will_is_retained_if_asked: "3.1.2-17";
    disconnect_with_flags_ends_the_connection: "3.14.1-1";
    disconnect_ends_the_connection: "3.14.4-1", "3.14.4-2";
    a_session_lasts_with_its_connection: "4.1.0-2";
}

fn a_session_that_stays_is_resumed(scene: &Scene<'_>) {
    let mut peer = scene.v4_kept("c", 0);
    peer.ask("82 [0001 <a> 01 <b/+> 02]", "90 [0001 01 02]");
    peer.leave();
    let mut peer = scene.v4_kept("c", 1);
    let mut publisher = scene.v4("p");
    publisher.ask("34 [<a> 0001 'x']", "50 [0001]");
    publisher.ask("62 [0001]", "70 [0001]");
    publisher.ask("34 [<b/c> 0001 'y']", "50 [0001]");
    publisher.ask("62 [0001]", "70 [0001]");
    peer.expect_all(&["32 [<a> ?? ?? 'x']", "34 [<b/c> ?? ?? 'y']"]);
}

fn messages_wait_for_a_session_that_stays(scene: &Scene<'_>) {
    let mut peer = scene.v4_kept("c", 0);
    peer.ask("82 [0001 <t> 02]", "90 [0001 02]");
    peer.leave();
    let mut publisher = scene.v4("p");
    publisher.ask("32 [<t> 0001 'one']", "40 [0001]");
    publisher.ask("34 [<t> 0002 'two']", "50 [0002]");
    publisher.ask("62 [0002]", "70 [0002]");
    let mut peer = scene.v4_kept("c", 1);
    peer.expect("32 [<t> ?? ?? 'one']");
    peer.expect("34 [<t> ?? ?? 'two']");
}

fn a_clean_session_starts_anew(scene: &Scene<'_>) {
    let mut peer = scene.v4_kept("c", 0);
    peer.ask("82 [0001 <old> 01]", "90 [0001 01]");
    peer.leave();
    let mut publisher = scene.v4("p");
    publisher.ask("32 [<old> 0001 'before']", "40 [0001]");
    let mut peer = scene.v4("c");
    peer.ask("82 [0001 <new> 01]", "90 [0001 01]");
    publisher.ask("32 [<old> 0001 'after']", "40 [0001]");
    publisher.ask("32 [<new> 0001 'end']", "40 [0001]");
    peer.expect("32 [<new> ?? ?? 'end']");
}

fn a_clean_session_leaves_nothing_behind(scene: &Scene<'_>) {
    let mut peer = scene.v4("c");
    peer.ask("82 [0001 <old> 01]", "90 [0001 01]");
    peer.leave();
    let mut peer = scene.v4_kept("c", 0);
    peer.ask("82 [0001 <new> 01]", "90 [0001 01]");
    let mut publisher = scene.v4("p");
    publisher.ask("32 [<old> 0001 'x']", "40 [0001]");
    publisher.ask("32 [<new> 0001 'end']", "40 [0001]");
    peer.expect("32 [<new> ?? ?? 'end']");
}

fn retained_messages_outlive_the_session(scene: &Scene<'_>) {
    let mut publisher = scene.v4("p");
    publisher.ask("33 [<t> 0001 'x']", "40 [0001]");
    publisher.leave();
    scene.v4("p").leave();
    let mut peer = scene.v4("c");
    peer.ask("82 [0001 <t> 00]", "90 [0001 00]");
    peer.expect("31 [<t> 'x']");
}

fn a_lost_connection_publishes_the_will(scene: &Scene<'_>) {
    let mut watcher = scene.v4("watcher");
    watcher.ask("82 [0001 <will> 01]", "90 [0001 01]");
    let mut peer = scene.send("10 [<MQTT> 04 8e 0000 <c> <will> <gone> <@>]");
    peer.expect("20 [00 00]");
    peer.cut();
    watcher.expect("32 [<will> ?? ?? 'gone']");
    // The will of a connection that is taken over, too.
    let mut older = scene.send("10 [<MQTT> 04 8e 0000 <c> <will> <taken> <@>]");
    older.expect("20 [00 00]");
    scene.v4("c").ping();
    older.expect_end();
    watcher.expect("32 [<will> ?? ?? 'taken']");
}

fn a_broken_rule_publishes_the_will(scene: &Scene<'_>) {
    let mut watcher = scene.v4("watcher");
    watcher.ask("82 [0001 <will> 00]", "90 [0001 00]");
    for broken in [
        "36 [<t> 0001]",
        "82 [0000 <t> 00]",
        "10 [<MQTT> 04 02 0000 <c>]",
    ] {
        let mut peer = scene.send("10 [<MQTT> 04 86 0000 <c> <will> <gone> <@>]");
        peer.expect("20 [00 00]");
        peer.send(broken);
        peer.expect_end();
        watcher.expect("30 [<will> 'gone']");
    }
}

fn disconnect_drops_the_will(scene: &Scene<'_>) {
    let mut watcher = scene.v4("watcher");
    watcher.ask("82 [0001 <will> 01]", "90 [0001 01]");
    let mut peer = scene.send("10 [<MQTT> 04 8e 0000 <c> <will> <gone> <@>]");
    peer.expect("20 [00 00]");
    peer.leave();
    // The session is over once its next connection is let in.
    let mut peer = scene.v4("c");
    peer.ask("32 [<will> 0001 'end']", "40 [0001]");
    watcher.expect("32 [<will> ?? ?? 'end']");
}

fn a_will_is_published_once(scene: &Scene<'_>) {
    let mut watcher = scene.v4("watcher");
    watcher.ask("82 [0001 <will> 01]", "90 [0001 01]");
    let mut peer = scene.send("10 [<MQTT> 04 8c 0000 <c> <will> <gone> <@>]");
    peer.expect("20 [00 00]");
    peer.cut();
    watcher.expect("32 [<will> ?? ?? 'gone']");
    let peer = scene.v4_kept("c", 1);
    peer.cut();
    let mut peer = scene.v4_kept("c", 1);
    peer.ask("32 [<will> 0001 'end']", "40 [0001]");
    watcher.expect("32 [<will> ?? ?? 'end']");
}

fn no_will_is_published_without_one(scene: &Scene<'_>) {
    let mut watcher = scene.v4("watcher");
    watcher.ask("82 [0001 <#> 01]", "90 [0001 01]");
    scene.v4("c").cut();
    let mut peer = scene.v4("c");
    peer.ask("32 [<end> 0001 'end']", "40 [0001]");
    watcher.expect("32 [<end> ?? ?? 'end']");
}

fn a_will_is_not_retained_unless_asked(scene: &Scene<'_>) {
    let mut watcher = scene.v4("watcher");
    watcher.ask("82 [0001 <will> 00]", "90 [0001 00]");
    let mut peer = scene.send("10 [<MQTT> 04 86 0000 <c> <will> <gone> <@>]");
    peer.expect("20 [00 00]");
    peer.cut();
    watcher.expect("30 [<will> 'gone']");
    watcher.ask("a2 [0002 <will>]", "b0 [0002]");
    watcher.ask("82 [0003 <will> 00]", "90 [0003 00]");
    watcher.ask("30 [<will> 'end']", "30 [<will> 'end']");
}

fn a_will_is_retained_if_asked(scene: &Scene<'_>) {
    let mut watcher = scene.v4("watcher");
    watcher.ask("82 [0001 <will> 00]", "90 [0001 00]");
    let mut peer = scene.send("10 [<MQTT> 04 a6 0000 <c> <will> <gone> <@>]");
    peer.expect("20 [00 00]");
    peer.cut();
    watcher.expect("30 [<will> 'gone']");
    watcher.ask("a2 [0002 <will>]", "b0 [0002]");
    watcher.ask("82 [0003 <will> 00]", "90 [0003 00]");
    watcher.expect("31 [<will> 'gone']");
}

fn disconnect_with_flags_ends_the_connection(scene: &Scene<'_>) {
    let mut watcher = scene.v4("watcher");
    watcher.ask("82 [0001 <will> 00]", "90 [0001 00]");
    for disconnect in ["e1 []", "e8 []", "e0 [00]"] {
        let mut peer = scene.send("10 [<MQTT> 04 86 0000 <c> <will> <gone> <@>]");
        peer.expect("20 [00 00]");
        peer.send(disconnect);
        peer.expect_end();
        // It was no DISCONNECT: the will stands.
        watcher.expect("30 [<will> 'gone']");
    }
}

fn disconnect_ends_the_connection(scene: &Scene<'_>) {
    let mut watcher = scene.v4("watcher");
    watcher.ask("82 [0001 <#> 01]", "90 [0001 01]");
    let mut peer = scene.v4("c");
    peer.send("e0 [] 30 [<t> 'after'] c0 []");
    peer.expect_end();
    let mut peer = scene.v4("c");
    peer.ask("32 [<end> 0001 'end']", "40 [0001]");
    watcher.expect("32 [<end> ?? ?? 'end']");
}

fn a_session_lasts_with_its_connection(scene: &Scene<'_>) {
    let mut peer = scene.v4("c");
    peer.ask("82 [0001 <t> 01]", "90 [0001 01]");
    for round in 1..=3 {
        peer.ping();
        scene.v4("other").leave();
        scene.v4("p").ask("32 [<t> 0001 'x']", "40 [0001]");
        let packet = peer.expect("32 [<t> ?? ?? 'x']");
        peer.send(&format!("40 [{:02x}{:02x}]", packet[5], packet[6]));
        assert_eq!(usize::from(packet[6]), round, "it is the same session");
    }
}
