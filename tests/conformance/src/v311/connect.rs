//! Section 3.1: CONNECT.

use crate::Scene;
use crate::rows;

rows! {
    a_first_packet_other_than_connect_ends_the_connection: "3.1.0-1", "3.2.0-1";
    a_second_connect_ends_the_connection: "3.1.0-2", "4.8.0-1";
    another_protocol_name_is_not_served: "3.1.2-1";
    another_protocol_level_gets_code_1: "3.1.2-2", "3.2.2-4", "3.2.2-5";
    the_reserved_connect_flag_ends_the_connection: "3.1.2-3", "3.1.4-1";
    a_will_needs_its_fields: "3.1.2-9", "3.1.4-1";
    no_will_means_no_will_fields: "3.1.2-11", "3.1.4-1";
    no_will_means_will_qos_0: "3.1.2-11", "3.1.2-13";
    a_will_qos_of_3_ends_the_connection: "3.1.2-14";
    a_will_has_its_qos: "3.1.2-14";
    no_will_means_no_will_retain: "3.1.2-11", "3.1.2-15";
    a_user_name_needs_its_flag: "3.1.2-18", "3.1.4-1";
    a_user_name_flag_needs_the_name: "3.1.2-19", "3.1.4-1";
    a_password_needs_its_flag: "3.1.2-20", "3.1.4-1";
    a_password_flag_needs_the_password: "3.1.2-21", "3.1.4-1";
    a_password_needs_a_user_name: "3.1.2-22";
    silence_beyond_the_keep_alive_is_a_failed_network: "3.1.2-24", "3.1.2-8";
    fields_come_in_their_order: "3.1.3-1";
    the_client_identifier_names_the_session: "3.1.3-2";
    the_client_identifier_is_there_and_first: "3.1.3-3", "3.1.4-1";
    the_client_identifier_is_text: "3.1.3-4";
    the_promised_client_identifiers_are_allowed: "3.1.3-5", "3.1.4-4";
    an_empty_client_identifier_becomes_a_unique_one: "3.1.3-6";
    an_empty_client_identifier_needs_a_clean_session: "3.1.3-7", "3.1.3-8", "3.2.2-4", "3.2.2-5";
    a_refused_client_identifier_gets_code_2: "3.1.3-9", "3.2.2-4", "3.2.2-5";
    the_will_topic_is_text: "3.1.3-10";
    the_user_name_is_text: "3.1.3-11";
    a_malformed_connect_gets_no_connack: "3.1.4-1";
    the_older_connection_of_a_client_ends: "3.1.4-2";
    what_follows_a_refused_connect_is_not_processed: "3.1.4-5";
}

fn a_first_packet_other_than_connect_ends_the_connection(scene: &Scene<'_>) {
    for packet in [
        "30 [<t> 'x']",
        "32 [<t> 0001 'x']",
        "40 [0001]",
        "62 [0001]",
        "82 [0001 <t> 00]",
        "a2 [0001 <t>]",
        "c0 []",
        "e0 []",
        "20 [00 00]",
    ] {
        scene.send(packet).expect_end();
    }
}

fn a_second_connect_ends_the_connection(scene: &Scene<'_>) {
    for connect in [
        "10 [<MQTT> 04 82 0000 <c> <@>]",
        "10 [<MQTT> 04 82 0000 <other> <@>]",
    ] {
        let mut peer = scene.v4("c");
        peer.send(connect);
        peer.expect_end();
    }
}

fn another_protocol_name_is_not_served(scene: &Scene<'_>) {
    for name in ["<MQTX>", "<mqtt>", "<>", "<MQTTT>", "<HTTP/1.1>"] {
        let mut peer = scene.send(&format!("10 [{name} 04 82 0000 <c> <@>]"));
        peer.expect_end();
    }
}

fn another_protocol_level_gets_code_1(scene: &Scene<'_>) {
    for level in ["00", "01", "02", "03"] {
        let mut peer = scene.send(&format!("10 [<MQTT> {level} 82 0000 <c> <@>]"));
        peer.expect("20 [00 01]");
        peer.expect_end();
    }
}

fn the_reserved_connect_flag_ends_the_connection(scene: &Scene<'_>) {
    scene.send("10 [<MQTT> 04 83 0000 <c> <@>]").expect_end();
}

fn a_will_needs_its_fields(scene: &Scene<'_>) {
    for fields in ["", "<will>"] {
        let connect = format!("10 [<MQTT> 04 06 0000 <c> {fields}]");
        scene.send(&connect).expect_end();
    }
}

fn no_will_means_no_will_fields(scene: &Scene<'_>) {
    scene
        .send("10 [<MQTT> 04 02 0000 <c> <will> <gone>]")
        .expect_end();
}

fn no_will_means_will_qos_0(scene: &Scene<'_>) {
    for flags in ["8a", "92"] {
        let mut peer = scene.send(&format!("10 [<MQTT> 04 {flags} 0000 <c> <@>]"));
        peer.expect_end();
    }
}

fn a_will_qos_of_3_ends_the_connection(scene: &Scene<'_>) {
    for flags in ["9e", "be"] {
        let connect = format!("10 [<MQTT> 04 {flags} 0000 <c> <will> <gone> <@>]");
        scene.send(&connect).expect_end();
    }
}

fn a_will_has_its_qos(scene: &Scene<'_>) {
    let mut watcher = scene.v4("watcher");
    watcher.ask("82 [0001 <will> 02]", "90 [0001 02]");
    for (flags, will) in [
        ("86", "30 [<will> 'gone']"),
        ("8e", "32 [<will> ?? ?? 'gone']"),
        ("96", "34 [<will> ?? ?? 'gone']"),
    ] {
        let connect = format!("10 [<MQTT> 04 {flags} 0000 <c> <will> <gone> <@>]");
        let mut peer = scene.send(&connect);
        peer.expect("20 [00 00]");
        peer.cut();
        watcher.expect(will);
    }
}

fn no_will_means_no_will_retain(scene: &Scene<'_>) {
    scene.send("10 [<MQTT> 04 a2 0000 <c> <@>]").expect_end();
}

fn a_user_name_needs_its_flag(scene: &Scene<'_>) {
    scene.send("10 [<MQTT> 04 02 0000 <c> <@>]").expect_end();
}

fn a_user_name_flag_needs_the_name(scene: &Scene<'_>) {
    scene.send("10 [<MQTT> 04 82 0000 <c>]").expect_end();
}

fn a_password_needs_its_flag(scene: &Scene<'_>) {
    scene
        .send("10 [<MQTT> 04 82 0000 <c> <@> <secret>]")
        .expect_end();
}

fn a_password_flag_needs_the_password(scene: &Scene<'_>) {
    scene.send("10 [<MQTT> 04 c2 0000 <c> <@>]").expect_end();
}

fn a_password_needs_a_user_name(scene: &Scene<'_>) {
    scene
        .send("10 [<MQTT> 04 42 0000 <c> <secret>]")
        .expect_end();
}

fn silence_beyond_the_keep_alive_is_a_failed_network(scene: &Scene<'_>) {
    let mut watcher = scene.v4("watcher");
    watcher.ask("82 [0001 <will> 00]", "90 [0001 00]");
    let mut peer = scene.send("10 [<MQTT> 04 86 0001 <c> <will> <gone> <@>]");
    peer.expect("20 [00 00]");
    peer.expect_end();
    watcher.expect("30 [<will> 'gone']");
}

fn fields_come_in_their_order(scene: &Scene<'_>) {
    let mut watcher = scene.v4("watcher");
    watcher.ask("82 [0001 <#> 00]", "90 [0001 00]");
    let mut peer = scene.send("10 [<MQTT> 04 c6 0000 <c> <topic> <message> <@> <secret>]");
    peer.expect("20 [00 00]");
    peer.cut();
    watcher.expect("30 [<topic> 'message']");
}

fn the_client_identifier_names_the_session(scene: &Scene<'_>) {
    let mut first = scene.v4_kept("first", 0);
    first.ask("82 [0001 <t> 01]", "90 [0001 01]");
    first.leave();
    scene.v4_kept("second", 0).leave();
    let mut publisher = scene.v4("p");
    publisher.ask("32 [<t> 0001 'x']", "40 [0001]");
    scene.v4_kept("second", 1).ping();
    scene.v4_kept("first", 1).expect("32 [<t> ?? ?? 'x']");
}

fn the_client_identifier_is_there_and_first(scene: &Scene<'_>) {
    scene.send("10 [<MQTT> 04 02 0000]").expect_end();
    // A length beyond the packet.
    scene.send("10 [<MQTT> 04 02 0000 0005 'abc']").expect_end();
}

fn the_client_identifier_is_text(scene: &Scene<'_>) {
    for id in ["0003 eda080", "0002 c3 28", "0001 ff"] {
        let mut peer = scene.send(&format!("10 [<MQTT> 04 82 0000 {id} <@>]"));
        peer.expect_end();
    }
}

fn the_promised_client_identifiers_are_allowed(scene: &Scene<'_>) {
    for id in [
        "a",
        "0123456789abcdefghijklm",
        "nopqrstuvwxyzABCDEFGHIJ",
        "KLMNOPQRSTUVWXYZ",
    ] {
        scene.v4(id).ping();
    }
}

fn an_empty_client_identifier_becomes_a_unique_one(scene: &Scene<'_>) {
    let mut peers = Vec::new();
    for _ in 0..3 {
        let mut peer = scene.v4("");
        peer.ask("82 [0001 <t> 00]", "90 [0001 00]");
        peers.push(peer);
    }
    scene.v4("p").send("30 [<t> 'x']");
    for peer in &mut peers {
        peer.expect("30 [<t> 'x']");
    }
}

fn an_empty_client_identifier_needs_a_clean_session(scene: &Scene<'_>) {
    scene
        .send("10 [<MQTT> 04 80 0000 <> <@>]")
        .expect_refused(2);
}

fn a_refused_client_identifier_gets_code_2(scene: &Scene<'_>) {
    let long = "x".repeat(1025);
    let connect = format!("10 [<MQTT> 04 82 0000 <{long}> <@>]");
    scene.send(&connect).expect_refused(2);
}

fn the_will_topic_is_text(scene: &Scene<'_>) {
    for topic in ["0003 eda080", "0001 80"] {
        let connect = format!("10 [<MQTT> 04 86 0000 <c> {topic} <gone> <@>]");
        scene.send(&connect).expect_end();
    }
}

fn the_user_name_is_text(scene: &Scene<'_>) {
    for name in ["0003 eda080", "0002 'u' fe"] {
        let mut peer = scene.send(&format!("10 [<MQTT> 04 82 0000 <c> {name}]"));
        peer.expect_end();
    }
}

fn a_malformed_connect_gets_no_connack(scene: &Scene<'_>) {
    for connect in [
        "10 []",
        "10 [00]",
        "10 [<MQTT>]",
        "10 [<MQTT> 04]",
        "10 [<MQTT> 04 82]",
        "10 [<MQTT> 04 82 00]",
        "10 [<MQTT> 04 82 0000 <c> <@> 00]",
        "10 [<MQTT> 04 86 0000 <c> <> <gone> <@>]",
    ] {
        scene.send(connect).expect_end();
    }
}

fn the_older_connection_of_a_client_ends(scene: &Scene<'_>) {
    let mut older = scene.v4("same");
    let mut newer = scene.v4("same");
    older.expect_end();
    newer.ping();
    let mut older = scene.v4_kept("kept", 0);
    let mut newer = scene.v4_kept("kept", 1);
    older.expect_end();
    newer.ping();
}

fn what_follows_a_refused_connect_is_not_processed(scene: &Scene<'_>) {
    let mut watcher = scene.v4("watcher");
    watcher.ask("82 [0001 <#> 00]", "90 [0001 00]");
    let refused = "10 [<MQTT> 04 80 0000 <> <@>]";
    let mut peer = scene.send(&format!("{refused} 31 [<t> 'x'] 82 [0001 <t> 00]"));
    peer.expect_refused(2);
    scene.v4("p").send("30 [<end> 'x']");
    watcher.expect("30 [<end> 'x']");
}
