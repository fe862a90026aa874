//! What a session's queue holds, without the messages: enough to number, bound and settle entries
//! without reading rows. Derived from the rows of the session alone.

use std::collections::{BTreeSet, VecDeque};

use bifrust_model::Qos;

/// Four bytes per entry between the first unsettled one and the next number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Queue {
    /// Number of the first slot; the first slot, if there is one, is live.
    base: u64,
    slots: VecDeque<Slot>,
    live: u32,
    bytes: u64,
    qos0: u32,
    /// No live QoS 0 entry lies below.
    qos0_from: u64,
}

/// 0: settled; else QoS + 1 in the low bits, the entry's size above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Slot(u32);

const QOS_BITS: u32 = 2;
const GONE: Slot = Slot(0);

impl Slot {
    fn new(qos: Qos, weight: usize) -> Self {
        // An entry of 1 GiB cannot be: packets end at 256 MiB.
        let weight = u32::try_from(weight).unwrap_or(u32::MAX) & (u32::MAX >> QOS_BITS);
        Self(weight << QOS_BITS | (u32::from(qos.level()) + 1))
    }

    fn entry(self) -> Option<Held> {
        let level = (self.0 & 3).checked_sub(1)?;
        Some(Held {
            qos: Qos::from_level(level as u8)?,
            weight: u64::from(self.0 >> QOS_BITS),
        })
    }
}

/// An entry that is queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) qos: Qos,
    pub(crate) weight: u64,
}

impl Queue {
    /// An empty queue.
    pub(crate) fn starting_at(next_seq: u64) -> Self {
        Self {
            base: next_seq,
            slots: VecDeque::new(),
            live: 0,
            bytes: 0,
            qos0: 0,
            qos0_from: next_seq,
        }
    }

    /// Adds an entry that was found in the rows, in ascending order.
    pub(crate) fn restore(&mut self, seq: u64, qos: Qos, weight: usize) {
        if self.slots.is_empty() {
            self.base = seq;
            self.qos0_from = seq;
        }
        self.skip_to(seq);
        self.push(qos, weight);
    }

    /// Numbers below `next_seq` are used up.
    pub(crate) fn skip_to(&mut self, next_seq: u64) {
        if self.slots.is_empty() {
            self.base = self.base.max(next_seq);
            return;
        }
        while self.next_seq() < next_seq {
            self.slots.push_back(GONE);
        }
    }

    /// Adds the next entry; its number.
    pub(crate) fn push(&mut self, qos: Qos, weight: usize) -> u64 {
        let seq = self.next_seq();
        let slot = Slot::new(qos, weight);
        self.slots.push_back(slot);
        self.live += 1;
        self.bytes += slot.entry().map_or(0, |held| held.weight);
        self.qos0 += u32::from(qos == Qos::AtMostOnce);
        seq
    }

    /// Takes an entry out, if it is there.
    pub(crate) fn remove(&mut self, seq: u64) -> Option<Held> {
        let held = self.get(seq)?;
        let at = usize::try_from(seq - self.base).ok()?;
        self.slots[at] = GONE;
        self.live -= 1;
        self.bytes -= held.weight;
        self.qos0 -= u32::from(held.qos == Qos::AtMostOnce);
        let next_seq = self.next_seq();
        while self.slots.front() == Some(&GONE) {
            self.slots.pop_front();
            self.base += 1;
        }
        if self.slots.is_empty() {
            self.base = next_seq;
            // A queue that was long once gives its room back.
            self.slots.shrink_to(16);
        }
        Some(held)
    }

    pub(crate) fn get(&self, seq: u64) -> Option<Held> {
        let at = usize::try_from(seq.checked_sub(self.base)?).ok()?;
        self.slots.get(at)?.entry()
    }

    /// The first entry that is queued, or the next number.
    pub(crate) fn first_seq(&self) -> u64 {
        self.base
    }

    pub(crate) fn next_seq(&self) -> u64 {
        self.base + self.slots.len() as u64
    }

    pub(crate) fn len(&self) -> u32 {
        self.live
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Room for numbers, settled ones between queued ones included.
    pub(crate) fn slots(&self) -> usize {
        self.slots.capacity()
    }

    /// The oldest QoS 0 entry.
    pub(crate) fn oldest_qos0(&mut self) -> Option<u64> {
        if self.qos0 == 0 {
            self.qos0_from = self.next_seq();
            return None;
        }
        let mut seq = self.qos0_from.max(self.base);
        while self.get(seq).is_none_or(|held| held.qos != Qos::AtMostOnce) {
            seq += 1;
        }
        self.qos0_from = seq;
        Some(seq)
    }

    /// The end of what a connection with this window may have sent: it sends in order and a slot is
    /// freed only when the settling is durable. `received` are entries whose PUBREC was seen.
    pub(crate) fn sent_before(&self, window: u16, received: &BTreeSet<u64>) -> u64 {
        let early = received.range(..self.base).count();
        let Some(mut left) = usize::from(window).checked_sub(early) else {
            return self.base;
        };
        for seq in self.base..self.next_seq() {
            if left == 0 {
                return seq;
            }
            let in_flight = self.get(seq).is_some_and(|held| held.qos > Qos::AtMostOnce)
                || received.contains(&seq);
            left -= usize::from(in_flight);
        }
        self.next_seq()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Push(u8, u16),
        Remove(u64),
        DropOldest,
    }

    fn any_step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (0u8..3, any::<u16>()).prop_map(|(level, weight)| Step::Push(level, weight)),
            2 => (0u64..40).prop_map(Step::Remove),
            1 => Just(Step::DropOldest),
        ]
    }

    proptest! {
        #[test]
        fn it_counts_like_a_map(
            start in 1u64..5, steps in proptest::collection::vec(any_step(), 0..60), window in 0u16..9,
        ) {
            let mut queue = Queue::starting_at(start);
            let mut model = BTreeMap::new();
            let mut next = start;
            for step in steps {
                match step {
                    Step::Push(level, weight) => {
                        let qos = Qos::from_level(level).unwrap();
                        prop_assert_eq!(queue.push(qos, weight.into()), next);
                        model.insert(next, Held { qos, weight: weight.into() });
                        next += 1;
                    }
                    Step::Remove(seq) => prop_assert_eq!(queue.remove(seq), model.remove(&seq)),
                    Step::DropOldest => {
                        let oldest = model.iter().find(|(_, held)| held.qos == Qos::AtMostOnce);
                        let oldest = oldest.map(|(seq, _)| *seq);
                        prop_assert_eq!(queue.oldest_qos0(), oldest);
                        oldest.map(|seq| (queue.remove(seq), model.remove(&seq)));
                    }
                }
                prop_assert_eq!(queue.next_seq(), next);
                prop_assert_eq!(queue.len() as usize, model.len());
                prop_assert_eq!(queue.bytes(), model.values().map(|held| held.weight).sum::<u64>());
                prop_assert_eq!(queue.first_seq(), model.keys().next().copied().unwrap_or(next));
            }
            let mut restored = Queue::starting_at(start);
            for (seq, held) in &model {
                restored.restore(*seq, held.qos, held.weight as usize);
            }
            restored.skip_to(next);
            prop_assert_eq!(restored.next_seq(), next);
            prop_assert_eq!(restored.oldest_qos0(), queue.oldest_qos0());
            let none = BTreeSet::new();
            let sent = queue.sent_before(window, &none);
            let counted = model.range(..sent).filter(|(_, held)| held.qos > Qos::AtMostOnce).count();
            prop_assert!(counted <= window.into());
            let all = model.values().filter(|held| held.qos > Qos::AtMostOnce).count();
            prop_assert_eq!(counted, all.min(window.into()));
        }
    }

    #[test]
    fn received_entries_fill_the_window_too() {
        let mut queue = Queue::starting_at(1);
        for _ in 0..5 {
            queue.push(Qos::ExactlyOnce, 1);
        }
        queue.remove(1);
        queue.remove(3);
        let received = BTreeSet::from([1, 3]);
        assert_eq!(queue.sent_before(2, &received), 3);
        assert_eq!(queue.sent_before(3, &received), 4);
        assert_eq!(queue.sent_before(9, &received), 6);
    }
}
