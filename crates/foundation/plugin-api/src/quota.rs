//! What a tenant may use.

use bifrust_model::Tenant;

/// Something a tenant uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Resource {
    /// Connections at a time.
    TotalConnections,
    /// CONNECTs per second.
    TotalConnectPerSecond,
    /// Persistent sessions.
    TotalPersistentSessions,
    /// Retained topics.
    TotalRetainTopics,
}

/// Says whether a tenant has some of a resource left. An error counts as a refusal.
pub trait Quotas: Send + Sync {
    /// Whether one more is allowed.
    fn has(&self, tenant: &Tenant, resource: Resource) -> bool;
}

/// Every tenant may use all there is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unlimited;

impl Quotas for Unlimited {
    fn has(&self, _tenant: &Tenant, _resource: Resource) -> bool {
        true
    }
}
