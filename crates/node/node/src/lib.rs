//! Services assembled by role, started and stopped in order.

pub mod config;
