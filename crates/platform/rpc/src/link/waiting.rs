//! Messages that wait for credit. Flows (tenants) take turns by bytes, so that one which floods the
//! link delays itself.

use std::collections::VecDeque;

use hashbrown::HashMap;

/// Bytes that a flow may send in one turn.
const QUANTUM: u32 = 64 << 10;

/// Something that waits, with what it costs.
#[derive(Debug)]
pub(super) struct Waiting<T> {
    flows: HashMap<u64, Flow<T>>,
    /// Flows in the order of their turns.
    turns: VecDeque<u64>,
    bytes: usize,
    len: usize,
}

#[derive(Debug)]
struct Flow<T> {
    queue: VecDeque<(u32, T)>,
    /// Bytes it may still send in this turn.
    left: u32,
}

impl<T> Default for Waiting<T> {
    fn default() -> Self {
        Self {
            flows: HashMap::new(),
            turns: VecDeque::new(),
            bytes: 0,
            len: 0,
        }
    }
}

impl<T> Waiting<T> {
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn push(&mut self, flow: u64, cost: u32, item: T) {
        self.bytes += cost as usize;
        self.len += 1;
        let entry = self.flows.entry(flow).or_insert_with(|| {
            self.turns.push_back(flow);
            Flow {
                queue: VecDeque::new(),
                left: QUANTUM,
            }
        });
        entry.queue.push_back((cost, item));
    }

    /// The item whose turn it is, with its cost; turns move on as far as they have to.
    pub(super) fn first(&mut self) -> Option<(u32, &T)> {
        loop {
            let flow = *self.turns.front()?;
            let entry = self.flows.get_mut(&flow)?;
            let cost = entry.queue.front()?.0;
            if entry.left >= cost {
                break;
            }
            // An item may be larger than a turn: what is left adds up.
            entry.left = entry.left.saturating_add(QUANTUM);
            self.turns.rotate_left(1);
        }
        let flow = self.turns.front()?;
        let (cost, item) = self.flows.get(flow)?.queue.front()?;
        Some((*cost, item))
    }

    /// Takes what [`first`](Self::first) showed.
    pub(super) fn pop(&mut self) -> Option<T> {
        let flow = *self.turns.front()?;
        let entry = self.flows.get_mut(&flow)?;
        let (cost, item) = entry.queue.pop_front()?;
        entry.left = entry.left.saturating_sub(cost);
        self.bytes -= cost as usize;
        self.len -= 1;
        if entry.queue.is_empty() {
            self.flows.remove(&flow);
            self.turns.pop_front();
        }
        Some(item)
    }

    /// Removes what `keep` does not want.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        let (bytes, len) = (&mut self.bytes, &mut self.len);
        self.flows.retain(|_, flow| {
            flow.queue.retain(|(cost, item)| {
                let is_kept = keep(item);
                if !is_kept {
                    *bytes -= *cost as usize;
                    *len -= 1;
                }
                is_kept
            });
            !flow.queue.is_empty()
        });
        let flows = &self.flows;
        self.turns.retain(|flow| flows.contains_key(flow));
    }

    pub(super) fn drain(&mut self) -> impl Iterator<Item = T> + use<T> {
        let all = std::mem::take(self);
        let flows = all.flows.into_values();
        flows.flat_map(|flow| flow.queue).map(|(_, item)| item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flows_take_turns_by_bytes() {
        let mut waiting = Waiting::default();
        for i in 0..40 {
            waiting.push(1, QUANTUM / 4, (1, i));
        }
        for i in 0..2 {
            waiting.push(2, QUANTUM / 4, (2, i));
        }
        let mut order = Vec::new();
        while let Some((cost, first)) = waiting.first() {
            assert_eq!(cost, QUANTUM / 4);
            order.push(first.0);
            waiting.pop();
        }
        let last = order.iter().rposition(|flow| *flow == 2);
        assert_eq!(last, Some(5));
        assert_eq!(order.len(), 42);
        assert_eq!((waiting.bytes(), waiting.len()), (0, 0));
    }

    #[test]
    fn one_item_may_be_larger_than_a_turn() {
        let mut waiting = Waiting::default();
        waiting.push(1, 5 * QUANTUM, "large");
        waiting.push(2, 1, "small");
        assert_eq!(waiting.first(), Some((1, &"small")));
        waiting.pop();
        assert_eq!(waiting.first(), Some((5 * QUANTUM, &"large")));
        waiting.pop();
        assert!(waiting.first().is_none());
    }

    #[test]
    fn what_is_given_up_leaves_room() {
        let mut waiting = Waiting::default();
        waiting.push(1, 10, 1);
        waiting.push(2, 20, 2);
        waiting.retain(|item| *item == 2);
        assert_eq!((waiting.bytes(), waiting.len()), (20, 1));
        assert_eq!(waiting.first(), Some((20, &2)));
        assert_eq!(waiting.drain().collect::<Vec<_>>(), [2]);
        assert!(waiting.is_empty());
    }
}
