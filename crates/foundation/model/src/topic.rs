//! Topic names.

use std::fmt;

use bytestring::ByteString;

use crate::TopicLimits;

/// A topic name to publish to: not empty, no wildcard, no U+0000.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Topic(ByteString);

/// Why a text is no topic name or filter within the tenant's limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// MQTT-4.7.3-1.
    #[error("topic is empty")]
    Empty,
    /// MQTT-3.3.2-2.
    #[error("topic name holds a wildcard")]
    Wildcard,
    /// MQTT-4.7.3-2.
    #[error("topic holds U+0000")]
    Nul,
    /// Over `MaxTopicLength`.
    #[error("topic is {actual} bytes long, {max} are allowed")]
    TooLong {
        /// Bytes of the topic.
        actual: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// Over `MaxTopicLevels`.
    #[error("topic has more than {max} levels")]
    TooDeep {
        /// Levels allowed.
        max: usize,
    },
    /// Over `MaxTopicLevelLength`.
    #[error("a topic level is longer than {max} bytes")]
    LevelTooLong {
        /// Bytes allowed in one level.
        max: usize,
    },
}

impl Topic {
    /// Checks what the standard asks of a topic name.
    pub fn new(name: ByteString) -> Result<Self, TopicError> {
        check_name(&name)?;
        Ok(Self(name))
    }

    /// Checks the standard's rules and the tenant's limits.
    pub fn within(name: ByteString, limits: &TopicLimits) -> Result<Self, TopicError> {
        check_name(&name)?;
        limits.check(&name)?;
        Ok(Self(name))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name as shared bytes.
    pub fn as_bytestring(&self) -> &ByteString {
        &self.0
    }

    /// Its levels, first to last; `a//b` has an empty one.
    pub fn levels(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('/')
    }

    /// Whether it belongs to the server's own name space (MQTT-4.7.2-1).
    pub fn is_system(&self) -> bool {
        self.0.starts_with('$')
    }
}

fn check_name(name: &str) -> Result<(), TopicError> {
    if name.is_empty() {
        return Err(TopicError::Empty);
    }
    for byte in name.bytes() {
        match byte {
            b'+' | b'#' => return Err(TopicError::Wildcard),
            0 if !cfg!(planted_bugs) => return Err(TopicError::Nul),
            _ => {}
        }
    }
    Ok(())
}

impl TopicLimits {
    /// Checks length, depth and level length of a topic name or filter.
    pub fn check(&self, topic: &str) -> Result<(), TopicError> {
        if topic.len() > self.length {
            return Err(TopicError::TooLong {
                actual: topic.len(),
                max: self.length,
            });
        }
        // Most topics are shorter than a single level may be: one look at the depth is enough.
        if topic.len() <= self.level_length && topic.len() < self.levels {
            return Ok(());
        }
        let mut levels = 0;
        for level in topic.split('/') {
            levels += 1;
            if level.len() > self.level_length {
                return Err(TopicError::LevelTooLong {
                    max: self.level_length,
                });
            }
        }
        if levels > self.levels {
            return Err(TopicError::TooDeep { max: self.levels });
        }
        Ok(())
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        assert!(Topic::new("a//b/😀".into()).is_ok());
        assert_eq!(Topic::new("".into()), Err(TopicError::Empty));
        assert_eq!(Topic::new("a/+".into()), Err(TopicError::Wildcard));
        assert_eq!(Topic::new("a\0".into()), Err(TopicError::Nul));
    }

    #[test]
    fn limits_hold_at_below_and_above() {
        let limits = TopicLimits {
            length: 8,
            levels: 3,
            level_length: 4,
        };
        assert!(limits.check("aaaa/bbb").is_ok());
        assert_eq!(
            limits.check("aaaa/bbbb"),
            Err(TopicError::TooLong { actual: 9, max: 8 })
        );
        assert_eq!(
            limits.check("aaaaa"),
            Err(TopicError::LevelTooLong { max: 4 })
        );
        assert!(limits.check("a/b/c").is_ok());
        assert_eq!(limits.check("a/b/c/d"), Err(TopicError::TooDeep { max: 3 }));
        assert_eq!(limits.check("///"), Err(TopicError::TooDeep { max: 3 }));
    }
}
