//! Section 3.1: CONNECT.

use super::{BROKEN, breaks, refuses};
use crate::Scene;
use crate::rows;

rows! {
    connect_is_first: "3.1.0-1", "3.2.0-1", "3.14.0-1";
    connect_comes_once: "3.1.0-2", "3.2.0-2", "4.13.1-1";
    the_protocol_name_is_mqtt: "3.1.2-1";
    an_unknown_version_gets_0x84: "3.1.2-2", "3.2.2-7";
    the_reserved_flag_is_refused: "3.1.2-3", "3.1.4-1";
    a_will_has_its_fields: "3.1.2-9", "3.1.4-1";
    no_will_has_no_qos: "3.1.2-11";
    a_will_qos_of_3_is_refused: "3.1.2-12";
    a_will_is_sent_with_its_qos: "3.1.2-12";
    no_will_has_no_retain: "3.1.2-13";
    a_user_name_without_its_flag_is_refused: "3.1.2-16", "3.1.4-1";
    a_user_name_flag_without_the_name_is_refused: "3.1.2-17", "3.1.4-1";
    a_password_without_its_flag_is_refused: "3.1.2-18", "3.1.4-1";
    a_password_flag_without_the_password_is_refused: "3.1.2-19", "3.1.4-1";
    silence_is_a_failed_network: "3.1.2-22";
    problem_information_can_be_declined: "3.1.2-29";
    response_information_is_for_those_who_ask: "3.1.2-28";
    fields_come_in_order: "3.1.3-1";
    the_identifier_names_the_session: "3.1.3-2";
    the_identifier_is_there_and_first: "3.1.3-3";
    the_identifier_is_text: "3.1.3-4";
    the_promised_identifiers_are_allowed: "3.1.3-5", "3.1.4-5";
    an_empty_identifier_becomes_a_new_one: "3.1.3-6", "3.1.3-7", "3.2.2-16";
    a_refused_identifier_gets_0x85: "3.1.3-8", "3.1.4-2", "3.2.2-7";
    the_will_topic_is_a_string: "3.1.3-11";
    the_user_name_is_a_string: "3.1.3-12";
    a_malformed_connect_ends_the_connection: "3.1.4-1", "4.13.1-1";
    failed_checks_end_the_connection: "3.1.4-2", "3.2.2-7", "4.13.2-1";
    an_older_connection_is_told_0x8e: "3.1.4-3";
    nothing_behind_a_refused_connect_is_processed: "3.1.4-6";
}

fn connect_is_first(scene: &Scene<'_>) {
    for packet in [
        "30 [<t> [] 'x']",
        "32 [<t> 0001 [] 'x']",
        "40 [0001]",
        "82 [0001 [] <t> 00]",
        "c0 []",
        "e0 []",
        "f0 [18 [15 <m>]]",
        "20 [00 00 []]",
    ] {
        // Not even a DISCONNECT: nobody is connected.
        scene.send(packet).expect_end();
    }
}

fn connect_comes_once(scene: &Scene<'_>) {
    let connects = [
        "10 [<MQTT> 05 82 0000 [] <c> <@>]",
        "10 [<MQTT> 05 82 0000 [] <other> <@>]",
        "10 [<MQTT> 04 82 0000 <other> <@>]",
    ];
    breaks(scene, &connects, BROKEN);
}

fn the_protocol_name_is_mqtt(scene: &Scene<'_>) {
    for name in ["<MQTX>", "<mqtt>", "<>", "<MQTTT>"] {
        let connect = format!("10 [{name} 05 82 0000 [] <c> <@>]");
        scene.send(&connect).expect_unconnected(&[0x84]);
    }
}

fn an_unknown_version_gets_0x84(scene: &Scene<'_>) {
    for level in ["06", "07", "ff"] {
        let mut peer = scene.send(&format!("10 [<MQTT> {level} 82 0000 [] <c> <@>]"));
        peer.expect("20 [00 84 *]");
        peer.expect_end();
    }
}

fn the_reserved_flag_is_refused(scene: &Scene<'_>) {
    refuses(scene, &["10 [<MQTT> 05 83 0000 [] <c> <@>]"], BROKEN);
}

fn a_will_has_its_fields(scene: &Scene<'_>) {
    let connects =
        ["", "[]", "[] <will>"].map(|fields| format!("10 [<MQTT> 05 06 0000 [] <c> {fields}]"));
    refuses(scene, &connects, BROKEN);
}

fn no_will_has_no_qos(scene: &Scene<'_>) {
    let connects = ["8a", "92"].map(|flags| format!("10 [<MQTT> 05 {flags} 0000 [] <c> <@>]"));
    refuses(scene, &connects, BROKEN);
}

fn a_will_qos_of_3_is_refused(scene: &Scene<'_>) {
    let connect = |flags| format!("10 [<MQTT> 05 {flags} 0000 [] <c> [] <will> <gone> <@>]");
    refuses(scene, &["9e", "be"].map(connect), BROKEN);
}

fn a_will_is_sent_with_its_qos(scene: &Scene<'_>) {
    let mut watcher = scene.v5("watcher");
    watcher.ask("82 [0001 [] <will> 02]", "90 [0001 [] 02]");
    for (flags, will) in [
        ("86", "30 [<will> [] 'gone']"),
        ("8e", "32 [<will> ?? ?? [] 'gone']"),
        ("96", "34 [<will> ?? ?? [] 'gone']"),
    ] {
        let connect = format!("10 [<MQTT> 05 {flags} 0000 [] <c> [] <will> <gone> <@>]");
        let mut peer = scene.send(&connect);
        peer.expect("20 [00 00 *]");
        peer.cut();
        watcher.expect(will);
    }
}

fn no_will_has_no_retain(scene: &Scene<'_>) {
    refuses(scene, &["10 [<MQTT> 05 a2 0000 [] <c> <@>]"], BROKEN);
}

fn a_user_name_without_its_flag_is_refused(scene: &Scene<'_>) {
    refuses(scene, &["10 [<MQTT> 05 02 0000 [] <c> <@>]"], BROKEN);
}

fn a_user_name_flag_without_the_name_is_refused(scene: &Scene<'_>) {
    refuses(scene, &["10 [<MQTT> 05 82 0000 [] <c>]"], BROKEN);
}

fn a_password_without_its_flag_is_refused(scene: &Scene<'_>) {
    refuses(
        scene,
        &["10 [<MQTT> 05 82 0000 [] <c> <@> <secret>]"],
        BROKEN,
    );
}

fn a_password_flag_without_the_password_is_refused(scene: &Scene<'_>) {
    refuses(scene, &["10 [<MQTT> 05 c2 0000 [] <c> <@>]"], BROKEN);
}

fn silence_is_a_failed_network(scene: &Scene<'_>) {
    let mut watcher = scene.v5("watcher");
    watcher.ask("82 [0001 [] <will> 00]", "90 [0001 [] 00]");
    let mut peer = scene.send("10 [<MQTT> 05 86 0001 [] <c> [] <will> <gone> <@>]");
    peer.expect("20 [00 00 *]");
    peer.expect_dropped(&[0x8D]);
    watcher.expect("30 [<will> [] 'gone']");
}

fn problem_information_can_be_declined(scene: &Scene<'_>) {
    // Every failure that is no end of the connection, without a reason string or user property.
    let mut peer = scene.guarded();
    peer.ask(
        "10 [<MQTT> 05 c2 0000 [17 00] <quiet5> <@> <p>]",
        "20 [00 00 *]",
    );
    peer.ask("82 [0001 [] <no> 00]", "90 [0001 [] 87]");
    peer.ask("a2 [0002 [] <ok/never>]", "b0 [0002 [] 11]");
    for (packet, answers) in [
        ("32 [<no> 0003 [] 'x']", ["40 [0003 87]", "40 [0003 87 []]"]),
        ("34 [<no> 0004 [] 'x']", ["50 [0004 87]", "50 [0004 87 []]"]),
        ("62 [0005]", ["70 [0005 92]", "70 [0005 92 []]"]),
        ("50 [0006]", ["62 [0006 92]", "62 [0006 92 []]"]),
    ] {
        peer.send(packet);
        peer.expect_one(&answers);
    }
}

fn response_information_is_for_those_who_ask(scene: &Scene<'_>) {
    for asked in ["", "19 00"] {
        let mut peer = scene.send(&format!("10 [<MQTT> 05 82 0000 [{asked}] <c> <@>]"));
        let properties = crate::fields::connack(&peer.expect("20 [00 00 *]"));
        assert!(crate::fields::values(&properties, 0x1A).is_empty());
        peer.leave();
    }
}

fn fields_come_in_order(scene: &Scene<'_>) {
    let mut watcher = scene.v5("watcher");
    watcher.ask("82 [0001 [] <#> 00]", "90 [0001 [] 00]");
    let fields = "<c> [03 <type>] <topic> <message> <@> <secret>";
    let mut peer = scene.send(&format!("10 [<MQTT> 05 c6 0000 [] {fields}]"));
    peer.expect("20 [00 00 *]");
    peer.cut();
    watcher.expect("30 [<topic> [03 <type>] 'message']");
}

fn the_identifier_names_the_session(scene: &Scene<'_>) {
    let mut first = scene.v5_kept("first", 0);
    first.ask("82 [0001 [] <t> 01]", "90 [0001 [] 01]");
    first.leave();
    scene.v5_kept("second", 0).leave();
    scene.v5("p").publish("32 [<t> 0001 [] 'x']");
    scene.v5_kept("second", 1).ping();
    scene.v5_kept("first", 1).expect("32 [<t> ?? ?? [] 'x']");
}

fn the_identifier_is_there_and_first(scene: &Scene<'_>) {
    let connects = [
        "10 [<MQTT> 05 02 0000 []]",
        "10 [<MQTT> 05 02 0000 [] 0005 'abc']",
    ];
    refuses(scene, &connects, BROKEN);
}

fn the_identifier_is_text(scene: &Scene<'_>) {
    let connects = ["0003 eda080", "0002 c3 28", "0001 ff"]
        .map(|id| format!("10 [<MQTT> 05 82 0000 [] {id} <@>]"));
    refuses(scene, &connects, &[0x81, 0x82, 0x85]);
}

fn the_promised_identifiers_are_allowed(scene: &Scene<'_>) {
    for id in [
        "a",
        "0123456789abcdefghijklm",
        "nopqrstuvwxyzABCDEFGHIJ",
        "KLMNOPQRSTUVWXYZ",
    ] {
        scene.v5(id).ping();
    }
}

fn an_empty_identifier_becomes_a_new_one(scene: &Scene<'_>) {
    let mut given = Vec::new();
    // Also with Clean Start 0: the identifier is one that nobody has.
    for flags in ["82", "80", "82"] {
        let mut peer = scene.send(&format!("10 [<MQTT> 05 {flags} 0000 [] <> <@>]"));
        let properties = crate::fields::connack(&peer.expect("20 [00 00 *]"));
        let ids = crate::fields::values(&properties, 0x12);
        assert_eq!(ids.len(), 1, "{properties:02x?}");
        let id = String::from_utf8(ids[0].to_vec()).expect("text");
        assert!(!id.is_empty() && !given.iter().any(|(other, _)| *other == id));
        given.push((id, peer));
    }
    // Each is a client as any other: the same identifier takes its session over.
    for (id, mut peer) in given {
        scene.v5(&id).ping();
        peer.expect_dropped(&[0x8E]);
    }
}

fn a_refused_identifier_gets_0x85(scene: &Scene<'_>) {
    let long = "x".repeat(1025);
    let connect = format!("10 [<MQTT> 05 82 0000 [] <{long}> <@>]");
    scene.send(&connect).expect_refused(0x85);
}

fn the_will_topic_is_a_string(scene: &Scene<'_>) {
    let connects = ["0003 eda080", "0001 80"]
        .map(|topic| format!("10 [<MQTT> 05 86 0000 [] <c> [] {topic} <gone> <@>]"));
    refuses(scene, &connects, &[0x81, 0x82, 0x90]);
}

fn the_user_name_is_a_string(scene: &Scene<'_>) {
    let connects =
        ["0003 eda080", "0002 'u' fe"].map(|name| format!("10 [<MQTT> 05 82 0000 [] <c> {name}]"));
    refuses(scene, &connects, &[0x81, 0x82, 0x86]);
}

fn a_malformed_connect_ends_the_connection(scene: &Scene<'_>) {
    let connects = [
        "10 []",
        "10 [00]",
        "10 [<MQTT>]",
        "10 [<MQTT> 05]",
        "10 [<MQTT> 05 82]",
        "10 [<MQTT> 05 82 00]",
        "10 [<MQTT> 05 82 0000 05]",
        "10 [<MQTT> 05 82 0000 [] <c> <@> 00]",
        "10 [<MQTT> 05 86 0000 [] <c> [08 <a/#>] <will> <gone> <@>]",
        "10 [<MQTT> 05 86 0000 [] <c> [23 0001] <will> <gone> <@>]",
    ];
    refuses(scene, &connects, BROKEN);
    let connects =
        ["<>", "<a/#>", "<+>"].map(|t| format!("10 [<MQTT> 05 86 0000 [] <c> [] {t} <gone> <@>]"));
    refuses(scene, &connects, &[0x81, 0x82, 0x90]);
}

fn failed_checks_end_the_connection(scene: &Scene<'_>) {
    let mut peer = scene.guarded();
    peer.send("10 [<MQTT> 05 c2 0000 [] <c5> <@> <wrong>]");
    peer.expect_refused(0x86);
    // A session of that name is there, but another user's.
    scene.v5_kept("mine", 0).leave();
    let connect = "10 [<MQTT> 05 80 0000 [11 00000e10] <mine> <@x>]";
    scene.send(connect).expect_refused(0x87);
}

fn an_older_connection_is_told_0x8e(scene: &Scene<'_>) {
    let mut older = scene.v5("same");
    let mut newer = scene.v5("same");
    older.expect("e0 [8e *]");
    older.expect_end();
    newer.ping();
    let mut older = scene.v5_kept("kept", 0);
    let mut newer = scene.v5_kept("kept", 1);
    older.expect("e0 [8e *]");
    older.expect_end();
    newer.ping();
}

fn nothing_behind_a_refused_connect_is_processed(scene: &Scene<'_>) {
    let mut watcher = scene.v5("watcher");
    watcher.ask("82 [0001 [] <#> 00]", "90 [0001 [] 00]");
    let refused = format!("10 [<MQTT> 05 82 0000 [] <{}> <@>]", "x".repeat(1025));
    let mut peer = scene.send(&format!("{refused} 31 [<t> [] 'x'] 82 [0001 [] <t> 00]"));
    peer.expect_refused(0x85);
    scene.v5("p").send("30 [<end> [] 'x']");
    watcher.expect("30 [<end> [] 'x']");
}
