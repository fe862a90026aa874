//! From checked values to a config; what concerns several keys is checked here.

use std::collections::{BTreeSet, HashMap};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use bifrust_model::{SettingError, Settings, TenantName};

use super::effective::Effective;
use super::problem::{Place, Problem, Problems};
use super::values::{Value, Values};
use super::{Auth, Config, Limits, Loaded, Log, LogFormat, Sources, Storage, Sys};
use crate::memory::{Memory, default_limit};

/// The switch of the durability test that shows that it would notice lost syncs.
const UNSYNCED: &str = "BIFRUST_TEST_NO_FSYNC";
const API_PORT: u16 = 8091;
/// Seconds between two rounds of `$SYS`, as mosquitto has it.
const SYS_INTERVAL: u64 = 10;
/// More means fewer, larger tables, and a longer restart.
const MEMTABLE_BYTES: u64 = 32 << 20;
/// Password checks that may wait: a reconnect storm of that many clients is served, if slowly.
const AUTH_QUEUE: u64 = 20_000;

pub(super) fn assemble(
    sources: &Sources,
    values: &Values,
    problems: Vec<Problem>,
) -> Result<Loaded, Problems> {
    let mut assembly = Assembly {
        sources,
        values,
        problems,
        warnings: Vec::new(),
    };
    let config = assembly.config();
    if assembly.problems.is_empty() {
        Ok(Loaded {
            config,
            warnings: Problems(assembly.warnings),
            effective: Effective::all(values),
        })
    } else {
        // As they stand in the file; what other layers say comes last.
        assembly
            .problems
            .sort_by_key(|problem| match problem.place {
                Place::Line(_, line) => line,
                _ => usize::MAX,
            });
        Err(Problems(assembly.problems))
    }
}

pub(super) struct Assembly<'a> {
    sources: &'a Sources,
    pub(super) values: &'a Values,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
}

impl Assembly<'_> {
    fn config(&mut self) -> Config {
        let values = self.values;
        let is_dev = self.sources.flags.is_dev || self.sources.flags.is_dev_insecure;
        let data = PathBuf::from(values.text_or("data", || shown(&self.default_data())));
        let settings = self.settings("settings.", &Settings::default(), "");
        self.note_settings(&settings);
        let tenants = self.tenants(&settings);
        let (keys, listeners) = self.listeners(is_dev).into_iter().unzip();
        let shards = size(values.number("limits.shards", cores())).min(64);
        let memory = self.memory(shards);
        let config = Config {
            listeners,
            api: values.address("api.address", (Ipv4Addr::LOCALHOST, API_PORT).into()),
            log: Log {
                format: match &*values.text_or("log.format", || "text".to_owned()) {
                    "json" => LogFormat::Json,
                    _ => LogFormat::Text,
                },
                level: values.text_or("log.level", || "info".to_owned()),
                has_connections: values.switch("log.connections"),
            },
            sys: self.sys(),
            auth: Auth {
                file: values
                    .text_or("auth.file", || shown(&self.default_users(&data)))
                    .into(),
                threads: size(values.number("auth.threads", half_of_cores())),
                queue_max: size(values.number("auth.queue", AUTH_QUEUE)),
            },
            limits: Limits {
                shards,
                max_tenants: values.number("limits.max_tenants", 100_000),
                connect_timeout_seconds: values.number("limits.connect_timeout_seconds", 10),
                publish_timeout_seconds: values.number("limits.publish_timeout_seconds", 10),
                stop_seconds: values.number("limits.stop_seconds", 10),
            },
            storage: Storage {
                cache_bytes: memory.blocks,
                memtable_bytes: values
                    .number(
                        "storage.memtable_bytes",
                        MEMTABLE_BYTES.min(memory.memtables / 2),
                    )
                    .min(memory.memtables / 2),
                journal_bytes: values.number("storage.journal_bytes", 256 << 20),
                free_bytes_min: match values.get("storage.free_bytes_min") {
                    Some(Value::Number(bytes)) => Some(*bytes),
                    _ => None,
                },
            },
            memory,
            data,
            settings,
            tenants,
            is_dev,
            is_unsynced_for_tests: self
                .sources
                .environment
                .iter()
                .any(|(name, value)| name == UNSYNCED && value == "1"),
        };
        self.check_addresses(keys, &config);
        config
    }

    fn sys(&mut self) -> Option<Sys> {
        let tenant = self.values.text("sys.tenant");
        let tenant = tenant.and_then(|name| TenantName::new(name).ok());
        if tenant.is_none() && self.values.get("sys.interval_seconds").is_some() {
            let message = "has no effect without sys.tenant".to_owned();
            self.warn("sys.interval_seconds", message);
        }
        let interval_seconds = self.values.number("sys.interval_seconds", SYS_INTERVAL);
        Some(Sys {
            tenant: tenant?,
            interval_seconds,
        })
    }

    fn memory(&mut self, shards: usize) -> Memory {
        let limit = self.values.number("limits.memory_limit", default_limit());
        let mut memory = Memory::divide(limit, shards);
        let blocks = self.values.number("storage.cache_bytes", memory.blocks);
        if blocks > memory.blocks {
            let told = format!(
                "{blocks} is more than the share of limits.memory_limit, {}: all together may take \
                 that much more",
                memory.blocks
            );
            self.warn("storage.cache_bytes", told);
        }
        memory.blocks = blocks;
        memory
    }

    fn check_addresses(&mut self, keys: Vec<String>, config: &Config) {
        let all: Vec<(String, SocketAddr)> = keys
            .into_iter()
            .zip(config.listeners.iter().map(|listener| listener.address))
            .chain(config.api.map(|api| ("api.address".to_owned(), api)))
            .collect();
        for (index, (key, address)) in all.iter().enumerate() {
            let clash = all[..index]
                .iter()
                .find(|(_, other)| other == address && address.port() != 0);
            if let Some((other, _)) = clash {
                self.tell(
                    key,
                    format!("{address} is that of {other} too; use another port"),
                );
            }
            if self.sources.flags.is_dev
                && !self.sources.flags.is_dev_insecure
                && !address.ip().is_loopback()
            {
                self.tell(
                    key,
                    format!(
                        "{address} is not a loopback address and --dev lets everybody in; use \
                         127.0.0.1:{}, or --dev-insecure if that is what you want",
                        address.port()
                    ),
                );
            }
        }
        if let Some(api) = config.api.filter(|api| !api.ip().is_loopback()) {
            self.warn(
                "api.address",
                format!("{api} is open to the network, without passwords or TLS"),
            );
        }
    }

    fn tenants(&mut self, all: &Settings) -> HashMap<TenantName, Settings> {
        // A tenant's name may hold dots: it ends where its settings begin.
        let names: BTreeSet<&str> = self
            .values
            .under("tenants.")
            .filter_map(|(rest, _)| rest.rsplit_once(".settings."))
            .map(|(name, _)| name)
            .collect();
        let mut tenants = HashMap::new();
        for name in names {
            let prefix = format!("tenants.{name}.settings.");
            let settings = self.settings(&prefix, all, "settings.");
            if let Ok(name) = TenantName::new(name) {
                tenants.insert(name, settings);
            }
        }
        tenants
    }

    /// `base` with what is set under `prefix`; `outer` is where `base` was set.
    fn settings(&mut self, prefix: &str, base: &Settings, outer: &str) -> Settings {
        let mut table = toml::Table::try_from(base).unwrap_or_default();
        for (name, value) in self.values.under(prefix) {
            let value = match value {
                Value::Switch(switch) => toml::Value::Boolean(*switch),
                Value::Number(number) => {
                    toml::Value::Integer(i64::try_from(*number).unwrap_or(i64::MAX))
                }
                Value::Text(text) => toml::Value::String(text.clone()),
                Value::Address(_) => continue,
            };
            table.insert(name.to_owned(), value);
            if Settings::IGNORED.contains(&name) {
                self.warn(
                    &format!("{prefix}{name}"),
                    "is accepted and has no effect".to_owned(),
                );
            }
        }
        let settings: Settings = match table.try_into() {
            Ok(settings) => settings,
            Err(error) => {
                self.tell(prefix.trim_end_matches('.'), error.to_string());
                return base.clone();
            }
        };
        for error in settings.errors() {
            self.setting_error(prefix, outer, &settings, &error);
        }
        settings
    }

    /// Those that were not given have their defaults.
    fn note_settings(&self, settings: &Settings) {
        for (name, value) in toml::Table::try_from(settings).unwrap_or_default() {
            let value = match value {
                toml::Value::Boolean(switch) => Value::Switch(switch),
                toml::Value::Integer(number) => Value::Number(number.cast_unsigned()),
                toml::Value::String(text) => Value::Text(text),
                _ => continue,
            };
            self.values.fall_back(&format!("settings.{name}"), value);
        }
    }

    fn setting_error(
        &mut self,
        prefix: &str,
        outer: &str,
        settings: &Settings,
        error: &SettingError,
    ) {
        let key_of = |name: &str| {
            let own = format!("{prefix}{name}");
            match self.values.get(&own) {
                None if !outer.is_empty() => format!("{outer}{name}"),
                _ => own,
            }
        };
        match error {
            SettingError::OutOfRange { name, .. } => {
                let key = key_of(name);
                self.tell(&key, error.to_string());
            }
            SettingError::Contradiction { lower, upper } => {
                // The outer layer tells its own contradictions.
                let is_own = [lower, upper]
                    .iter()
                    .any(|name| self.values.get(&format!("{prefix}{name}")).is_some());
                if !is_own {
                    return;
                }
                let table = toml::Table::try_from(settings).unwrap_or_default();
                let number = |name: &str| table.get(name).map(ToString::to_string);
                let (low, high) = (number(lower), number(upper));
                let key = match self.values.get(&format!("{prefix}{lower}")) {
                    Some(_) => key_of(lower),
                    None => key_of(upper),
                };
                self.tell(
                    &key,
                    format!(
                        "{lower} is {} and must not be above {upper}, which is {}; lower the \
                         first or raise the second",
                        low.unwrap_or_default(),
                        high.unwrap_or_default()
                    ),
                );
            }
        }
    }

    /// Where the system keeps such things for root; below the home folder for others.
    fn default_data(&self) -> PathBuf {
        let variable = |name: &str| {
            self.sources
                .environment
                .iter()
                .find(|(key, value)| key == name && !value.is_empty())
                .map(|(_, value)| PathBuf::from(value))
        };
        let home = variable("XDG_DATA_HOME")
            .or_else(|| Some(variable("HOME")?.join(".local/share")))
            .filter(|_| !rustix::process::geteuid().is_root());
        home.unwrap_or_else(|| PathBuf::from("/var/lib"))
            .join("bifrust")
    }

    /// Beside the config file, or in the data folder if there is none.
    fn default_users(&self, data: &Path) -> PathBuf {
        let folder = self
            .sources
            .file
            .as_ref()
            .and_then(|(path, _)| path.parent());
        folder.unwrap_or(data).join("users.toml")
    }

    pub(super) fn has_problem(&self, prefix: &str) -> bool {
        self.problems
            .iter()
            .any(|problem| problem.key.starts_with(prefix))
    }

    pub(super) fn tell(&mut self, key: &str, message: String) {
        let problem = self.problem(key, message);
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    fn warn(&mut self, key: &str, message: String) {
        let problem = self.problem(key, message);
        self.warnings.push(problem);
    }

    fn problem(&self, key: &str, message: String) -> Problem {
        let place = match self.values.place(key) {
            Place::Default => self.file_place(),
            place => place,
        };
        Problem {
            place,
            key: key.to_owned(),
            message,
        }
    }

    fn file_place(&self) -> Place {
        match &self.sources.file {
            Some((path, _)) => Place::Line(path.clone(), 0),
            None => Place::Default,
        }
    }
}

pub(super) fn size(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

fn cores() -> u64 {
    std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64)
}

fn half_of_cores() -> u64 {
    (cores() / 2).max(1)
}
