//! Values by key, whoever gave them.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::problem::Place;

/// A value that was checked against its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Switch(bool),
    Number(u64),
    Text(String),
    /// `None` is "off".
    Address(Option<SocketAddr>),
}

/// What all layers say together: a later layer overrides an earlier one, key by key. Keys are full
/// paths: `listeners.0.address`, `tenants.acme.settings.MaxInflight`.
#[derive(Debug, Default)]
pub(super) struct Values(BTreeMap<String, (Value, Place)>);

impl Values {
    pub(super) fn set(&mut self, key: &str, value: Value, place: Place) {
        self.0.insert(key.to_owned(), (value, place));
    }

    pub(super) fn place(&self, key: &str) -> Place {
        self.0
            .get(key)
            .map_or(Place::Default, |(_, place)| place.clone())
    }

    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key).map(|(value, _)| value)
    }

    pub(super) fn text(&self, key: &str) -> Option<&str> {
        match self.get(key)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn number(&self, key: &str, default: u64) -> u64 {
        match self.get(key) {
            Some(Value::Number(number)) => *number,
            _ => default,
        }
    }

    pub(super) fn switch(&self, key: &str) -> bool {
        self.get(key) == Some(&Value::Switch(true))
    }

    /// The address, or `default` if none was given; `None` is off.
    pub(super) fn address(&self, key: &str, default: SocketAddr) -> Option<SocketAddr> {
        match self.get(key) {
            Some(Value::Address(address)) => *address,
            _ => Some(default),
        }
    }

    /// What follows `prefix` in each key that starts with it, with its value.
    pub(super) fn under<'a>(
        &'a self,
        prefix: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a Value)> {
        self.0
            .range(prefix.to_owned()..)
            .map_while(move |(key, (value, _))| Some((key.strip_prefix(prefix)?, value)))
    }
}
