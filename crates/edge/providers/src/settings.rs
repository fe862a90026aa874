//! Settings of tenants from the config.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use bifrust_model::{Settings, TenantName};
use bifrust_plugin_api::SettingsSource;

/// One snapshot for all tenants, others for those named. A replacement is live at once for those
/// who ask again when [`SettingsSource::version`] has changed.
#[derive(Debug)]
pub struct ConfigSettings {
    layers: ArcSwap<Layers>,
    version: AtomicU64,
}

#[derive(Debug)]
struct Layers {
    all: Arc<Settings>,
    named: HashMap<TenantName, Arc<Settings>>,
}

impl Layers {
    fn new(all: Settings, named: HashMap<TenantName, Settings>) -> Self {
        Self {
            all: Arc::new(all),
            named: named
                .into_iter()
                .map(|(name, settings)| (name, Arc::new(settings)))
                .collect(),
        }
    }
}

impl ConfigSettings {
    /// `all` for every tenant that is not in `named`.
    pub fn new(all: Settings, named: HashMap<TenantName, Settings>) -> Self {
        Self {
            layers: ArcSwap::from_pointee(Layers::new(all, named)),
            version: AtomicU64::new(1),
        }
    }

    /// Takes the place of what was there.
    pub fn replace(&self, all: Settings, named: HashMap<TenantName, Settings>) {
        self.layers.store(Arc::new(Layers::new(all, named)));
        self.version.fetch_add(1, Ordering::Release);
    }
}

impl SettingsSource for ConfigSettings {
    fn settings(&self, tenant: &TenantName) -> Arc<Settings> {
        let layers = self.layers.load();
        layers.named.get(tenant).unwrap_or(&layers.all).clone()
    }

    fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_tenant_has_its_own_and_a_replacement_changes_the_version() {
        let acme = TenantName::new("acme").unwrap();
        let own = Settings {
            max_inflight: 7,
            ..Settings::default()
        };
        let source = ConfigSettings::new(Settings::default(), [(acme.clone(), own)].into());
        assert_eq!(source.settings(&acme).max_inflight, 7);
        let other = TenantName::new("other").unwrap();
        assert_eq!(*source.settings(&other), Settings::default());

        let version = source.version();
        source.replace(Settings::default(), HashMap::new());
        assert_eq!(*source.settings(&acme), Settings::default());
        assert_ne!(source.version(), version);
    }
}
