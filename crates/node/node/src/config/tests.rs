use super::*;

fn sources(text: &str) -> Sources {
    Sources {
        file: Some((PathBuf::from("b.toml"), text.to_owned())),
        ..Sources::default()
    }
}

fn config(text: &str) -> Config {
    sources(text).load().unwrap().config
}

fn problems(text: &str) -> Vec<String> {
    let problems = sources(text).load().unwrap_err();
    problems.0.iter().map(ToString::to_string).collect()
}

fn with_environment(pairs: &[(&str, &str)]) -> Sources {
    Sources {
        environment: pairs
            .iter()
            .map(|(name, value)| (String::from(*name), String::from(*value)))
            .collect(),
        ..Sources::default()
    }
}

#[test]
fn nothing_said_gives_the_defaults() {
    let config = Sources::default().load().unwrap().config;
    let addresses: Vec<_> = config
        .listeners
        .iter()
        .map(|l| l.address.to_string())
        .collect();
    assert_eq!(addresses, ["0.0.0.0:1883", "0.0.0.0:8083"]);
    assert_eq!(config.api.unwrap().to_string(), "127.0.0.1:8091");
    assert_eq!(config.settings, Settings::default());
    assert_eq!(config.auth.file, config.data.join("users.toml"));
    assert!(!config.is_dev);
}

#[test]
fn a_full_file_is_read() {
    let config = config(
        r#"
data = "/d"
[listen]
tcp = "127.0.0.1:0"
ws = "off"
[[listeners]]
kind = "ws"
address = "[::1]:9001"
tenant = "acme"
max_connections = 10
[api]
address = "off"
[log]
format = "json"
level = "debug"
connections = true
[auth]
file = "/u.toml"
threads = 3
[limits]
connect_timeout_seconds = 20
[settings]
MaxInflight = 10
RetainMessageMatchLimit = 0x10
[tenants.acme.settings]
MaxInflight = 20
QoS0OfflineQueue = true
ForbiddenPublishV3 = "ack"
[tenants."a.b".settings]
RetainMessageMatchLimit = "none"
"#,
    );
    assert_eq!(config.listeners.len(), 2);
    let further = &config.listeners[1];
    assert_eq!(further.transport, Transport::Ws);
    assert_eq!(further.tenant.as_ref().unwrap().as_str(), "acme");
    assert_eq!(further.max_connections, 10);
    assert_eq!(config.api, None);
    assert_eq!(config.log.format, LogFormat::Json);
    assert!(config.log.has_connections);
    assert_eq!(config.auth.threads, 3);
    assert_eq!(config.limits.connect_timeout_seconds, 20);
    assert_eq!(config.settings.max_inflight, 10);
    let tenant = |name: &str| &config.tenants[&TenantName::new(name).unwrap()];
    assert_eq!(tenant("acme").max_inflight, 20);
    assert!(tenant("acme").qos0_offline_queue);
    assert_eq!(tenant("acme").retain_message_match_limit, Some(16));
    assert_eq!(tenant("a.b").max_inflight, 10);
    assert_eq!(tenant("a.b").retain_message_match_limit, None);
}

#[test]
fn every_mistake_is_told_with_its_line_its_key_and_what_is_right() {
    let told = problems(
        r#"dta = "/d"
[listen]
tcp = "localhost:1883"
ws = 8083
[log]
level = "inf"
[limits]
shards = 0
connect_timeout_seconds = "10"
[settings]
MaxTopicLenght = 5
MaxClientIdLength = 22
MaxLastWillBytes = 2000000
max_connections = 1
[tenants."a b".settings]
MaxInflight = 1
[tenants.acme]
MaxInflight = 1
[[listeners]]
kind = "tpc"
"#,
    );
    let expected = [
        "b.toml:1: dta: is no known key; did you mean data?",
        "b.toml:3: listen.tcp: \"localhost:1883\" is no address; did you mean \"127.0.0.1:1883\"?",
        "b.toml:4: listen.ws: 8083 is a number; what fits is \"ADDRESS:PORT\" or \"off\"",
        "b.toml:6: log.level: \"inf\" is not known; what fits is \"error\", \"warn\", \"info\", \
         \"debug\" or \"trace\"; did you mean \"info\"?",
        "b.toml:8: limits.shards: 0 is out of range; what fits is a whole number from 1 to 64",
        "b.toml:9: limits.connect_timeout_seconds: \"10\" is a text; what fits is a whole number \
         from 1 to 300, without quotes",
        "b.toml:11: settings.MaxTopicLenght: is no known key; did you mean MaxTopicLength?",
        "b.toml:12: settings.MaxClientIdLength: 22 is out of range; what fits is a whole number \
         from 23 to 8192",
        "b.toml:13: settings.MaxLastWillBytes: MaxLastWillBytes is 2000000 and must not be above \
         MaxUserPayloadBytes, which is 1048576; lower the first or raise the second",
        "b.toml:14: settings.max_connections: is no known key here; there is \
         limits.max_connections",
        "b.toml:15: tenants.a b: \"a b\" is no tenant name: 1 to 64 of A-Z a-z 0-9 . _ - are \
         allowed, the first a letter or digit",
        "b.toml:18: tenants.acme.MaxInflight: is no known key here; there is settings.MaxInflight",
        "b.toml:19: listeners.0: has no address; add for example address = \"127.0.0.1:1884\"",
        "b.toml:20: listeners.0.kind: \"tpc\" is not known; what fits is \"tcp\", \"tls\", \"ws\" or \
         \"wss\"; did you mean \"tcp\"?",
    ];
    assert_eq!(told, expected);
}

#[test]
fn broken_toml_is_told_with_its_line_beside_other_mistakes() {
    let told = problems("[listen]\ntcp = = 5\n[log]\nlevel = 1\n");
    assert!(
        told.iter().any(|line| line.starts_with("b.toml:2: ")),
        "{told:?}"
    );
    assert!(
        told.iter()
            .any(|line| line.starts_with("b.toml:4: log.level")),
        "{told:?}"
    );
}

#[test]
fn contradictions_of_a_tenant_name_the_tenants_line() {
    let told = problems(
        "[settings]\nMaxUserPayloadBytes = 2048\nMaxLastWillBytes = 2000\n\
                         [tenants.acme.settings]\nMaxLastWillBytes = 4096\n",
    );
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("b.toml:5: tenants.acme.settings.MaxLastWillBytes: "));
}

#[test]
fn two_listeners_on_one_address_are_a_mistake() {
    let told = problems("[listen]\ntcp = \"127.0.0.1:1\"\nws = \"127.0.0.1:1\"\n");
    assert_eq!(
        told,
        ["b.toml:3: listen.ws: 127.0.0.1:1 is that of listen.tcp too; use another port"]
    );
    let told = problems("[listen]\ntcp = \"off\"\nws = \"off\"\n");
    assert!(told[0].contains("no listener is on"), "{told:?}");
}

#[test]
fn settings_without_effect_are_warned_of() {
    let loaded = sources("[settings]\nMaxResendTimes = 5\n[api]\naddress = \"0.0.0.0:1\"\n")
        .load()
        .unwrap();
    let told: Vec<_> = loaded.warnings.0.iter().map(ToString::to_string).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].starts_with("b.toml:2: settings.MaxResendTimes: "));
    assert!(told[1].starts_with("b.toml:4: api.address: "));
}

#[test]
fn the_environment_overrides_the_file_and_flags_override_both() {
    let mut sources = with_environment(&[
        ("BIFRUST__LISTEN__TCP", "127.0.0.1:1"),
        ("BIFRUST__SETTINGS__MAX_INFLIGHT", "7"),
        ("BIFRUST__SETTINGS__MAXTOPICLEVELS", "9"),
        ("BIFRUST__TENANTS__acme__SETTINGS__MAXINFLIGHT", "8"),
        ("BIFRUST_PASSWORD", "not a key"),
    ]);
    sources.file = Some((
        PathBuf::from("b.toml"),
        "[listen]\ntcp = \"127.0.0.1:5\"\nws = \"127.0.0.1:6\"\n".to_owned(),
    ));
    sources.flags.ws = Some("off".to_owned());
    let config = sources.load().unwrap().config;
    assert_eq!(config.listeners.len(), 1);
    assert_eq!(config.listeners[0].address.port(), 1);
    assert_eq!(
        (
            config.settings.max_inflight,
            config.settings.max_topic_levels
        ),
        (7, 9)
    );
    assert_eq!(
        config.tenants[&TenantName::new("acme").unwrap()].max_inflight,
        8
    );
}

#[test]
fn mistakes_in_the_environment_and_in_flags_are_told() {
    let mut sources = with_environment(&[
        ("BIFRUST__LISTEN__TPC", "127.0.0.1:1"),
        ("BIFRUST__LIMITS__SHARDS", "many"),
        ("BIFRUST__DATA_FILE", "/nowhere/at/all"),
    ]);
    sources.flags.api = Some("8091".to_owned());
    let problems = sources.load().unwrap_err().to_string();
    for expected in [
        "environment BIFRUST__LISTEN__TPC: means no known key; did you mean BIFRUST__LISTEN__TCP?",
        "environment BIFRUST__LIMITS__SHARDS: limits.shards: \"many\" is not a whole number",
        "environment BIFRUST__DATA_FILE: data: /nowhere/at/all cannot be read",
        "--api: api.address: \"8091\" is no address; did you mean \"0.0.0.0:8091\", or \"127.0.0.1:8091\"",
    ] {
        assert!(
            problems.contains(expected),
            "{expected}\nnot in\n{problems}"
        );
    }
}

#[test]
fn a_value_may_be_in_a_file_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    std::fs::write(&path, "/from/file\n").unwrap();
    let path = path.to_str().unwrap();
    let sources = with_environment(&[("BIFRUST__AUTH__FILE_FILE", path)]);
    let config = sources.load().unwrap().config;
    assert_eq!(config.auth.file, Path::new("/from/file"));
}

#[test]
fn development_mode_is_loopback_only() {
    let mut sources = Sources::default();
    sources.flags.is_dev = true;
    let config = sources.load().unwrap().config;
    assert!(config.is_dev);
    assert!(
        config
            .listeners
            .iter()
            .all(|l| l.address.ip().is_loopback())
    );

    sources.flags.tcp = Some("0.0.0.0:1883".to_owned());
    let problems = sources.load().unwrap_err().to_string();
    assert!(
        problems.contains("--tcp: listen.tcp: 0.0.0.0:1883 is not a loopback"),
        "{problems}"
    );

    sources.flags.is_dev_insecure = true;
    assert!(sources.load().unwrap().config.is_dev);
}

#[test]
fn every_key_is_documented() {
    let all = documented();
    assert!(
        all.iter()
            .all(|key| !key.help.is_empty() && !key.takes.is_empty())
    );
    assert!(all.iter().any(|key| key.key == "settings.MaxTopicLength"));
}

#[test]
fn defaults_are_told_as_a_file_would_say_them() {
    let all = documented();
    let default = |name: &str| {
        let key = all.iter().find(|key| key.key == name);
        key.and_then(|key| key.default.as_deref())
    };
    assert_eq!(default("listen.tcp"), Some("\"0.0.0.0:1883\""));
    assert_eq!(default("limits.stop_seconds"), Some("10"));
    assert_eq!(default("settings.MaxTopicLevels"), Some("256"));
    let told = all
        .iter()
        .filter(|key| key.key.starts_with("settings."))
        .all(|key| key.default.is_some());
    assert!(told);
}

#[test]
fn relative_paths_count_from_the_file_that_names_them() {
    let sources = Sources {
        file: Some((
            PathBuf::from("/etc/b/b.toml"),
            "data = \"d\"\n[auth]\nfile = \"/u.toml\"\n".to_owned(),
        )),
        ..Sources::default()
    };
    let config = sources.load().unwrap().config;
    assert_eq!(config.data, Path::new("/etc/b/d"));
    assert_eq!(config.auth.file, Path::new("/u.toml"));
}

#[test]
fn listeners_take_what_all_are_told_and_what_is_their_own() {
    let config = config(
        r#"
[listen]
tcp = "off"
ws = "off"
tls = "[::]:8883"
cert = "/c.pem"
key = "/k.pem"
trusted_proxies = ["10.0.0.0/8", "::1"]
allowed_origins = ["https://a.example"]
[[listeners]]
kind = "wss"
address = "127.0.0.1:1"
cert = "own.pem"
key = "own.key"
client_ca = "ca.pem"
client_crl = "crl.pem"
min_version = "1.3"
certificate_tenant = "organization"
subprotocol = "optional"
forwarded_for = true
[[listeners.hosts]]
name = "A.example"
tenant = "a"
[[listeners.hosts]]
name = "b.example"
cert = "b.pem"
key = "b.key"
[[listeners]]
address = "127.0.0.1:2"
proxy_protocol = true
trusted_proxies = ["192.0.2.1"]
"#,
    );
    let [tls, wss, tcp] = config.listeners.as_slice() else {
        panic!("{:?}", config.listeners);
    };
    assert_eq!(tls.transport, Transport::Tls);
    let files = tls.tls.as_ref().unwrap();
    assert_eq!(files.default.cert, Path::new("/c.pem"));
    assert_eq!((&files.clients, files.is_tls13_only), (&None, false));
    assert_eq!(tls.proxies.trusted.len(), 2);
    assert!(!tls.proxies.has_header && !tls.proxies.has_forwarded_for);
    let files = wss.tls.as_ref().unwrap();
    assert_eq!(files.default.key, Path::new("own.key"));
    let clients = files.clients.as_ref().unwrap();
    assert!(clients.is_required && files.is_tls13_only);
    assert_eq!(clients.revoked.as_deref(), Some(Path::new("crl.pem")));
    assert_eq!(files.hosts[0].name, "a.example");
    assert_eq!(files.hosts[0].tenant.as_ref().unwrap().as_str(), "a");
    assert!(files.hosts[0].identity.is_none() && files.hosts[1].identity.is_some());
    assert_eq!(
        wss.certificate_tenant,
        Some(CertificateTenant::Organization)
    );
    assert!(wss.proxies.has_forwarded_for && !wss.websocket.needs_protocol);
    assert_eq!(wss.websocket.allowed_origins, ["https://a.example"]);
    assert!(tcp.proxies.has_header && tcp.tls.is_none());
    assert_eq!(tcp.proxies.trusted[0].to_string(), "192.0.2.1/32");
}

#[test]
fn listeners_that_cannot_work_are_told() {
    let told = problems(
        r#"[listen]
tls = "127.0.0.1:1"
[[listeners]]
kind = "tls"
address = "127.0.0.1:2"
cert = "c.pem"
[[listeners]]
kind = "wss"
address = "127.0.0.1:3"
cert = "c.pem"
key = "k.pem"
client_auth = "required"
[[listeners.hosts]]
tenant = "a"
[[listeners.hosts]]
name = "b.example"
key = "b.key"
[[listeners]]
address = "127.0.0.1:4"
proxy_protocol = true
[[listeners]]
address = "127.0.0.1:5"
forwarded_for = true
trusted_proxies = ["10.0.0.0/33"]
allowed_origins = ["a.example"]
client_auth = 1
"#,
    );
    let expected = [
        "b.toml:2: listen.tls: TLS needs a certificate; add cert = \"FILE.pem\" and key = \
         \"FILE.pem\"",
        "b.toml:3: listeners.0: cert needs its key; add key = \"FILE.pem\"",
        "b.toml:12: listeners.1.client_auth: needs the authority that signs clients' certificates; \
         add client_ca = \"FILE.pem\"",
        "b.toml:13: listeners.1.hosts.0: has no name; add for example name = \"mqtt.example.com\"",
        "b.toml:15: listeners.1.hosts.1: key needs its certificate; add cert = \"FILE.pem\"",
        "b.toml:20: listeners.2.proxy_protocol: nobody is trusted to say who the client is; add for \
         example trusted_proxies = [\"10.0.0.0/8\"]",
        "b.toml:24: listeners.3.trusted_proxies: \"10.0.0.0/33\" is no network; what fits is for \
         example \"10.0.0.0/8\" or \"::1\"",
        "b.toml:25: listeners.3.allowed_origins: \"a.example\" is no origin; what fits is a list of \
         origins, as [\"https://app.example.com\"]",
        "b.toml:26: listeners.3.client_auth: 1 is a number; what fits is \"off\", \"optional\" or \
         \"required\"",
    ];
    assert_eq!(told, expected);
}

#[test]
fn flags_switch_tls_on() {
    let sources = Sources {
        flags: Flags {
            tls: Some("127.0.0.1:0".to_owned()),
            cert: Some("c.pem".into()),
            key: Some("k.pem".into()),
            is_dev: true,
            ..Flags::default()
        },
        ..Sources::default()
    };
    let config = sources.load().unwrap().config;
    let kinds: Vec<_> = config.listeners.iter().map(|l| l.transport).collect();
    assert_eq!(kinds, [Transport::Tcp, Transport::Ws, Transport::Tls]);
    let mut without = sources;
    without.flags.key = None;
    let told = without.load().unwrap_err().to_string();
    assert!(told.contains("cert needs its key"), "{told}");
}

#[test]
fn what_counts_as_proof_is_said_per_listener() {
    let text = r#"
[listen]
auth = ["certificate", "password"]
[[listeners]]
address = "127.0.0.1:1"
[[listeners]]
address = "127.0.0.1:2"
auth = "anonymous"
"#;
    let config = config(text);
    let of = |index: usize| config.listeners[index].auth.as_slice();
    let both = [AuthMethod::Certificate, AuthMethod::Password];
    assert_eq!((of(0), of(2)), (&both[..], &both[..]));
    assert_eq!(of(3), [AuthMethod::Anonymous]);
    let told = problems(&text.replace("\"anonymous\"", "[\"certificate\"]"));
    assert_eq!(
        told,
        [
            "b.toml:8: listeners.1.auth: no certificate of a client is asked for there; add \
             client_ca = \"FILE.pem\", or leave \"certificate\" out"
        ]
    );
    let told = problems("[listen]\nauth = [\"passwords\"]\n");
    assert_eq!(
        told,
        [
            "b.toml:2: listen.auth: \"passwords\" is not known; what fits is a list of \
             \"certificate\", \"password\" and \"anonymous\""
        ]
    );
}

#[test]
fn sizes_may_have_a_unit_and_divide_the_memory() {
    let memory = |text: &str| config(text).memory;
    let set = memory("[limits]\nshards = 2\nmemory_limit = \"768MiB\"\n");
    assert_eq!(set, Memory::divide(768 << 20, 2));
    assert_eq!(
        memory("[limits]\nshards = 2\nmemory_limit = 805306368\n"),
        set
    );
    let sources = with_environment(&[("BIFRUST__LIMITS__MEMORY_LIMIT", "1GiB")]);
    let limit = sources.load().unwrap().config.memory.limit;
    assert_eq!(limit, 1 << 30);
    let told = problems("[limits]\nmemory_limit = \"1 MB\"\n");
    let fits = "what fits is bytes from 134217728 to 1099511627776, or \"768MiB\" (KiB, MiB, GiB)";
    assert_eq!(
        told,
        [format!(
            "b.toml:2: limits.memory_limit: \"1 MB\" is no size; {fits}"
        )]
    );
    let told = problems("[limits]\nmemory_limit = \"1MiB\"\n");
    assert_eq!(
        told,
        [format!(
            "b.toml:2: limits.memory_limit: 1048576 is out of range; {fits}"
        )]
    );
}

#[test]
fn a_part_that_is_set_itself_takes_that() {
    let text = "[limits]\nmemory_limit = \"256MiB\"\n[storage]\ncache_bytes = \"64MiB\"\n";
    let loaded = sources(text).load().unwrap();
    assert_eq!(loaded.config.storage.cache_bytes, 64 << 20);
    let told: Vec<_> = loaded.warnings.0.iter().map(ToString::to_string).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("b.toml:4: storage.cache_bytes: 67108864 is more than the share"));
}
