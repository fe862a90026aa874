//! A small coprocessor for this crate's own tests.

use std::ops::Bound;

use bifrust_model::record::RecordError;
use bifrust_storage::{Direction, Keyspace, Read, StorageError};
use bytes::Bytes;

use crate::{Coprocessor, Rows, Wire};

pub(crate) const TOY: Keyspace = Keyspace("toy");

/// Commands are texts: `+key` puts a row, `-key` deletes it, `?key` panics, `!key` frees space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Text(pub(crate) String);

impl Wire for Text {
    fn encode(&self) -> Bytes {
        [&[1], self.0.as_bytes()].concat().into()
    }

    fn decode(bytes: Bytes) -> Result<Self, RecordError> {
        let (_, body) = bifrust_model::record::open(bytes, 1)?;
        let text = String::from_utf8(body.to_vec()).map_err(|_| RecordError::Invalid("UTF-8"))?;
        Ok(Self(text))
    }
}

#[derive(Default)]
pub(crate) struct Toy;

impl Coprocessor for Toy {
    type Command = Text;
    /// Rows there are afterwards.
    type Reply = usize;
    /// Each command.
    type Effect = String;
    /// Counts rows from this key on.
    type Query = Vec<u8>;
    type Answer = usize;

    const NAME: &'static str = "toy";
    const KEYSPACES: &'static [Keyspace] = &[TOY];

    fn apply(&mut self, rows: &mut Rows<'_>, Text(text): Text, effects: &mut Vec<String>) -> usize {
        let key = text.as_bytes()[1..].to_vec();
        match text.as_bytes()[0] {
            b'+' => rows.put(TOY, key, text.clone()),
            b'-' => rows.delete(TOY, key),
            b'?' => panic!("asked to"),
            _ => {}
        }
        effects.push(text);
        rows.range(TOY, Bound::Unbounded, Bound::Unbounded, Direction::Backward)
            .count()
    }

    fn query(read: &dyn Read, from: Vec<u8>) -> Result<usize, StorageError> {
        assert_ne!(from, b"panic");
        let rows = read.range(
            TOY,
            Bound::Included(&from),
            Bound::Unbounded,
            Direction::Forward,
        );
        rows.map(|row| row.map(|_| 1)).sum()
    }

    fn align_split(key: &[u8]) -> Vec<u8> {
        key[..key.len().min(8)].to_vec()
    }

    fn lead(&mut self, read: &dyn Read, effects: &mut Vec<String>) -> Result<(), StorageError> {
        effects.push(format!("lead over {}", Self::query(read, Vec::new())?));
        Ok(())
    }

    fn frees_space(command: &Text) -> bool {
        command.0.starts_with('!')
    }
}

pub(crate) fn all_keyspaces() -> Vec<Keyspace> {
    [crate::keyspaces(), Toy::KEYSPACES].concat()
}
