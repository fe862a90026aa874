//! Topic names, filters, and what matches what, against the standard's words written down naively.

use bifrust_model::{FilterScope, Topic, TopicFilter, TopicLimits};
use bytestring::ByteString;

/// Inputs above it say nothing new, and the naive ways take long.
const FILTERS_MAX: usize = 16;

pub(crate) fn names(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let is_name = !text.is_empty() && !text.contains(['+', '#', '\0']);
    let topic = Topic::new(ByteString::from(text));
    assert_eq!(topic.is_ok(), is_name, "{text:?}");
    let limits = TopicLimits {
        length: 24,
        levels: 4,
        level_length: 8,
    };
    let is_within = text.len() <= limits.length
        && text.split('/').count() <= limits.levels
        && text
            .split('/')
            .all(|level| level.len() <= limits.level_length);
    assert_eq!(limits.check(text).is_ok(), is_within, "{text:?}");
    if let Ok(topic) = topic {
        assert_eq!(topic.levels().collect::<Vec<_>>().join("/"), text);
        assert_eq!(topic.is_system(), text.starts_with('$'));
    }
}

pub(crate) fn filters(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let filter = TopicFilter::new(ByteString::from(text));
    let expected = naive_filter(text);
    assert_eq!(filter.is_ok(), expected.is_some(), "{text:?}");
    let (Ok(filter), Some((group, plain))) = (filter, expected) else {
        return;
    };
    assert_eq!(filter.plain(), plain);
    assert_eq!(filter.has_wildcard(), plain.contains(['+', '#']));
    let scope = match filter.scope() {
        FilterScope::Plain => None,
        FilterScope::Share(group) => Some(("$share", group)),
        FilterScope::OrderedShare(group) => Some(("$oshare", group)),
    };
    assert_eq!(scope, group);
}

/// Scope and group, and the filter behind them; `None` if it is no filter (4.7, 4.8.2).
fn naive_filter(text: &str) -> Option<(Option<(&str, &str)>, &str)> {
    let levels: Vec<_> = text.splitn(3, '/').collect();
    let (group, plain) = match levels[0] {
        scope @ ("$share" | "$oshare") => {
            let [_, group, plain] = levels[..] else {
                return None;
            };
            let is_group = !group.is_empty() && !group.contains(['+', '#', '\0']);
            (is_group.then_some(Some((scope, group)))?, plain)
        }
        _ => (None, text),
    };
    let levels: Vec<_> = plain.split('/').collect();
    let is_level = |(at, level): (usize, &&str)| match *level {
        "+" => true,
        "#" => at + 1 == levels.len(),
        name => !name.contains(['+', '#', '\0']),
    };
    let is_filter = !plain.is_empty() && levels.iter().enumerate().all(is_level);
    is_filter.then_some((group, plain))
}

/// The first line is a topic, the others are filters. The model, the rows of routes, a shard's trie and
/// the scan over retained messages all have to agree.
pub(crate) fn matching(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let mut lines = text.split('\n');
    let Ok(topic) = Topic::new(lines.next().unwrap_or_default().into()) else {
        return;
    };
    let mut filters: Vec<_> = lines
        .filter_map(|line| TopicFilter::new(line.into()).ok())
        .filter(|filter| !filter.is_shared())
        .take(FILTERS_MAX)
        .collect();
    filters.sort();
    filters.dedup();
    let naive = |filter: &TopicFilter| {
        let levels: Vec<_> = filter.levels().collect();
        let topic: Vec<_> = topic.levels().collect();
        let is_hidden = topic[0].starts_with('$') && matches!(levels[0], "+" | "#");
        !is_hidden && naive_match(&levels, &topic)
    };
    let expected: Vec<_> = (0..filters.len())
        .filter(|at| naive(&filters[*at]))
        .collect();
    for (at, filter) in filters.iter().enumerate() {
        assert_eq!(
            filter.matches(topic.as_str()),
            expected.contains(&at),
            "{filter} {topic}"
        );
        let retained = bifrust_retain::fuzz::matching(filter, std::slice::from_ref(&topic));
        assert_eq!(
            !retained.is_empty(),
            expected.contains(&at),
            "{filter} {topic}"
        );
    }
    assert_eq!(bifrust_dist::fuzz::matching(&filters, &topic), expected);
    assert_eq!(bifrust_mqtt::fuzz::matching(&filters, &topic), expected);
}

/// 4.7.1, level by level.
fn naive_match(filter: &[&str], topic: &[&str]) -> bool {
    match (filter.split_first(), topic.split_first()) {
        (Some((&"#", _)), _) => true,
        (Some((&"+", filter)), Some((_, topic))) => naive_match(filter, topic),
        (Some((level, filter)), Some((name, topic))) => level == name && naive_match(filter, topic),
        (None, None) => true,
        _ => false,
    }
}

/// The first line is a filter, the others are topics with retained messages: a scan has to find those
/// that the filter matches.
pub(crate) fn scan(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let mut lines = text.split('\n');
    let Ok(filter) = TopicFilter::new(lines.next().unwrap_or_default().into()) else {
        return;
    };
    let mut topics: Vec<_> = lines
        .filter_map(|line| Topic::new(line.into()).ok())
        .take(FILTERS_MAX)
        .collect();
    topics.sort();
    topics.dedup();
    let mut found = bifrust_retain::fuzz::matching(&filter, &topics);
    found.sort();
    topics.retain(|topic| filter.matches(topic.as_str()));
    assert_eq!(found, topics, "{filter}");
}
