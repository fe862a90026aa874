//! The range of routes as the client sees it.

use bifrust_kv::{Ack, Client, ExecuteError, QueryError, Then};
use bifrust_model::TenantNumber;

use crate::schema::command::Command;
use crate::store::{Answer, Query, Routes};

/// Where commands and queries go. A seam: tests hold answers back to make races happen.
pub(crate) trait RouteRange: Send + Sync {
    /// Proposes a change of the routes around `key`.
    fn change(
        &self,
        lane: TenantNumber,
        key: &[u8],
        command: Command,
        ack: Ack,
        done: Then<Result<(), ExecuteError>>,
    );

    /// Asks the range that holds `key`.
    fn ask(&self, key: &[u8], query: Query, done: Then<Result<Answer, QueryError>>);
}

impl RouteRange for Client<Routes> {
    fn change(
        &self,
        lane: TenantNumber,
        key: &[u8],
        command: Command,
        ack: Ack,
        done: Then<Result<(), ExecuteError>>,
    ) {
        self.execute(lane, key, command, ack, done);
    }

    fn ask(&self, key: &[u8], query: Query, done: Then<Result<Answer, QueryError>>) {
        self.query(key, query, done);
    }
}
