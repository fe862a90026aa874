//! What other threads have for a shard: answers at once, publishes in turns.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::time::Instant;

use tokio::net::TcpStream;

use super::Shard;
use super::lanes::{Enough, Lanes};
use super::turns::DELIVERY_WORK;
use crate::connection::Task;
use crate::mailbox::{Arrival, Completion, Handed, Mail, Seat};
use crate::server::Edge;
use crate::transport::Transport;

/// Work for publishes from other shards after which this shard's connections have a turn.
const PER_TURN: u64 = 2048 * DELIVERY_WORK;

/// Work for publishes of one tenant after which the next tenant has a turn.
const PER_TENANT: u64 = 256 * DELIVERY_WORK;

/// Takes mail until the shard has stopped.
pub(super) async fn take_mail(shard: Rc<RefCell<Shard>>) {
    let (id, edge) = {
        let shard = shard.borrow();
        (usize::from(shard.id), shard.edge.clone())
    };
    let mut mails = Vec::new();
    let mut lanes = Lanes::default();
    let mut stop_by: Option<Instant> = None;
    loop {
        if lanes.is_empty() {
            let taken = poll_fn(|context| edge.mailboxes.poll_take(id, context, &mut mails));
            match stop_by {
                None => taken.await,
                Some(deadline) => {
                    if tokio::time::timeout_at(deadline.into(), taken)
                        .await
                        .is_err()
                    {
                        return;
                    }
                }
            }
        } else {
            // The connections have a turn, and what came for them is written.
            tokio::task::yield_now().await;
            edge.mailboxes.take(id, &mut mails);
        }
        shard.borrow_mut().refresh_clock();
        for mail in mails.drain(..) {
            if let Some(publication) = mail.publication() {
                lanes.push(publication.tenant.number, mail);
                continue;
            }
            match mail {
                Mail::Arrived(arrival) => arrive(&shard, arrival),
                Mail::Stop { deadline } => stop_by = Some(deadline),
                mail => shard.borrow_mut().handle_mail(mail),
            }
        }
        let mut shard = shard.borrow_mut();
        shard.hand_on(&mut lanes, &edge);
        // What was posted before the end goes out before it.
        if let Some(deadline) = stop_by
            && !shard.is_stopping
            && (lanes.is_empty() || Instant::now() >= deadline)
        {
            shard.stop_all();
        }
        shard.end_doomed();
        shard.resume_publishers();
        shard.wake_flusher();
        if shard.is_stopping && shard.connections.is_empty() {
            return;
        }
    }
}

fn arrive(shared: &Rc<RefCell<Shard>>, arrival: Arrival) {
    let Arrival {
        stream,
        peer,
        listener,
    } = arrival;
    let mut shard = shared.borrow_mut();
    let settled = match shard.edge.listeners.get(listener) {
        Some(listener) if !shard.is_stopping => listener.clone(),
        _ => return shard.turn_away(listener),
    };
    let packet_max = shard.edge.config.max_connect_bytes;
    let opened = TcpStream::from_std(stream)
        .and_then(|stream| Transport::new(&settled, stream, peer, packet_max));
    match opened {
        Ok(transport) => {
            let seat = shard.admit(listener, transport);
            let task = Task {
                shard: shared.clone(),
                seat,
            };
            tokio::task::spawn_local(task);
        }
        Err(error) => {
            tracing::debug!(%peer, %error, "connection lost before it was served");
            shard.turn_away(listener);
        }
    }
}

impl Shard {
    /// Hands on publishes, tenant by tenant, until this turn is over or none is left.
    fn hand_on(&mut self, lanes: &mut Lanes, edge: &Edge) {
        let turn_ends = self.work + PER_TURN;
        while self.work < turn_ends && !lanes.is_empty() {
            let lane_ends = self.work + PER_TENANT;
            let mut handed = Handed::default();
            let tenant = lanes.turn(|mail| {
                self.hand_on_one(mail, &mut handed);
                match self.work >= lane_ends {
                    true => Enough::Yes,
                    false => Enough::No,
                }
            });
            if let Some(tenant) = tenant {
                let id = usize::from(self.id);
                edge.mailboxes.handed_on(id, tenant, &handed);
            }
        }
    }

    fn hand_on_one(&mut self, mail: Mail, handed: &mut Handed) {
        let before = self.work;
        match mail {
            Mail::Publish(publication) => {
                let tenant = publication.tenant.number;
                let topic = publication.message.topic.as_str();
                let local = self.subscriptions.matches(tenant, topic);
                self.deliver_live(&publication, &local);
                handed.add(&publication, self.receivers_since(before));
            }
            Mail::Share(handoff) => {
                let publication = handoff.shared.publication.clone();
                self.deliver_shared(handoff.to, handoff.shared);
                handed.add(&publication, 1);
            }
            other => self.handle_mail(other),
        }
        self.work += DELIVERY_WORK; // also what nobody receives was looked up
    }

    fn receivers_since(&self, before: u64) -> usize {
        usize::try_from((self.work - before) / DELIVERY_WORK).unwrap_or(usize::MAX)
    }

    fn handle_mail(&mut self, mail: Mail) {
        match mail {
            Mail::Rematched { result } => self.rematched(result),
            Mail::Undelivered { shared, error } => self.undelivered(&shared, &error.to_string()),
            Mail::Push {
                to,
                epoch,
                deliveries,
            } => self.pushed(to, epoch, deliveries),
            Mail::Kick { to } => self.kicked(to),
            Mail::Completed { to, what, bytes } => {
                self.stored(bytes);
                self.complete(to, what);
            }
            Mail::Routed {
                tenant,
                filter,
                result,
            } => self.routed(tenant, filter, &result),
            // Handled where they were taken.
            Mail::Publish(_) | Mail::Share(_) | Mail::Arrived(_) | Mail::Stop { .. } => {}
            Mail::Nothing => {}
        }
    }

    fn complete(&mut self, to: Seat, what: Completion) {
        match what {
            Completion::Authenticated(answer) => self.authenticated(to, *answer),
            Completion::Exchanged(answer) => self.exchanged(to, *answer),
            Completion::Tenant(result) => self.tenant_found(to, result),
            Completion::Claimed(claim) => self.claimed(to, claim),
            Completion::Attached(result) => self.attached(to, *result),
            Completion::Detached(result) => self.detached(to, result),
            Completion::PublishAccess(number, access) => self.publish_access(to, number, access),
            Completion::FilterAccess(at, access) => self.filter_access(to, at, access),
            Completion::Begun(number, result) => self.publish_begun(to, number, result),
            Completion::Retained(number, result) => self.publish_retained(to, number, result),
            Completion::RetainedUnasked(topic, is_cleared, result) => {
                self.retained_unasked(to, &topic, is_cleared, result);
            }
            Completion::Matched(number, result) => {
                self.lookups = self.lookups.saturating_sub(1);
                self.publish_matched(to, number, result);
            }
            Completion::Picked(number, orphan, result) => self.picked(to, number, orphan, result),
            Completion::Delivered(token, result) => self.delivered(to, token, result),
            Completion::DeliveredUnasked(result) => self.delivered_unasked(to, result),
            Completion::Released(token, id, result) => self.released(to, token, id, result),
            Completion::Subscribed(result) => self.subscribed(to, result),
            Completion::Unsubscribed(result) => self.unsubscribed(to, result),
            Completion::Fetched(result) => self.fetched(to, result),
            Completion::Settled(result) => self.settled(to, result),
            Completion::ScanReady(number) => self.scan_ready(to, number),
            Completion::RetainedPage(number, result) => self.retained_page(to, number, result),
            Completion::RetainedInserted(result) => self.retained_inserted(to, result),
        }
    }
}
