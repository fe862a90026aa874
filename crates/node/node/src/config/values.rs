//! Values by key, whoever gave them.

use std::cell::RefCell;
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
pub(super) struct Values {
    given: BTreeMap<String, (Value, Place)>,
    /// What was asked for and not given: the default that took its place.
    defaults: RefCell<BTreeMap<String, Value>>,
}

impl Values {
    pub(super) fn set(&mut self, key: &str, value: Value, place: Place) {
        self.given.insert(key.to_owned(), (value, place));
    }

    pub(super) fn place(&self, key: &str) -> Place {
        self.given
            .get(key)
            .map_or(Place::Default, |(_, place)| place.clone())
    }

    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        self.given.get(key).map(|(value, _)| value)
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
            _ => {
                self.fall_back(key, Value::Number(default));
                default
            }
        }
    }

    pub(super) fn text_or(&self, key: &str, default: impl FnOnce() -> String) -> String {
        match self.text(key) {
            Some(text) => text.to_owned(),
            None => {
                let default = default();
                self.fall_back(key, Value::Text(default.clone()));
                default
            }
        }
    }

    /// Off unless given.
    pub(super) fn switch(&self, key: &str) -> bool {
        match self.get(key) {
            Some(value) => *value == Value::Switch(true),
            None => {
                self.fall_back(key, Value::Switch(false));
                false
            }
        }
    }

    /// The address, or `default` if none was given; `None` is off.
    pub(super) fn address(&self, key: &str, default: SocketAddr) -> Option<SocketAddr> {
        match self.get(key) {
            Some(Value::Address(address)) => *address,
            _ => {
                self.fall_back(key, Value::Address(Some(default)));
                Some(default)
            }
        }
    }

    /// The address; off unless given.
    pub(super) fn address_if_given(&self, key: &str) -> Option<SocketAddr> {
        match self.get(key) {
            Some(Value::Address(address)) => *address,
            _ => {
                self.fall_back(key, Value::Address(None));
                None
            }
        }
    }

    /// Notes the default of a key that was not given.
    pub(super) fn fall_back(&self, key: &str, default: Value) {
        self.defaults.borrow_mut().insert(key.to_owned(), default);
    }

    /// Everything that was given, and the defaults of what was asked for beside.
    pub(super) fn all(&self) -> Vec<(String, Value, Place)> {
        let given = self.given.iter();
        let given = given.map(|(key, (value, place))| (key.clone(), value.clone(), place.clone()));
        let defaults = self.defaults.borrow();
        let defaults = defaults
            .iter()
            .filter(|(key, _)| !self.given.contains_key(*key))
            .map(|(key, value)| (key.clone(), value.clone(), Place::Default));
        given.chain(defaults).collect()
    }

    /// What follows `prefix` in each key that starts with it, with its value.
    pub(super) fn under<'a>(
        &'a self,
        prefix: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a Value)> {
        self.given
            .range(prefix.to_owned()..)
            .map_while(move |(key, (value, _))| Some((key.strip_prefix(prefix)?, value)))
    }
}
