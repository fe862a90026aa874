//! Traffic rules: the calls of tenants whose names begin alike go to groups of servers, by weight.

use std::collections::BTreeMap;
use std::ops::Bound;

/// The highest weight of a group.
const WEIGHT_MAX: u16 = 100;

/// As many rules as there may be.
const RULES_MAX: usize = 10_000;

/// As many groups as one rule may name.
const GROUPS_MAX: usize = 64;

/// Rules of one service; the longest prefix of a tenant's name counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules(BTreeMap<String, BTreeMap<String, u16>>);

/// What is wrong with rules.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRules {
    /// A weight that is too high.
    #[error("group {group:?} of the rule for {prefix:?} has a weight above {WEIGHT_MAX}")]
    Weight {
        /// The rule.
        prefix: String,
        /// Its group.
        group: String,
    },
    /// Too many rules, or groups of one.
    #[error("there are at most {RULES_MAX} rules with {GROUPS_MAX} groups each")]
    Many,
}

impl Rules {
    /// Tenant prefixes with the weights of groups. A weight of 0 sends no calls to a group.
    pub fn new(
        rules: impl IntoIterator<Item = (String, BTreeMap<String, u16>)>,
    ) -> Result<Self, InvalidRules> {
        let rules: BTreeMap<_, _> = rules.into_iter().collect();
        if rules.len() > RULES_MAX || rules.values().any(|groups| groups.len() > GROUPS_MAX) {
            return Err(InvalidRules::Many);
        }
        for (prefix, groups) in &rules {
            if let Some((group, _)) = groups.iter().find(|(_, weight)| **weight > WEIGHT_MAX) {
                return Err(InvalidRules::Weight {
                    prefix: prefix.clone(),
                    group: group.clone(),
                });
            }
        }
        Ok(Self(rules))
    }

    /// The place of the rule for a tenant among [`iter`](Self::iter), by its prefix.
    pub(super) fn prefix_of(&self, tenant: &str) -> Option<&str> {
        let mut end = tenant;
        loop {
            // The last prefix that is not behind; a prefix of `tenant` sorts before it.
            let range = (Bound::Unbounded, Bound::Included(end));
            let (prefix, _) = self.0.range::<str, _>(range).next_back()?;
            if tenant.starts_with(prefix.as_str()) {
                return Some(prefix);
            }
            // No prefix of the tenant is longer than what both have in common.
            let common = tenant
                .char_indices()
                .zip(prefix.chars())
                .find(|((_, a), b)| a != b)
                .map_or_else(|| prefix.len().min(tenant.len()), |((place, _), _)| place);
            end = &tenant[..common];
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &BTreeMap<String, u16>)> {
        self.0
            .iter()
            .map(|(prefix, groups)| (prefix.as_str(), groups))
    }
}
