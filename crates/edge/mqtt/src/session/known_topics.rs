//! Topics that a client has been told by number (MQTT-5 3.3.2.3.4).

use ahash::RandomState;
use bifrust_model::Topic;

/// A topic of fewer bytes is sent as it is: the alias takes three.
const TOPIC_BYTES_MIN: usize = 6;
/// Aliases for one client, however many it takes: their memory is ours.
const ALIASES_MAX: u16 = 256;

/// The aliases that we use towards one client. Each topic has its place, and the latest topic of a
/// place is known by it; so there is nothing to look for and nothing to age.
#[derive(Debug)]
pub(crate) struct KnownTopics {
    places: Box<[Option<Topic>]>,
    hasher: RandomState,
}

impl KnownTopics {
    /// With as many aliases as the client takes (MQTT-3.1.2-26); `None` if it takes none.
    pub(crate) fn new(max: u16) -> Option<Self> {
        (max > 0).then(|| Self {
            places: vec![None; usize::from(max.min(ALIASES_MAX))].into(),
            hasher: RandomState::new(),
        })
    }

    /// The alias for this topic, and whether the client knows it already. `None`: not worth one.
    pub(crate) fn alias(&self, topic: &Topic) -> Option<(u16, bool)> {
        if topic.as_str().len() < TOPIC_BYTES_MIN {
            return None;
        }
        let hash = self.hasher.hash_one(topic.as_str());
        let place = (hash % self.places.len() as u64) as usize;
        let is_known = self.places.get(place)?.as_ref() == Some(topic);
        Some((u16::try_from(place + 1).ok()?, is_known))
    }

    /// The client has been told.
    pub(crate) fn learn(&mut self, alias: u16, topic: &Topic) {
        if let Some(place) = self.places.get_mut(usize::from(alias).wrapping_sub(1)) {
            *place = Some(topic.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(name: &str) -> Topic {
        Topic::new(name.into()).unwrap()
    }

    #[test]
    fn a_topic_is_known_until_another_takes_its_place() {
        let mut known = KnownTopics::new(1).unwrap();
        let (first, second) = (topic("sensors/1"), topic("sensors/2"));
        assert_eq!(known.alias(&first), Some((1, false)));
        known.learn(1, &first);
        assert_eq!(known.alias(&first), Some((1, true)));
        assert_eq!(known.alias(&second), Some((1, false)));
        known.learn(1, &second);
        assert_eq!(known.alias(&first), Some((1, false)));
    }

    #[test]
    fn aliases_stay_within_what_the_client_takes() {
        assert!(KnownTopics::new(0).is_none());
        let known = KnownTopics::new(3).unwrap();
        for number in 0..100 {
            let (alias, _) = known.alias(&topic(&format!("sensors/{number}"))).unwrap();
            assert!((1..=3).contains(&alias));
        }
        assert_eq!(known.alias(&topic("a/b")), None, "shorter than its alias");
    }
}
