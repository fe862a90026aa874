//! The words every service shares: tenants, clients, topics, messages, stamps, settings, events.
//!
//! Nothing here performs I/O, reads a clock or draws a random number. A type lives here only when
//! the public signatures of two services need it.

mod client;
mod event;
mod filter;
#[doc(hidden)]
pub mod fuzz;
mod hlc;
pub mod levels;
mod message;
mod node;
mod qos;
pub mod record;
mod settings;
mod subscription;
mod tenant;
mod topic;

pub use client::{ClientId, ClientIdError, ClientInfo, Protocol, SessionKey};
pub use event::{Event, EventKind};
pub use filter::{FilterError, FilterScope, TopicFilter};
pub use hlc::{DriftError, Hlc, HybridClock, MAX_DRIFT_MS};
pub use message::{Expiry, Message};
pub use node::{Incarnation, NodeId, NodeRef};
pub use qos::Qos;
pub use settings::{
    Durability, ForbiddenPublish, KnownSetting, SettingError, SettingTakes, Settings, TopicLimits,
};
pub use subscription::{RetainHandling, Subscription, SubscriptionOptions};
pub use tenant::{DEFAULT_TENANT, Tenant, TenantName, TenantNameError, TenantNumber};
pub use topic::{Topic, TopicError};
