//! Two ends on virtual time.

use proptest::prelude::*;

use super::*;
use crate::frame::PAYLOAD_MAX;
use crate::link::limits::WINDOW_MIN;

mod calls;
mod flood;
mod order;
mod random;
mod streams;

/// Two links and the bytes between them.
struct Bed {
    now_ms: u64,
    /// The side that asks in most tests.
    a: Link<u32>,
    b: Link<u32>,
}

fn small() -> Limits {
    Limits {
        windows: [WINDOW_MIN; 3],
        requests: 8,
        streams: 2,
        stream_window: WINDOW_MIN,
    }
}

fn bounds(limits: Limits) -> Bounds {
    Bounds {
        limits,
        waiting_bytes: 1 << 20,
        waiting_messages: 100,
        ..Bounds::default()
    }
}

impl Bed {
    fn new() -> Self {
        let mut bed = Self {
            now_ms: 1_000,
            a: Link::new(bounds(small())),
            b: Link::new(bounds(small())),
        };
        bed.connect();
        bed
    }

    fn connect(&mut self) {
        self.a.connect(self.now_ms, &small(), &mut Vec::new());
        self.b.connect(self.now_ms, &small(), &mut Vec::new());
    }

    fn ask(&mut self, waiter: u32, outgoing: Outgoing) -> CallId {
        let deadline_ms = self.now_ms + 100;
        self.a
            .request(self.now_ms, deadline_ms, outgoing, waiter)
            .expect("there is room")
    }

    /// What `a` has to say reaches `b`.
    fn reach_b(&mut self) -> Vec<Effect<u32>> {
        carry(self.now_ms, &mut self.a, &mut self.b).expect("the frames are fine")
    }

    fn reach_a(&mut self) -> Vec<Effect<u32>> {
        carry(self.now_ms, &mut self.b, &mut self.a).expect("the frames are fine")
    }

    fn tick_a(&mut self, later_ms: u64) -> Vec<Effect<u32>> {
        self.now_ms += later_ms;
        let mut effects = Vec::new();
        self.a.tick(self.now_ms, &mut effects).expect("it lives");
        effects
    }
}

fn carry(
    now_ms: u64,
    from: &mut Link<u32>,
    to: &mut Link<u32>,
) -> Result<Vec<Effect<u32>>, LinkError> {
    let mut effects = Vec::new();
    let mut buffer = BytesMut::new();
    while from.has_output() {
        let mut out = VecDeque::new();
        from.take(64 << 10, &mut out);
        out.iter().for_each(|bytes| buffer.extend_from_slice(bytes));
        to.receive(now_ms, &mut buffer, &mut effects)?;
    }
    assert!(buffer.is_empty());
    Ok(effects)
}

fn outgoing(payload: impl Into<Bytes>) -> Outgoing {
    Outgoing {
        target: Target {
            service: 1,
            instance: 2,
            method: 3,
        },
        body: Body::payload(payload),
        ..Outgoing::default()
    }
}

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251) as u8).collect()
}

fn requests(effects: Vec<Effect<u32>>) -> Vec<Incoming> {
    let only = |effect| match effect {
        Effect::Request(incoming) | Effect::OneWay(incoming) | Effect::Opened(incoming) => incoming,
        other => panic!("not a call: {other:?}"),
    };
    effects.into_iter().map(only).collect()
}

fn results(effects: Vec<Effect<u32>>) -> Vec<(u32, Result<Body, CallError>)> {
    let only = |effect| match effect {
        Effect::Answered { waiter, result } => (waiter, result),
        other => panic!("not an answer: {other:?}"),
    };
    effects.into_iter().map(only).collect()
}

fn answer(link: &mut Link<u32>, asked: &Incoming, body: Body) {
    link.answer(asked.id, asked.priority, asked.cost, Status::DONE, body);
}
