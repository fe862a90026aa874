//! Topics that have numbers on a connection, those of its client and ours.

use bytestring::ByteString;

use super::known_topics::KnownTopics;

/// What an alias of the client stands for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// Nothing yet.
    #[default]
    None,
    /// This topic.
    Topic(ByteString),
    /// A topic that is too long to be any: it is refused each time, and not worth remembering.
    TooLong,
}

/// Topics by alias, 1 and up; forgotten with the connection (3.3.2.3.4).
#[derive(Debug, Default)]
pub(crate) struct Aliases {
    meanings: Vec<Meaning>,
    /// Ours, if the client takes any.
    pub(crate) to_client: Option<KnownTopics>,
}

impl Aliases {
    /// The alias stands for this topic from now on, of at most `longest` bytes.
    pub(crate) fn set(&mut self, alias: u16, topic: &str, longest: usize) {
        let Some(at) = usize::from(alias).checked_sub(1) else {
            return;
        };
        if self.meanings.len() <= at {
            self.meanings.resize(at + 1, Meaning::None);
        }
        self.meanings[at] = match topic.len() <= longest {
            // A copy: the name that came shares its memory with a whole packet.
            true => Meaning::Topic(ByteString::from(topic)),
            false => Meaning::TooLong,
        };
    }

    /// What the alias stands for.
    pub(crate) fn get(&self, alias: u16) -> &Meaning {
        let at = usize::from(alias).checked_sub(1);
        at.and_then(|at| self.meanings.get(at))
            .unwrap_or(&Meaning::None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_meaning_counts_and_others_have_none() {
        let mut aliases = Aliases::default();
        aliases.set(3, "a", 2);
        aliases.set(3, "b", 2);
        aliases.set(0, "no", 2);
        assert_eq!(*aliases.get(3), Meaning::Topic("b".into()));
        for unknown in [0, 1, 2, 4, u16::MAX] {
            assert_eq!(*aliases.get(unknown), Meaning::None);
        }
        aliases.set(3, "too long", 2);
        assert_eq!(*aliases.get(3), Meaning::TooLong);
    }
}
