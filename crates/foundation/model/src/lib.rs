//! The words every service shares: tenants, topics, messages, stamps, settings, events.
