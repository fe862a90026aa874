//! A coarse timer wheel. Entries are never taken out: whoever is called looks whether it still
//! matters, and a connection that has moved on is not found.

use crate::mailbox::Seat;

/// Length of a step. Deadlines are met within one step after they are due.
pub(crate) const STEP_MS: u64 = 250;
const BUCKETS: u64 = 512;

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timer {
    /// Not let in yet.
    Connect,
    KeepAlive,
    /// A client authenticates once more.
    Exchange,
    /// An acknowledgement waits.
    Publish,
    /// The peer has had time to read the last bytes.
    Linger,
    /// A session that leaves has had time for what it published.
    Leave,
    /// Something that a service refused is tried again.
    Retry,
    /// A socket that is full may have been full for too long.
    Stall,
    /// A connection that went too fast may go on.
    Rate,
    /// The route of a filter is taken out again; `slot` is the filter.
    Route,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// The step; 32 bits last for 34 years.
    due: u32,
    seat: Seat,
    timer: Timer,
}

/// Deadlines of one shard, in milliseconds of its own clock.
pub(crate) struct Wheel {
    buckets: Vec<Vec<Entry>>,
    /// Steps that are done.
    step: u64,
}

impl Wheel {
    pub(crate) fn new() -> Self {
        Self {
            buckets: (0..BUCKETS).map(|_| Vec::new()).collect(),
            step: 0,
        }
    }

    /// Calls for `seat` at the first step that is not before `due_ms`.
    pub(crate) fn arm(&mut self, due_ms: u64, seat: Seat, timer: Timer) {
        let due = due_ms.div_ceil(STEP_MS).max(self.step + 1);
        let bucket = (due % BUCKETS) as usize;
        let due = u32::try_from(due).unwrap_or(u32::MAX);
        self.buckets[bucket].push(Entry { due, seat, timer });
    }

    /// Moves on to `now_ms` and adds what became due.
    pub(crate) fn advance(&mut self, now_ms: u64, due: &mut Vec<(Seat, Timer)>) {
        let now = now_ms / STEP_MS;
        // After a long sleep one turn of the wheel sees every bucket.
        let first = (self.step + 1).max(now.saturating_sub(BUCKETS - 1));
        for step in first..=now {
            let bucket = &mut self.buckets[(step % BUCKETS) as usize];
            bucket.retain(|entry| {
                let is_due = u64::from(entry.due) <= now;
                if is_due {
                    due.push((entry.seat, entry.timer));
                }
                !is_due
            });
            if bucket.is_empty() {
                *bucket = Vec::new();
            }
        }
        self.step = self.step.max(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seat(slot: u32) -> Seat {
        Seat {
            slot,
            generation: 0,
        }
    }

    fn due(wheel: &mut Wheel, now_ms: u64) -> Vec<u32> {
        let mut due = Vec::new();
        wheel.advance(now_ms, &mut due);
        due.iter().map(|(seat, _)| seat.slot).collect()
    }

    #[test]
    fn nothing_comes_early_and_all_comes_within_a_step() {
        let mut wheel = Wheel::new();
        wheel.arm(1_000, seat(1), Timer::KeepAlive);
        wheel.arm(1_001, seat(2), Timer::KeepAlive);
        assert!(due(&mut wheel, 999).is_empty());
        assert_eq!(due(&mut wheel, 1_000), [1]);
        assert_eq!(due(&mut wheel, 1_250), [2]);
    }

    #[test]
    fn deadlines_beyond_one_turn_wait_for_theirs() {
        let mut wheel = Wheel::new();
        let turn = BUCKETS * STEP_MS;
        wheel.arm(turn + 500, seat(1), Timer::KeepAlive);
        assert!(due(&mut wheel, turn).is_empty());
        assert_eq!(due(&mut wheel, 3 * turn), [1], "also after a long sleep");
    }

    #[test]
    fn what_is_already_due_comes_at_the_next_step() {
        let mut wheel = Wheel::new();
        due(&mut wheel, 10_000);
        wheel.arm(5, seat(3), Timer::Retry);
        assert_eq!(due(&mut wheel, 10_250), [3]);
    }
}
