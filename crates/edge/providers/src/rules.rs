//! Rules about topics: what a user may publish to and subscribe to.

use std::fmt;
use std::str::FromStr;

use bifrust_model::{ClientInfo, FilterError, TopicFilter};

/// A topic filter in which `%c` stands for the client id and `%u` for the user name.
///
/// What stands for a placeholder is taken as plain text inside one level: an id that holds `/`, `+`
/// or `#` matches nothing, so no client can widen its rule by choosing its name. As in
/// subscriptions, a rule whose first level is a wildcard or has a placeholder does not reach topics
/// that start with `$` (MQTT-4.7.2-1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessRule {
    text: Box<str>,
    levels: Vec<Level>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Level {
    Text(Box<str>),
    /// `+`.
    One,
    /// `#`.
    Rest,
    Pattern(Vec<Part>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(Box<str>),
    ClientId,
    User,
}

/// Why a text is no rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccessRuleError {
    /// No topic filter.
    #[error("{rule:?} is no topic filter: {cause}")]
    Filter {
        /// The rule as written.
        rule: String,
        /// What is wrong.
        cause: FilterError,
    },
    /// Shared prefixes are taken off before rules are asked.
    #[error("{0:?}: leave out $share/GROUP/, the rule is about the filter behind it")]
    Shared(String),
    /// A `%` followed by something else.
    #[error("{0:?}: after % only c (client id), u (user name) and % are known")]
    Placeholder(String),
}

impl FromStr for AccessRule {
    type Err = AccessRuleError;

    fn from_str(text: &str) -> Result<Self, AccessRuleError> {
        let filter =
            TopicFilter::new(text.to_owned().into()).map_err(|cause| AccessRuleError::Filter {
                rule: text.to_owned(),
                cause,
            })?;
        if filter.is_shared() {
            return Err(AccessRuleError::Shared(text.to_owned()));
        }
        let levels = text
            .split('/')
            .map(|level| {
                parse_level(level).ok_or_else(|| AccessRuleError::Placeholder(text.to_owned()))
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            text: text.into(),
            levels,
        })
    }
}

fn parse_level(level: &str) -> Option<Level> {
    match level {
        "+" => return Some(Level::One),
        "#" => return Some(Level::Rest),
        level if !level.contains('%') => return Some(Level::Text(level.into())),
        _ => {}
    }
    let mut parts = Vec::new();
    let mut text = String::new();
    let mut chars = level.chars();
    while let Some(char) = chars.next() {
        let placeholder = match char {
            '%' => match chars.next()? {
                'c' => Part::ClientId,
                'u' => Part::User,
                '%' => {
                    text.push('%');
                    continue;
                }
                _ => return None,
            },
            char => {
                text.push(char);
                continue;
            }
        };
        if !text.is_empty() {
            parts.push(Part::Text(std::mem::take(&mut text).into()));
        }
        parts.push(placeholder);
    }
    if parts.is_empty() {
        return Some(Level::Text(text.into()));
    }
    if !text.is_empty() {
        parts.push(Part::Text(text.into()));
    }
    Some(Level::Pattern(parts))
}

impl AccessRule {
    /// Whether it reaches this topic for this client.
    pub fn allows_topic(&self, client: &ClientInfo, topic: &str) -> bool {
        self.covers(client, topic)
    }

    /// Whether each topic that `filter` (shared prefix taken off) matches is within its reach.
    pub fn allows_filter(&self, client: &ClientInfo, filter: &str) -> bool {
        self.covers(client, filter)
    }

    // A topic name is a filter without wildcards: one walk answers both questions.
    fn covers(&self, client: &ClientInfo, asked: &str) -> bool {
        let is_open = !matches!(self.levels.first(), Some(Level::Text(_)));
        if is_open && asked.starts_with('$') {
            return false;
        }
        let mut asked_levels = asked.split('/');
        for level in &self.levels {
            match (level, asked_levels.next()) {
                (Level::Rest, _) => return true,
                (_, None | Some("#")) => return false,
                (Level::One, Some(_)) => {}
                (_, Some("+")) => return false,
                (Level::Text(text), Some(name)) if **text == *name => {}
                (Level::Pattern(parts), Some(name)) if is_spelt(parts, client, name) => {}
                _ => return false,
            }
        }
        asked_levels.next().is_none()
    }
}

fn is_spelt(parts: &[Part], client: &ClientInfo, mut name: &str) -> bool {
    for part in parts {
        let text = match part {
            Part::Text(text) => text,
            Part::ClientId => client.client.as_str(),
            // Without a user there is nothing to put there.
            Part::User => match client.user.as_deref() {
                Some(user) if !user.is_empty() => user,
                _ => return false,
            },
        };
        match name.strip_prefix(text) {
            Some(rest) => name = rest,
            None => return false,
        }
    }
    name.is_empty()
}

impl fmt::Display for AccessRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use bifrust_model::{ClientId, Protocol, TenantName};
    use proptest::prelude::*;

    use super::*;

    fn client(id: &str, user: Option<&str>) -> ClientInfo {
        ClientInfo {
            tenant: TenantName::new("t").unwrap(),
            user: user.map(Into::into),
            client: ClientId::new(id).unwrap(),
            peer: None,
            protocol: Protocol::V5,
        }
    }

    fn allows(rule: &str, asked: &str) -> bool {
        let rule: AccessRule = rule.parse().unwrap();
        rule.covers(&client("c1", Some("bob")), asked)
    }

    #[test]
    fn topics_are_allowed_as_filters_match() {
        assert!(allows("a/#", "a/b/c"));
        assert!(allows("a/#", "a"));
        assert!(allows("a/+/c", "a/b/c"));
        assert!(!allows("a/+/c", "a/b/d"));
        assert!(!allows("a/b", "a/b/c"));
        assert!(allows("devices/%c/up", "devices/c1/up"));
        assert!(!allows("devices/%c/up", "devices/c2/up"));
        assert!(allows("u/%u-%c/#", "u/bob-c1/x"));
        assert!(allows("100%%/x", "100%/x"));
    }

    #[test]
    fn a_filter_is_allowed_only_if_all_it_matches_is() {
        assert!(allows("a/#", "a/#"));
        assert!(allows("a/#", "a/+/c"));
        assert!(allows("a/+", "a/+"));
        assert!(!allows("a/+", "a/#"));
        assert!(!allows("a/+", "#"));
        assert!(!allows("a/b", "a/+"));
        assert!(!allows("a/b", "+/b"));
        assert!(allows("#", "#"));
        assert!(!allows("devices/%c/#", "devices/+/x"));
        assert!(!allows("devices/%c/#", "devices/#"));
    }

    #[test]
    fn system_topics_need_a_rule_that_names_them() {
        assert!(!allows("#", "$SYS/x"));
        assert!(!allows("+/x", "$SYS/x"));
        assert!(allows("$SYS/#", "$SYS/x"));
        let rule: AccessRule = "%c/#".parse().unwrap();
        assert!(!rule.covers(&client("$SYS", None), "$SYS/x"));
    }

    #[test]
    fn a_client_cannot_widen_its_rule_by_its_name() {
        let rule: AccessRule = "devices/%c/#".parse().unwrap();
        for id in ["+", "#", "a/b", "+/x"] {
            for asked in ["devices/+/x", "devices/#", "devices/a/b/x", "devices/q/x"] {
                assert!(
                    !rule.covers(&client(id, None), asked),
                    "{id} asked for {asked}"
                );
            }
        }
        let rule: AccessRule = "u/%u/#".parse().unwrap();
        assert!(!rule.covers(&client("c", None), "u//x"));
    }

    #[test]
    fn mistakes_in_rules_are_told() {
        for rule in ["", "a/#/b", "a+", "%x", "a/%", "$share/g/a"] {
            assert!(rule.parse::<AccessRule>().is_err(), "{rule:?}");
        }
    }

    proptest! {
        #[test]
        fn what_a_rule_covers_it_matches(rule in "[ab+]{1}(/[ab+]){0,3}(/#)?", asked in "[ab+](/[ab+]){0,3}(/#)?", topic in "[ab](/[ab]){0,4}") {
            let parsed: AccessRule = rule.parse().unwrap();
            let rule = TopicFilter::new(rule.into()).unwrap();
            let filter = TopicFilter::new(asked.clone().into()).unwrap();
            let who = client("c", None);
            prop_assert_eq!(parsed.allows_topic(&who, &topic), rule.matches(&topic));
            if parsed.allows_filter(&who, &asked) && filter.matches(&topic) {
                prop_assert!(rule.matches(&topic));
            }
        }
    }
}
