//! Tenants, their numbers and settings, node leases.
//!
//! ```text
//! connection --tenant(name)--> known? --yes--> Arc<Tenant>, no lock
//!                                |no
//!                                v
//!                     range "registry": next number, durable --effect--> maps of all tenants
//! SettingsSource --refresh_settings--> snapshot inside each Tenant
//! ```
//!
//! Rows are kind and name. A tenant's number stands at the head of every key of every service, so it is
//! given once, durably, before anything uses it, and never again to another name.
//!
//! What it never does: read a row to answer a look-up, decide what a setting means, or end a tenant.

mod client;
mod config;
mod error;
#[doc(hidden)]
pub mod fuzz;
mod lease;
mod schema;
mod store;
mod tenants;

pub use bifrust_kv::Then;
pub use client::Registry;
pub use config::Config;
pub use error::{OpenError, RegistryError};
pub use lease::{AlwaysHeld, NodeLease};

/// Where the rows are, for whoever opens the store.
pub fn keyspaces() -> &'static [bifrust_storage::Keyspace] {
    <store::Names as bifrust_kv::Coprocessor>::KEYSPACES
}
