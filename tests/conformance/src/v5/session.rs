//! Sections 3.1.2.4 to 3.1.3.2, 3.14 and 4.1: sessions and wills.

use super::{BROKEN, breaks};
use crate::rows;
use crate::{Peer, Scene};

rows! {
    clean_start_discards_the_session: "3.1.2-4", "3.1.4-4";
    a_session_is_resumed: "3.1.2-5", "3.1.4-4", "4.1.0-1";
    a_session_is_made_where_there_is_none: "3.1.2-6";
    a_will_is_kept_with_its_session: "3.1.2-7";
    a_will_is_published_when_the_connection_is_lost: "3.1.2-8";
    a_broken_rule_lets_the_will_go: "3.1.2-8";
    a_will_waits_for_its_delay: "3.1.2-8";
    a_will_does_not_wait_beyond_its_session: "3.1.2-8";
    a_will_is_published_once_in_5: "3.1.2-10";
    disconnect_removes_the_will: "3.1.2-10", "3.14.4-3";
    a_will_is_published_as_not_retained: "3.1.2-14";
    a_will_is_published_as_retained: "3.1.2-15";
    a_session_outlives_its_connection: "3.1.2-23";
    a_new_connection_stops_the_will: "3.1.3-9";
    the_properties_of_a_will_keep_their_order: "3.1.3-10";
    flags_of_disconnect_are_zero: "3.14.1-1";
    codes_of_disconnect_are_its_own: "3.14.2-1";
    the_brokers_disconnect_has_no_session_expiry: "3.14.2-2";
    disconnect_is_no_larger_than_asked: "3.14.2-3", "3.14.2-4";
    nothing_follows_disconnect: "3.14.4-1", "3.14.4-2";
    disconnect_with_will_lets_it_go: "3.14.4-3";
    a_session_lasts_while_its_connection_is_open: "4.1.0-1";
    a_session_ends_with_its_expiry: "4.1.0-2";
    disconnect_sets_the_expiry: "4.1.0-2", "3.1.2-23";
    disconnect_cannot_make_a_session_stay: "4.13.1-1";
}

/// A client with a will of QoS 1, "gone" to `will`.
fn willing(scene: &Scene<'_>, first: &str, properties: &str, will: &str) -> Peer {
    let fields = format!("<c> [{will}] <will> <gone> <@>");
    let mut peer = scene.send(&format!(
        "10 [<MQTT> 05 {first} 0000 [{properties}] {fields}]"
    ));
    peer.expect("20 [?? 00 *]");
    peer
}

/// Somebody who sees wills.
fn watcher(scene: &Scene<'_>) -> Peer {
    let mut watcher = scene.v5("watcher");
    watcher.ask("82 [0001 [] <will> 09]", "90 [0001 [] 01]");
    watcher
}

/// Nothing came before this.
fn nothing_but_the_end(watcher: &mut Peer, publisher: &mut Peer) {
    publisher.publish("32 [<will> 00ff [] 'end']");
    watcher.expect("32 [<will> ?? ?? [] 'end']");
}

const GONE: &str = "32 [<will> ?? ?? [] 'gone']";

fn clean_start_discards_the_session(scene: &Scene<'_>) {
    let mut peer = scene.v5_kept("c", 0);
    peer.ask("82 [0001 [] <old> 01]", "90 [0001 [] 01]");
    peer.leave();
    let mut publisher = scene.v5("p");
    publisher.publish("32 [<old> 0001 [] 'before']");
    let connect = "10 [<MQTT> 05 82 0000 [11 00000e10] <c> <@>]";
    let mut peer = scene.send(connect);
    peer.expect("20 [00 00 *]");
    peer.ask("82 [0001 [] <new> 01]", "90 [0001 [] 01]");
    publisher.publish("32 [<old> 0001 [] 'after']");
    publisher.publish("32 [<new> 0001 [] 'end']");
    peer.expect("32 [<new> ?? ?? [] 'end']");
}

fn a_session_is_resumed(scene: &Scene<'_>) {
    let mut peer = scene.v5_kept("c", 0);
    peer.ask("82 [0001 [0b 07] <a> 01 <b/+> 02]", "90 [0001 [] 01 02]");
    peer.leave();
    let mut publisher = scene.v5("p");
    publisher.publish("32 [<a> 0001 [] 'waits']");
    let mut peer = scene.v5_kept("c", 1);
    peer.expect("32 [<a> ?? ?? [0b 07] 'waits']");
    publisher.publish("34 [<a> 0001 [] 'x']");
    publisher.publish("34 [<b/c> 0001 [] 'y']");
    peer.expect_all(&["32 [<a> ?? ?? [0b 07] 'x']", "34 [<b/c> ?? ?? [0b 07] 'y']"]);
}

fn a_session_is_made_where_there_is_none(scene: &Scene<'_>) {
    let mut peer = scene.v5_kept("c", 0);
    peer.ask("82 [0001 [] <t> 00]", "90 [0001 [] 00]");
    peer.ask("30 [<t> [] 'x']", "30 [<t> [] 'x']");
}

fn a_will_is_kept_with_its_session(scene: &Scene<'_>) {
    let mut watcher = watcher(scene);
    // The session stays, and so does the will until its delay has passed.
    willing(scene, "8c", "11 00000e10", "18 00000001").cut();
    watcher.expect(GONE);
    scene.v5_kept("c", 1).ping();
}

fn a_will_is_published_when_the_connection_is_lost(scene: &Scene<'_>) {
    let mut watcher = watcher(scene);
    willing(scene, "8e", "", "").cut();
    watcher.expect(GONE);
    // Taken over is lost too.
    let mut older = willing(scene, "8e", "", "");
    scene.v5("c").ping();
    older.expect_dropped(&[0x8E]);
    watcher.expect(GONE);
}

fn a_broken_rule_lets_the_will_go(scene: &Scene<'_>) {
    let mut watcher = watcher(scene);
    for broken in [
        "36 [<t> 0001 []]",
        "82 [0000 [] <t> 00]",
        "10 [<MQTT> 05 02 0000 [] <c>]",
    ] {
        let mut peer = willing(scene, "8e", "", "");
        peer.send(broken);
        peer.expect_dropped(BROKEN);
        watcher.expect(GONE);
    }
}

fn a_will_waits_for_its_delay(scene: &Scene<'_>) {
    let mut watcher = watcher(scene);
    willing(scene, "8e", "11 00000e10", "18 00000001").cut();
    let mut publisher = scene.v5("p");
    publisher.publish("32 [<will> 0001 [] 'before']");
    watcher.expect("32 [<will> ?? ?? [] 'before']");
    watcher.expect(GONE);
}

fn a_will_does_not_wait_beyond_its_session(scene: &Scene<'_>) {
    let mut watcher = watcher(scene);
    // No session that stays, and one that stays a second.
    willing(scene, "8e", "", "18 00000e10").cut();
    watcher.expect(GONE);
    willing(scene, "8e", "11 00000001", "18 00000e10").cut();
    watcher.expect(GONE);
    // One that a new session ends.
    willing(scene, "8e", "11 00000e10", "18 00000e10").cut();
    scene.v5("c").ping();
    watcher.expect(GONE);
}

fn a_will_is_published_once_in_5(scene: &Scene<'_>) {
    let mut watcher = watcher(scene);
    willing(scene, "8c", "11 00000e10", "").cut();
    watcher.expect(GONE);
    scene.v5_kept("c", 1).cut();
    nothing_but_the_end(&mut watcher, &mut scene.v5_kept("c", 1));
}

fn disconnect_removes_the_will(scene: &Scene<'_>) {
    let mut watcher = watcher(scene);
    for goodbye in ["e0 []", "e0 [00]", "e0 [00 []]"] {
        let mut peer = willing(scene, "8e", "", "");
        peer.send(goodbye);
        peer.expect_end();
        nothing_but_the_end(&mut watcher, &mut scene.v5("c"));
    }
}

fn a_will_is_published_as_not_retained(scene: &Scene<'_>) {
    let mut watcher = watcher(scene);
    willing(scene, "8e", "", "").cut();
    watcher.expect(GONE);
    let mut late = scene.v5("late");
    late.ask("82 [0001 [] <will> 09]", "90 [0001 [] 01]");
    nothing_but_the_end(&mut late, &mut scene.v5("p"));
}

fn a_will_is_published_as_retained(scene: &Scene<'_>) {
    let mut watcher = watcher(scene);
    willing(scene, "ae", "", "").cut();
    // Retain as published: the flag is seen.
    watcher.expect("33 [<will> ?? ?? [] 'gone']");
    let mut late = scene.v5("late");
    late.ask("82 [0001 [] <will> 01]", "90 [0001 [] 01]");
    late.expect("33 [<will> ?? ?? [] 'gone']");
}

fn a_session_outlives_its_connection(scene: &Scene<'_>) {
    for id in ["left", "lost"] {
        let mut peer = scene.v5_kept(id, 0);
        peer.ask("82 [0001 [] <t> 01]", "90 [0001 [] 01]");
        match id {
            "left" => peer.leave(),
            _ => peer.cut(),
        }
    }
    scene.v5("p").publish("32 [<t> 0001 [] 'x']");
    for id in ["left", "lost"] {
        scene.v5_kept(id, 1).expect("32 [<t> ?? ?? [] 'x']");
    }
    // Without an expiry it does not.
    let mut peer = scene.v5("gone");
    peer.ask("82 [0001 [] <t> 01]", "90 [0001 [] 01]");
    peer.leave();
    scene.v5_kept("gone", 0).ping();
}

fn a_new_connection_stops_the_will(scene: &Scene<'_>) {
    let mut watcher = watcher(scene);
    willing(scene, "8e", "11 00000e10", "18 00000002").cut();
    // Resumed before the delay is over; another will then shows that the time has passed.
    scene.v5_kept("c", 1).ping();
    let mut other =
        scene.send("10 [<MQTT> 05 8e 0000 [11 00000e10] <other> [18 00000003] <will> <later> <@>]");
    other.expect("20 [00 00 *]");
    other.cut();
    watcher.expect("32 [<will> ?? ?? [] 'later']");
}

fn the_properties_of_a_will_keep_their_order(scene: &Scene<'_>) {
    let mut watcher = watcher(scene);
    let pairs = "26 <b> <1> 26 <a> <2> 26 <b> <3>";
    willing(scene, "8e", "", pairs).cut();
    watcher.expect(&format!("32 [<will> ?? ?? [{pairs}] 'gone']"));
}

fn flags_of_disconnect_are_zero(scene: &Scene<'_>) {
    let mut watcher = watcher(scene);
    for disconnect in ["e1 []", "e8 [00]"] {
        let mut peer = willing(scene, "8e", "", "");
        peer.send(disconnect);
        peer.expect_dropped(&[0x81]);
        watcher.expect(GONE);
    }
}

fn codes_of_disconnect_are_its_own(scene: &Scene<'_>) {
    // 0x01 and 0x18 are of other packets, 0x89 is only the server's.
    breaks(
        scene,
        &["e0 [01]", "e0 [18]", "e0 [a3]", "e0 [00 [] 00]"],
        BROKEN,
    );
    for (packet, code) in [
        ("36 [<t> 0001 [] 'x']", "81"),
        ("30 [<#> [] 'x']", "90"),
        ("f0 [19 [15 <m>]]", "82"),
        ("30 [<t> [23 0000] 'x']", "94"),
    ] {
        let mut peer = scene.v5("c");
        peer.send(packet);
        peer.expect(&format!("e0 [{code} *]"));
        peer.expect_end();
    }
}

/// DISCONNECTs of the broker, by the code and by what brings them.
const FAREWELLS: [&str; 4] = [
    "36 [<t> 0001 [] 'x']",
    "30 [<#> [] 'x']",
    "10 [<MQTT> 05 82 0000 [] <c> <@>]",
    "82 [0001 []]",
];

fn the_brokers_disconnect_has_no_session_expiry(scene: &Scene<'_>) {
    for packet in FAREWELLS {
        let connect = "10 [<MQTT> 05 80 0000 [11 00000e10] <c> <@>]";
        let mut peer = scene.send(connect);
        peer.expect("20 [?? 00 *]");
        peer.send(packet);
        let farewell = peer.expect("e0 [?? *]");
        assert_ne!(farewell.get(4), Some(&0x11), "{farewell:02x?}");
        peer.expect_end();
    }
}

fn disconnect_is_no_larger_than_asked(scene: &Scene<'_>) {
    for packet in FAREWELLS {
        let mut peer = scene.v5_with("c", "27 00000040");
        peer.send(packet);
        let farewell = peer.packet().unwrap_or_default();
        assert!(farewell.len() <= 64, "{farewell:02x?}");
        peer.expect_end();
    }
}

fn nothing_follows_disconnect(scene: &Scene<'_>) {
    let mut watcher = scene.v5("watcher");
    watcher.ask("82 [0001 [] <#> 01]", "90 [0001 [] 01]");
    let mut peer = scene.v5("c");
    peer.send("e0 [] 30 [<t> [] 'after'] c0 []");
    peer.expect_end();
    // Nor does anything follow the broker's own.
    let mut peer = scene.v5("c");
    peer.send("30 [<#> [] 'x'] 30 [<t> [] 'after'] c0 []");
    peer.expect("e0 [90 *]");
    peer.expect_end();
    scene.v5("c").publish("32 [<end> 0001 [] 'end']");
    watcher.expect("32 [<end> ?? ?? [] 'end']");
}

fn disconnect_with_will_lets_it_go(scene: &Scene<'_>) {
    let mut watcher = watcher(scene);
    for goodbye in ["e0 [04]", "e0 [04 []]", "e0 [80]"] {
        let mut peer = willing(scene, "8e", "", "");
        peer.send(goodbye);
        peer.expect_end();
        watcher.expect(GONE);
    }
}

fn a_session_lasts_while_its_connection_is_open(scene: &Scene<'_>) {
    // An expiry of nothing, and of less than the connection lasts.
    let mut short = scene.v5_with("short", "11 00000001");
    let mut none = scene.v5("none");
    for peer in [&mut short, &mut none] {
        peer.ask("82 [0001 [] <t> 01]", "90 [0001 [] 01]");
    }
    // A second and more passes, told by another session's will.
    let mut watcher = watcher(scene);
    willing(scene, "8e", "11 00000e10", "18 00000002").cut();
    watcher.expect(GONE);
    scene.v5("p").publish("32 [<t> 0001 [] 'x']");
    for peer in [&mut short, &mut none] {
        peer.expect("32 [<t> 0001 [] 'x']");
    }
}

fn a_session_ends_with_its_expiry(scene: &Scene<'_>) {
    let mut watcher = watcher(scene);
    // The will of a session goes at the latest when it ends: then it is over.
    let mut peer = willing(scene, "8e", "11 00000001", "18 00000e10");
    peer.ask("82 [0001 [] <t> 01]", "90 [0001 [] 01]");
    peer.cut();
    watcher.expect(GONE);
    scene.v5_kept("c", 0).ping();
}

fn disconnect_sets_the_expiry(scene: &Scene<'_>) {
    let mut peer = scene.v5_kept("ends", 0);
    peer.send("e0 [00 [11 00000000]]");
    peer.expect_end();
    scene.v5_kept("ends", 0).ping();
    let mut peer = scene.v5_kept("stays", 0);
    peer.send("e0 [00 [11 00001c20]]");
    peer.expect_end();
    scene.v5_kept("stays", 1).ping();
}

fn disconnect_cannot_make_a_session_stay(scene: &Scene<'_>) {
    breaks(scene, &["e0 [00 [11 00000e10]]"], &[0x82]);
    scene.v5_kept("c", 0).ping();
}
