//! Where a tenant's settings come from.

use std::sync::Arc;

use bifrust_model::{Settings, TenantName};

/// Gives each tenant's settings. Layers: built-in default < config < registry < plugin.
pub trait SettingsSource: Send + Sync {
    /// The snapshot in force for this tenant.
    fn settings(&self, tenant: &TenantName) -> Arc<Settings>;

    /// Changes when any tenant's settings change.
    fn version(&self) -> u64;
}

/// The built-in defaults, or one snapshot for all.
#[derive(Clone, Debug, Default)]
pub struct DefaultSettings(pub Arc<Settings>);

impl SettingsSource for DefaultSettings {
    fn settings(&self, _tenant: &TenantName) -> Arc<Settings> {
        self.0.clone()
    }

    fn version(&self) -> u64 {
        0
    }
}
