//! Whatever both sides do, each call ends once, nothing is over its bound, and all credit comes back.

use proptest::collection::vec;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Request {
        at: bool,
        len: usize,
        priority: u8,
        lane: u32,
    },
    OneWay {
        at: bool,
        len: usize,
        priority: u8,
        lane: u32,
    },
    Cancel {
        at: bool,
        which: usize,
    },
    Answer {
        at: bool,
        which: usize,
        len: usize,
    },
    Carry {
        at: bool,
        budget: usize,
    },
    Open {
        at: bool,
    },
    Item {
        at: bool,
        which: usize,
        len: usize,
    },
    End {
        at: bool,
        which: usize,
        abandons: bool,
    },
    Later {
        ms: u64,
    },
    Reconnect,
}

fn step() -> impl Strategy<Value = Step> {
    let len = || prop_oneof![0..300_usize, 50_000..250_000_usize];
    let side = any::<bool>;
    prop_oneof![
        4 => (side(), len(), 0..3_u8, 0..3_u32).prop_map(|(at, len, priority, lane)| Step::Request { at, len, priority, lane }),
        4 => (side(), len(), 0..3_u8, 0..3_u32).prop_map(|(at, len, priority, lane)| Step::OneWay { at, len, priority, lane }),
        1 => (side(), 0..50_usize).prop_map(|(at, which)| Step::Cancel { at, which }),
        4 => (side(), 0..50_usize, len()).prop_map(|(at, which, len)| Step::Answer { at, which, len }),
        6 => (side(), 0..200_000_usize).prop_map(|(at, budget)| Step::Carry { at, budget }),
        1 => side().prop_map(|at| Step::Open { at }),
        3 => (side(), 0..4_usize, 0..60_000_usize).prop_map(|(at, which, len)| Step::Item { at, which, len }),
        1 => (side(), 0..4_usize, any::<bool>()).prop_map(|(at, which, abandons)| Step::End { at, which, abandons }),
        1 => (0..60_u64).prop_map(|ms| Step::Later { ms }),
        1 => Just(Step::Reconnect),
    ]
}

/// One end, with what its services hold.
struct End {
    link: Link<u32>,
    wire: BytesMut,
    calls: Vec<CallId>,
    asked: u32,
    ended: Vec<u32>,
    open: Vec<Incoming>,
    streams: Vec<StreamId>,
}

impl End {
    fn new() -> Self {
        let mut link = Link::new(bounds(small()));
        link.connect(0, &small(), &mut Vec::new());
        Self {
            link,
            wire: BytesMut::new(),
            calls: Vec::new(),
            asked: 0,
            ended: Vec::new(),
            open: Vec::new(),
            streams: Vec::new(),
        }
    }

    fn perform(&mut self, effects: Vec<Effect<u32>>) {
        let mut done = [0; 3];
        for effect in effects {
            match effect {
                Effect::Request(incoming) => self.open.push(incoming),
                Effect::OneWay(incoming) => done[incoming.priority.index()] += incoming.cost,
                Effect::Opened(incoming) => self.streams.push(StreamId {
                    side: Side::Answering,
                    id: incoming.id,
                }),
                Effect::Answered { waiter, .. } => self.ended.push(waiter),
                Effect::Item { stream, cost, .. } => self.link.item_done(stream, cost),
                Effect::Closed { stream, .. } => self.streams.retain(|known| *known != stream),
                Effect::Ended { .. } | Effect::Writable(_) | Effect::Leaving => {}
            }
        }
        self.link.calls_done(done);
    }

    fn outgoing(len: usize, priority: u8, lane: u32) -> Outgoing {
        Outgoing {
            priority: Priority::ALL[usize::from(priority)],
            lane,
            flow: u64::from(lane % 2),
            ..outgoing(bytes(len))
        }
    }

    fn request(&mut self, now_ms: u64, outgoing: Outgoing) {
        let waiter = self.asked;
        let deadline_ms = now_ms + 50 + u64::from(waiter % 100);
        if let Ok(call) = self.link.request(now_ms, deadline_ms, outgoing, waiter) {
            self.asked += 1;
            self.calls.push(call);
        }
    }

    fn answer(&mut self, which: usize, len: usize) {
        if !self.open.is_empty() {
            let incoming = self.open.swap_remove(which % self.open.len());
            answer(&mut self.link, &incoming, Body::payload(bytes(len)));
        }
    }

    fn is_in_bounds(&self) -> bool {
        let waiting = self.link.waiting.iter();
        let bounds = self.link.bounds;
        waiting
            .clone()
            .all(|waiting| waiting.bytes() <= bounds.waiting_bytes)
            && self.link.waiting_answer_bytes <= bounds.waiting_bytes + (1 << 20)
            && self.link.open.len() <= bounds.limits.requests as usize
    }
}

fn carry_some(now_ms: u64, from: &mut End, to: &mut End, budget: usize) {
    let mut out = VecDeque::new();
    from.link.take(budget, &mut out);
    out.iter()
        .for_each(|bytes| from.wire.extend_from_slice(bytes));
    let mut effects = Vec::new();
    let received = to.link.receive(now_ms, &mut from.wire, &mut effects);
    received.expect("both sides keep to the rules");
    to.perform(effects);
}

fn do_step(now_ms: &mut u64, ends: &mut [End; 2], step: &Step) {
    let [a, b] = ends;
    let now = *now_ms;
    match *step {
        Step::Request {
            at,
            len,
            priority,
            lane,
        } => {
            let outgoing = End::outgoing(len, priority, lane);
            if at { a } else { b }.request(now, outgoing);
        }
        Step::OneWay {
            at,
            len,
            priority,
            lane,
        } => {
            let outgoing = End::outgoing(len, priority, lane);
            let _ = if at { a } else { b }.link.one_way(now, outgoing);
        }
        Step::Cancel { at, which } => {
            let end = if at { a } else { b };
            if let Some(call) = end.calls.get(which).copied() {
                // Only who was not told yet is told nothing.
                let waiter = u32::try_from(which).unwrap();
                if !end.ended.contains(&waiter) {
                    end.link.cancel(call);
                    end.ended.push(waiter);
                }
            }
        }
        Step::Answer { at, which, len } => if at { a } else { b }.answer(which, len),
        Step::Carry { at: true, budget } => carry_some(now, a, b, budget),
        Step::Carry { at: false, budget } => carry_some(now, b, a, budget),
        Step::Open { at } => {
            let end = if at { a } else { b };
            if let Ok(stream) = end.link.open(now, outgoing("open")) {
                end.streams.push(stream);
            }
        }
        Step::Item { at, which, len } => {
            let end = if at { a } else { b };
            if let Some(stream) = end.streams.get(which) {
                let _ = end.link.item(*stream, &Body::payload(bytes(len)));
            }
        }
        Step::End {
            at,
            which,
            abandons,
        } => {
            let end = if at { a } else { b };
            if which < end.streams.len() {
                let stream = end.streams[which];
                if abandons {
                    end.link.abandon(stream);
                    end.streams.remove(which);
                } else {
                    end.link.end(stream, Status::DONE, Bytes::new());
                }
            }
        }
        Step::Later { ms } => {
            *now_ms += ms;
            for end in ends {
                let mut effects = Vec::new();
                end.link
                    .tick(*now_ms, &mut effects)
                    .expect("not for so long");
                end.perform(effects);
            }
        }
        Step::Reconnect => reconnect(now, ends),
    }
}

fn reconnect(now_ms: u64, ends: &mut [End; 2]) {
    for end in ends.iter_mut() {
        let mut effects = Vec::new();
        end.link.disconnect(&mut effects);
        end.perform(effects);
        end.wire.clear();
        end.open.clear();
    }
    for end in ends {
        let mut effects = Vec::new();
        end.link.connect(now_ms, &small(), &mut effects);
        end.perform(effects);
    }
}

/// Everything that is under way comes to its end.
fn settle(now_ms: u64, ends: &mut [End; 2]) {
    for end in ends.iter_mut() {
        for stream in std::mem::take(&mut end.streams) {
            end.link.abandon(stream);
        }
    }
    for _ in 0..2_000 {
        let [a, b] = ends;
        for end in [&mut *a, &mut *b] {
            while !end.open.is_empty() {
                end.answer(0, 10);
            }
        }
        for end in [&mut *a, &mut *b] {
            let mut effects = Vec::new();
            end.link.tick(now_ms, &mut effects).expect("it lives");
            end.perform(effects);
        }
        carry_some(now_ms, a, b, 1 << 20);
        carry_some(now_ms, b, a, 1 << 20);
        for end in [&mut *a, &mut *b] {
            for stream in std::mem::take(&mut end.streams) {
                end.link.abandon(stream);
            }
        }
        if ends
            .iter()
            .all(|end| end.link.is_idle() && end.open.is_empty())
        {
            return;
        }
    }
    panic!("calls are left");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn every_call_ends_once_and_all_credit_comes_back(steps in vec(step(), 1..120)) {
        let mut ends = [End::new(), End::new()];
        let mut now_ms = 0;
        for step in &steps {
            do_step(&mut now_ms, &mut ends, step);
            prop_assert!(ends.iter().all(End::is_in_bounds));
        }
        settle(now_ms, &mut ends);
        let [a, b] = &ends;
        for what in 0..2 {
            for priority in 0..3 {
                for (here, there) in [(a, b), (b, a)] {
                    let owed = here.link.returned[what][priority];
                    prop_assert_eq!(here.link.taken[what][priority], owed);
                    prop_assert_eq!(there.link.credit[what][priority] + owed, WINDOW_MIN);
                }
            }
        }
        for end in &mut ends {
            end.ended.sort_unstable();
            prop_assert_eq!(&end.ended, &(0..end.asked).collect::<Vec<_>>());
        }
    }
}
