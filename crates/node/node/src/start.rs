//! Putting a node together.

use std::num::NonZeroU64;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bifrust_api::{Health, MeterRegistry, Readiness};
use bifrust_dist::Dist;
use bifrust_inbox::Inbox;
use bifrust_kv::Clock;
use bifrust_model::{Incarnation, NodeId, NodeRef};
use bifrust_mqtt::{ListenerKind, Mailboxes, Services, SysConfig, SysTopics};
use bifrust_plugin_api::{Auth, Events, Meter, Meters, NoRedirect, Unlimited};
use bifrust_providers::{ConfigSettings, DevAuth, EventLog, PasswordAuth, PasswordConfig};
use bifrust_registry::{AlwaysHeld, Registry};
use bifrust_retain::Retain;
use bifrust_session_dict::Dict;
use bifrust_storage::{FreeSpaceFloor, Store, SyncMode};
use rustix::process::{Resource, getrlimit, setrlimit};

use crate::bridge::Bridge;
use crate::certificates::Certificates;
use crate::config::{self, Config, Transport};
use crate::error::StartError;
use crate::running::RunningNode;

/// Starts a node and returns when it serves.
pub fn start(config: Config) -> Result<RunningNode, StartError> {
    raise_fd_limit();
    let meters = Arc::new(MeterRegistry::new());
    let events = Events::new(vec![Box::new(EventLog)]);
    let settings = Arc::new(ConfigSettings::new(
        config.settings.clone(),
        config.tenants.clone(),
    ));
    let mut node = RunningNode::new(settings.clone(), config.limits.stop_seconds);
    node.api = open_api(&config, &meters, &events, &node)?;
    let auth: Arc<dyn Auth> = match config.is_dev {
        true => Arc::new(DevAuth::default()),
        false => {
            let passwords = Arc::new(open_users(&config)?);
            node.set_passwords(passwords.clone());
            passwords
        }
    };

    let mut certificates = Certificates::default();
    let listeners = config
        .listeners
        .iter()
        .map(|listener| mqtt_listener(listener, &mut certificates))
        .collect::<Result<Vec<_>, _>>()?;
    let store = Store::open(storage_config(&config), &keyspaces())?;
    node.set_store(store.clone());
    let clock = Clock::new();
    let ranges = bifrust_kv::Node::open(store.clone(), kv_config(&config), clock.clone())
        .map_err(StartError::service("kv"))?;
    node.set_ranges(ranges.clone());
    let this = NodeRef {
        id: NodeId(store.manifest().node_id.0),
        incarnation: Incarnation(store.manifest().incarnation),
    };
    let registry = Registry::open_with(&ranges, settings, &registry_config(&config))
        .map_err(StartError::service("registry"))?;
    node.set_registry(registry.clone());
    let dist = Dist::open_with(&ranges, this, &dist_config(&config), &*meters)
        .map_err(StartError::service("dist"))?;
    let retain = Retain::open(&ranges, &*meters).map_err(StartError::service("retain"))?;
    clock.resume_after(retain.latest_stamp());
    let dict = Dict::new();
    let inbox = Inbox::open(
        &ranges,
        dist.clone(),
        registry.clone(),
        clock.clone(),
        events.clone(),
        &*meters,
        inbox_config(&config),
    )
    .map_err(StartError::service("inbox"))?;
    node.set_inbox(inbox.clone());

    let mailboxes = Mailboxes::within(config.limits.shards, size(config.memory.mailbox));
    let watch_meters = meters.clone();
    let services = Services {
        auth,
        balancer: Arc::new(NoRedirect),
        quotas: Arc::new(Unlimited),
        registry,
        dict: dict.clone(),
        dist: dist.clone(),
        inbox: inbox.clone(),
        retain,
        clock,
        events,
        meters,
        node: this,
        lease: Arc::new(AlwaysHeld),
    };
    dict.bind(mailboxes.clone());
    let durable = Bridge::to(inbox.deliverer());
    let wills = Bridge::to(bifrust_mqtt::will_sender(services.clone()));
    node.set_ways_up(durable.clone(), wills.clone());
    dist.bind(mailboxes.clone(), durable);
    inbox.bind(mailboxes.clone(), wills);
    // Sessions of the ended incarnation count as just disconnected before any client comes.
    inbox.start();
    let sys = config.sys.as_ref().map(|sys| SysConfig {
        tenant: sys.tenant.clone(),
        interval: Duration::from_secs(sys.interval_seconds),
        version: format!("bifrust version {}", env!("CARGO_PKG_VERSION")),
    });
    if let Some(sys) = sys {
        let started = SysTopics::start(services.clone(), sys);
        node.sys = Some(started.map_err(StartError::service("$SYS"))?);
    }
    node.server = Some(bifrust_mqtt::start(
        mqtt_config(&config, listeners),
        services,
        mailboxes,
    )?);
    node.certificates = certificates
        .watch(&*watch_meters)
        .map_err(StartError::service("certificates"))?;
    node.health.set(Readiness::Ready);
    Ok(node)
}

fn open_api(
    config: &Config,
    meters: &Arc<MeterRegistry>,
    events: &Events,
    node: &RunningNode,
) -> Result<Option<bifrust_api::Server>, StartError> {
    let Some(address) = config.api else {
        return Ok(None);
    };
    let version = Meter::new("bifrust_build_info", "The version that runs.")
        .label("version", env!("CARGO_PKG_VERSION"));
    meters.gauge(version).set(1);
    let server = bifrust_api::Server::start(bifrust_api::Config {
        address,
        meters: meters.clone(),
        events: events.clone(),
        health: Health::clone(&node.health),
        before_scrape: node.gauges(&**meters),
    })?;
    Ok(Some(server))
}

fn open_users(config: &Config) -> Result<PasswordAuth, StartError> {
    let passwords = PasswordAuth::open(&PasswordConfig {
        file: config.auth.file.clone(),
        threads: config.auth.threads,
        queue_max: config.auth.queue_max,
    })?;
    if passwords.user_count() == 0 {
        tracing::warn!(
            "there is no user yet, every client is refused; add one with: bifrust user add --file \
             {} --tenant {} --user NAME",
            quoted(&config.auth.file),
            bifrust_model::DEFAULT_TENANT
        );
    }
    Ok(passwords)
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = std::path::absolute(path)
        .unwrap_or_else(|_| path.to_owned())
        .display()
        .to_string();
    let is_plain = |char: char| char.is_ascii_alphanumeric() || "/._-+".contains(char);
    if text.chars().all(is_plain) {
        return text;
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

fn keyspaces() -> Vec<bifrust_storage::Keyspace> {
    [
        bifrust_kv::keyspaces(),
        bifrust_registry::keyspaces(),
        bifrust_dist::keyspaces(),
        bifrust_retain::keyspaces(),
        bifrust_inbox::keyspaces(),
    ]
    .concat()
}

fn storage_config(config: &Config) -> bifrust_storage::Config {
    let mut storage = bifrust_storage::Config::new(&config.data);
    storage.engine.cache_bytes = config.storage.cache_bytes;
    storage.engine.memtable_bytes = config.storage.memtable_bytes;
    // Half of their share is for those that are being flushed.
    storage.engine.memtables_bytes_max = config.memory.memtables / 2;
    storage.engine.journal_bytes_max = config.storage.journal_bytes;
    storage.engine.scanned = [bifrust_dist::keyspaces(), bifrust_retain::keyspaces()].concat();
    if let Some(bytes) = config.storage.free_bytes_min {
        storage.free_space_floor = FreeSpaceFloor::Bytes(bytes);
    }
    if config.is_unsynced_for_tests {
        tracing::warn!(
            "BIFRUST_TEST_NO_FSYNC is set: acknowledged messages are NOT on disk and are lost with \
             the power; it exists only so that durability tests can show that they would notice"
        );
        storage.engine.sync = SyncMode::NoneForTests;
    }
    storage
}

fn kv_config(config: &Config) -> bifrust_kv::Config {
    bifrust_kv::Config {
        queue_bytes_max: size(config.memory.commands),
        ..bifrust_kv::Config::default()
    }
}

fn dist_config(config: &Config) -> bifrust_dist::Config {
    bifrust_dist::Config::within(size(config.memory.matches), size(config.memory.gaps))
}

fn inbox_config(config: &Config) -> bifrust_inbox::Config {
    bifrust_inbox::Config {
        heads_bytes_max: size(config.memory.sessions),
        ..bifrust_inbox::Config::default()
    }
}

fn size(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

fn registry_config(config: &Config) -> bifrust_registry::Config {
    let default = bifrust_registry::Config::default();
    bifrust_registry::Config {
        tenants_max: NonZeroU64::new(config.limits.max_tenants).unwrap_or(default.tenants_max),
    }
}

fn mqtt_listener(
    listener: &config::Listener,
    certificates: &mut Certificates,
) -> Result<bifrust_mqtt::Listener, StartError> {
    let kind = match listener.transport {
        Transport::Tcp => ListenerKind::Tcp,
        Transport::Tls => ListenerKind::Tls,
        Transport::Ws => ListenerKind::Ws,
        Transport::Wss => ListenerKind::Wss,
    };
    let (tls, hosts) = match &listener.tls {
        Some(files) => (
            Some(certificates.open(kind, files)?),
            files.hosts.as_slice(),
        ),
        None => (None, [].as_slice()),
    };
    let host_tenant = |host: &config::HostFiles| Some((host.name.clone(), host.tenant.clone()?));
    Ok(bifrust_mqtt::Listener {
        tenant: listener.tenant.clone(),
        host_tenants: hosts.iter().filter_map(host_tenant).collect(),
        certificate_tenant: listener.certificate_tenant,
        auth: listener.auth.clone(),
        max_connections: listener.max_connections,
        tls,
        proxies: listener.proxies.clone(),
        websocket: listener.websocket.clone(),
        ..bifrust_mqtt::Listener::new(kind, listener.address)
    })
}

fn mqtt_config(config: &Config, listeners: Vec<bifrust_mqtt::Listener>) -> bifrust_mqtt::Config {
    let connect_timeout = Duration::from_secs(config.limits.connect_timeout_seconds);
    bifrust_mqtt::Config {
        listeners,
        connect_timeout,
        publish_timeout: Duration::from_secs(config.limits.publish_timeout_seconds),
        // A password check that waits its turn may take as long as the CONNECT it is for.
        auth_timeout: connect_timeout,
        max_store_bytes: size(config.memory.stores),
        max_queue_bytes: size(config.memory.queues),
        max_result_bytes: size(config.memory.results),
        ..bifrust_mqtt::Config::default()
    }
}

/// Connections are descriptors: the soft limit is raised to the hard one.
fn raise_fd_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return;
    }
    let before = limit.current;
    limit.current = limit.maximum;
    match setrlimit(Resource::Nofile, limit) {
        Ok(()) => tracing::debug!(?before, now = ?limit.maximum, "limit of open files raised"),
        Err(error) => tracing::warn!(%error, ?before, "the limit of open files stays as it is"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_quoted_for_a_shell() {
        assert_eq!(quoted(Path::new("/etc/b/users.toml")), "/etc/b/users.toml");
        assert_eq!(quoted(Path::new("/a b/it's")), r"'/a b/it'\''s'");
    }
}
