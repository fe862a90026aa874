//! Listeners, connection shards and live sessions.
