//! Tenants, their numbers and settings, node leases.
