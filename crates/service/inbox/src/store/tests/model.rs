//! A session against a model of it: any order of commands, restarts in between, each command applied
//! twice, older ones applied again.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Attach {
        clean_start: bool,
        expiry_seconds: u32,
        window: u16,
    },
    Detach {
        sent: Option<u64>,
        expiry_seconds: Option<u32>,
        routed: Vec<u16>,
    },
    Insert {
        level: u8,
        is_keyed: bool,
    },
    Settle {
        received: Vec<u64>,
        done: Vec<u64>,
    },
    Begin(u16),
    Release(u16),
    Subscribe(Vec<u8>),
    Unsubscribe(Vec<u8>),
    Wait(u64),
    Expire,
    Restart,
    /// Applies an older command again.
    Late(usize),
}

fn any_step() -> impl Strategy<Value = Step> {
    let offsets = || proptest::collection::vec(0u64..6, 0..3);
    let filters = || proptest::collection::vec(0u8..5, 1..3);
    let expiry = || prop_oneof![Just(0u32), Just(20), Just(NEVER)];
    prop_oneof![
        3 => (prop::bool::weighted(0.2), expiry(), 1u16..4).prop_map(
            |(clean_start, expiry_seconds, window)| Step::Attach { clean_start, expiry_seconds, window }
        ),
        2 => (
            proptest::option::of(0u64..4),
            proptest::option::weighted(0.2, expiry()),
            proptest::collection::vec(1u16..4, 0..2),
        ).prop_map(|(sent, expiry_seconds, routed)| Step::Detach { sent, expiry_seconds, routed }),
        6 => (0u8..3, any::<bool>()).prop_map(|(level, is_keyed)| Step::Insert { level, is_keyed }),
        5 => (offsets(), offsets()).prop_map(|(received, done)| Step::Settle { received, done }),
        2 => (1u16..4).prop_map(Step::Begin),
        2 => (1u16..4).prop_map(Step::Release),
        1 => filters().prop_map(Step::Subscribe),
        1 => filters().prop_map(Step::Unsubscribe),
        1 => (0u64..15_000).prop_map(Step::Wait),
        1 => Just(Step::Expire),
        2 => Just(Step::Restart),
        2 => (0usize..8).prop_map(Step::Late),
    ]
}

/// A session that exists, as the contract describes it.
#[derive(Clone, Debug)]
struct Session {
    incarnation: u64,
    epoch: u64,
    is_attached: bool,
    expiry_seconds: u32,
    expires_ms: Option<u64>,
    window: u16,
    queue: BTreeMap<u64, (Qos, String)>,
    received: BTreeSet<u64>,
    next_seq: u64,
    sent_before: u64,
    inbound: BTreeMap<u16, (u64, bool)>,
    next_generation: u64,
    filters: BTreeSet<u8>,
    /// Ended, and not confirmed.
    leaving: BTreeSet<u8>,
    is_unrouted: bool,
}

impl Session {
    fn sent_by_lost_connection(&self) -> u64 {
        let in_flight = self
            .queue
            .iter()
            .filter(|(_, (qos, _))| *qos > Qos::AtMostOnce);
        let mut seqs: Vec<u64> = in_flight
            .map(|(seq, _)| *seq)
            .chain(self.received.iter().copied())
            .collect();
        seqs.sort_unstable();
        let first = self.queue.keys().next().copied().unwrap_or(self.next_seq);
        seqs.get(usize::from(self.window) - 1)
            .map_or(self.next_seq, |last| first.max(last + 1))
    }
}

struct Test {
    bed: Bed<Store>,
    now_ms: u64,
    model: Option<Session>,
    /// Epoch of the latest connection, also of a session that has ended.
    epoch: u64,
    published: u64,
    past: Vec<Command>,
}

impl Test {
    fn run(steps: Vec<Step>) {
        let mut test = Self {
            bed: Bed::new(Store::default()),
            now_ms: 1_000,
            model: None,
            epoch: 1,
            published: 0,
            past: Vec::new(),
        };
        for step in steps {
            test.now_ms += 1;
            test.step(step);
            test.check();
        }
    }

    fn apply(&mut self, command: Command) -> Reply {
        self.past.push(command.clone());
        self.bed.apply_twice(command).0.0
    }

    fn attached(&mut self) -> Option<&mut Session> {
        self.model.as_mut().filter(|session| session.is_attached)
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Attach {
                clean_start,
                expiry_seconds,
                window,
            } => {
                self.attach(clean_start, expiry_seconds, window);
            }
            Step::Detach {
                sent,
                expiry_seconds,
                routed,
            } => self.detach(sent, expiry_seconds, routed),
            Step::Insert { level, is_keyed } => {
                self.insert(Qos::from_level(level).unwrap(), is_keyed)
            }
            Step::Settle { received, done } => self.settle(&received, &done),
            Step::Begin(packet_id) => self.begin(packet_id),
            Step::Release(packet_id) => self.release(packet_id),
            Step::Subscribe(filters) => self.subscribe(&filters),
            Step::Unsubscribe(filters) => self.unsubscribe(&filters),
            Step::Wait(ms) => self.now_ms += ms,
            Step::Expire => self.expire(),
            Step::Restart => {
                self.bed.reopen();
            }
            Step::Late(back) => self.late(back),
        }
    }

    fn attach(&mut self, clean_start: bool, expiry_seconds: u32, window: u16) {
        let command = Attach {
            clean_start,
            expiry_seconds,
            window,
            ..attach_at(self.now_ms)
        };
        let Reply::Attached(reply) = self.apply(Command::Attach(Box::new(command))) else {
            panic!("refused");
        };
        assert!(reply.epoch > self.epoch);
        self.epoch = reply.epoch;
        let now_ms = self.now_ms;
        let old = self.model.take().filter(|old| {
            let has_expired = !old.is_attached && old.expires_ms.is_some_and(|at| at <= now_ms);
            let ended = old.is_attached && old.expiry_seconds == 0;
            !clean_start && !has_expired && !ended
        });
        assert_eq!(reply.session_present, old.is_some());
        assert_eq!(reply.is_durable, old.is_some() || expiry_seconds > 0);
        if !reply.is_durable {
            return;
        }
        let mut session = old.unwrap_or_else(|| Session {
            incarnation: reply.incarnation,
            epoch: 0,
            is_attached: false,
            expiry_seconds,
            expires_ms: None,
            window,
            queue: BTreeMap::new(),
            received: BTreeSet::new(),
            next_seq: 1,
            sent_before: 1,
            inbound: BTreeMap::new(),
            next_generation: 1,
            filters: BTreeSet::new(),
            leaving: BTreeSet::new(),
            is_unrouted: false,
        });
        if session.is_attached {
            session.sent_before = session.sent_before.max(session.sent_by_lost_connection());
        }
        session.epoch = reply.epoch;
        session.is_attached = true;
        session.expiry_seconds = expiry_seconds;
        session.window = window;
        let first = session
            .queue
            .keys()
            .next()
            .copied()
            .unwrap_or(session.next_seq);
        assert_eq!(
            (reply.incarnation, reply.first_seq),
            (session.incarnation, first)
        );
        assert_eq!(
            (reply.next_seq, reply.sent_before),
            (session.next_seq, session.sent_before)
        );
        let received: Vec<u64> = session.received.iter().copied().collect();
        assert_eq!(reply.released, received);
        let inbound = session.inbound.iter();
        let inbound: Vec<_> = inbound
            .map(|(id, (generation, routed))| (*id, *generation, *routed))
            .collect();
        assert_eq!(reply.inbound, inbound);
        self.model = Some(session);
    }

    fn detach(&mut self, sent: Option<u64>, expiry_seconds: Option<u32>, routed: Vec<u16>) {
        let now_ms = self.now_ms;
        let sent_before = self.model.as_ref().and_then(|session| {
            let first = session
                .queue
                .keys()
                .next()
                .copied()
                .unwrap_or(session.next_seq);
            sent.map(|sent| (first + sent).min(session.next_seq))
        });
        let command = Detach {
            sent_before,
            expiry_seconds,
            routed: routed.clone(),
            ..detach_at(now_ms, self.epoch)
        };
        let reply = self.apply(Command::Detach(Box::new(command)));
        let epoch = self.epoch;
        let Some(session) = self.model.as_mut().filter(|session| session.epoch == epoch) else {
            assert_eq!(reply, Reply::Fenced);
            return;
        };
        assert_eq!(reply, Reply::Done);
        if !session.is_attached {
            return;
        }
        session.is_attached = false;
        session.expiry_seconds = expiry_seconds.unwrap_or(session.expiry_seconds);
        if session.expiry_seconds == 0 {
            self.model = None;
            return;
        }
        let lost = session.sent_by_lost_connection();
        session.sent_before = session.sent_before.max(sent_before.unwrap_or(lost));
        session.expires_ms = (session.expiry_seconds != NEVER)
            .then(|| now_ms + u64::from(session.expiry_seconds) * 1000);
        for id in routed {
            if let Some((_, is_routed)) = session.inbound.get_mut(&id) {
                *is_routed = true;
            }
        }
    }

    fn insert(&mut self, qos: Qos, is_keyed: bool) {
        let Some(session) = &mut self.model else {
            return;
        };
        self.published += 1;
        let text = self.published.to_string();
        let mut command = insert(session.incarnation, &text, qos);
        let is_keyed = is_keyed && qos > Qos::AtMostOnce;
        if is_keyed {
            // Every third was released before this one was sent.
            command = keyed(
                command,
                1,
                self.published,
                self.published - self.published % 3,
            );
        }
        let is_full = session.queue.len() as u32 >= BOUNDS.messages;
        let is_online_qos0 = qos == Qos::AtMostOnce && session.is_attached;
        let seq = session.next_seq;
        if !is_full && !is_online_qos0 {
            session.queue.insert(seq, (qos, text));
            session.next_seq += 1;
        }
        let is_pushed = session.is_attached && (is_online_qos0 || !is_full);
        let effects = if is_keyed {
            self.bed.apply_twice(Command::Insert(command)).0.1
        } else {
            self.bed.apply(Command::Insert(command)).1
        };
        match &effects[..] {
            [Effect::Deliver { delivery, .. }] => {
                assert!(is_pushed);
                assert_eq!(delivery.seq, if is_online_qos0 { 0 } else { seq });
            }
            [Effect::Overflowed { .. }] => assert!(is_full && !is_online_qos0),
            [] => assert!(!is_pushed && !is_full),
            other => panic!("{other:?}"),
        }
    }

    fn settle(&mut self, received: &[u64], done: &[u64]) {
        let epoch = self.epoch;
        let lowest = self.model.as_ref().map_or(1, |session| {
            let queued = session.queue.keys().next();
            let waiting = session.received.first();
            *queued
                .into_iter()
                .chain(waiting)
                .min()
                .unwrap_or(&session.next_seq)
        });
        // No connection settles what it was never given.
        let end = self
            .model
            .as_ref()
            .map_or(u64::MAX, |session| session.next_seq);
        let name = |offsets: &[u64]| {
            let seqs = offsets.iter().map(|offset| lowest + offset);
            seqs.filter(|seq| *seq < end).collect()
        };
        let (received, done): (Vec<u64>, Vec<u64>) = (name(received), name(done));
        let command = Settle {
            session: session(),
            epoch,
            received: received.clone(),
            done: done.clone(),
        };
        let reply = self.apply(Command::Settle(command));
        let Some(session) = self.attached() else {
            assert_eq!(reply, Reply::Fenced);
            return;
        };
        assert_eq!(reply, Reply::Done);
        for seq in received {
            if session
                .queue
                .get(&seq)
                .is_some_and(|(qos, _)| *qos == Qos::ExactlyOnce)
            {
                session.queue.remove(&seq);
                session.received.insert(seq);
            }
        }
        for seq in done {
            session.queue.remove(&seq);
            session.received.remove(&seq);
        }
    }

    fn begin(&mut self, packet_id: u16) {
        let command = BeginInbound {
            session: session(),
            epoch: self.epoch,
            stamp: at(self.now_ms),
            packet_id,
        };
        // Not among the past: begun again after its release it takes a generation, which does no harm.
        let ((reply, _), _) = self.bed.apply_twice(Command::BeginInbound(command));
        let Some(session) = self.attached() else {
            assert_eq!(reply, Reply::Fenced);
            return;
        };
        let next = session.next_generation;
        let (expected, routed) = *session.inbound.entry(packet_id).or_insert((next, false));
        session.next_generation = next.max(expected + 1);
        let lowest = session
            .inbound
            .values()
            .map(|(generation, _)| *generation)
            .min();
        assert_eq!(
            reply,
            Reply::Inbound {
                generation: expected,
                incarnation: session.incarnation,
                is_routed: routed,
                floor: lowest.unwrap(),
                picks: Bytes::new(),
            }
        );
    }

    fn release(&mut self, packet_id: u16) {
        let command = ReleaseInbound {
            session: session(),
            epoch: self.epoch,
            stamp: at(self.now_ms),
            packet_id,
        };
        let reply = self.apply(Command::ReleaseInbound(command));
        let Some(session) = self.attached() else {
            assert_eq!(reply, Reply::Fenced);
            return;
        };
        session.inbound.remove(&packet_id);
        let lowest = session
            .inbound
            .values()
            .map(|(generation, _)| *generation)
            .min();
        let floor = lowest.unwrap_or(session.next_generation);
        let incarnation = session.incarnation;
        assert_eq!(reply, Reply::Released { incarnation, floor });
    }

    fn subscribe(&mut self, filters: &[u8]) {
        let command = Subscribe {
            session: session(),
            epoch: self.epoch,
            stamp: at(self.now_ms),
            subscriptions: filters
                .iter()
                .map(|n| subscription(&n.to_string(), 1))
                .collect(),
            max_filters: 3,
        };
        let reply = self.apply(Command::Subscribe(command));
        let Some(session) = self.attached() else {
            assert_eq!(reply, Reply::Fenced);
            return;
        };
        let expected = filters.iter().map(|filter| {
            if session.filters.contains(filter) {
                Subscribed::Replaced
            } else if session.filters.len() >= 3 {
                Subscribed::QuotaExceeded
            } else {
                session.filters.insert(*filter);
                Subscribed::New
            }
        });
        let results: Vec<_> = expected.collect();
        session
            .leaving
            .retain(|filter| !session.filters.contains(filter));
        let was_unrouted = std::mem::replace(&mut session.is_unrouted, true);
        assert_eq!(
            reply,
            Reply::Subscribed {
                results,
                was_unrouted
            }
        );
    }

    fn unsubscribe(&mut self, filters: &[u8]) {
        let command = Unsubscribe {
            session: session(),
            epoch: self.epoch,
            stamp: at(self.now_ms),
            filters: filters
                .iter()
                .map(|n| subscription(&n.to_string(), 1).filter)
                .collect(),
        };
        let reply = self.apply(Command::Unsubscribe(command));
        let Some(session) = self.attached() else {
            assert_eq!(reply, Reply::Fenced);
            return;
        };
        // Nobody has confirmed that the routes of those that left are gone.
        let ends = filters.iter().map(|filter| {
            if session.filters.remove(filter) {
                session.leaving.insert(*filter);
            }
            session.leaving.contains(filter)
        });
        let existed: Vec<_> = ends.collect();
        let was_unrouted = session.is_unrouted;
        session.is_unrouted |= existed.contains(&true);
        assert_eq!(
            reply,
            Reply::Unsubscribed {
                existed,
                was_unrouted
            }
        );
    }

    fn expire(&mut self) {
        let now_ms = self.now_ms;
        let command = Expire {
            session: session(),
            epoch: self.epoch,
            stamp: at(now_ms),
        };
        let reply = self.apply(Command::Expire(command));
        let is_over = self.model.as_ref().is_some_and(|session| {
            !session.is_attached && session.expires_ms.is_some_and(|at| at <= now_ms)
        });
        assert_eq!(reply == Reply::Done, is_over);
        if is_over {
            self.model = None;
        }
    }

    /// Nothing of the past does anything, but for an attach to a session that has ended: nothing is
    /// left that could tell.
    fn late(&mut self, back: usize) {
        let Some(command) = self.past.iter().rev().nth(back).cloned() else {
            return;
        };
        if self.model.is_none() && matches!(command, Command::Attach(_)) {
            return;
        }
        let rows = |bed: &Bed<Store>| {
            Store::KEYSPACES
                .iter()
                .map(|ks| bed.rows(*ks))
                .collect::<Vec<_>>()
        };
        let before = rows(&self.bed);
        self.bed.apply(command.clone());
        assert_eq!(before, rows(&self.bed), "{command:?}");
    }

    fn check(&self) {
        let Some(session) = &self.model else {
            assert_eq!(
                self.bed.query(Query::Exists(super::session())),
                Answer::Exists(false)
            );
            return;
        };
        let deliveries = fetch(&self.bed, session.incarnation, session.sent_before);
        let found: Vec<_> = deliveries
            .iter()
            .map(|delivery| {
                let text = String::from_utf8(delivery.message.payload.to_vec()).unwrap();
                (delivery.seq, (delivery.qos, text))
            })
            .collect();
        let queue: Vec<_> = session.queue.clone().into_iter().collect();
        assert_eq!(found, queue);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_session_is_what_the_contract_says(steps in proptest::collection::vec(any_step(), 1..60)) {
        Test::run(steps);
    }
}
