//! A node that runs, and its end.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bifrust_api::{Health, Readiness};
use bifrust_dist::Deliverer;
use bifrust_inbox::{Inbox, WillSender};
use bifrust_model::{Settings, TenantName};
use bifrust_mqtt::{ListenerKind, Server, SysTopics};
use bifrust_plugin_api::{Meter, Meters};
use bifrust_providers::{ConfigSettings, PasswordAuth};
use bifrust_registry::Registry;
use bifrust_storage::Store;

use crate::bridge::Bridge;
use crate::certificates::Watch;
use crate::config::Transport;

/// What is left of a stop's time for all that comes after the clients.
const AFTER_CLIENTS: Duration = Duration::from_secs(1);

/// A node, as far as it has been put together. Dropping it stops it.
pub struct RunningNode {
    pub(crate) health: Health,
    pub(crate) api: Option<bifrust_api::Server>,
    pub(crate) server: Option<Server>,
    pub(crate) certificates: Option<Watch>,
    pub(crate) sys: Option<SysTopics>,
    settings: Arc<ConfigSettings>,
    parts: Arc<Parts>,
    stop_within: Duration,
}

/// What gauges read and the stop needs; filled as the node is put together.
#[derive(Default)]
struct Parts {
    passwords: OnceLock<Arc<PasswordAuth>>,
    store: OnceLock<Store>,
    ranges: OnceLock<bifrust_kv::Node>,
    registry: OnceLock<Registry>,
    inbox: OnceLock<Inbox>,
    durable: OnceLock<Arc<Bridge<dyn Deliverer>>>,
    wills: OnceLock<Arc<Bridge<dyn WillSender>>>,
}

/// Each part is set once; the first one stays.
fn set<T>(slot: &OnceLock<T>, part: T) {
    let is_first = slot.set(part).is_ok();
    debug_assert!(is_first, "a part of the node is set twice");
}

impl RunningNode {
    pub(crate) fn new(settings: Arc<ConfigSettings>, stop_seconds: u64) -> Self {
        Self {
            health: Health::new(),
            api: None,
            server: None,
            certificates: None,
            sys: None,
            settings,
            parts: Arc::default(),
            stop_within: Duration::from_secs(stop_seconds),
        }
    }

    pub(crate) fn set_passwords(&self, passwords: Arc<PasswordAuth>) {
        set(&self.parts.passwords, passwords);
    }

    pub(crate) fn set_store(&self, store: Store) {
        set(&self.parts.store, store);
    }

    pub(crate) fn set_ranges(&self, ranges: bifrust_kv::Node) {
        set(&self.parts.ranges, ranges);
    }

    pub(crate) fn set_registry(&self, registry: Registry) {
        set(&self.parts.registry, registry);
    }

    pub(crate) fn set_inbox(&self, inbox: Inbox) {
        set(&self.parts.inbox, inbox);
    }

    pub(crate) fn set_ways_up(
        &self,
        durable: Arc<Bridge<dyn Deliverer>>,
        wills: Arc<Bridge<dyn WillSender>>,
    ) {
        set(&self.parts.durable, durable);
        set(&self.parts.wills, wills);
    }

    /// The first bound address of this transport.
    pub fn address(&self, transport: Transport) -> Option<SocketAddr> {
        let kind = match transport {
            Transport::Tcp => ListenerKind::Tcp,
            Transport::Tls => ListenerKind::Tls,
            Transport::Ws => ListenerKind::Ws,
            Transport::Wss => ListenerKind::Wss,
        };
        let bound = self.server.as_ref()?.addresses();
        bound
            .iter()
            .find(|bound| bound.kind == kind)
            .map(|bound| bound.address)
    }

    /// The bound address of the HTTP port.
    pub fn api_address(&self) -> Option<SocketAddr> {
        self.api.as_ref().map(bifrust_api::Server::address)
    }

    /// Open connections.
    pub fn connections(&self) -> usize {
        self.server.as_ref().map_or(0, Server::connections)
    }

    /// Puts these settings in force, for all tenants and at once.
    pub fn replace_settings(&self, all: Settings, tenants: HashMap<TenantName, Settings>) {
        self.settings.replace(all, tenants);
        if let Some(registry) = self.parts.registry.get() {
            registry.refresh_settings();
        }
    }

    /// Sets the gauges that are read rather than kept.
    pub(crate) fn gauges(&self, meters: &dyn Meters) -> Box<dyn Fn() + Send + Sync> {
        let gauge = |name, help| meters.gauge(Meter::new(name, help));
        let users = gauge("bifrust_auth_users", "Users in the users file.");
        let waiting = gauge("bifrust_auth_waiting", "Password checks that wait.");
        let disk = gauge("bifrust_storage_bytes", "Bytes that the engine occupies.");
        let admits = gauge(
            "bifrust_storage_admits_writes",
            "1 while there is room for new messages, 0 below the free-space floor.",
        );
        let ready = gauge("bifrust_ready", "1 while clients are served.");
        let counted = |name, help| meters.counter(Meter::new(name, help));
        let commands = counted("bifrust_kv_commands", "Commands applied.");
        let batches = counted(
            "bifrust_kv_batches",
            "Batches that commands were applied in.",
        );
        let refused = counted("bifrust_kv_refused", "Commands refused.");
        let parts = self.parts.clone();
        let health = self.health.clone();
        Box::new(move || {
            if let Some(passwords) = parts.passwords.get() {
                users.set(passwords.user_count() as i64);
                waiting.set(passwords.waiting() as i64);
            }
            if let Some(store) = parts.store.get() {
                disk.set(i64::try_from(store.disk_bytes()).unwrap_or(i64::MAX));
                admits.set(store.admits_writes().into());
            }
            if let Some(ranges) = parts.ranges.get() {
                let counts = ranges.counts();
                let pairs = [
                    (&commands, counts.commands),
                    (&batches, counts.batches),
                    (&refused, counts.refused),
                ];
                for (counter, count) in pairs {
                    counter.add(count.saturating_sub(counter.value()));
                }
            }
            ready.set((health.readiness() == Readiness::Ready).into());
        })
    }

    /// Stops in order; clients are given what is left of `within` to be told and detached.
    pub fn stop(mut self, within: Duration) {
        self.end(within);
    }

    fn end(&mut self, within: Duration) {
        let started = Instant::now();
        self.health.set(Readiness::Stopping);
        self.certificates = None;
        if let Some(sys) = self.sys.take() {
            sys.stop();
        }
        if let Some(server) = self.server.take() {
            let connections = server.connections();
            server.stop(within.saturating_sub(AFTER_CLIENTS));
            tracing::debug!(connections, took = ?started.elapsed(), "clients are detached");
        }
        // From here on nothing new comes; what was taken is finished from the top down.
        if let Some(inbox) = self.parts.inbox.get() {
            inbox.stop();
        }
        if let Some(ranges) = self.parts.ranges.get() {
            ranges.stop();
        }
        if let Some(durable) = self.parts.durable.get() {
            durable.cut();
        }
        if let Some(wills) = self.parts.wills.get() {
            wills.cut();
        }
        if let Some(store) = self.parts.store.get() {
            store.shutdown();
        }
        if let Some(passwords) = self.parts.passwords.get() {
            passwords.stop();
        }
        if let Some(api) = self.api.take() {
            api.stop();
        }
        tracing::debug!(took = ?started.elapsed(), "the node has stopped");
    }
}

impl Drop for RunningNode {
    fn drop(&mut self) {
        if self.health.readiness() != Readiness::Stopping {
            self.end(self.stop_within);
        }
    }
}
