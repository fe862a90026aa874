//! All tenants in memory, found by name and by number.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ahash::RandomState;
use arc_swap::ArcSwap;
use bifrust_model::{Tenant, TenantName, TenantNumber};
use bifrust_plugin_api::SettingsSource;

use crate::store::Known;

type Map<K> = papaya::HashMap<K, Arc<Tenant>, RandomState>;

pub(crate) struct Tenants {
    by_number: Map<TenantNumber>,
    by_name: Map<TenantName>,
    source: Arc<dyn SettingsSource>,
    /// Refreshes so far.
    version: AtomicU64,
}

impl Tenants {
    pub(crate) fn new(source: Arc<dyn SettingsSource>) -> Self {
        Self {
            by_number: Map::with_hasher(RandomState::new()),
            by_name: Map::with_hasher(RandomState::new()),
            source,
            version: AtomicU64::new(0),
        }
    }

    pub(crate) fn by_name(&self, name: &TenantName) -> Option<Arc<Tenant>> {
        self.by_name.pin().get(name).cloned()
    }

    pub(crate) fn by_number(&self, number: TenantNumber) -> Option<Arc<Tenant>> {
        self.by_number.pin().get(&number).cloned()
    }

    /// Takes a tenant in. There is one `Tenant` per number, whoever comes first.
    pub(crate) fn add(&self, known: Known) -> Arc<Tenant> {
        let Known { name, number } = known;
        let by_number = self.by_number.pin();
        let tenant = by_number.get_or_insert_with(number, || {
            let settings = ArcSwap::new(self.source.settings(&name));
            Arc::new(Tenant {
                number,
                name: name.clone(),
                settings,
            })
        });
        self.by_name.pin().insert(name, tenant.clone());
        // Again, now that a refresh would find it: one may have passed in between.
        self.refresh_one(tenant);
        tenant.clone()
    }

    /// Gives every tenant the snapshot now in force.
    pub(crate) fn refresh(&self) {
        for tenant in self.by_number.pin().values() {
            self.refresh_one(tenant);
        }
        // After the snapshots: who sees the number sees them.
        self.version.fetch_add(1, Ordering::Release);
    }

    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    fn refresh_one(&self, tenant: &Tenant) {
        tenant.settings.store(self.source.settings(&tenant.name));
    }
}
