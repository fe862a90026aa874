//! Calls for routes of filters: so many at a time, the rest wait here in the order of their tenant.
//!
//! Thousands of clients that come back at once ask for more routes than the range of routes lets wait,
//! and what it refuses would be refused to them. What waits here is no more than a number for each
//! filter that a session has.

use std::collections::VecDeque;

use ahash::RandomState;
use bifrust_model::TenantNumber;
use hashbrown::HashMap;

use crate::subscriptions::RouteStep;

/// Calls that all shards together may have out: half of what the range lets wait.
const OUT_MAX: usize = 32_768;

/// One filter's next call.
pub(crate) type RouteCall = (usize, RouteStep);

/// What is out and what waits. A tenant with something that may go out has a turn.
pub(crate) struct RouteCalls {
    lanes: HashMap<TenantNumber, Lane, RandomState>,
    /// Whoever is next first.
    turns: VecDeque<TenantNumber>,
    out: usize,
    out_max: usize,
}

/// One tenant's.
struct Lane {
    out: usize,
    /// As many may be out: fewer than usual once the range had no room.
    window: usize,
    waiting: VecDeque<RouteCall>,
    /// Nothing goes out until it is woken.
    is_asleep: bool,
    /// Whether it is among the turns.
    has_turn: bool,
}

impl RouteCalls {
    /// For one of so many shards.
    pub(crate) fn new(shards: usize) -> Self {
        Self::within((OUT_MAX / shards.max(1)).max(2))
    }

    fn within(out_max: usize) -> Self {
        Self {
            lanes: HashMap::default(),
            turns: VecDeque::new(),
            out: 0,
            out_max,
        }
    }

    /// Puts a call behind those of its tenant that wait.
    pub(crate) fn add(&mut self, tenant: TenantNumber, call: RouteCall) {
        self.lane(tenant).waiting.push_back(call);
        self.take_turn(tenant);
    }

    /// A call that may go out now. It is out until it has ended or was refused.
    pub(crate) fn next(&mut self) -> Option<(TenantNumber, RouteCall)> {
        while self.out < self.out_max {
            let tenant = self.turns.pop_front()?;
            let lane = self.lane(tenant);
            lane.has_turn = false;
            if lane.is_asleep || lane.out >= lane.window {
                continue;
            }
            let Some(call) = lane.waiting.pop_front() else {
                self.rest(tenant);
                continue;
            };
            lane.out += 1;
            self.out += 1;
            self.take_turn(tenant);
            return Some((tenant, call));
        }
        None
    }

    /// A call has ended.
    pub(crate) fn ended(&mut self, tenant: TenantNumber) {
        let window_max = self.window_max();
        let lane = self.come_back(tenant);
        lane.window = (lane.window + 1).min(window_max);
        self.take_turn(tenant);
    }

    /// The range had no room for a call: it goes out again, with fewer others. True if the tenant has to
    /// be woken after a time, since nothing of it is out whose end would let it go on.
    pub(crate) fn refused(&mut self, tenant: TenantNumber, call: RouteCall) -> bool {
        let lane = self.come_back(tenant);
        lane.window = (lane.out / 2).max(1);
        lane.waiting.push_front(call);
        lane.is_asleep = lane.out == 0;
        lane.is_asleep
    }

    /// Lets a tenant go on.
    pub(crate) fn wake(&mut self, tenant: TenantNumber) {
        if let Some(lane) = self.lanes.get_mut(&tenant) {
            lane.is_asleep = false;
            self.take_turn(tenant);
        }
    }

    /// Half of all: there is room for others.
    fn window_max(&self) -> usize {
        self.out_max / 2
    }

    fn lane(&mut self, tenant: TenantNumber) -> &mut Lane {
        let window = self.window_max();
        self.lanes.entry(tenant).or_insert_with(|| Lane {
            out: 0,
            window,
            waiting: VecDeque::new(),
            is_asleep: false,
            has_turn: false,
        })
    }

    fn come_back(&mut self, tenant: TenantNumber) -> &mut Lane {
        self.out = self.out.saturating_sub(1);
        let lane = self.lane(tenant);
        lane.out = lane.out.saturating_sub(1);
        lane
    }

    fn take_turn(&mut self, tenant: TenantNumber) {
        let lane = self.lane(tenant);
        if !lane.has_turn {
            lane.has_turn = true;
            self.turns.push_back(tenant);
        }
    }

    /// Forgets a tenant with nothing to do.
    fn rest(&mut self, tenant: TenantNumber) {
        if self.lanes.get(&tenant).is_some_and(|lane| lane.out == 0) {
            self.lanes.remove(&tenant);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: TenantNumber = TenantNumber(1);
    const TWO: TenantNumber = TenantNumber(2);

    fn take(calls: &mut RouteCalls) -> Vec<usize> {
        std::iter::from_fn(|| calls.next().map(|(_, (at, _))| at)).collect()
    }

    fn of_one(count: usize) -> RouteCalls {
        let mut calls = RouteCalls::within(4);
        (0..count).for_each(|at| calls.add(ONE, (at, RouteStep::Add)));
        calls
    }

    #[test]
    fn half_of_all_is_for_one_tenant_and_the_rest_waits_in_order() {
        let mut calls = of_one(5);
        assert_eq!(take(&mut calls), [0, 1]);
        calls.add(TWO, (10, RouteStep::Add));
        calls.add(TWO, (11, RouteStep::Add));
        assert_eq!(take(&mut calls), [10, 11]);
        calls.ended(ONE);
        calls.ended(ONE);
        assert_eq!(take(&mut calls), [2, 3]);
        calls.ended(TWO);
        calls.ended(TWO);
        assert!(take(&mut calls).is_empty());
        calls.ended(ONE);
        calls.ended(ONE);
        assert_eq!(take(&mut calls), [4]);
        calls.ended(ONE);
        assert!(take(&mut calls).is_empty());
        assert!(calls.lanes.is_empty() && calls.turns.is_empty() && calls.out == 0);
    }

    #[test]
    fn one_that_was_refused_goes_again_when_another_ends() {
        let mut calls = of_one(4);
        assert_eq!(take(&mut calls), [0, 1]);
        assert!(!calls.refused(ONE, (1, RouteStep::Add)));
        assert!(take(&mut calls).is_empty());
        calls.ended(ONE);
        assert_eq!(take(&mut calls), [1, 2]);
    }

    #[test]
    fn when_all_were_refused_the_tenant_waits_to_be_woken() {
        let mut calls = of_one(3);
        assert_eq!(take(&mut calls), [0, 1]);
        assert!(!calls.refused(ONE, (0, RouteStep::Add)));
        assert!(calls.refused(ONE, (1, RouteStep::Add)));
        calls.add(ONE, (3, RouteStep::Remove));
        assert!(take(&mut calls).is_empty());
        calls.wake(ONE);
        assert_eq!(take(&mut calls), [1]);
        calls.ended(ONE);
        assert_eq!(take(&mut calls), [0, 2]);
        calls.wake(TWO);
        assert!(!calls.lanes.contains_key(&TWO));
    }
}
