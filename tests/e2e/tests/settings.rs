//! Every setting of a tenant, below its value, at it and above it. Each row has a tenant of its own
//! in one config file, so that what one tenant is given binds no other.

use std::time::{Duration, Instant};

use bifrust_e2e::broker::run_cli;
use bifrust_e2e::wire::{self, AckKind};
use bifrust_e2e::{
    Broker, Client, Connect, Filter, Packet, Property, Publish, VERSIONS, Version, Will,
};

/// A setting, the value its tenant is given, and what shows that it is in force.
type Row = (&'static str, &'static str, fn(&Tenant<'_>));

const ROWS: &[Row] = &[
    ("MQTT3Enabled", "false", old_version),
    ("MQTT4Enabled", "false", version_4),
    ("MQTT5Enabled", "false", version_5),
    ("MaxTopicLength", "20", topic_length),
    ("MaxTopicLevels", "3", topic_levels),
    ("MaxTopicLevelLength", "6", topic_level_length),
    ("MaxClientIdLength", "30", client_id_length),
    ("MaxUserPayloadBytes", "70000", packet_bytes),
    ("MaxLastWillBytes", "100", will_bytes),
    ("MaxTopicFiltersPerSub", "3", filters_per_packet),
    ("MaxTopicFiltersPerInbox", "3", filters_per_session),
    ("MsgPubPerSec", "5", publish_rate),
    ("InBoundBandWidth", "40000", inbound_bandwidth),
    ("OutBoundBandWidth", "40000", outbound_bandwidth),
    ("ReceivingMaximum", "3", receive_maximum),
    ("MaxInflight", "3", inflight),
    ("SessionInboxSize", "3", inbox_size),
    ("SessionInboxBytes", "65536", inbox_bytes),
    ("QoS0OfflineQueue", "true", offline_qos0),
    ("QoS0DropOldest", "false", drop_newest),
    ("MaxSessionExpirySeconds", "100", expiry_max),
    ("MinSessionExpirySeconds", "10", expiry_min),
    ("V3SessionExpirySeconds", "0", expiry_v3),
    ("MinKeepAliveSeconds", "10", keep_alive_min),
    ("MaxKeepAliveSeconds", "20", keep_alive_max),
    ("RetainMessageMatchLimit", "3", retained_limit),
    ("MaxTopicAlias", "3", topic_alias),
    ("PayloadFormatValidationEnabled", "false", payload_format),
    ("ForbiddenPublishV3", "\"ack\"", forbidden_publish),
    ("Durability", "\"leader-memory\"", durability),
    ("ForceTransient", "true", force_transient),
    ("RetainEnabled", "false", no_retain),
    ("WildcardSubscriptionEnabled", "false", no_wildcards),
    ("SubscriptionIdentifierEnabled", "false", no_identifiers),
    ("MaximumQoS", "1", maximum_qos),
    ("MaxPersistentFanout", "2", persistent_fanout),
];

/// Settings that no row shows, and why.
const ELSEWHERE: &[(&str, &str)] = &[
    ("MaxResendTimes", "has no effect, told at start"),
    ("ResendTimeoutSeconds", "has no effect, told at start"),
    ("MinSendPerSec", "has no effect, told at start"),
    ("DebugModeEnabled", "has no effect, told at start"),
    ("NoLWTWhenServerShuttingDown", "needs a stop: a test below"),
    (
        "ByPassPermCheckError",
        "needs a permission check that fails: tests of the edge",
    ),
    ("MaxSharedGroupMembers", "tests/shared.rs"),
    ("MaxGroupFanout", "tests/shared.rs"),
    ("SharedSubscriptionEnabled", "tests/shared.rs"),
];

/// One tenant of the broker that all rows share.
struct Tenant<'a> {
    broker: &'a Broker,
    name: &'a str,
    setting: &'a str,
}

impl Tenant<'_> {
    fn of(&self, connect: Connect) -> Connect {
        connect.user(format!("{}/user", self.name))
    }

    fn connect(&self, connect: Connect) -> Client {
        self.broker.connect(&self.of(connect))
    }

    fn refuse(&self, connect: Connect) -> u8 {
        self.broker.refuse(&self.of(connect))
    }

    fn client(&self, version: Version) -> Client {
        self.connect(Connect::new(version, "client"))
    }

    /// A transient and a persistent session of each version.
    fn kinds(&self) -> Vec<Connect> {
        VERSIONS
            .into_iter()
            .flat_map(|version| {
                [
                    Connect::new(version, format!("transient {version:?}")),
                    Connect::persistent(version, format!("persistent {version:?}")),
                ]
            })
            .collect()
    }
}

#[test]
fn each_setting_is_in_force_in_its_tenant() {
    let mut config = String::new();
    for (setting, value, _) in ROWS {
        let table = format!("[tenants.{}.settings]\n", setting.to_lowercase());
        config.push_str(&format!("{table}{setting} = {value}\n"));
        if *setting == "QoS0DropOldest" {
            config.push_str("QoS0OfflineQueue = true\nSessionInboxSize = 3\n");
        }
    }
    let broker = Broker::builder().config(config).start();
    for (setting, _, show) in ROWS {
        // The test's output is read where a row fails.
        println!("{setting}");
        show(&Tenant {
            broker: &broker,
            name: &setting.to_lowercase(),
            setting,
        });
    }
}

#[test]
fn every_setting_has_a_row_or_a_reason() {
    let output = run_cli(&["config", "keys"], "");
    let mut missing = Vec::new();
    let mut known = Vec::new();
    for word in output.stdout.split_whitespace() {
        let name = word.strip_prefix("settings.");
        if let Some(name) = name.filter(|name| name.chars().all(char::is_alphanumeric)) {
            known.push(name.to_owned());
            let has_row = ROWS.iter().any(|(setting, ..)| *setting == name);
            let has_reason = ELSEWHERE.iter().any(|(setting, _)| *setting == name);
            if has_row == has_reason {
                missing.push(name.to_owned());
            }
        }
    }
    assert!(known.len() >= ROWS.len(), "{output:?}");
    assert!(missing.is_empty(), "neither or both: {missing:?}");
}

#[test]
fn settings_without_effect_are_told() {
    for setting in ELSEWHERE
        .iter()
        .filter(|(_, why)| why.contains("no effect"))
    {
        let value = match setting.0 {
            "DebugModeEnabled" => "true",
            _ => "5",
        };
        let broker = Broker::builder().setting(setting.0, value).start();
        let log = broker.log();
        let is_told = |line: &str| line.contains(setting.0) && line.contains("no effect");
        assert!(log.lines().any(is_told), "{log}");
    }
}

#[test]
fn wills_at_a_graceful_stop_follow_the_setting() {
    for is_suppressed in [false, true] {
        let mut broker = Broker::builder()
            .setting("NoLWTWhenServerShuttingDown", is_suppressed)
            .start();
        let watch = Connect::persistent(Version::V5, "watcher");
        let mut watcher = broker.connect(&watch);
        watcher.subscribe("will", 1);
        watcher.disconnect();
        let client = Connect::v5("client").will(Will::new("will", "gone").qos(1));
        let mut client = broker.connect(&client);
        client.ping();
        assert!(broker.terminate().success());
        broker.restart();
        let mut watcher = broker.connect(&watch);
        if !is_suppressed {
            assert_eq!(watcher.receive().text(), "gone");
        }
        watcher.expect_silence();
    }
}

#[test]
fn a_changed_file_is_followed_by_connected_clients() {
    let broker = Broker::builder().setting("MaxTopicLevels", 3).start();
    let mut client = broker.connect(&Connect::v5("client"));
    assert_eq!(client.publish(&Publish::new("a/b/c/d", "x").qos(1)), 0x90);
    let file = broker.home().join("bifrust.toml");
    std::fs::write(file, "[settings]\nMaxTopicLevels = 4\n").expect("written");
    broker.reload();
    let deadline = Instant::now() + Duration::from_secs(20);
    while client.publish(&Publish::new("a/b/c/d", "x").qos(1)) >= 0x80 {
        assert!(Instant::now() < deadline, "{}", broker.log());
    }
    assert_eq!(client.publish(&Publish::new("a/b/c/d/e", "x").qos(1)), 0x90);
}

fn raw_connect(user: &str, name: &str, level: u8) -> Vec<u8> {
    let mut body = Vec::new();
    wire::string_field(&mut body, name);
    body.extend_from_slice(&[level, 0x82, 0, 60]);
    wire::string_field(&mut body, "old");
    wire::string_field(&mut body, user);
    wire::packet(0x10, &body)
}

fn old_version(tenant: &Tenant<'_>) {
    for (user, code) in [(tenant.name, 0x01), ("another", 0)] {
        let mut client = Client::dial(tenant.broker.tcp(), Version::V3);
        client.send(&raw_connect(&format!("{user}/user"), "MQIsdp", 3));
        match client.next_packet() {
            Packet::Connack { code: said, .. } => assert_eq!(said, code, "{user}"),
            other => panic!("{other:?}"),
        }
    }
    tenant.client(Version::V3).ping();
    tenant.client(Version::V5).ping();
}

fn version_4(tenant: &Tenant<'_>) {
    assert_eq!(tenant.refuse(Connect::v3("c")), 0x01);
    tenant.client(Version::V5).ping();
}

fn version_5(tenant: &Tenant<'_>) {
    assert_eq!(tenant.refuse(Connect::v5("c")), 0x84);
    tenant.client(Version::V3).ping();
}

/// Topics and filters that pass and one that does not.
fn topics(tenant: &Tenant<'_>, fine: [&str; 2], above: &str) {
    for version in VERSIONS {
        for topic in fine {
            let mut client = tenant.client(version);
            client.subscribe(topic, 1);
            client.publish(&Publish::new(topic, "x").qos(1));
            assert_eq!(client.receive().topic, topic);
        }
        let mut client = tenant.client(version);
        let refused = if version == Version::V5 { 0x8F } else { 0x80 };
        assert_eq!(client.subscribe_all(&[Filter::new(above, 1)]), [refused]);
        let publish = Publish::new(above, "x").qos(1);
        match version {
            Version::V5 => assert_eq!(client.publish(&publish), 0x90),
            Version::V3 => {
                client.send_publish(&publish);
                client.expect_closed();
            }
        }
        let will = Connect::new(version, "will").will(Will::new(above, "x"));
        let code = if version == Version::V5 { 0x90 } else { 0x03 };
        assert_eq!(tenant.refuse(will), code);
    }
}

fn topic_length(tenant: &Tenant<'_>) {
    let text = "t".repeat(21);
    topics(tenant, [&text[..19], &text[..20]], &text);
}

fn topic_levels(tenant: &Tenant<'_>) {
    topics(tenant, ["a/b", "a/b/c"], "a/b/c/d");
}

fn topic_level_length(tenant: &Tenant<'_>) {
    topics(tenant, ["a/12345/b", "a/123456/b"], "a/1234567/b");
}

fn client_id_length(tenant: &Tenant<'_>) {
    for version in VERSIONS {
        for length in [29, 30] {
            tenant
                .connect(Connect::new(version, "x".repeat(length)))
                .ping();
        }
        let code = if version == Version::V5 { 0x85 } else { 0x02 };
        let above = Connect::new(version, "x".repeat(31));
        assert_eq!(tenant.refuse(above), code);
    }
}

fn packet_bytes(tenant: &Tenant<'_>) {
    for version in VERSIONS {
        for (length, is_fine) in [(69_999, true), (70_000, true), (70_001, false)] {
            let mut client = tenant.client(version);
            if version == Version::V5 {
                assert!(client.connack.has(&Property::MaximumPacketSize(70_000)));
            }
            client.subscribe("t", 0);
            let empty = Publish::new("t", vec![0; 20_000]).encode(version).len() - 20_000;
            let publish = Publish::new("t", vec![7; length - empty]);
            assert_eq!(publish.encode(version).len(), length);
            client.send_publish(&publish);
            match is_fine {
                true => assert_eq!(client.receive().payload, publish.payload),
                false => client.expect_disconnect(0x95),
            }
        }
    }
}

fn will_bytes(tenant: &Tenant<'_>) {
    for version in VERSIONS {
        let connect = |length: usize| {
            let will = Will::new("will", vec![0; length - "will".len()]);
            Connect::new(version, "client").will(will)
        };
        for length in [99, 100] {
            tenant.connect(connect(length)).ping();
        }
        let code = if version == Version::V5 { 0x95 } else { 0x03 };
        assert_eq!(tenant.refuse(connect(101)), code);
    }
}

/// The code of a filter that is one too many.
fn quota(version: Version) -> u8 {
    if version == Version::V5 { 0x97 } else { 0x80 }
}

fn filters(names: &[&str]) -> Vec<Filter> {
    names.iter().map(|name| Filter::new(*name, 1)).collect()
}

fn filters_per_packet(tenant: &Tenant<'_>) {
    for connect in tenant.kinds() {
        let full = quota(connect.version);
        let mut client = tenant.connect(connect);
        assert_eq!(client.subscribe_all(&filters(&["a", "b"])), [1, 1]);
        assert_eq!(client.subscribe_all(&filters(&["c", "d", "e"])), [1, 1, 1]);
        let codes = client.subscribe_all(&filters(&["f", "g", "h", "i"]));
        assert_eq!(codes, [1, 1, 1, full]);
        client.ping();
    }
}

fn filters_per_session(tenant: &Tenant<'_>) {
    for connect in tenant.kinds() {
        let full = quota(connect.version);
        let mut client = tenant.connect(connect);
        assert_eq!(client.subscribe_all(&filters(&["a", "b"])), [1, 1]);
        assert_eq!(client.subscribe_all(&filters(&["c"])), [1]);
        assert_eq!(client.subscribe_all(&filters(&["d", "a"])), [full, 1]);
        client.unsubscribe(&["b"]);
        assert_eq!(client.subscribe_all(&filters(&["d"])), [1]);
    }
}

fn publish_rate(tenant: &Tenant<'_>) {
    let events = || tenant.broker.numbers().event("EXCEED_PUB_RATE");
    let before = events();
    for version in VERSIONS {
        let mut client = tenant.client(version);
        for _ in 0..5 {
            client.publish(&Publish::new("t", "x").qos(1));
        }
        assert_eq!(events(), before, "as many as a second has");
        client.disconnect();
    }
    let mut client = tenant.client(Version::V5);
    for id in 1..=8 {
        client.send_publish(&Publish::new("t", "x").qos(1).id(id));
    }
    for id in 1..=8 {
        client.expect_ack(AckKind::Puback, id); // slower, and none is lost
    }
    assert!(events() > before);
}

/// Twice what a second may carry takes a second at least.
fn inbound_bandwidth(tenant: &Tenant<'_>) {
    let mut client = tenant.client(Version::V5);
    let start = Instant::now();
    for _ in 0..4 {
        client.publish(&Publish::new("t", vec![0; 25_000]).qos(1));
    }
    assert!(start.elapsed() > Duration::from_secs(1));
}

fn outbound_bandwidth(tenant: &Tenant<'_>) {
    let mut reader = tenant.client(Version::V5);
    reader.subscribe("t", 1);
    let mut writer = tenant.connect(Connect::v5("writer"));
    let start = Instant::now();
    for _ in 0..4 {
        writer.publish(&Publish::new("t", vec![0; 25_000]).qos(1));
    }
    for _ in 0..4 {
        reader.receive();
    }
    assert!(start.elapsed() > Duration::from_secs(1));
}

fn receive_maximum(tenant: &Tenant<'_>) {
    let mut client = tenant.client(Version::V5);
    assert!(client.connack.has(&Property::ReceiveMaximum(3)));
    for id in 1..=3 {
        client.send_publish(&Publish::new("t", "x").qos(2).id(id));
        client.expect_ack(AckKind::Pubrec, id);
    }
    client.send_publish(&Publish::new("t", "x").qos(1).id(4));
    client.expect_disconnect(0x93);
    let mut client = tenant.client(Version::V3);
    for id in 1..=9 {
        client.send_publish(&Publish::new("t", "x").qos(2).id(id));
    }
    for id in 1..=9 {
        client.expect_ack(AckKind::Pubrec, id);
    }
}

fn inflight(tenant: &Tenant<'_>) {
    for kind in [Connect::v3("a"), Connect::persistent(Version::V3, "b")] {
        let mut reader = tenant.connect(kind);
        reader.subscribe("t", 1);
        let mut writer = tenant.connect(Connect::v5("writer"));
        for index in 0..5 {
            writer.publish(&Publish::new("t", index.to_string()).qos(1));
        }
        let held: Vec<Publish> = (0..3).map(|_| reader.next_publish()).collect();
        reader.expect_silence();
        reader.acknowledge(&held[0]);
        assert_eq!(reader.next_publish().text(), "3");
        reader.expect_silence();
    }
    // A v5 client says its own, above or below.
    let mut reader = tenant.connect(Connect::v5("five"));
    reader.subscribe("t", 1);
    let mut writer = tenant.connect(Connect::v5("writer"));
    for index in 0..5 {
        writer.publish(&Publish::new("t", index.to_string()).qos(1));
    }
    for _ in 0..5 {
        reader.next_publish();
    }
}

/// What an absent session gets of so many messages.
fn kept(tenant: &Tenant<'_>, version: Version, publishes: &[Publish]) -> Vec<String> {
    let connect = || Connect::persistent(version, "absent");
    let mut reader = tenant.connect(connect());
    reader.subscribe("t", 2);
    reader.disconnect();
    let mut writer = tenant.connect(Connect::new(version, "writer"));
    for publish in publishes {
        writer.publish(publish);
    }
    writer.subscribe("end", 1);
    writer.publish(&Publish::new("end", "").qos(1));
    writer.receive();
    let mut reader = tenant.connect(connect());
    let mut texts = Vec::new();
    let quiet = bifrust_e2e::client::SILENCE * 2;
    while let bifrust_e2e::Received::Packet(packet) = reader.poll(Instant::now() + quiet) {
        let Packet::Publish(publish) = packet else {
            panic!("{packet:?}");
        };
        reader.acknowledge(&publish);
        texts.push(publish.text());
    }
    tenant.connect(Connect::new(version, "absent")).disconnect();
    texts
}

fn numbered(count: usize, qos: u8) -> Vec<Publish> {
    let publishes = (0..count).map(|index| Publish::new("t", index.to_string()).qos(qos));
    publishes.collect()
}

fn inbox_size(tenant: &Tenant<'_>) {
    for version in VERSIONS {
        assert_eq!(kept(tenant, version, &numbered(2, 1)), ["0", "1"]);
        assert_eq!(kept(tenant, version, &numbered(3, 2)), ["0", "1", "2"]);
        assert_eq!(kept(tenant, version, &numbered(4, 1)), ["0", "1", "2"]);
    }
}

fn inbox_bytes(tenant: &Tenant<'_>) {
    // Topic and payload count; a message is kept with some bytes more.
    let large = |text: &str, bytes: usize| {
        let payload = format!("{text}{}", " ".repeat(bytes - text.len()));
        Publish::new("t", payload).qos(1)
    };
    for version in VERSIONS {
        let fine = [large("0", 30_000), large("1", 30_000)];
        assert_eq!(kept(tenant, version, &fine).len(), 2);
        let above = [large("0", 30_000), large("1", 30_000), large("2", 30_000)];
        let texts = kept(tenant, version, &above);
        assert_eq!(texts.len(), 2);
        assert!(texts[0].starts_with('0') && texts[1].starts_with('1'));
    }
}

fn offline_qos0(tenant: &Tenant<'_>) {
    for version in VERSIONS {
        let elsewhere = Tenant {
            name: "another",
            ..*tenant
        };
        assert_eq!(kept(tenant, version, &numbered(2, 0)), ["0", "1"]);
        let none: [&str; 0] = [];
        assert_eq!(kept(&elsewhere, version, &numbered(2, 0)), none);
    }
}

fn drop_newest(tenant: &Tenant<'_>) {
    for version in VERSIONS {
        assert_eq!(kept(tenant, version, &numbered(3, 0)), ["0", "1", "2"]);
        assert_eq!(kept(tenant, version, &numbered(5, 0)), ["0", "1", "2"]);
    }
}

/// What CONNACK says of these, if anything.
fn told_expiry(tenant: &Tenant<'_>, seconds: u32) -> Option<u32> {
    let client = tenant.connect(Connect::v5("client").expiry(seconds));
    client.connack.find(|property| match property {
        Property::SessionExpiry(seconds) => Some(*seconds),
        _ => None,
    })
}

fn told_keep_alive(tenant: &Tenant<'_>, seconds: u16) -> Option<u16> {
    let client = tenant.connect(Connect::v5("client").keep_alive(seconds));
    client.connack.find(|property| match property {
        Property::ServerKeepAlive(seconds) => Some(*seconds),
        _ => None,
    })
}

fn expiry_max(tenant: &Tenant<'_>) {
    for (asked, told) in [
        (99, None),
        (100, None),
        (101, Some(100)),
        (u32::MAX, Some(100)),
    ] {
        assert_eq!(told_expiry(tenant, asked), told, "{asked}");
    }
}

fn expiry_min(tenant: &Tenant<'_>) {
    for (asked, told) in [(0, None), (9, Some(10)), (10, None), (11, None)] {
        assert_eq!(told_expiry(tenant, asked), told, "{asked}");
    }
}

fn expiry_v3(tenant: &Tenant<'_>) {
    // At 0 a v3 session ends with its connection, clean or not.
    let elsewhere = Tenant {
        name: "another",
        ..*tenant
    };
    for (tenant, stays) in [(tenant, false), (&elsewhere, true)] {
        let connect = || Connect::persistent(Version::V3, "v3");
        tenant.connect(connect()).disconnect();
        assert_eq!(tenant.connect(connect()).is_present, stays);
    }
}

fn keep_alive_min(tenant: &Tenant<'_>) {
    for (asked, told) in [(0, None), (9, Some(10)), (10, None), (11, None)] {
        assert_eq!(told_keep_alive(tenant, asked), told, "{asked}");
    }
}

fn keep_alive_max(tenant: &Tenant<'_>) {
    for (asked, told) in [(19, None), (20, None), (21, Some(20)), (0, Some(20))] {
        assert_eq!(told_keep_alive(tenant, asked), told, "{asked}");
    }
}

fn retained_limit(tenant: &Tenant<'_>) {
    let mut writer = tenant.connect(Connect::v5("writer"));
    for (there, sent) in [(2, 2), (3, 3), (4, 3)] {
        for index in 0..there {
            writer.publish(&Publish::new(format!("r/{index}"), "x").qos(1).retain());
        }
        for version in VERSIONS {
            let mut reader = tenant.client(version);
            reader.subscribe("r/+", 1);
            reader.receive_texts(sent);
            reader.expect_silence();
        }
    }
}

fn topic_alias(tenant: &Tenant<'_>) {
    let aliased = |alias| {
        Publish::new("t", "x")
            .qos(1)
            .property(Property::TopicAlias(alias))
    };
    let mut client = tenant.client(Version::V5);
    assert!(client.connack.has(&Property::TopicAliasMaximum(3)));
    for alias in 1..=3 {
        assert!(client.publish(&aliased(alias)) < 0x80);
    }
    client.send_publish(&aliased(4));
    client.expect_disconnect(0x94);
}

fn payload_format(tenant: &Tenant<'_>) {
    let says_utf8 = |payload: &[u8]| {
        let publish = Publish::new("t", payload).qos(1);
        publish.property(Property::PayloadFormat(1))
    };
    let elsewhere = Tenant {
        name: "another",
        ..*tenant
    };
    for (tenant, code) in [(tenant, 0x10), (&elsewhere, 0x99)] {
        let mut client = tenant.client(Version::V5);
        assert_eq!(client.publish(&says_utf8(b"\xFF")), code);
        // Plain UTF-8: lines may end.
        assert_eq!(
            client.publish(&says_utf8("a\r\n\u{1F600}".as_bytes())),
            0x10
        );
    }
}

fn forbidden_publish(tenant: &Tenant<'_>) {
    let mut client = tenant.client(Version::V3);
    for qos in 0..=2 {
        client.publish(&Publish::new("$SYS/forbidden", "x").qos(qos));
    }
    client.ping();
}

fn durability(tenant: &Tenant<'_>) {
    for version in VERSIONS {
        assert_eq!(kept(tenant, version, &numbered(3, 1)), ["0", "1", "2"]);
    }
}

fn force_transient(tenant: &Tenant<'_>) {
    assert_eq!(told_expiry(tenant, 100), Some(0));
    for version in VERSIONS {
        let connect = || Connect::persistent(version, "never kept");
        tenant.connect(connect()).disconnect();
        assert!(!tenant.connect(connect()).is_present);
    }
}

fn no_retain(tenant: &Tenant<'_>) {
    for version in VERSIONS {
        let mut client = tenant.client(version);
        if version == Version::V5 {
            assert!(client.connack.has(&Property::RetainAvailable(0)));
        }
        client.publish(&Publish::new("t", "x").qos(1));
        client.send_publish(&Publish::new("t", "x").qos(1).retain());
        client.expect_disconnect(0x9A);
        let will = Connect::new(version, "will").will(Will::new("t", "x").retain());
        let code = if version == Version::V5 { 0x9A } else { 0x03 };
        assert_eq!(tenant.refuse(will), code);
    }
}

fn no_wildcards(tenant: &Tenant<'_>) {
    for version in VERSIONS {
        let refused = if version == Version::V5 { 0xA2 } else { 0x80 };
        let mut client = tenant.client(version);
        let codes = client.subscribe_all(&filters(&["a/b", "a/+", "#", "a"]));
        assert_eq!(codes, [1, refused, refused, 1]);
        if version == Version::V5 {
            assert!(client.connack.has(&Property::WildcardAvailable(0)));
        }
    }
}

fn no_identifiers(tenant: &Tenant<'_>) {
    let mut client = tenant.client(Version::V5);
    assert!(client.connack.has(&Property::SubscriptionIdAvailable(0)));
    client.subscribe("a", 1);
    let properties = wire::Properties(vec![Property::SubscriptionId(1)]);
    let codes = client.subscribe_with(&filters(&["b"]), &properties);
    assert_eq!(codes, [0xA1]);
}

fn maximum_qos(tenant: &Tenant<'_>) {
    for version in VERSIONS {
        let mut client = tenant.client(version);
        if version == Version::V5 {
            assert!(client.connack.has(&Property::MaximumQos(1)));
        }
        // MQTT-3.2.2-10: a subscription of any QoS is taken.
        let codes = client.subscribe_all(&[Filter::new("t", 2)]);
        assert!(codes == [1] || codes == [2], "{codes:?}");
        for qos in 0..=1 {
            client.publish(&Publish::new("t", "x").qos(qos));
            assert_eq!(client.receive().qos, qos);
        }
        client.send_publish(&Publish::new("t", "x").qos(2).id(9));
        client.expect_disconnect(0x9B);
        let will = Connect::new(version, "will").will(Will::new("t", "x").qos(2));
        let code = if version == Version::V5 { 0x9B } else { 0x03 };
        assert_eq!(tenant.refuse(will), code);
    }
}

fn persistent_fanout(tenant: &Tenant<'_>) {
    let throttled = || tenant.broker.numbers().event("PERSISTENT_FANOUT_THROTTLED");
    let before = throttled();
    let reader = |id: &str| {
        let mut client = tenant.connect(Connect::persistent(Version::V5, id));
        client.subscribe("t", 1);
        client
    };
    let mut readers = Vec::new();
    let mut writer = tenant.connect(Connect::v5("writer"));
    for (id, served) in [("a", 1), ("b", 2), ("c", 2)] {
        readers.push(reader(id));
        writer.publish(&Publish::new("t", id).qos(1));
        let mut count = 0;
        for client in &mut readers {
            let quiet = Instant::now() + bifrust_e2e::client::SILENCE * 2;
            if let bifrust_e2e::Received::Packet(Packet::Publish(publish)) = client.poll(quiet) {
                assert_eq!(publish.text(), id);
                client.acknowledge(&publish);
                count += 1;
            }
        }
        assert_eq!(count, served, "{}: {id}", tenant.setting);
        assert_eq!(throttled() > before, id == "c");
    }
}
