//! What a node is told: built-in defaults < config file < environment < flags.
//!
//! ```text
//! file         -> document::read    \
//! BIFRUST__*   -> environment::read  > Values by key, each with its origin -> assemble -> Config
//! flags        -> Flags             /
//! ```
//!
//! Every layer is checked against one list of known keys (`keys`), and all mistakes are told at
//! once, each with its place, its key and what would be right.

mod assemble;
mod document;
mod documented;
mod effective;
mod environment;
mod keys;
mod listeners;
mod problem;
mod suggest;
mod values;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use bifrust_model::{Settings, TenantName};
pub use bifrust_mqtt::{CertificateTenant, Network, Proxies, WebSocketRules};
pub use bifrust_plugin_api::AuthMethod;

pub use self::documented::{Documented, documented};
pub use self::effective::Effective;
pub use self::problem::{Place, Problem, Problems};
use self::values::Values;
use crate::memory::Memory;

/// Where the config file is looked for when none is named.
pub const DEFAULT_FILE: &str = "/etc/bifrust/bifrust.toml";

/// A node's config, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// The data folder.
    pub data: PathBuf,
    /// Where clients connect.
    pub listeners: Vec<Listener>,
    /// Where the HTTP port is; `None` for none.
    pub api: Option<SocketAddr>,
    /// How it logs.
    pub log: Log,
    /// What it tells of itself by MQTT; `None` for nothing.
    pub sys: Option<Sys>,
    /// Who may connect.
    pub auth: Auth,
    /// Bounds of the node.
    pub limits: Limits,
    /// What caches, memtables and queues may take.
    pub memory: Memory,
    /// The storage engine.
    pub storage: Storage,
    /// Settings of tenants that have none of their own.
    pub settings: Settings,
    /// Settings of tenants that have their own.
    pub tenants: HashMap<TenantName, Settings>,
    /// Development mode: anonymous clients, loopback only.
    pub is_dev: bool,
    /// `BIFRUST_TEST_NO_FSYNC=1`: nothing is synced. Loses acknowledged messages with the power.
    pub is_unsynced_for_tests: bool,
}

/// The transport of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// MQTT over TCP.
    Tcp,
    /// MQTT over TLS.
    Tls,
    /// MQTT over WebSocket.
    Ws,
    /// MQTT over WebSocket over TLS.
    Wss,
}

/// Where clients connect.
#[derive(Clone, Debug)]
pub struct Listener {
    /// What it speaks.
    pub transport: Transport,
    /// Where it listens; port 0 is any free one.
    pub address: SocketAddr,
    /// The tenant that all its clients are in.
    pub tenant: Option<TenantName>,
    /// Where a client's certificate says its tenant.
    pub certificate_tenant: Option<CertificateTenant>,
    /// What proves who a client is, in order.
    pub auth: Vec<AuthMethod>,
    /// Connections at a time.
    pub max_connections: usize,
    /// Files for TLS; always there where it is spoken.
    pub tls: Option<TlsFiles>,
    /// Proxies in front of it.
    pub proxies: Proxies,
    /// Which WebSocket requests it takes.
    pub websocket: WebSocketRules,
}

/// A certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityFiles {
    /// PEM of the certificate and those between it and its authority.
    pub cert: PathBuf,
    /// PEM of the private key.
    pub key: PathBuf,
}

/// A host name that clients ask for (SNI).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostFiles {
    /// In lower case.
    pub name: String,
    /// A certificate of its own.
    pub identity: Option<IdentityFiles>,
    /// The tenant of its clients.
    pub tenant: Option<TenantName>,
}

/// How clients' certificates are checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientFiles {
    /// PEM of the authorities.
    pub authorities: PathBuf,
    /// PEM of the revocation lists.
    pub revoked: Option<PathBuf>,
    /// Whether a client without a certificate is refused.
    pub is_required: bool,
}

/// The TLS side of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Shown unless a host has its own.
    pub default: IdentityFiles,
    /// Hosts that differ.
    pub hosts: Vec<HostFiles>,
    /// Clients' certificates; `None` asks for none.
    pub clients: Option<ClientFiles>,
    /// Whether TLS 1.2 is refused.
    pub is_tls13_only: bool,
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// A JSON object per line.
    Json,
}

/// How the node logs to stderr.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// The form of lines.
    pub format: LogFormat,
    /// The lowest level that is written: error, warn, info, debug or trace.
    pub level: String,
    /// Whether each event of a connection is a line.
    pub has_connections: bool,
}

/// `$SYS/broker/`: the numbers of the whole node, told in one tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sys {
    /// The tenant whose clients may see them.
    pub tenant: TenantName,
    /// Seconds between two rounds.
    pub interval_seconds: u64,
}

/// How clients prove who they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Auth {
    /// The users file.
    pub file: PathBuf,
    /// Threads that hash passwords.
    pub threads: usize,
    /// Password checks that may wait.
    pub queue_max: usize,
}

/// Bounds of the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connection shards; one per core if not said.
    pub shards: usize,
    /// Tenants that may come to be.
    pub max_tenants: u64,
    /// Seconds that a connection may take until its CONNECT is complete.
    pub connect_timeout_seconds: u64,
    /// Seconds after which an unanswered publish closes its connection.
    pub publish_timeout_seconds: u64,
    /// Seconds that a graceful stop may take.
    pub stop_seconds: u64,
}

/// The storage engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Storage {
    /// Bytes of the cache of cold rows.
    pub cache_bytes: u64,
    /// Bytes of recent rows in memory, per keyspace.
    pub memtable_bytes: u64,
    /// Bytes of journals on disk before they are flushed.
    pub journal_bytes: u64,
    /// Free bytes below which writes stop; `None` is 5 % of the disk, within 128 and 512 MiB.
    pub free_bytes_min: Option<u64>,
}

/// What the command line says.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// The data folder.
    pub data: Option<PathBuf>,
    /// The TCP listener.
    pub tcp: Option<String>,
    /// The WebSocket listener.
    pub ws: Option<String>,
    /// The TLS listener.
    pub tls: Option<String>,
    /// The WebSocket listener over TLS.
    pub wss: Option<String>,
    /// The certificate of both.
    pub cert: Option<PathBuf>,
    /// The key of both.
    pub key: Option<PathBuf>,
    /// The HTTP port.
    pub api: Option<String>,
    /// Development mode.
    pub is_dev: bool,
    /// Development mode on any address.
    pub is_dev_insecure: bool,
}

/// A config, and what is strange about it without being wrong.
#[derive(Debug)]
pub struct Loaded {
    /// The config.
    pub config: Config,
    /// What an operator should know.
    pub warnings: Problems,
    /// Each value in force, as a config file has them.
    pub effective: Vec<Effective>,
}

/// All that says what the config is.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The config file's name and text, if there is one.
    pub file: Option<(PathBuf, String)>,
    /// The environment.
    pub environment: Vec<(String, String)>,
    /// The command line.
    pub flags: Flags,
}

impl Sources {
    /// The file named, or the default one if it is there; the environment of this process.
    pub fn of_process(file: Option<&Path>, flags: Flags) -> Result<Self, Problems> {
        let path = file.unwrap_or_else(|| Path::new(DEFAULT_FILE));
        let text = match std::fs::read_to_string(path) {
            Ok(text) => Some((path.to_owned(), text)),
            Err(error) if file.is_none() && error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => {
                return Err(Problems::one(Problem {
                    place: Place::Line(path.to_owned(), 0),
                    key: String::new(),
                    message: format!("cannot be read: {error}"),
                }));
            }
        };
        Ok(Self {
            file: text,
            environment: std::env::vars_os()
                .filter_map(|(name, value)| {
                    Some((name.into_string().ok()?, value.into_string().ok()?))
                })
                .collect(),
            flags,
        })
    }

    /// Checks everything and puts it together.
    pub fn load(&self) -> Result<Loaded, Problems> {
        let keys = keys::known();
        let mut problems = Vec::new();
        let mut values = Values::default();
        if let Some((path, text)) = &self.file {
            document::read(path, text, &keys, &mut values, &mut problems);
        }
        environment::read(&self.environment, &keys, &mut values, &mut problems);
        self.flags.read(&keys, &mut values, &mut problems);
        assemble::assemble(self, &values, problems)
    }
}

impl Flags {
    fn read(&self, keys: &[keys::Key], values: &mut Values, problems: &mut Vec<Problem>) {
        let text = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        let (data, cert, key) = (text(&self.data), text(&self.cert), text(&self.key));
        let texts = [
            ("--data", "data", &data),
            ("--tcp", "listen.tcp", &self.tcp),
            ("--ws", "listen.ws", &self.ws),
            ("--tls", "listen.tls", &self.tls),
            ("--wss", "listen.wss", &self.wss),
            ("--cert", "listen.cert", &cert),
            ("--key", "listen.key", &key),
            ("--api", "api.address", &self.api),
        ];
        for (flag, key, text) in texts {
            if let (Some(text), Some(known)) = (text, keys.iter().find(|k| k.path == key)) {
                let place = Place::Flag(flag);
                match known.takes.parse(text) {
                    Ok(value) => values.set(key, value, place),
                    Err(message) => problems.push(Problem {
                        place,
                        key: key.to_owned(),
                        message,
                    }),
                }
            }
        }
    }
}
