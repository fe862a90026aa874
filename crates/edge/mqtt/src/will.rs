//! Wills on their way out: checked, retained if they ask for it, published.

use std::sync::{Arc, OnceLock};

use bifrust_dist::{Publication, RoutingKey};
use bifrust_inbox::{Will, WillSender};
use bifrust_model::{Event, EventKind, Tenant};
use bifrust_plugin_api::{Access, Action, Answer};
use tokio::sync::mpsc;

use crate::mailbox::Then;
use crate::services::Services;

/// Permission answers that may be waited for at a time; above it a will is tried again later.
const WAITING_MAX: usize = 1024;

/// Publishes wills for the inbox service.
pub fn will_sender(services: Services) -> Arc<dyn WillSender> {
    Arc::new(Sender {
        services: Arc::new(services),
        waiting: OnceLock::new(),
    })
}

type Job = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

struct Sender {
    services: Arc<Services>,
    /// The thread that waits for slow permission answers, made when the first one is slow.
    waiting: OnceLock<mpsc::Sender<Job>>,
}

impl WillSender for Sender {
    fn send(&self, tenant: Arc<Tenant>, will: Will, key: RoutingKey, done: Then<bool>) {
        let action = Action::Publish {
            topic: will.message.topic.as_str(),
            qos: will.message.qos,
            retain: will.message.retain,
        };
        match self.services.auth.access(&will.client, action) {
            Answer::Now(access) => decide(&self.services, &tenant, (will, key), access, done),
            Answer::Later(answer) => {
                let services = self.services.clone();
                let (done, undone) = either(done);
                let job = Box::pin(async move {
                    let access = answer.await;
                    decide(&services, &tenant, (will, key), access, done);
                });
                let waiting = self.waiting.get_or_init(start_waiting);
                if waiting.try_send(job).is_err() {
                    undone();
                }
            }
        }
    }
}

/// Splits a completion into "done" and "could not even begin"; whichever is called first counts.
fn either(done: Then<bool>) -> (Then<bool>, impl FnOnce()) {
    let slot = Arc::new(std::sync::Mutex::new(Some(done)));
    let other = slot.clone();
    let take = |slot: &std::sync::Mutex<Option<Then<bool>>>| {
        slot.lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .take()
    };
    let done = Box::new(move |sent| {
        if let Some(done) = take(&slot) {
            done(sent);
        }
    });
    (done, move || {
        if let Some(done) = take(&other) {
            done(false);
        }
    })
}

fn start_waiting() -> mpsc::Sender<Job> {
    let (sender, mut jobs) = mpsc::channel::<Job>(WAITING_MAX);
    let run = move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        match runtime {
            Ok(runtime) => runtime.block_on(async {
                let mut running = tokio::task::JoinSet::new();
                while let Some(job) = jobs.recv().await {
                    running.spawn(job);
                    while running.try_join_next().is_some() {}
                }
            }),
            Err(error) => tracing::error!(%error, "no event loop for wills"),
        }
    };
    let thread = std::thread::Builder::new().name("mqtt-wills".to_owned());
    if let Err(error) = thread.spawn(run) {
        tracing::error!(%error, "no thread for wills");
    }
    sender
}

fn decide(
    services: &Arc<Services>,
    tenant: &Arc<Tenant>,
    (will, key): (Will, RoutingKey),
    access: Access,
    done: Then<bool>,
) {
    let bypass = tenant.settings.load().by_pass_perm_check_error;
    let is_allowed = match access {
        Ok(is_allowed) => is_allowed,
        Err(error) => {
            services.events.emit(EventKind::AccessControlError, || {
                event(services, EventKind::AccessControlError, &will).detail(error.to_string())
            });
            bypass
        }
    };
    if !is_allowed {
        services.events.emit(EventKind::PubActionDisallow, || {
            event(services, EventKind::PubActionDisallow, &will)
        });
        done(true);
        return;
    }
    // The message begins its life now: its expiry counts from here (3.1.3.2.4), and it is newer
    // than what was retained while the client lived.
    let mut message = will.message.clone();
    message.stamp = services.clock.stamp();
    if !message.retain {
        publish(services, tenant, (will, key), message, done);
        return;
    }
    let (services, tenant) = (services.clone(), tenant.clone());
    let retain = services.retain.clone();
    let copy = message.clone();
    retain.store(
        &tenant.clone(),
        &copy,
        Box::new(move |result| match result {
            Ok(()) => publish(&services, &tenant, (will, key), message, done),
            Err(error) => {
                services.events.emit(EventKind::WillDistError, || {
                    event(&services, EventKind::WillDistError, &will).detail(error.to_string())
                });
                done(false);
            }
        }),
    );
}

fn publish(
    services: &Arc<Services>,
    tenant: &Arc<Tenant>,
    (will, key): (Will, RoutingKey),
    message: bifrust_model::Message,
    done: Then<bool>,
) {
    let publication = Arc::new(Publication {
        tenant: tenant.clone(),
        message,
        key: Some(key),
    });
    let told = services.clone();
    services.dist.publish(
        publication,
        Box::new(move |result| {
            let kind = match &result {
                Ok(()) => EventKind::WillDisted,
                Err(_) => EventKind::WillDistError,
            };
            told.events.emit(kind, || event(&told, kind, &will));
            done(result.is_ok());
        }),
    );
}

fn event(services: &Services, kind: EventKind, will: &Will) -> Event {
    Event::new(kind, services.clock.stamp())
        .client(&will.client)
        .topic(&will.message.topic)
}
