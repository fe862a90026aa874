//! Every key of the config: what it takes, what it is for.

use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;

use bifrust_model::{SettingTakes, Settings, TenantName};
use bifrust_mqtt::Network;
use bifrust_plugin_api::AuthMethod;

use super::suggest;
use super::values::Value;
use crate::memory;

const GIB: u64 = 1 << 30;

/// Units of sizes, as they are written behind a number.
const UNITS: [(&str, u64); 4] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", GIB), ("B", 1)];

/// A key. In its path `[]` stands for each entry of a list, `*` for a tenant's name.
#[derive(Clone, Debug)]
pub(super) struct Key {
    pub(super) path: String,
    pub(super) takes: Takes,
    pub(super) help: &'static str,
}

/// What a key takes.
#[derive(Clone, Debug)]
pub(super) enum Takes {
    Switch,
    Number(RangeInclusive<u64>),
    /// A number of bytes, or one with a unit.
    Bytes(RangeInclusive<u64>),
    /// A number or "none".
    Limit(RangeInclusive<u64>),
    Word(&'static [&'static str]),
    /// An address or "off".
    AddressOrOff,
    Address,
    /// A path that is not empty.
    Path,
    Tenant,
    /// A host name.
    Host,
    /// Networks, in a list or with commas between them.
    Networks,
    /// Origins of web pages, likewise.
    Origins,
    /// Ways to prove who one is, likewise.
    AuthMethods,
}

/// What every listener may be told; in `[listen]` it holds for all.
const LISTENER_OPTIONS: [(&str, Takes, &str); 14] = [
    (
        "cert",
        Takes::Path,
        "PEM of the certificate and its chain, for tls and wss",
    ),
    ("key", Takes::Path, "PEM of its private key"),
    (
        "client_ca",
        Takes::Path,
        "PEM of the authorities of clients' certificates",
    ),
    (
        "client_crl",
        Takes::Path,
        "PEM of revoked certificates of clients",
    ),
    (
        "client_auth",
        Takes::Word(&["off", "optional", "required"]),
        "whether clients show certificates; required if there is a client_ca",
    ),
    (
        "min_version",
        Takes::Word(&["1.2", "1.3"]),
        "the oldest version of TLS",
    ),
    (
        "auth",
        Takes::AuthMethods,
        "what proves who a client is; the first that the client tries decides",
    ),
    (
        "certificate_tenant",
        Takes::Word(&["common-name", "organization", "organizational-unit"]),
        "which name of a client's certificate is its tenant",
    ),
    (
        "proxy_protocol",
        Takes::Switch,
        "connections begin with a PROXY header",
    ),
    (
        "forwarded_for",
        Takes::Switch,
        "X-Forwarded-For names the client of a WebSocket",
    ),
    (
        "trusted_proxies",
        Takes::Networks,
        "who may speak for clients",
    ),
    (
        "allowed_origins",
        Takes::Origins,
        "web pages that may connect; all if left out",
    ),
    (
        "subprotocol",
        Takes::Word(&["required", "optional"]),
        "whether a WebSocket must name its sub-protocol",
    ),
    (
        "max_connections",
        Takes::Number(1..=10_000_000),
        "its connections at a time",
    ),
];

/// All keys.
pub(super) fn known() -> Vec<Key> {
    use Takes::{Address, AddressOrOff, Bytes, Host, Number, Path, Switch, Tenant, Word};
    let own = [
        ("data", Path, "the data folder"),
        ("listen.tcp", AddressOrOff, "MQTT over TCP"),
        ("listen.ws", AddressOrOff, "MQTT over WebSocket"),
        (
            "listen.tls",
            AddressOrOff,
            "MQTT over TLS; off unless given",
        ),
        (
            "listen.wss",
            AddressOrOff,
            "MQTT over WebSocket over TLS; off unless given",
        ),
        (
            "listeners.[].kind",
            Word(&["tcp", "tls", "ws", "wss"]),
            "what a further listener speaks",
        ),
        ("listeners.[].address", Address, "where it listens"),
        (
            "listeners.[].tenant",
            Tenant,
            "the tenant of all its clients",
        ),
        (
            "listeners.[].hosts.[].name",
            Host,
            "a host that clients ask for (SNI)",
        ),
        ("listeners.[].hosts.[].cert", Path, "its own certificate"),
        ("listeners.[].hosts.[].key", Path, "the key of that"),
        (
            "listeners.[].hosts.[].tenant",
            Tenant,
            "the tenant of its clients",
        ),
        ("api.address", AddressOrOff, "health and metrics over HTTP"),
        (
            "log.format",
            Word(&["text", "json"]),
            "the form of log lines",
        ),
        (
            "log.level",
            Word(&["error", "warn", "info", "debug", "trace"]),
            "the lowest level written",
        ),
        (
            "log.connections",
            Switch,
            "a line for each event of a connection",
        ),
        (
            "sys.tenant",
            Tenant,
            "the only tenant that sees $SYS/broker/, the numbers of the whole node; nobody if left out",
        ),
        (
            "sys.interval_seconds",
            Number(1..=3600),
            "time between two rounds of $SYS/broker/",
        ),
        ("auth.file", Path, "the users file"),
        (
            "auth.threads",
            Number(1..=256),
            "threads that hash passwords",
        ),
        (
            "auth.queue",
            Number(1..=1_000_000),
            "password checks that may wait",
        ),
        (
            "limits.shards",
            Number(1..=64),
            "connection shards; one per core if left out",
        ),
        (
            "limits.max_connections",
            Number(1..=10_000_000),
            "connections of one listener",
        ),
        (
            "limits.max_tenants",
            Number(1..=10_000_000),
            "tenants that may come to be",
        ),
        (
            "limits.connect_timeout_seconds",
            Number(1..=300),
            "time until CONNECT is complete",
        ),
        (
            "limits.publish_timeout_seconds",
            Number(1..=300),
            "time until an unanswered publish closes its connection",
        ),
        (
            "limits.stop_seconds",
            Number(1..=600),
            "time that a graceful stop may take",
        ),
        (
            "limits.memory_limit",
            Bytes(memory::LIMIT_MIN..=1024 * GIB),
            "caches, memtables and queues together, without connections",
        ),
        (
            "storage.cache_bytes",
            Bytes(1 << 20..=256 * GIB),
            "cache of cold rows; its share of limits.memory_limit if left out",
        ),
        (
            "storage.memtable_bytes",
            Bytes(1 << 20..=GIB),
            "recent rows in memory, per keyspace, within the share of limits.memory_limit",
        ),
        (
            "storage.journal_bytes",
            Bytes(64 << 20..=64 * GIB),
            "journals on disk before they are flushed",
        ),
        (
            "storage.free_bytes_min",
            Bytes(0..=1 << 50),
            "free bytes below which writes stop; 5 % within 128 and 512 MiB if left out",
        ),
    ];
    let mut keys: Vec<Key> = own
        .into_iter()
        .map(|(path, takes, help)| Key {
            path: path.to_owned(),
            takes,
            help,
        })
        .collect();
    for prefix in ["listen", "listeners.[]"] {
        let options = LISTENER_OPTIONS.iter();
        // For all listeners together this is limits.max_connections.
        let options = options.filter(|(name, ..)| prefix != "listen" || *name != "max_connections");
        keys.extend(options.map(|(name, takes, help)| Key {
            path: format!("{prefix}.{name}"),
            takes: takes.clone(),
            help,
        }));
    }
    for prefix in ["settings", "tenants.*.settings"] {
        keys.extend(Settings::known().into_iter().map(|setting| Key {
            path: format!("{prefix}.{}", setting.name),
            takes: match setting.takes {
                SettingTakes::Switch => Switch,
                SettingTakes::Number(range) => Number(range),
                SettingTakes::Limit(range) => Takes::Limit(range),
                SettingTakes::Word(words) => Word(words),
            },
            help: setting.help.trim().trim_end_matches('.'),
        }));
    }
    keys
}

impl fmt::Display for Takes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Switch => f.write_str("true or false"),
            Self::Number(range) => {
                write!(
                    f,
                    "a whole number from {} to {}",
                    range.start(),
                    range.end()
                )
            }
            Self::Bytes(range) => write!(
                f,
                "bytes from {} to {}, or \"768MiB\" (KiB, MiB, GiB)",
                range.start(),
                range.end()
            ),
            Self::Limit(range) => write!(
                f,
                "a whole number from {} to {}, or \"none\"",
                range.start(),
                range.end()
            ),
            Self::Word(words) => {
                for (index, word) in words.iter().enumerate() {
                    let joint = match index {
                        0 => "",
                        index if index + 1 == words.len() => " or ",
                        _ => ", ",
                    };
                    write!(f, "{joint}\"{word}\"")?;
                }
                Ok(())
            }
            Self::AddressOrOff => f.write_str("\"ADDRESS:PORT\" or \"off\""),
            Self::Address => f.write_str("\"ADDRESS:PORT\""),
            Self::Path => f.write_str("a path in quotes"),
            Self::Tenant => f.write_str("a tenant name in quotes"),
            Self::Host => f.write_str("a host name in quotes"),
            Self::Networks => f.write_str("a list of networks, as [\"10.0.0.0/8\", \"::1\"]"),
            Self::AuthMethods => {
                f.write_str("a list of \"certificate\", \"password\" and \"anonymous\"")
            }
            Self::Origins => f.write_str("a list of origins, as [\"https://app.example.com\"]"),
        }
    }
}

impl Takes {
    /// Takes a text as the environment or a flag gives it, without TOML's quotes.
    pub(super) fn parse(&self, text: &str) -> Result<Value, String> {
        match self {
            Self::Switch => match text {
                "true" => Ok(Value::Switch(true)),
                "false" => Ok(Value::Switch(false)),
                other => Err(format!("{other:?} is not {self}")),
            },
            Self::Number(_) => match text.parse() {
                Ok(number) => self.number(number),
                Err(_) => Err(format!("{text:?} is not {self}")),
            },
            Self::Bytes(_) => match text.parse() {
                Ok(number) => self.number(number),
                Err(_) => self.text(text),
            },
            Self::Limit(_) if text != "none" => match text.parse() {
                Ok(number) => self.number(number),
                Err(_) => Err(format!("{text:?} is not {self}")),
            },
            _ => self.text(text),
        }
    }

    /// Whether a list of texts may be given.
    pub(super) fn is_list(&self) -> bool {
        matches!(self, Self::Networks | Self::Origins | Self::AuthMethods)
    }

    /// Takes a number.
    pub(super) fn number(&self, number: i128) -> Result<Value, String> {
        let (Self::Number(range) | Self::Bytes(range) | Self::Limit(range)) = self else {
            return Err(format!("{number} is a number; what fits is {self}"));
        };
        u64::try_from(number)
            .ok()
            .filter(|number| range.contains(number))
            .map(Value::Number)
            .ok_or_else(|| format!("{number} is out of range; what fits is {self}"))
    }

    /// Takes a text.
    pub(super) fn text(&self, text: &str) -> Result<Value, String> {
        let taken = || Ok(Value::Text(text.to_owned()));
        match self {
            Self::Switch | Self::Number(_) => Err(format!(
                "{text:?} is a text; what fits is {self}, without quotes"
            )),
            Self::Bytes(_) => match bytes(text) {
                Some(bytes) => self.number(bytes.into()),
                None => Err(format!("{text:?} is no size; what fits is {self}")),
            },
            Self::Limit(_) if text == "none" => taken(),
            Self::Limit(_) => Err(format!("{text:?} does not fit; what fits is {self}")),
            Self::Word(words) if words.contains(&text) => taken(),
            Self::Word(words) => {
                let meant = suggest::nearest(text, words.iter().copied())
                    .map(|word| format!("; did you mean \"{word}\"?"))
                    .unwrap_or_default();
                Err(format!("{text:?} is not known; what fits is {self}{meant}"))
            }
            Self::AddressOrOff if text == "off" => Ok(Value::Address(None)),
            Self::Address | Self::AddressOrOff => text
                .parse()
                .map(|address| Value::Address(Some(address)))
                .map_err(|_| format!("{text:?} is no address; {}", address_hint(text, self))),
            Self::Path if text.is_empty() => Err(format!("is empty; what fits is {self}")),
            Self::Path => taken(),
            Self::Tenant => match TenantName::new(text) {
                Ok(_) => taken(),
                Err(error) => Err(error.to_string()),
            },
            Self::Host if is_host(text) => taken(),
            Self::Host => Err(format!("{text:?} is no host name; what fits is {self}")),
            Self::Networks => {
                for network in text.split(',') {
                    let parsed: Result<Network, _> = network.trim().parse();
                    parsed.map_err(|error| error.to_string())?;
                }
                taken()
            }
            Self::AuthMethods => match text.split(',').find(|method| auth_method(method).is_none())
            {
                None => taken(),
                Some(method) => Err(format!("{method:?} is not known; what fits is {self}")),
            },
            Self::Origins => match text.split(',').find(|origin| !is_origin(origin.trim())) {
                None => taken(),
                Some(origin) => Err(format!("{origin:?} is no origin; what fits is {self}")),
            },
        }
    }
}

/// A way to prove who one is, by its name.
pub(super) fn auth_method(name: &str) -> Option<AuthMethod> {
    match name.trim() {
        "certificate" => Some(AuthMethod::Certificate),
        "password" => Some(AuthMethod::Password),
        "anonymous" => Some(AuthMethod::Anonymous),
        _ => None,
    }
}

fn is_host(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    !text.is_empty() && text.bytes().all(is_plain)
}

/// Scheme and host, perhaps with a port, as browsers send it.
fn is_origin(text: &str) -> bool {
    let host = text.split_once("://").map(|(_, host)| host);
    host.is_some_and(|host| !host.is_empty() && !host.contains('/'))
}

/// A number and its unit.
fn bytes(text: &str) -> Option<u64> {
    let (number, unit) = UNITS
        .iter()
        .find_map(|(name, unit)| Some((text.strip_suffix(name)?, unit)))?;
    number.trim_end().parse::<u64>().ok()?.checked_mul(*unit)
}

/// An address that may have been meant.
fn address_hint(text: &str, takes: &Takes) -> String {
    let host_and_port = text
        .strip_prefix("localhost:")
        .map(|port| format!("127.0.0.1:{port}"))
        .or_else(|| {
            text.strip_prefix("*:")
                .map(|port| format!("0.0.0.0:{port}"))
        })
        .or_else(|| Some(format!("0.0.0.0{text}")).filter(|_| text.starts_with(':')))
        .unwrap_or_else(|| format!("0.0.0.0:{text}"));
    match host_and_port.parse::<SocketAddr>() {
        Ok(address) if address.ip().is_unspecified() && !text.starts_with('*') => format!(
            "did you mean \"{address}\", or \"127.0.0.1:{}\" for this machine only?",
            address.port()
        ),
        Ok(address) => format!("did you mean \"{address}\"?"),
        Err(_) => format!("what fits is {takes}, for example \"0.0.0.0:1883\""),
    }
}
