use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use bifrust_kv::Clock;
use bifrust_kv::testing::wait;
use bifrust_model::Settings;
use bifrust_plugin_api::DefaultSettings;
use bifrust_storage::{Keyspace, Store};

use super::*;

fn node() -> Node {
    let keyspaces: Vec<Keyspace> = [bifrust_kv::keyspaces(), crate::keyspaces()].concat();
    let store = Store::memory(&keyspaces);
    Node::open(store, bifrust_kv::Config::default(), Clock::new()).unwrap()
}

fn name(text: &str) -> TenantName {
    TenantName::new(text).unwrap()
}

fn find(registry: &Registry, text: &str) -> Result<Arc<Tenant>, RegistryError> {
    wait(|done| registry.tenant(&name(text), done))
}

#[test]
fn first_sight_gives_a_number_and_later_ones_find_it() {
    let node = node();
    let registry = Registry::open(&node, Arc::new(DefaultSettings::default())).unwrap();
    assert!(registry.known(&name("acme")).is_none());
    let acme = find(&registry, "acme").unwrap();
    assert_eq!(acme.number, TenantNumber(1));
    assert!(Arc::ptr_eq(&acme, &registry.known(&name("acme")).unwrap()));
    assert!(Arc::ptr_eq(
        &acme,
        &registry.by_number(acme.number).unwrap()
    ));
    assert!(Arc::ptr_eq(&acme, &find(&registry, "acme").unwrap()));
    assert!(registry.by_number(TenantNumber(2)).is_none());
    node.stop();
}

#[test]
fn racing_first_sights_share_one_tenant() {
    let node = node();
    let registry = Registry::open(&node, Arc::new(DefaultSettings::default())).unwrap();
    let threads: Vec<_> = (0..8)
        .map(|n| {
            let registry = registry.clone();
            thread::spawn(move || {
                let own = find(&registry, &format!("t{n}")).unwrap();
                (find(&registry, "shared").unwrap(), own.number)
            })
        })
        .collect();
    let found: Vec<_> = threads.into_iter().map(|t| t.join().unwrap()).collect();
    assert!(
        found
            .iter()
            .all(|(shared, _)| Arc::ptr_eq(shared, &found[0].0))
    );
    let mut numbers: Vec<_> = found.iter().map(|(_, number)| *number).collect();
    numbers.push(found[0].0.number);
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=9).map(TenantNumber).collect::<Vec<_>>());
    node.stop();
}

#[test]
fn tenants_over_the_limit_are_refused() {
    let node = node();
    let config = Config {
        tenants_max: NonZeroU64::MIN,
    };
    let settings = Arc::new(DefaultSettings::default());
    let registry = Registry::open_with(&node, settings, &config).unwrap();
    find(&registry, "a").unwrap();
    assert_eq!(
        find(&registry, "b").unwrap_err(),
        RegistryError::Full { max: 1 }
    );
    find(&registry, "a").unwrap();
    node.stop();
    assert!(matches!(
        find(&registry, "c"),
        Err(RegistryError::Refused(_))
    ));
}

/// Counts up with each refresh.
struct Rising(AtomicU32);

impl SettingsSource for Rising {
    fn settings(&self, _tenant: &TenantName) -> Arc<Settings> {
        Arc::new(Settings {
            max_inflight: self.0.load(Ordering::SeqCst),
            ..Settings::default()
        })
    }

    fn version(&self) -> u64 {
        self.0.load(Ordering::SeqCst).into()
    }
}

#[test]
fn a_refresh_swaps_the_snapshot_that_holders_see() {
    let node = node();
    let source = Arc::new(Rising(AtomicU32::new(7)));
    let registry = Registry::open(&node, source.clone()).unwrap();
    let tenant = find(&registry, "acme").unwrap();
    let before = tenant.settings.load_full();
    assert_eq!(before.max_inflight, 7);
    source.0.store(8, Ordering::SeqCst);
    registry.refresh_settings();
    assert_eq!(tenant.settings.load().max_inflight, 8);
    assert_eq!(before.max_inflight, 7);
    node.stop();
}

#[test]
fn tenants_outlive_the_node() {
    let keyspaces: Vec<Keyspace> = [bifrust_kv::keyspaces(), crate::keyspaces()].concat();
    let store = Store::memory(&keyspaces);
    let open = |store: &Store| {
        let config = bifrust_kv::Config::default();
        let node = Node::open(store.clone(), config, Clock::new()).unwrap();
        let registry = Registry::open(&node, Arc::new(DefaultSettings::default())).unwrap();
        (node, registry)
    };
    let (node, registry) = open(&store);
    find(&registry, "a").unwrap();
    let b = find(&registry, "b").unwrap().number;
    node.stop();
    let (node, registry) = open(&store);
    assert_eq!(registry.known(&name("b")).unwrap().number, b);
    assert_eq!(find(&registry, "c").unwrap().number, TenantNumber(3));
    node.stop();
}
