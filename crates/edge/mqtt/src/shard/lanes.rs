//! Publishes from other shards that wait to be handed on: tenants take turns, each in its own order.
//!
//! So a tenant that floods delays itself. What is no publish never waits here.

use std::collections::VecDeque;

use ahash::RandomState;
use bifrust_model::TenantNumber;
use hashbrown::HashMap;

use crate::mailbox::Mail;

/// Emptied lanes that are kept for the next tenant.
const SPARE_MAX: usize = 8;

#[derive(Default)]
pub(crate) struct Lanes {
    lanes: HashMap<TenantNumber, VecDeque<Mail>, RandomState>,
    /// Tenants with a lane, in the order of their turns.
    turns: VecDeque<TenantNumber>,
    spare: Vec<VecDeque<Mail>>,
}

impl Lanes {
    pub(crate) fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    /// Puts mail behind that of its tenant.
    pub(crate) fn push(&mut self, tenant: TenantNumber, mail: Mail) {
        let (turns, spare) = (&mut self.turns, &mut self.spare);
        let lane = self.lanes.entry(tenant).or_insert_with(|| {
            turns.push_back(tenant);
            spare.pop().unwrap_or_default()
        });
        lane.push_back(mail);
    }

    /// The tenant whose turn it is hands on its mail until `take` has enough.
    pub(crate) fn turn(&mut self, mut take: impl FnMut(Mail) -> Enough) -> Option<TenantNumber> {
        let tenant = self.turns.pop_front()?;
        let lane = self.lanes.get_mut(&tenant)?;
        while let Some(mail) = lane.pop_front() {
            if take(mail) == Enough::Yes {
                break;
            }
        }
        if !lane.is_empty() {
            self.turns.push_back(tenant);
        } else if let Some(lane) = self.lanes.remove(&tenant)
            && self.spare.len() < SPARE_MAX
        {
            self.spare.push(lane);
        }
        Some(tenant)
    }
}

/// Whether a turn is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Enough {
    Yes,
    No,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mailbox::Seat;

    fn mail(number: u32) -> Mail {
        let to = Seat {
            slot: number,
            generation: 0,
        };
        Mail::Kick { to }
    }

    fn number(mail: &Mail) -> u32 {
        match mail {
            Mail::Kick { to } => to.slot,
            _ => panic!("only kicks here"),
        }
    }

    #[test]
    fn a_flooding_tenant_delays_itself() {
        let mut lanes = Lanes::default();
        for at in 0..100 {
            lanes.push(TenantNumber(1), mail(at));
        }
        lanes.push(TenantNumber(2), mail(1000));
        let mut order = Vec::new();
        while !lanes.is_empty() {
            let mut left = 10;
            let tenant = lanes.turn(|mail| {
                order.push(number(&mail));
                left -= 1;
                if left == 0 { Enough::Yes } else { Enough::No }
            });
            assert!(tenant.is_some());
        }
        let expected: Vec<u32> = (0..10).chain([1000]).chain(10..100).collect();
        assert_eq!(order, expected);
    }
}
