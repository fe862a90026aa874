//! The filters of a transient session, and what it asked of each.

use ahash::RandomState;
use bifrust_model::{SubscriptionOptions, TopicFilter};
use hashbrown::HashMap;

/// Up to as many stand in one piece of memory. To keep more in order would move too much for each.
const FEW_MAX: usize = 256;

type Entry = (TopicFilter, SubscriptionOptions);

/// Most sessions have one filter, or a few.
#[derive(Debug)]
pub(crate) enum Filters {
    /// Sorted.
    Few(Vec<Entry>),
    Many(Box<HashMap<TopicFilter, SubscriptionOptions, RandomState>>),
}

/// How a subscription was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Added {
    New,
    Replaced,
}

impl Default for Filters {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

impl Filters {
    /// Adds a filter or replaces its options. `None` if there would be more than `max`.
    pub(crate) fn add(
        &mut self,
        filter: &TopicFilter,
        options: SubscriptionOptions,
        max: usize,
    ) -> Option<Added> {
        if let Some(held) = self.get_mut(filter) {
            *held = options;
            return Some(Added::Replaced);
        }
        if self.len() >= max {
            return None;
        }
        if let Self::Few(few) = self
            && few.len() >= FEW_MAX
        {
            *self = Self::Many(Box::new(few.drain(..).collect()));
        }
        match self {
            Self::Few(few) => {
                if few.is_empty() {
                    // Many sessions have just one.
                    few.reserve_exact(1);
                }
                let at = few.partition_point(|(held, _)| held < filter);
                few.insert(at, (filter.clone(), options));
            }
            Self::Many(many) => {
                many.insert(filter.clone(), options);
            }
        }
        Some(Added::New)
    }

    pub(crate) fn get(&self, filter: &TopicFilter) -> Option<SubscriptionOptions> {
        match self {
            Self::Few(few) => {
                let at = few.binary_search_by(|(held, _)| held.cmp(filter)).ok()?;
                few.get(at).map(|(_, options)| *options)
            }
            Self::Many(many) => many.get(filter).copied(),
        }
    }

    fn get_mut(&mut self, filter: &TopicFilter) -> Option<&mut SubscriptionOptions> {
        match self {
            Self::Few(few) => {
                let at = few.binary_search_by(|(held, _)| held.cmp(filter)).ok()?;
                few.get_mut(at).map(|(_, options)| options)
            }
            Self::Many(many) => many.get_mut(filter),
        }
    }

    /// False if it was not there.
    pub(crate) fn remove(&mut self, filter: &TopicFilter) -> bool {
        match self {
            Self::Few(few) => match few.binary_search_by(|(held, _)| held.cmp(filter)) {
                Ok(at) => {
                    few.remove(at);
                    true
                }
                Err(_) => false,
            },
            Self::Many(many) => {
                let was_there = many.remove(filter).is_some();
                if many.is_empty() {
                    *self = Self::default();
                }
                was_there
            }
        }
    }

    /// Takes all out.
    pub(crate) fn drain(&mut self) -> Vec<TopicFilter> {
        match std::mem::take(self) {
            Self::Few(few) => few.into_iter().map(|(filter, _)| filter).collect(),
            Self::Many(many) => many.into_keys().collect(),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Few(few) => few.len(),
            Self::Many(many) => many.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    fn filter(number: u32) -> TopicFilter {
        TopicFilter::new(format!("{number}/#").into()).unwrap()
    }

    fn options(id: u32) -> SubscriptionOptions {
        SubscriptionOptions {
            id: NonZeroU32::new(id),
            ..SubscriptionOptions::default()
        }
    }

    #[test]
    fn few_and_many_filters_are_kept_alike() {
        for count in [1, 10, 256, 257, 1000] {
            let mut filters = Filters::default();
            // Not in order.
            let numbers = || (1..=count).map(|n| n * 7919 % 10_007);
            let max = count as usize;
            for n in numbers() {
                assert_eq!(filters.add(&filter(n), options(n), max), Some(Added::New));
            }
            assert_eq!(filters.len(), max);
            assert_eq!(filters.add(&filter(0), options(1), max), None);
            for n in numbers() {
                let replaced = filters.add(&filter(n), options(n + 1), max);
                assert_eq!(replaced, Some(Added::Replaced));
                assert_eq!(filters.get(&filter(n)), Some(options(n + 1)));
            }
            let first = numbers().next().unwrap();
            assert!(filters.remove(&filter(first)) && !filters.remove(&filter(first)));
            assert_eq!(filters.get(&filter(first)), None);
            let mut left = filters.drain();
            left.sort_unstable();
            let mut expected: Vec<_> = numbers().skip(1).map(filter).collect();
            expected.sort_unstable();
            assert_eq!((left, filters.len()), (expected, 0));
        }
    }

    #[test]
    fn they_take_no_more_than_a_list() {
        assert_eq!(size_of::<Filters>(), size_of::<Vec<Entry>>());
    }
}
