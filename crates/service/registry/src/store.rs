//! The deterministic part: which number a name gets.

use std::convert::Infallible;
use std::ops::Bound;

use bifrust_kv::{Coprocessor, Rows, prefix_end};
use bifrust_model::record::RecordError;
use bifrust_model::{TenantName, TenantNumber};
use bifrust_storage::{Direction, Keyspace, Read, StorageError};

use crate::schema::command::Command;
use crate::schema::{sequence, tenant};

#[cfg(test)]
mod tests;

/// Where the registry's rows are.
const REGISTRY: Keyspace = Keyspace("registry");

/// The coprocessor; rows are all its state.
#[derive(Debug, Default)]
pub(crate) struct Names;

/// A tenant and its number, known for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) name: TenantName,
    pub(crate) number: TenantNumber,
}

/// Why no number was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Full,
    Damaged,
}

impl Coprocessor for Names {
    type Command = Command;
    type Reply = Result<TenantNumber, Refusal>;
    type Effect = Known;
    // Every node holds all tenants in memory.
    type Query = Infallible;
    type Answer = Infallible;

    const NAME: &'static str = "registry";
    const KEYSPACES: &'static [Keyspace] = &[REGISTRY];

    fn apply(
        &mut self,
        rows: &mut Rows<'_>,
        command: Command,
        effects: &mut Vec<Known>,
    ) -> Self::Reply {
        let Command::NumberTenant { name, tenants_max } = command;
        number_tenant(rows, name, tenants_max, effects).map_err(|error| match error {
            Failure::Refused(refusal) => refusal,
            Failure::Record(error) => {
                tracing::error!(%error, "a row of the registry is damaged");
                Refusal::Damaged
            }
        })
    }

    fn query(_read: &dyn Read, query: Infallible) -> Result<Infallible, StorageError> {
        match query {}
    }

    /// Nowhere: names and their sequence stay together.
    fn align_split(_key: &[u8]) -> Vec<u8> {
        Vec::new()
    }

    fn lead(&mut self, read: &dyn Read, effects: &mut Vec<Known>) -> Result<(), StorageError> {
        let end = prefix_end(&tenant::PREFIX);
        let rows = read.range(
            REGISTRY,
            Bound::Included(&tenant::PREFIX),
            end.as_ref().map(Vec::as_slice),
            Direction::Forward,
        );
        for row in rows {
            let (key, value) = row?;
            effects.push(known(&key, value).map_err(|error| damaged(&key, &error))?);
        }
        if let Some(last) = read.get(REGISTRY, &sequence::key())? {
            sequence::decode(last).map_err(|error| damaged(&sequence::key(), &error))?;
        }
        Ok(())
    }
}

enum Failure {
    Refused(Refusal),
    Record(RecordError),
}

impl From<RecordError> for Failure {
    fn from(error: RecordError) -> Self {
        Self::Record(error)
    }
}

fn number_tenant(
    rows: &mut Rows<'_>,
    name: TenantName,
    tenants_max: u64,
    effects: &mut Vec<Known>,
) -> Result<TenantNumber, Failure> {
    let key = tenant::key(&name);
    if let Some(value) = rows.get(REGISTRY, &key) {
        return Ok(tenant::decode(value)?);
    }
    let last = match rows.get(REGISTRY, &sequence::key()) {
        Some(value) => sequence::decode(value)?,
        None => 0,
    };
    if last >= tenants_max {
        return Err(Failure::Refused(Refusal::Full));
    }
    let number = TenantNumber(last + 1);
    rows.put(REGISTRY, sequence::key(), sequence::encode(number.0));
    rows.put(REGISTRY, key, tenant::encode(number));
    effects.push(Known { name, number });
    Ok(number)
}

fn known(key: &[u8], value: bytes::Bytes) -> Result<Known, RecordError> {
    Ok(Known {
        name: tenant::name(key).ok_or(RecordError::Invalid("tenant name"))?,
        number: tenant::decode(value)?,
    })
}

fn damaged(key: &[u8], error: &RecordError) -> StorageError {
    StorageError::Engine(format!("registry row {}: {error}", key.escape_ascii()))
}
