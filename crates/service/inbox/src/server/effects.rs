//! What follows from commands once they are durable: pushes to owners, timers, events.

use std::sync::{Arc, OnceLock};

use ahash::RandomState;
use bifrust_kv::Clock;
use bifrust_model::{Event, EventKind, Message, NodeRef, Qos, SessionKey};
use bifrust_plugin_api::Events;
use bifrust_session_dict::ConnectionRef;
use hashbrown::HashMap;

use super::{Chore, Online, Presence, Tenants, Timer};
use crate::metrics::Metrics;
use crate::store::Effect;
use crate::{Delivery, Owner, Push};

/// Who is told what happens.
pub(crate) struct Reporting {
    pub(crate) events: Events,
    pub(crate) metrics: Metrics,
}

/// What effects and calls share.
pub(crate) struct Hub {
    pub(crate) online: Online,
    pub(crate) presence: Presence,
    pub(crate) timer: Timer,
    pub(crate) clock: Clock,
    pub(crate) reporting: Reporting,
    pub(crate) tenants: Arc<dyn Tenants>,
    /// Where pushes go; bound once, before anyone can be attached.
    pub(crate) owner: OnceLock<Arc<dyn Owner>>,
    /// This node in its incarnation, known with the first attach.
    pub(crate) node: OnceLock<NodeRef>,
}

impl Hub {
    /// Acts on the effects of one batch.
    pub(crate) fn handle(&self, effects: Vec<Effect>) {
        let mut pushes = Pushes::default();
        for effect in effects {
            match effect {
                Effect::Deliver {
                    session,
                    to,
                    epoch,
                    delivery,
                } => {
                    if delivery.seq > 0 {
                        // Before the push: an owner that misses it learns of it by its next fetch.
                        self.online.note_durable(&session, epoch, delivery.seq + 1);
                    }
                    pushes.add(to, epoch, delivery);
                }
                Effect::Attached { ownership, is_new } => {
                    if is_new {
                        self.presence.begun(&ownership.session);
                    }
                    self.note_attached(&ownership);
                }
                Effect::Overflowed {
                    session,
                    qos,
                    message,
                } => self.overflowed(&session, qos, message.as_deref()),
                Effect::SessionDue {
                    session,
                    epoch,
                    at_ms,
                } => self.timer.add(at_ms, Chore::Expire { session, epoch }),
                Effect::WillDue {
                    session,
                    epoch,
                    at_ms,
                } => self.timer.add(at_ms, Chore::SendWill { session, epoch }),
                Effect::SweepDue {
                    session,
                    incarnation,
                } => {
                    self.presence.ended(&session);
                    self.timer.add_now(Chore::Sweep {
                        session,
                        incarnation,
                    });
                }
                Effect::TidyDue {
                    session,
                    incarnation,
                } => self.timer.add_now(Chore::Tidy {
                    session,
                    incarnation,
                }),
            }
        }
        self.push(pushes.list);
    }

    /// Pushes to owners, if there are any.
    pub(crate) fn push(&self, pushes: Vec<Push>) {
        if pushes.is_empty() {
            return;
        }
        if let Some(owner) = self.owner.get() {
            owner.push_all(pushes);
        }
    }

    pub(crate) fn note_attached(&self, ownership: &crate::store::Ownership) {
        if self.online.attach(ownership) {
            self.reporting.metrics.online.add(1);
        }
    }

    fn overflowed(&self, session: &SessionKey, qos: Qos, message: Option<&Message>) {
        self.reporting.metrics.overflowed(qos);
        self.reporting.events.emit(EventKind::Overflowed, || {
            let what = match message {
                Some(_) => "refused the newest",
                None => "gave up its oldest",
            };
            let mut event = Event::new(EventKind::Overflowed, self.clock.stamp());
            event.tenant = (self.tenants.tenant(session.tenant)).map(|tenant| tenant.name.clone());
            event.topic = message.map(|message| message.topic.clone());
            let level = qos.level();
            event.detail(format!(
                "the queue of session {:?} is full and {what} QoS {level} message",
                session.client
            ))
        });
    }
}

/// Deliveries grouped by connection, each in order.
#[derive(Default)]
pub(crate) struct Pushes {
    pub(crate) list: Vec<Push>,
    at: HashMap<(ConnectionRef, u64), usize, RandomState>,
}

impl Pushes {
    pub(crate) fn add(&mut self, to: ConnectionRef, epoch: u64, delivery: Delivery) {
        let at = *self.at.entry((to, epoch)).or_insert(self.list.len());
        if let Some(push) = self.list.get_mut(at) {
            push.deliveries.push(delivery);
            return;
        }
        self.list.push(Push {
            to,
            epoch,
            deliveries: vec![delivery],
        });
    }
}
