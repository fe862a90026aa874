//! QoS 2 publishes of a persistent publisher.

use bifrust_dist::{RoutingKey, StoredPick};
use bifrust_kv::{ExecuteError, Then};

use super::{Inbox, refusal};
use crate::store::{BeginInbound, Command, ReleaseInbound, Reply, StorePicks};
use crate::{InboundId, InboxError, SessionRef};

impl Inbox {
    /// Binds the packet id to a routing key before the publish is routed, or names the key it is
    /// bound to: durable when `done` runs.
    pub fn begin_inbound(
        &self,
        session: &SessionRef,
        packet_id: u16,
        done: Then<Result<InboundId, InboxError>>,
    ) {
        let key = session.key();
        let command = Command::BeginInbound(BeginInbound {
            session: key.clone(),
            epoch: session.epoch,
            stamp: self.hub().clock.stamp(),
            packet_id,
        });
        let (inbox, lane, epoch) = (self.clone(), key.clone(), session.epoch);
        let replied = move |result: Result<Reply, ExecuteError>| {
            done(match result {
                Ok(Reply::Inbound {
                    generation,
                    incarnation,
                    is_routed,
                    floor,
                    picks,
                }) => {
                    inbox.hub().online.raise_floor(&key, epoch, floor);
                    let key = RoutingKey {
                        session: incarnation,
                        packet_id,
                        generation,
                    };
                    let picks = StoredPick::decode(picks).map_err(|error| {
                        tracing::error!(%error, "picks of a publish cannot be read");
                        InboxError::Unknown
                    });
                    picks.map(|picks| InboundId {
                        packet_id,
                        key,
                        is_routed,
                        picks,
                    })
                }
                Ok(reply) => Err(refusal(&reply)),
                Err(error) => Err(error.into()),
            });
        };
        self.execute(&lane, command, Box::new(replied));
    }

    /// Keeps which members of groups get a publish that was begun under `key`: durable when `done`
    /// runs, before it is handed to them.
    pub fn store_picks(
        &self,
        session: &SessionRef,
        key: RoutingKey,
        picks: &[StoredPick],
        done: Then<Result<(), InboxError>>,
    ) {
        let of = session.key();
        let command = Command::StorePicks(StorePicks {
            session: of.clone(),
            epoch: session.epoch,
            packet_id: key.packet_id,
            generation: key.generation,
            picks: StoredPick::encode(picks),
        });
        let replied = move |result: Result<Reply, ExecuteError>| {
            done(match result {
                Ok(Reply::Done) => Ok(()),
                Ok(reply) => Err(refusal(&reply)),
                Err(error) => Err(error.into()),
            });
        };
        self.execute(&of, command, Box::new(replied));
    }

    /// The client has released the packet id: durable when `done` runs, before PUBCOMP.
    pub fn release_inbound(
        &self,
        session: &SessionRef,
        packet_id: u16,
        done: Then<Result<(), InboxError>>,
    ) {
        let key = session.key();
        let command = Command::ReleaseInbound(ReleaseInbound {
            session: key.clone(),
            epoch: session.epoch,
            stamp: self.hub().clock.stamp(),
            packet_id,
        });
        let (inbox, lane, epoch) = (self.clone(), key.clone(), session.epoch);
        let replied = move |result: Result<Reply, ExecuteError>| {
            done(match result {
                Ok(Reply::Released { floor, .. }) => {
                    inbox.hub().online.raise_floor(&key, epoch, floor);
                    Ok(())
                }
                Ok(reply) => Err(refusal(&reply)),
                Err(error) => Err(error.into()),
            });
        };
        self.execute(&lane, command, Box::new(replied));
    }
}
