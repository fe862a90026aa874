//! What `bifrust config keys` tells of each key.

use super::{Effective, Sources, keys};

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
    let effective = Sources::default()
        .load()
        .map(|loaded| loaded.effective)
        .unwrap_or_default();
    keys::known()
        .into_iter()
        .map(|key| Documented {
            takes: key.takes.to_string(),
            default: default(&key.path, &effective),
            key: key.path,
            help: key.help.to_owned(),
        })
        .collect()
}

/// The default of a key: in words if it depends on the machine, else as a file would say it.
fn default(key: &str, effective: &[Effective]) -> Option<String> {
    let words = match key {
        "data" => "/var/lib/bifrust for root, else ~/.local/share/bifrust",
        "auth.file" => "users.toml beside the config file, else in the data folder",
        "auth.threads" => "half of the cores",
        "limits.shards" => "one per core",
        "limits.memory_limit" => "a quarter of the machine's or cgroup's memory, 256 MiB to 1 GiB",
        "storage.cache_bytes" => "an eighth of limits.memory_limit",
        "listeners.[].kind" => "\"tcp\"",
        key => match listener_default(key) {
            Some(words) => words,
            None => return effective.iter().find(|it| it.key == key)?.value.clone(),
        },
    };
    Some(words.to_owned())
}

/// The default of what `[listen]` and `[[listeners]]` have in common.
fn listener_default(key: &str) -> Option<&'static str> {
    let (section, option) = key.rsplit_once('.')?;
    if !section.starts_with("listen") {
        return None;
    }
    Some(match option {
        "tls" | "wss" => "\"off\"",
        "client_auth" => "\"required\" with a client_ca, else \"off\"",
        "auth" => "[\"password\"]",
        "min_version" => "\"1.2\"",
        "proxy_protocol" | "forwarded_for" => "false",
        "subprotocol" => "\"required\"",
        _ => return None,
    })
}
