//! What `bifrust config keys` tells of each key.

use super::{Config, LogFormat, Sources, Transport, keys};

/// A key of the config and what it takes, for `bifrust config keys`.
#[derive(Clone, Debug)]
pub struct Documented {
    /// The key, `*` standing for a tenant's name and `[]` for each entry of a list.
    pub key: String,
    /// What it takes.
    pub takes: String,
    /// What it is for.
    pub help: String,
    /// What holds where it is left out, if that is a plain value.
    pub default: Option<String>,
}

/// Every key there is.
pub fn documented() -> Vec<Documented> {
    // Nothing said is no mistake.
    let config = Sources::default().load().ok().map(|loaded| loaded.config);
    let settings = config
        .as_ref()
        .and_then(|config| toml::Table::try_from(&config.settings).ok())
        .unwrap_or_default();
    keys::known()
        .into_iter()
        .map(|key| {
            let default = match key.path.strip_prefix("settings.") {
                Some(name) => settings.get(name).map(ToString::to_string),
                None => config
                    .as_ref()
                    .and_then(|config| default(&key.path, config)),
            };
            Documented {
                takes: key.takes.to_string(),
                key: key.path,
                help: key.help.to_owned(),
                default,
            }
        })
        .collect()
}

/// The default of a key that is no setting, as a file would say it.
fn default(key: &str, config: &Config) -> Option<String> {
    let listener = |transport| {
        let mut all = config.listeners.iter();
        let found = all.find(|listener| listener.transport == transport)?;
        Some(format!("\"{}\"", found.address))
    };
    let limits = &config.limits;
    let storage = &config.storage;
    if key.starts_with("listen")
        && let Some(default) = listener_default(key)
    {
        return Some(default.to_owned());
    }
    let number = match key {
        "data" => return Some("/var/lib/bifrust for root, else ~/.local/share/bifrust".to_owned()),
        "auth.file" => {
            return Some("users.toml beside the config file, else in the data folder".to_owned());
        }
        "listen.tcp" => return listener(Transport::Tcp),
        "listen.ws" => return listener(Transport::Ws),
        "listeners.[].kind" => return Some("\"tcp\"".to_owned()),
        "api.address" => return Some(format!("\"{}\"", config.api?)),
        "log.format" => {
            return Some(match config.log.format {
                LogFormat::Text => "\"text\"".to_owned(),
                LogFormat::Json => "\"json\"".to_owned(),
            });
        }
        "log.level" => return Some(format!("{:?}", config.log.level)),
        "log.connections" => return Some(config.log.has_connections.to_string()),
        "auth.threads" => return Some("half of the cores".to_owned()),
        "limits.shards" => return Some("one per core".to_owned()),
        "auth.queue" => config.auth.queue_max as u64,
        "limits.max_connections" => config.listeners.first()?.max_connections as u64,
        "limits.max_tenants" => limits.max_tenants,
        "limits.connect_timeout_seconds" => limits.connect_timeout_seconds,
        "limits.publish_timeout_seconds" => limits.publish_timeout_seconds,
        "limits.stop_seconds" => limits.stop_seconds,
        "storage.cache_bytes" => storage.cache_bytes,
        "storage.memtable_bytes" => storage.memtable_bytes,
        "storage.journal_bytes" => storage.journal_bytes,
        _ => return None,
    };
    Some(number.to_string())
}

/// The default of what `[listen]` and `[[listeners]]` have in common.
fn listener_default(key: &str) -> Option<&'static str> {
    let (_, option) = key.rsplit_once('.')?;
    Some(match option {
        "tls" | "wss" => "\"off\"",
        "client_auth" => "\"required\" with a client_ca, else \"off\"",
        "min_version" => "\"1.2\"",
        "proxy_protocol" | "forwarded_for" => "false",
        "subprotocol" => "\"required\"",
        _ => return None,
    })
}
