//! What others call.

use std::sync::Arc;

use bifrust_kv::{Ack, Client, Node};
use bifrust_model::{Tenant, TenantName, TenantNumber};
use bifrust_plugin_api::SettingsSource;

use crate::schema::command::Command;
use crate::schema::tenant;
use crate::store::{Known, Names, Refusal};
use crate::tenants::Tenants;
use crate::{Config, OpenError, RegistryError, Then};

#[cfg(test)]
mod tests;

/// First sights share a lane: no tenant has a number yet. It is that of the node's own work.
const OWN_LANE: TenantNumber = TenantNumber(0);

/// Tenants and their settings; clones share them.
#[derive(Clone)]
pub struct Registry {
    tenants: Arc<Tenants>,
    range: Client<Names>,
    tenants_max: u64,
}

impl Registry {
    /// Opens the registry with default bounds and takes all tenants into memory.
    pub fn open(node: &Node, settings: Arc<dyn SettingsSource>) -> Result<Self, OpenError> {
        Self::open_with(node, settings, &Config::default())
    }

    /// The same with other bounds.
    pub fn open_with(
        node: &Node,
        settings: Arc<dyn SettingsSource>,
        config: &Config,
    ) -> Result<Self, OpenError> {
        let tenants = Arc::new(Tenants::new(settings));
        let known = tenants.clone();
        // The effects of leading, all tenants, come before `host` returns.
        let range = node.host(Names, move |effects| {
            for effect in effects {
                known.add(effect);
            }
        })?;
        Ok(Self {
            tenants,
            range,
            tenants_max: config.tenants_max.get(),
        })
    }

    /// The tenant of this name; at first sight it durably gets its number.
    pub fn tenant(&self, name: &TenantName, done: Then<Result<Arc<Tenant>, RegistryError>>) {
        if let Some(tenant) = self.known(name) {
            return done(Ok(tenant));
        }
        let tenants = self.tenants.clone();
        let tenants_max = self.tenants_max;
        let command = Command::NumberTenant {
            name: name.clone(),
            tenants_max,
        };
        let name = name.clone();
        let key = tenant::key(&name);
        let done = Box::new(move |reply: Result<_, bifrust_kv::ExecuteError>| {
            done(match reply {
                Ok(Ok(number)) => Ok(tenants.add(Known { name, number })),
                Ok(Err(Refusal::Full)) => Err(RegistryError::Full { max: tenants_max }),
                Ok(Err(Refusal::Damaged)) => Err(RegistryError::Damaged),
                Err(error) => Err(error.into()),
            });
        });
        self.range
            .execute(OWN_LANE, &key, command, Ack::Durable, done);
    }

    /// The tenant of this name if it has a number: no lock, no wait.
    pub fn known(&self, name: &TenantName) -> Option<Arc<Tenant>> {
        self.tenants.by_name(name)
    }

    /// The tenant with this number: no lock, no wait.
    pub fn by_number(&self, number: TenantNumber) -> Option<Arc<Tenant>> {
        self.tenants.by_number(number)
    }

    /// Gives each tenant the settings now in force. To be called when the source's version changes.
    pub fn refresh_settings(&self) {
        self.tenants.refresh();
    }

    /// Grows with each refresh, so that those who keep something made of settings can follow.
    pub fn settings_version(&self) -> u64 {
        self.tenants.version()
    }
}
