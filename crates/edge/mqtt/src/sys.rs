//! `$SYS/broker/`: what the node tells of itself by MQTT, in one tenant that the operator names.
//!
//! The numbers are those of the whole node, so no other tenant may see them: there these topics
//! are empty, as clients cannot publish to them. They go the way of every retained message, with
//! an expiry, so that nothing old stays once they are switched off.

use std::io;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bifrust_dist::{Publication, PublishError};
use bifrust_model::{ClientId, Message, Qos, Tenant, TenantName, Topic};
use bifrust_plugin_api::Counter;
use bytes::Bytes;

use crate::metrics;
use crate::services::Services;

/// How many rounds a value outlives.
const ROUNDS_KEPT: u32 = 3;

/// How long the tenant may take to be made; the next round tries again.
const TENANT_WITHIN: Duration = Duration::from_secs(2);

/// What is told, and to whom.
#[derive(Clone, Debug)]
pub struct SysConfig {
    /// The only tenant whose clients may see it.
    pub tenant: TenantName,
    /// Between two rounds. Less costs a few small durable writes each time.
    pub interval: Duration,
    /// What runs, as text.
    pub version: String,
}

/// Tells until it is stopped.
pub struct SysTopics {
    stop: SyncSender<()>,
    thread: JoinHandle<()>,
}

impl SysTopics {
    /// Begins to tell, at once and then once per interval.
    pub fn start(services: Services, config: SysConfig) -> io::Result<Self> {
        let (stop, stopped) = sync_channel(1);
        let teller = Teller::new(services, &config);
        let thread = std::thread::Builder::new().name("mqtt-sys".to_owned());
        let thread = thread.spawn(move || {
            loop {
                teller.tell();
                match stopped.recv_timeout(config.interval) {
                    Err(RecvTimeoutError::Timeout) => {}
                    Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        })?;
        Ok(Self { stop, thread })
    }

    /// Tells no more.
    pub fn stop(self) {
        drop(self.stop);
        if self.thread.join().is_err() {
            tracing::error!("the thread of $SYS ended with a panic");
        }
    }
}

/// One topic and what it says.
struct Told {
    topic: &'static str,
    value: Box<dyn Fn() -> String + Send>,
    /// What was published last.
    last: Arc<Mutex<String>>,
}

struct Teller {
    services: Services,
    name: TenantName,
    publisher: ClientId,
    expiry_seconds: u32,
    topics: Vec<Told>,
}

impl Teller {
    fn new(services: Services, config: &SysConfig) -> Self {
        let started = Instant::now();
        let (version, dict) = (config.version.clone(), services.dict.clone());
        let sum = |counters: [Counter; 3]| {
            move || counters.iter().map(Counter::value).sum::<u64>().to_string()
        };
        let received = sum(metrics::received(&*services.meters));
        let sent = sum(metrics::sent(&*services.meters));
        let told = |topic, value| Told {
            topic,
            value,
            last: Arc::default(),
        };
        let seconds = u32::try_from(config.interval.as_secs()).unwrap_or(u32::MAX);
        Self {
            services,
            name: config.tenant.clone(),
            publisher: ClientId::new("$SYS").expect("it is a client identifier"),
            expiry_seconds: seconds.saturating_add(1).saturating_mul(ROUNDS_KEPT),
            topics: vec![
                told("$SYS/broker/version", Box::new(move || version.clone())),
                told(
                    "$SYS/broker/uptime",
                    Box::new(move || format!("{} seconds", started.elapsed().as_secs())),
                ),
                told(
                    "$SYS/broker/clients/connected",
                    Box::new(move || dict.len().to_string()),
                ),
                told("$SYS/broker/messages/received", Box::new(received)),
                told("$SYS/broker/messages/sent", Box::new(sent)),
            ],
        }
    }

    /// The tenant, made at first sight.
    fn tenant(&self) -> Option<Arc<Tenant>> {
        let (answer, answered) = sync_channel(1);
        let done = Box::new(move |result| {
            let _ = answer.send(result); // whoever asked may have given up
        });
        self.services.registry.tenant(&self.name, done);
        match answered.recv_timeout(TENANT_WITHIN) {
            Ok(Ok(tenant)) => Some(tenant),
            Ok(Err(error)) => {
                tracing::warn!(tenant = %self.name, %error, "no tenant for $SYS");
                None
            }
            Err(_) => None,
        }
    }

    /// Stores all values anew, so that none expires, and publishes those that have changed.
    fn tell(&self) {
        let Some(tenant) = self.tenant() else {
            return;
        };
        for told in &self.topics {
            let value = (told.value)();
            let Ok(topic) = Topic::new(told.topic.into()) else {
                continue;
            };
            let message = Message {
                topic,
                payload: Bytes::from(value),
                qos: Qos::AtMostOnce,
                retain: true,
                stamp: self.services.clock.stamp(),
                expiry_seconds: Some(self.expiry_seconds),
                properties: Default::default(),
                publisher: self.publisher.clone(),
            };
            store(&self.services, &tenant, message, told.last.clone());
        }
    }
}

/// Stored first, as every retained message, then published if it says something new. Nobody waits
/// for it: what did not get there is told again in the next round.
fn store(services: &Services, tenant: &Arc<Tenant>, message: Message, last: Arc<Mutex<String>>) {
    let (dist, tenant) = (services.dist.clone(), tenant.clone());
    let retain = services.retain.clone();
    let publication = Arc::new(Publication {
        tenant: tenant.clone(),
        message: message.clone(),
        key: None,
    });
    let done = move |result: Result<(), _>| {
        if let Err(error) = result {
            tracing::debug!(%error, "a topic of $SYS is not stored");
            return;
        }
        let value = String::from_utf8_lossy(&publication.message.payload).into_owned();
        if *locked(&last) != value {
            let told = Box::new(move |result: Result<(), PublishError>| match result {
                Ok(()) => *locked(&last) = value,
                Err(error) => tracing::debug!(%error, "a topic of $SYS is not published"),
            });
            dist.publish(publication, told);
        }
    };
    retain.store(&tenant, &message, Box::new(done));
}

fn locked(last: &Mutex<String>) -> MutexGuard<'_, String> {
    last.lock().unwrap_or_else(PoisonError::into_inner)
}
