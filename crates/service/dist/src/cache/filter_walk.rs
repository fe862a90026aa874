//! From a filter to the topics it matches: a skip-scan over topics in level order.
//!
//! For any topic's bytes the filter says that it matches, or from which bytes on the next one can be
//! that does. So a walk visits the branches that exist, and matching topics one after the other.

use smallvec::SmallVec;

use crate::schema::levels;

/// A filter, level by level.
pub(super) struct FilterLevels<'f>(SmallVec<[Level<'f>; 8]>);

#[derive(Clone, Copy)]
enum Level<'f> {
    Multi,
    Single,
    Name(&'f [u8]),
}

/// What a filter says of a topic.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It matches.
    Matches,
    /// It does not; the next that can is at or after what `from` now holds.
    Skip,
    /// No later one matches.
    End,
}

impl<'f> FilterLevels<'f> {
    /// The levels of a filter without shared prefix.
    pub(super) fn new(plain: &'f str) -> Self {
        let levels = plain.split('/').map(|text| match text {
            "#" => Level::Multi,
            "+" => Level::Single,
            name => Level::Name(levels::level(name)),
        });
        Self(levels.collect())
    }

    /// The lowest bytes that a matching topic can have.
    pub(super) fn first(&self, from: &mut Vec<u8>) {
        from.clear();
        for level in &self.0 {
            match level {
                Level::Name(name) => levels::push_level(from, name),
                Level::Multi | Level::Single => break,
            }
        }
    }

    /// What the filter says of the topic with these bytes. A `Skip` leads past them.
    pub(super) fn step(&self, topic: &[u8], from: &mut Vec<u8>) -> Step {
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
            let end = rest.iter().position(|byte| *byte == levels::END);
            let name = &rest[..end.unwrap_or(rest.len())];
            let is_over = name.is_empty();
            match level {
                Level::Multi => return Step::Matches,
                // The topic is shorter than the filter; what is below it comes next.
                Level::Single if is_over => return skip(from, path, &[levels::FIRST]),
                Level::Name(wanted) if is_over => {
                    skip(from, path, wanted);
                    from.push(levels::END);
                    return Step::Skip;
                }
                Level::Single => retry = Some(at + name.len()),
                Level::Name(wanted) => match name.cmp(wanted) {
                    std::cmp::Ordering::Less => {
                        skip(from, path, wanted);
                        from.push(levels::END);
                        return Step::Skip;
                    }
                    std::cmp::Ordering::Equal => {}
                    std::cmp::Ordering::Greater => return next_sibling(topic, retry, from),
                },
            }
            at += name.len() + 1;
        }
        if topic.get(at) == Some(&levels::END) {
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
        Some(end) => skip(from, topic.get(..end).unwrap_or(topic), &[levels::FIRST]),
        None => Step::End,
    }
}

fn skip(from: &mut Vec<u8>, path: &[u8], level: &[u8]) -> Step {
    from.clear();
    from.extend_from_slice(path);
    from.extend_from_slice(level);
    Step::Skip
}
