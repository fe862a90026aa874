//! From a filter to the topics it matches: a skip-scan over topics in level order.
//!
//! For any topic's bytes the filter says that it matches, or from which bytes on the next one can be
//! that does. So a walk visits the branches that exist, and matching topics one after the other.

use smallvec::SmallVec;

use super::{END, FIRST, level, push_level};

/// A filter, level by level.
#[derive(Debug)]
pub struct FilterLevels<'f>(SmallVec<[Level<'f>; 8]>);

#[derive(Clone, Copy, Debug)]
enum Level<'f> {
    Multi,
    Single,
    Name(&'f [u8]),
}

/// What a filter says of a topic.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// It matches.
    Matches,
    /// It does not; the next that can is at or after what `from` now holds.
    Skip,
    /// No later one matches.
    End,
}

impl<'f> FilterLevels<'f> {
    /// The levels of a filter without shared prefix.
    pub fn new(plain: &'f str) -> Self {
        let levels = plain.split('/').map(|text| match text {
            "#" => Level::Multi,
            "+" => Level::Single,
            name => Level::Name(level(name)),
        });
        Self(levels.collect())
    }

    /// The bytes that every matching topic begins with, and thus the lowest that it can have.
    pub fn first(&self, from: &mut Vec<u8>) {
        from.clear();
        for level in &self.0 {
            match level {
                Level::Name(name) => push_level(from, name),
                Level::Multi | Level::Single => break,
            }
        }
    }

    /// What the filter says of the topic with these bytes. A `Skip` leads past them.
    pub fn step(&self, topic: &[u8], from: &mut Vec<u8>) -> Step {
        // Where the current level begins, and where the deepest level ends that a `+` took.
        let mut at = 0;
        let mut retry = None;
        for (index, level) in self.0.iter().enumerate() {
            let is_wild = !matches!(level, Level::Name(_));
            if index == 0 && is_wild && topic.first() == Some(&b'$') {
                // MQTT-4.7.2-1: past all topics that begin with `$`.
                return skip(from, &[], &[b'$' + 1]);
            }
            let (path, rest) = topic.split_at(at.min(topic.len()));
            let end = rest.iter().position(|byte| *byte == END);
            let name = &rest[..end.unwrap_or(rest.len())];
            let is_over = name.is_empty();
            match level {
                Level::Multi => return Step::Matches,
                // The topic is shorter than the filter; what is below it comes next.
                Level::Single if is_over && cfg!(planted_bugs) => return Step::End,
                Level::Single if is_over => return skip(from, path, &[FIRST]),
                Level::Name(wanted) if is_over => {
                    skip(from, path, wanted);
                    from.push(END);
                    return Step::Skip;
                }
                Level::Single => retry = Some(at + name.len()),
                Level::Name(wanted) => match name.cmp(wanted) {
                    std::cmp::Ordering::Less => {
                        skip(from, path, wanted);
                        from.push(END);
                        return Step::Skip;
                    }
                    std::cmp::Ordering::Equal => {}
                    std::cmp::Ordering::Greater => return next_sibling(topic, retry, from),
                },
            }
            at += name.len() + 1;
        }
        if topic.get(at) == Some(&END) {
            Step::Matches
        } else {
            // Below a name that would have matched and came before.
            next_sibling(topic, retry, from)
        }
    }
}

/// Past everything at and below the level that the deepest `+` took.
fn next_sibling(topic: &[u8], retry: Option<usize>, from: &mut Vec<u8>) -> Step {
    match retry {
        Some(end) => skip(from, topic.get(..end).unwrap_or(topic), &[FIRST]),
        None => Step::End,
    }
}

fn skip(from: &mut Vec<u8>, path: &[u8], level: &[u8]) -> Step {
    from.clear();
    from.extend_from_slice(path);
    from.extend_from_slice(level);
    Step::Skip
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::TopicFilter;
    use crate::levels::push_name;

    fn encoded(name: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        push_name(&mut bytes, name);
        bytes
    }

    fn names(levels: &'static str) -> impl Strategy<Value = String> {
        prop::collection::vec(levels, 1..=4).prop_map(|levels| levels.join("/"))
    }

    fn filters() -> impl Strategy<Value = TopicFilter> {
        (names("[ab!]{0,2}|\\+|\\$s|\u{1}"), any::<bool>()).prop_filter_map(
            "no filter",
            |(name, multi)| {
                let tail = if multi { "/#" } else { "" };
                TopicFilter::new(format!("{name}{tail}").into()).ok()
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]

        #[test]
        fn a_walk_finds_what_matches_and_never_goes_back(
            filter in filters(),
            topics in prop::collection::btree_set(names("[ab!]{0,2}|\\$s|\u{1}"), 0..40),
        ) {
            let rows: std::collections::BTreeMap<_, _> =
                topics.iter().map(|topic| (encoded(topic), topic)).collect();
            let levels = FilterLevels::new(filter.plain());
            let mut from = Vec::new();
            levels.first(&mut from);
            let first = from.clone();
            let mut found = Vec::new();
            while let Some((topic, name)) = rows.range(from.clone()..).next() {
                match levels.step(topic, &mut from) {
                    Step::Matches => {
                        prop_assert!(topic.starts_with(&first));
                        found.push(*name);
                        from = [&topic[..], &[0]].concat();
                    }
                    Step::Skip => prop_assert!(from > *topic),
                    Step::End => break,
                }
            }
            let expected: Vec<_> = rows.values().copied().filter(|name| filter.matches(name)).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
