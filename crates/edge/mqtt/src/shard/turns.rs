//! Whose connections may read now: tenants take turns, so that one with many busy connections
//! delays itself and nobody else (design, section 7).
//!
//! A round is one pass over what is ready. In it the connections of a tenant may do so much work;
//! what comes above it waits for the next round in order of arrival. A tenant that works less than
//! its share, or alone, only meets a look-up per turn of a connection.

use std::collections::VecDeque;

use ahash::RandomState;
use bifrust_model::TenantNumber;
use hashbrown::HashMap;

use crate::mailbox::Seat;

/// Work of one tenant in a round: bytes read, and what packets and deliveries count for.
pub(crate) const SHARE: u64 = 512 << 10;
/// What a packet counts for besides its bytes.
pub(crate) const PACKET_WORK: u64 = 64;
/// What handing a message to one receiver counts for.
pub(crate) const DELIVERY_WORK: u64 = 64;

/// One tenant that has worked lately.
#[derive(Default)]
struct Lane {
    /// Work done, less the shares of the rounds that have passed.
    used: u64,
    waiting: VecDeque<Seat>,
    /// Who was called and has not come yet. Nobody overtakes it within the round.
    called: Option<Seat>,
}

impl Lane {
    /// Calls the next one if there is work left to do.
    fn call(&mut self) -> Option<Seat> {
        if self.used >= SHARE || self.called.is_some() {
            return None;
        }
        self.called = self.waiting.pop_front();
        self.called
    }
}

/// The turns of one shard.
#[derive(Default)]
pub(crate) struct Turns {
    lanes: HashMap<TenantNumber, Lane, RandomState>,
}

impl Turns {
    /// Whether this connection may work now. Otherwise it is called later, once.
    pub(crate) fn begin(&mut self, tenant: TenantNumber, seat: Seat) -> bool {
        let lane = self.lanes.entry(tenant).or_default();
        if lane.called == Some(seat) {
            lane.called = None;
            return true;
        }
        let is_free = lane.used < SHARE && lane.called.is_none() && lane.waiting.is_empty();
        if !is_free {
            lane.waiting.push_back(seat);
        }
        is_free
    }

    /// A connection has worked; who of its tenant is next in this round.
    pub(crate) fn end(&mut self, tenant: TenantNumber, work: u64) -> Option<Seat> {
        let lane = self.lanes.get_mut(&tenant)?;
        lane.used += work;
        lane.call()
    }

    /// Begins a round and adds who is called in it. True if somebody still waits.
    pub(crate) fn next_round(&mut self, called: &mut Vec<Seat>) -> bool {
        let is_alone = self.lanes.len() == 1;
        let mut is_awaited = false;
        self.lanes.retain(|_, lane| {
            // What was done too much is worked off, unless nobody is there who lost by it.
            lane.used = match is_alone {
                true => 0,
                false => lane.used.saturating_sub(SHARE),
            };
            // Who did not come had something else to wait for.
            lane.called = None;
            called.extend(lane.call());
            let is_idle = lane.called.is_none() && lane.waiting.is_empty();
            is_awaited |= !is_idle;
            !is_idle || lane.used > 0
        });
        is_awaited
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLOOD: TenantNumber = TenantNumber(1);
    const QUIET: TenantNumber = TenantNumber(2);
    /// The connection of the quiet tenant; the others are the flood.
    const SINGLE: u32 = 1000;

    fn seat(slot: u32) -> Seat {
        Seat {
            slot,
            generation: 0,
        }
    }

    fn tenant_of(slot: u32) -> TenantNumber {
        match slot {
            SINGLE => QUIET,
            _ => FLOOD,
        }
    }

    /// A shard in which every connection of the flood always has `work` to do at once.
    struct Bed {
        turns: Turns,
        ready: VecDeque<u32>,
        served: Vec<u32>,
        work: u64,
    }

    impl Bed {
        fn new(flood: u32, work: u64) -> Self {
            Self {
                turns: Turns::default(),
                ready: (0..flood).collect(),
                served: Vec::new(),
                work,
            }
        }

        /// One pass over what is ready, then the next round, as the shard does.
        fn pass(&mut self) {
            for _ in 0..self.ready.len() {
                if let Some(slot) = self.ready.pop_front() {
                    self.turn(slot);
                }
            }
            let mut called = Vec::new();
            self.turns.next_round(&mut called);
            self.ready.extend(called.iter().map(|seat| seat.slot));
        }

        fn turn(&mut self, slot: u32) {
            let tenant = tenant_of(slot);
            if !self.turns.begin(tenant, seat(slot)) {
                return;
            }
            self.served.push(slot);
            let work = if slot == SINGLE { 100 } else { self.work };
            if let Some(next) = self.turns.end(tenant, work) {
                self.ready.push_back(next.slot);
            }
            if slot != SINGLE {
                self.ready.push_back(slot);
            }
        }
    }

    #[test]
    fn a_flood_delays_another_tenant_by_no_more_than_its_share() {
        let work = SHARE / 2;
        let mut bed = Bed::new(50, work);
        for _ in 0..20 {
            bed.pass();
        }
        for _ in 0..100 {
            let before = bed.served.len();
            bed.ready.push_back(SINGLE);
            bed.pass();
            let served = &bed.served[before..];
            let waited = served.iter().position(|slot| *slot == SINGLE).unwrap();
            assert!(waited as u64 * work <= SHARE, "{waited} turns of the flood");
        }
    }

    #[test]
    fn the_connections_of_one_tenant_take_turns_too() {
        let mut bed = Bed::new(50, SHARE);
        while bed.served.len() < 500 {
            bed.pass();
        }
        for slot in 0..50 {
            let turns = bed.served[..500].iter().filter(|s| **s == slot).count();
            assert_eq!(turns, 10, "connection {slot}");
        }
    }

    #[test]
    fn who_took_more_than_a_share_works_it_off() {
        let mut bed = Bed::new(1, 10 * SHARE);
        bed.ready.push_back(SINGLE);
        bed.pass();
        let mut singles = 0;
        while bed.served.iter().filter(|slot| **slot == 0).count() < 2 {
            // The other tenant goes on meanwhile.
            bed.ready.push_back(SINGLE);
            bed.pass();
            singles += 1;
        }
        assert_eq!(singles, 10);
    }

    #[test]
    fn a_tenant_alone_waits_for_nobody() {
        let mut bed = Bed::new(1, 10 * SHARE);
        for round in 1..10 {
            bed.pass();
            bed.pass();
            assert!(bed.served.len() >= round, "{round}");
        }
    }

    #[test]
    fn who_is_called_and_does_not_come_holds_nobody_up() {
        let mut turns = Turns::default();
        assert!(turns.begin(FLOOD, seat(0)));
        assert_eq!(turns.end(FLOOD, SHARE), None);
        assert!(!turns.begin(FLOOD, seat(1)));
        assert!(!turns.begin(FLOOD, seat(2)));
        let mut called = Vec::new();
        assert!(turns.next_round(&mut called));
        assert!(turns.next_round(&mut called));
        assert_eq!(called, [seat(1), seat(2)]);
        assert!(turns.begin(FLOOD, seat(2)));
        assert_eq!(turns.end(FLOOD, 1), None);
        assert!(!turns.next_round(&mut called));
        assert!(!turns.next_round(&mut called));
        assert!(turns.lanes.is_empty());
    }
}
