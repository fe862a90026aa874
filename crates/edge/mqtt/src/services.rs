//! What the edge is given: the services below it, as handles.

use std::sync::Arc;

use bifrust_dist::Dist;
use bifrust_inbox::Inbox;
use bifrust_model::NodeRef;
use bifrust_plugin_api::{Auth, Balancer, Events, Meters, Quotas};
use bifrust_registry::{NodeLease, Registry};
use bifrust_retain::Retain;
use bifrust_session_dict::Dict;

/// Handles of everything a connection asks.
#[derive(Clone)]
pub struct Services {
    /// Who may connect, publish and subscribe.
    pub auth: Arc<dyn Auth>,
    /// Who is sent to another server.
    pub balancer: Arc<dyn Balancer>,
    /// What a tenant may use.
    pub quotas: Arc<dyn Quotas>,
    /// Tenants and their settings.
    pub registry: Registry,
    /// Who is online.
    pub dict: Dict,
    /// Routes.
    pub dist: Dist,
    /// Persistent sessions and wills.
    pub inbox: Inbox,
    /// Retained messages.
    pub retain: Retain,
    /// Wall time and stamps.
    pub clock: bifrust_kv::Clock,
    /// Where things that happen are told.
    pub events: Events,
    /// Where numbers are kept.
    pub meters: Arc<dyn Meters>,
    /// This node in its present incarnation.
    pub node: NodeRef,
    /// Whether this node may serve.
    pub lease: Arc<dyn NodeLease>,
}
