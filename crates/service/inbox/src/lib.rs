//! Persistent sessions: subscriptions, queue, timers, wills.
