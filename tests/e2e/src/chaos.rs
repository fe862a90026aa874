//! Rounds of killing a broker in the middle of its work, and what must be true afterwards.
//!
//! ```text
//! round: publishers, subscribers, a retainer, a toggler and clients with wills work
//!        -> kill -9 at a random moment (-> unsynced writes are discarded)
//!        -> restart -> everybody resumes, resends, drains -> checker
//! ```
//!
//! The checker holds the broker to its contract (C1 to C6, C9): no acknowledged effect is lost, no
//! QoS 2 message comes twice, each publisher's order is kept. What was not acknowledged may have
//! taken effect or not, and does after it was resent.

mod checker;
mod publisher;
mod retainer;
mod subscriber;
mod toggler;
mod wills;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bifrust_fault::{LossyDisk, Mode};
use fastrand::Rng;
use tempfile::TempDir;

use crate::broker::Broker;
use crate::wire::{Connect, Version};

use publisher::Publisher;
use retainer::Retainer;
use subscriber::{Habit, Subscriber};
use toggler::Toggler;

/// How long resuming clients may take to get everything.
const DRAIN_WITHIN: Duration = Duration::from_secs(30);

/// What is lost at each kill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The process.
    Process,
    /// The process and every write it had not synced.
    Unsynced,
}

/// What a client does about (un)subscriptions whose acknowledgement the kill took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InDoubt {
    /// It asks again.
    AskedAgain,
    /// It looks which of the two came true, and relies on it from then on.
    Observed,
}

/// What to run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Kills.
    pub rounds: u32,
    /// Where every choice comes from.
    pub seed: u64,
    /// What is lost at each.
    pub loss: Loss,
    /// What becomes of unacknowledged (un)subscriptions.
    pub in_doubt: InDoubt,
    /// Further environment of the broker.
    pub env: Vec<(String, String)>,
}

/// What happened.
#[derive(Debug, Default)]
pub struct Report {
    /// Rounds that ran.
    pub rounds: u32,
    /// Publishes acknowledged.
    pub acknowledged: u64,
    /// Messages taken by subscribers.
    pub delivered: u64,
    /// QoS 1 messages that came again, as they may.
    pub repeated: u64,
    /// (Un)subscriptions that a kill left in doubt.
    pub in_doubt: u64,
    /// Unsynced changes taken back.
    pub discarded: u64,
    /// The longest time from start to ready.
    pub slowest_restart: Duration,
    /// Broken promises.
    pub violations: Vec<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} rounds: {} publishes acknowledged, {} deliveries, {} repeated at QoS 1, {} \
             subscriptions in doubt, {} unsynced changes discarded, slowest restart {:?}, {} violations",
            self.rounds,
            self.acknowledged,
            self.delivered,
            self.repeated,
            self.in_doubt,
            self.discarded,
            self.slowest_restart,
            self.violations.len()
        )?;
        for violation in self.violations.iter().take(40) {
            write!(f, "\n  {violation}")?;
        }
        Ok(())
    }
}

/// Everybody who works on the broker, and what they know.
struct Cast {
    publishers: Vec<Publisher>,
    subscribers: Vec<Subscriber>,
    retainer: Retainer,
    toggler: Toggler,
}

impl Cast {
    fn new(seed: u64) -> Self {
        let publisher = |number| {
            let version = if number % 2 == 0 {
                Version::V5
            } else {
                Version::V3
            };
            Publisher::new(number, version, seed)
        };
        let subscriber =
            |(name, version, granted, habit)| Subscriber::new(name, version, granted, habit, seed);
        Self {
            publishers: (0..4).map(publisher).collect(),
            subscribers: [
                ("online v5", Version::V5, 2, Habit::Online),
                ("online v3", Version::V3, 2, Habit::Online),
                ("online low", Version::V5, 1, Habit::Online),
                ("offline v5", Version::V5, 2, Habit::Offline),
                ("offline v3", Version::V3, 2, Habit::Offline),
                ("flapping", Version::V5, 2, Habit::Flapping),
            ]
            .map(subscriber)
            .into(),
            retainer: Retainer::new(seed),
            toggler: Toggler::new(seed),
        }
    }

    /// First connections: sessions and subscriptions that every round builds on.
    fn set_up(&mut self, broker: &Broker) {
        for subscriber in &mut self.subscribers {
            subscriber.set_up(broker);
        }
        self.toggler.set_up(broker);
        wills::set_up(broker);
    }

    /// Works until the broker is killed, which happens once `target` acknowledgements were seen.
    fn work(&mut self, broker: &mut Broker, round: u32, target: u64) -> Vec<String> {
        let progress = AtomicU64::new(0);
        let address = broker.tcp();
        thread::scope(|scope| {
            let progress = &progress;
            let wills = scope.spawn(move || wills::dying_clients(address, round));
            for subscriber in &mut self.subscribers {
                scope.spawn(move || subscriber.work(address));
            }
            for publisher in &mut self.publishers {
                scope.spawn(move || publisher.work(address, progress));
            }
            let retainer = &mut self.retainer;
            scope.spawn(move || retainer.work(address, progress));
            let toggler = &mut self.toggler;
            scope.spawn(move || toggler.work(address, progress));
            let (clients, topics) = wills.join().expect("a thread of this test");
            let deadline = Instant::now() + DRAIN_WITHIN;
            while progress.load(Ordering::Relaxed) < target && Instant::now() < deadline {
                thread::sleep(Duration::from_micros(200)); // so that the broker has the core
            }
            broker.kill();
            drop(clients);
            topics
        })
    }

    /// Resumes everything and compares with what was promised.
    fn check(&mut self, broker: &Broker, plan: &Plan, topics: &[String], report: &mut Report) {
        report.in_doubt += self.toggler.in_doubt();
        let found = &mut report.violations;
        // The first after the start: whatever changes by itself afterwards is seen to change.
        self.toggler.check(broker, plan.in_doubt, found);
        self.retainer.check(broker, found);
        wills::check(broker, topics, found);
        for publisher in &mut self.publishers {
            publisher.finish(broker, found);
        }
        self.retainer.finish(broker, found);
        let expected: Vec<_> = self.publishers.iter().map(Publisher::expected).collect();
        thread::scope(|scope| {
            for subscriber in &mut self.subscribers {
                let expected = &expected;
                scope.spawn(move || subscriber.finish(broker, expected));
            }
        });
        for subscriber in &mut self.subscribers {
            let log = subscriber.take();
            let outcome = checker::check(&subscriber.name, subscriber.granted, log, &expected);
            report.delivered += outcome.delivered;
            report.repeated += outcome.repeated;
            found.extend(outcome.violations);
            found.append(&mut subscriber.violations);
        }
        for publisher in &mut self.publishers {
            report.acknowledged += publisher.settle();
        }
        self.toggler.check_again(broker, found);
    }
}

/// Runs a plan to its end, or to the first round that breaks a promise: what comes after it would
/// only repeat its losses.
pub fn run(plan: &Plan) -> Report {
    let mut random = Rng::with_seed(plan.seed);
    let mut report = Report::default();
    let home = TempDir::with_prefix("bifrust-chaos-").expect("a folder");
    let mut builder = Broker::builder()
        .setting("SessionInboxSize", 1_000_000)
        .setting("SessionInboxBytes", 1_u64 << 32);
    for (name, value) in &plan.env {
        builder = builder.env(name, value);
    }
    let disk = (plan.loss == Loss::Unsynced).then(|| {
        let disk = LossyDisk::new(home.path().join("data"), home.path().join("undo"));
        Arc::new(disk.expect("the preloaded library builds"))
    });
    if let Some(disk) = &disk {
        builder = builder.disk(Arc::clone(disk));
    }
    let mut broker = builder.start();
    let mut cast = Cast::new(plan.seed);
    cast.set_up(&broker);
    for round in 0..plan.rounds {
        let topics = cast.work(&mut broker, round, random.u64(50..4000));
        if let Some(disk) = &disk {
            let mode = [Mode::All, Mode::Prefix, Mode::Pages][round as usize % 3];
            let lost = disk
                .discard(random.u64(..), mode)
                .expect("the journal is readable");
            report.discarded += (lost.changes + lost.names) as u64;
        }
        let start = Instant::now();
        report.rounds += 1;
        if let Err(why) = broker.try_restart() {
            report.violations.push(format!(
                "round {round}: the broker did not come back: {why}"
            ));
            return report;
        }
        report.slowest_restart = report.slowest_restart.max(start.elapsed());
        cast.check(&broker, plan, &topics, &mut report);
        for violation in &mut report.violations {
            *violation = format!("round {round}: {violation}");
        }
        if !report.violations.is_empty() {
            return report;
        }
    }
    report
}

/// A client of a persistent session, which must be present from its second connection on.
fn resume(broker: &Broker, connect: &Connect, found: &mut Vec<String>) -> crate::client::Client {
    let client = broker.connect(connect);
    if !client.is_present {
        found.push(format!("lost: the session of {:?}", connect.client_id));
    }
    client
}
