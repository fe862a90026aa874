//! What a packet says, in a form that both codecs' packets can be brought to.

use std::collections::BTreeMap;
use std::fmt::Debug;

/// Facts by name; what has its default is left out.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Meaning(BTreeMap<&'static str, String>);

impl Meaning {
    pub(super) fn of(packet: &'static str) -> Self {
        Self::default().and("packet", packet)
    }

    pub(super) fn and(mut self, name: &'static str, value: impl Debug) -> Self {
        let earlier = self.0.insert(name, format!("{value:?}"));
        assert_eq!(earlier, None, "{name} is said twice");
        self
    }

    /// A fact that may be missing.
    pub(super) fn maybe(self, name: &'static str, value: Option<impl Debug>) -> Self {
        match value {
            Some(value) => self.and(name, value),
            None => self,
        }
    }

    /// A list that may be empty.
    pub(super) fn list<T: Debug>(
        self,
        name: &'static str,
        items: impl IntoIterator<Item = T>,
    ) -> Self {
        let items: Vec<T> = items.into_iter().collect();
        self.maybe(name, (!items.is_empty()).then_some(items))
    }
}
