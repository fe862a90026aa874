//! Built-in plugins: the password file, settings, event log.
