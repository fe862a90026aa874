//! Topic filters and what they match.

use std::fmt;

use bytestring::ByteString;

/// A valid topic filter, shared prefix included where it has one.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicFilter(ByteString);

/// Why a text is no topic filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// MQTT-4.7.3-1.
    #[error("topic filter is empty")]
    Empty,
    /// MQTT-4.7.3-2.
    #[error("topic filter holds U+0000")]
    Nul,
    /// MQTT-4.7.1-1: `#` stands alone in the last level.
    #[error("'#' is allowed only as the whole last level")]
    MisplacedMultiLevel,
    /// MQTT-4.7.1-2: `+` stands alone in its level.
    #[error("'+' is allowed only as a whole level")]
    MisplacedSingleLevel,
    /// MQTT-4.8.2-1 and -2: `$share/{name}/{filter}`.
    #[error("a shared subscription is $share/NAME/FILTER, NAME without wildcards")]
    BadShare,
}

/// How a filter's receivers take their messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FilterScope<'a> {
    /// Each receiver gets each message.
    Plain,
    /// `$share/{group}/`: one member of the group gets it.
    Share(&'a str),
    /// `$oshare/{group}/`: one member gets it, the same one for one publisher.
    OrderedShare(&'a str),
}

impl TopicFilter {
    /// Checks `filter`.
    pub fn new(filter: ByteString) -> Result<Self, FilterError> {
        let (_, plain) = split_share(&filter)?;
        check_plain(plain)?;
        Ok(Self(filter))
    }

    /// The filter as text, shared prefix included.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The filter as shared bytes.
    pub fn as_bytestring(&self) -> &ByteString {
        &self.0
    }

    /// How its receivers share messages.
    pub fn scope(&self) -> FilterScope<'_> {
        split_share(&self.0).map_or(FilterScope::Plain, |(scope, _)| scope)
    }

    /// The filter without its shared prefix.
    pub fn plain(&self) -> &str {
        split_share(&self.0).map_or(&*self.0, |(_, plain)| plain)
    }

    /// Levels of the plain filter, first to last.
    pub fn levels(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.plain().split('/')
    }

    /// Whether a wildcard stands in it.
    pub fn has_wildcard(&self) -> bool {
        self.plain().bytes().any(|b| matches!(b, b'+' | b'#'))
    }

    /// Whether it is a shared one.
    pub fn is_shared(&self) -> bool {
        !matches!(self.scope(), FilterScope::Plain)
    }

    /// Whether a message to `topic` matches. A leading wildcard does not match `$` (MQTT-4.7.2-1).
    pub fn matches(&self, topic: &str) -> bool {
        let filter = self.plain();
        if topic.starts_with('$') && filter.starts_with(['+', '#']) {
            return false;
        }
        let mut topic_levels = topic.split('/');
        for level in filter.split('/') {
            match (level, topic_levels.next()) {
                // MQTT-4.7.1-2: `a/#` matches `a` too, so `#` is looked at before the end.
                ("#", name) => return name.is_some() || !cfg!(planted_bugs),
                ("+", Some(_)) => {}
                (level, Some(name)) if level == name => {}
                _ => return false,
            }
        }
        topic_levels.next().is_none()
    }
}

fn split_share(filter: &str) -> Result<(FilterScope<'_>, &str), FilterError> {
    let (ordered, rest) = if let Some(rest) = filter.strip_prefix("$share/") {
        (false, rest)
    } else if let Some(rest) = filter.strip_prefix("$oshare/") {
        (true, rest)
    } else if filter == "$share" || filter == "$oshare" {
        return Err(FilterError::BadShare);
    } else {
        return Ok((FilterScope::Plain, filter));
    };
    let (group, plain) = rest.split_once('/').ok_or(FilterError::BadShare)?;
    if group.contains('\0') {
        return Err(FilterError::Nul);
    }
    if group.is_empty() || plain.is_empty() || group.contains(['+', '#']) {
        return Err(FilterError::BadShare);
    }
    let scope = if ordered {
        FilterScope::OrderedShare(group)
    } else {
        FilterScope::Share(group)
    };
    Ok((scope, plain))
}

fn check_plain(filter: &str) -> Result<(), FilterError> {
    if filter.is_empty() {
        return Err(FilterError::Empty);
    }
    if filter.contains('\0') {
        return Err(FilterError::Nul);
    }
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        if level.contains('#') && (level.len() > 1 || levels.peek().is_some()) {
            return Err(FilterError::MisplacedMultiLevel);
        }
        if level.contains('+') && level.len() > 1 && !cfg!(planted_bugs) {
            return Err(FilterError::MisplacedSingleLevel);
        }
    }
    Ok(())
}

impl fmt::Display for TopicFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TopicFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(text: &str) -> TopicFilter {
        TopicFilter::new(text.to_owned().into()).unwrap()
    }

    #[test]
    fn the_standards_examples_match() {
        // MQTT 5.0, 4.7.1.2 and 4.7.1.3.
        for topic in ["sport/tennis/player1", "sport/tennis/player1/ranking"] {
            assert!(filter("sport/tennis/player1/#").matches(topic));
        }
        assert!(filter("sport/#").matches("sport"));
        assert!(filter("sport/tennis/+").matches("sport/tennis/player1"));
        assert!(!filter("sport/tennis/+").matches("sport/tennis/player1/ranking"));
        assert!(!filter("sport/+").matches("sport"));
        assert!(filter("sport/+").matches("sport/"));
        assert!(filter("+/+").matches("/finance"));
        assert!(filter("/+").matches("/finance"));
        assert!(!filter("+").matches("/finance"));
    }

    #[test]
    fn leading_wildcards_leave_system_topics_alone() {
        assert!(!filter("#").matches("$SYS/x"));
        assert!(!filter("+/x").matches("$SYS/x"));
        assert!(filter("$SYS/#").matches("$SYS/x"));
        assert!(filter("a/#").matches("a/$x"));
    }

    #[test]
    fn malformed_filters_are_refused() {
        use FilterError::{BadShare, Empty, MisplacedMultiLevel, MisplacedSingleLevel, Nul};
        for (text, error) in [
            ("", Empty),
            ("a\0", Nul),
            ("a#", MisplacedMultiLevel),
            ("#/a", MisplacedMultiLevel),
            ("a/#/b", MisplacedMultiLevel),
            ("a+/b", MisplacedSingleLevel),
            ("++", MisplacedSingleLevel),
            ("$share", BadShare),
            ("$share/", BadShare),
            ("$share/g", BadShare),
            ("$share//a", BadShare),
            ("$share/g/", BadShare),
            ("$oshare/g+/a", BadShare),
            ("$share/g\0/a", Nul),
        ] {
            assert_eq!(
                TopicFilter::new(text.to_owned().into()),
                Err(error),
                "{text:?}"
            );
        }
    }

    #[test]
    fn a_shared_filter_is_taken_apart() {
        let shared = filter("$share/g/a/+");
        assert_eq!(shared.scope(), FilterScope::Share("g"));
        assert_eq!(shared.plain(), "a/+");
        assert!(shared.matches("a/b"));
        assert_eq!(
            filter("$oshare/g/#").scope(),
            FilterScope::OrderedShare("g")
        );
        assert_eq!(filter("a/b").scope(), FilterScope::Plain);
    }
}
