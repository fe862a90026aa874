//! Topics that have numbers on a connection, those of its client and ours.

use bytestring::ByteString;

use super::known_topics::KnownTopics;

/// Topics by alias, 1 and up; forgotten with the connection (3.3.2.3.4).
#[derive(Debug, Default)]
pub(crate) struct Aliases {
    /// An empty one is free.
    topics: Vec<ByteString>,
    /// Ours, if the client takes any.
    pub(crate) to_client: Option<KnownTopics>,
}

impl Aliases {
    /// The alias stands for this topic from now on.
    pub(crate) fn set(&mut self, alias: u16, topic: &str) {
        let Some(at) = usize::from(alias).checked_sub(1) else {
            return;
        };
        if self.topics.len() <= at {
            self.topics.resize(at + 1, ByteString::new());
        }
        // A copy: the name that came shares its memory with a whole packet.
        self.topics[at] = ByteString::from(topic);
    }

    /// What the alias stands for.
    pub(crate) fn get(&self, alias: u16) -> Option<&ByteString> {
        let at = usize::from(alias).checked_sub(1)?;
        self.topics.get(at).filter(|topic| !topic.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_meaning_counts_and_others_have_none() {
        let mut aliases = Aliases::default();
        aliases.set(3, "a");
        aliases.set(3, "b");
        aliases.set(0, "nothing");
        assert_eq!(aliases.get(3).map(|topic| &**topic), Some("b"));
        for unknown in [0, 1, 2, 4, u16::MAX] {
            assert_eq!(aliases.get(unknown), None);
        }
    }
}
