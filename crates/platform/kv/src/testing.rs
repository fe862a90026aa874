//! A bed for unit tests of coprocessors: no threads, rows in memory.

use std::sync::mpsc;

use bifrust_storage::{Engine, Keyspace, Read, WriteBatch, open_memory};
use bytes::Bytes;

use crate::{Coprocessor, Rows, Then, Wire};

/// What a command led to.
pub type Outcome<C> = (<C as Coprocessor>::Reply, Vec<<C as Coprocessor>::Effect>);

/// A coprocessor over rows in memory, driven directly. It panics where a product would stop.
pub struct Bed<C: Coprocessor> {
    coprocessor: C,
    engine: Box<dyn Engine>,
}

impl<C: Coprocessor> Bed<C> {
    /// A bed without rows, the coprocessor leading.
    pub fn new(coprocessor: C) -> Self {
        let mut bed = Self {
            coprocessor,
            engine: Box::new(open_memory(C::KEYSPACES)),
        };
        bed.lead();
        bed
    }

    /// Applies one command, as a batch of its own, after a trip through its bytes.
    pub fn apply(&mut self, command: C::Command) -> Outcome<C> {
        let (mut replies, effects) = self.apply_batch([command]);
        (replies.pop().expect("one command, one reply"), effects)
    }

    /// Applies commands as one batch: later ones see what earlier ones wrote before it is stored.
    pub fn apply_batch(
        &mut self,
        commands: impl IntoIterator<Item = C::Command>,
    ) -> (Vec<C::Reply>, Vec<C::Effect>) {
        let mut effects = Vec::new();
        let mut rows = Rows::new(&*self.engine, C::KEYSPACES);
        let replies = commands
            .into_iter()
            .map(|command| {
                let command = C::Command::decode(command.encode()).expect("a command reads back");
                self.coprocessor.apply(&mut rows, command, &mut effects)
            })
            .collect();
        let mut batch = WriteBatch::new();
        rows.finish(&mut batch).expect("memory can be read");
        self.engine.write(batch).expect("keys are within limits");
        (replies, effects)
    }

    /// Applies a command twice and asserts that the second time changed no row.
    pub fn apply_twice(&mut self, command: C::Command) -> (Outcome<C>, Outcome<C>) {
        let bytes = command.encode();
        let first = self.apply(command);
        let before = self.all_rows();
        let again = C::Command::decode(bytes).expect("a command reads back");
        let second = self.apply(again);
        assert_eq!(
            before,
            self.all_rows(),
            "a command applied again must change nothing"
        );
        (first, second)
    }

    /// Answers a query.
    pub fn query(&self, query: C::Query) -> C::Answer {
        C::query(&*self.engine.snapshot(), query).expect("memory can be read")
    }

    /// Goes on with a new coprocessor over the same rows, as after a restart; the effects of leading.
    pub fn reopen_with(&mut self, coprocessor: C) -> Vec<C::Effect> {
        self.coprocessor = coprocessor;
        self.lead()
    }

    /// Goes on with a default coprocessor over the same rows, as after a restart; the effects of leading.
    pub fn reopen(&mut self) -> Vec<C::Effect>
    where
        C: Default,
    {
        self.reopen_with(C::default())
    }

    /// The coprocessor.
    pub fn coprocessor(&self) -> &C {
        &self.coprocessor
    }

    /// The rows.
    pub fn read(&self) -> &dyn Read {
        &*self.engine
    }

    /// All rows of a keyspace in order.
    pub fn rows(&self, ks: Keyspace) -> Vec<(Bytes, Bytes)> {
        use std::ops::Bound::Unbounded;
        self.engine
            .range(
                ks,
                Unbounded,
                Unbounded,
                bifrust_storage::Direction::Forward,
            )
            .map(|row| row.expect("memory can be read"))
            .collect()
    }

    fn all_rows(&self) -> Vec<(Keyspace, Vec<(Bytes, Bytes)>)> {
        C::KEYSPACES
            .iter()
            .map(|ks| (*ks, self.rows(*ks)))
            .collect()
    }

    fn lead(&mut self) -> Vec<C::Effect> {
        let mut effects = Vec::new();
        self.coprocessor
            .lead(&*self.engine.snapshot(), &mut effects)
            .expect("memory can be read");
        effects
    }
}

/// Starts something that answers through a callback, and waits for the answer.
pub fn wait<T: Send + 'static>(start: impl FnOnce(Then<T>)) -> T {
    let (tell, told) = mpsc::channel();
    start(Box::new(move |value| {
        let _ = tell.send(value); // The waiting side only goes away with the test.
    }));
    told.recv().expect("every callback is called")
}
