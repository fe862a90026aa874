//! Groups whose members are killed and come back at random, under load. `BIFRUST_SHARED_SECONDS` sets
//! how long each of them runs, `BIFRUST_CHAOS_SEED` repeats the choices.

use std::collections::{HashMap, HashSet};
use std::env;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bifrust_e2e::wire::{self, AckKind};
use bifrust_e2e::{Broker, Client, Connect, Packet, Publish, Received, Version};

const MEMBERS: usize = 8;
const PUBLISHERS: usize = 4;
/// Publishes that a publisher has on their way.
const BATCH: u16 = 20;
/// How long the last messages may take.
const DRAIN_WITHIN: Duration = Duration::from_secs(30);

fn number(name: &str, default: u64) -> u64 {
    env::var(name)
        .ok()
        .map_or(default, |text| text.parse().expect("a number"))
}

/// Which members are persistent sessions.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    All,
    EverySecond,
}

struct Run {
    address: SocketAddr,
    filter: &'static str,
    qos: u8,
    kind: Kind,
    /// Members go on without dying.
    is_calm: AtomicBool,
    is_over: AtomicBool,
    received: AtomicU64,
}

/// Publisher and number of a message.
type Message = (usize, u64);

struct Outcome {
    sent: u64,
    /// What each member got, in order.
    got: Vec<Vec<Message>>,
    deaths: u64,
    /// What the broker counted as ended with its member.
    unfinished: u64,
}

impl Outcome {
    fn counts(&self) -> HashMap<Message, usize> {
        let mut counts = HashMap::new();
        for message in self.got.iter().flatten() {
            *counts.entry(*message).or_default() += 1;
        }
        counts
    }
}

fn run(filter: &'static str, qos: u8, kind: Kind) -> Outcome {
    let broker = Broker::start();
    let seed = number("BIFRUST_CHAOS_SEED", 20_261_122);
    let run = Run {
        address: broker.tcp(),
        filter,
        qos,
        kind,
        is_calm: AtomicBool::new(false),
        is_over: AtomicBool::new(false),
        received: AtomicU64::new(0),
    };
    // They join before the first message.
    for at in 0..MEMBERS {
        let connect = connect(&run, at);
        let mut client = broker.connect(&connect);
        client.subscribe(filter, qos);
        client.cut();
    }
    let end = Instant::now() + Duration::from_secs(number("BIFRUST_SHARED_SECONDS", 5));
    let outcome = thread::scope(|scope| {
        let members: Vec<_> = (0..MEMBERS)
            .map(|at| {
                let run = &run;
                scope.spawn(move || member(run, at, fastrand::Rng::with_seed(seed + at as u64)))
            })
            .collect();
        let publishers: Vec<_> = (0..PUBLISHERS)
            .map(|at| {
                let run = &run;
                scope.spawn(move || publisher(run, at, end))
            })
            .collect();
        let sent = publishers
            .into_iter()
            .map(|at| at.join().expect("publisher"))
            .sum();
        run.is_calm.store(true, Ordering::Relaxed);
        wait_for_quiet(&run, sent);
        run.is_over.store(true, Ordering::Relaxed);
        let members: Vec<_> = members
            .into_iter()
            .map(|at| at.join().expect("member"))
            .collect();
        let deaths = members.iter().map(|(_, deaths)| deaths).sum();
        let got = members.into_iter().map(|(got, _)| got).collect();
        let unfinished = "bifrust_messages_dropped_total{reason=\"unfinished\"}";
        Outcome {
            sent,
            got,
            deaths,
            unfinished: broker.metric(unfinished) as u64,
        }
    });
    println!(
        "{filter} QoS {qos}: {} sent, {} received, {} deaths, {} unfinished",
        outcome.sent,
        outcome.got.iter().map(Vec::len).sum::<usize>(),
        outcome.deaths,
        outcome.unfinished
    );
    assert!(outcome.sent > 0 && outcome.deaths >= MEMBERS as u64);
    outcome
}

/// Until as much came as was sent and nothing more comes.
fn wait_for_quiet(run: &Run, sent: u64) {
    let deadline = Instant::now() + DRAIN_WITHIN;
    let mut before = 0;
    while Instant::now() < deadline {
        thread::park_timeout(Duration::from_secs(1));
        let received = run.received.load(Ordering::Relaxed);
        // At QoS 2 a death may cost what was on its way to it.
        if received == before && (received >= sent || run.qos == 2) {
            return;
        }
        before = received;
    }
}

fn connect(run: &Run, at: usize) -> Connect {
    let name = format!("member {at}");
    match run.kind {
        Kind::EverySecond if at.is_multiple_of(2) => Connect::v5(name),
        _ => Connect::persistent(Version::V5, name).resume(),
    }
}

/// A member's life: what it got, and how often it died.
fn member(run: &Run, at: usize, mut rng: fastrand::Rng) -> (Vec<Message>, u64) {
    let connect = connect(run, at);
    let mut got = Vec::new();
    let mut deaths = 0;
    let mut open = HashSet::new();
    loop {
        let mut client = Client::connect(run.address, &connect);
        if !client.is_present {
            open.clear();
            client.subscribe(run.filter, run.qos);
        }
        let death = Instant::now() + Duration::from_millis(rng.u64(20..600));
        loop {
            let is_calm = run.is_calm.load(Ordering::Relaxed);
            if run.is_over.load(Ordering::Relaxed) {
                return (got, deaths);
            }
            if !is_calm && Instant::now() >= death {
                break;
            }
            match client.poll(Instant::now() + Duration::from_millis(10)) {
                Received::Packet(packet) => take(run, &mut client, packet, &mut open, &mut got),
                Received::TimedOut => {}
                Received::Closed => break,
            }
        }
        deaths += 1;
        client.cut();
    }
}

fn take(
    run: &Run,
    client: &mut Client,
    packet: Packet,
    open: &mut HashSet<u16>,
    got: &mut Vec<Message>,
) {
    let (answer, id) = match packet {
        Packet::Publish(publish) => {
            let is_new = publish.qos < 2 || open.insert(publish.id);
            if is_new {
                let text = publish.text();
                let (publisher, number) = text.split_once(' ').expect("two numbers");
                let publisher = publisher.parse().expect("a number");
                got.push((publisher, number.parse().expect("a number")));
                run.received.fetch_add(1, Ordering::Relaxed);
            }
            match publish.qos {
                1 => (AckKind::Puback, publish.id),
                _ => (AckKind::Pubrec, publish.id),
            }
        }
        Packet::Ack(ack) if ack.kind == AckKind::Pubrel => {
            open.remove(&ack.id);
            (AckKind::Pubcomp, ack.id)
        }
        other => panic!("{other:?}"),
    };
    // The broker may be gone by now; the next poll tells.
    let _ = client.try_send(&wire::ack(answer, id));
}

/// Publishes until the end; how many were acknowledged.
fn publisher(run: &Run, at: usize, end: Instant) -> u64 {
    let connect = Connect::persistent(Version::V5, format!("publisher {at}"));
    let mut client = Client::connect(run.address, &connect);
    let mut sent = 0;
    while Instant::now() < end {
        let mut bytes = Vec::new();
        for id in 1..=BATCH {
            let text = format!("{at} {}", sent + u64::from(id));
            let publish = Publish::new(format!("load/{at}"), text).qos(run.qos).id(id);
            bytes.extend(publish.encode(Version::V5));
        }
        client.send(&bytes);
        for id in 1..=BATCH {
            match run.qos {
                1 => client.expect_ack(AckKind::Puback, id),
                _ => client.expect_ack(AckKind::Pubrec, id),
            };
        }
        if run.qos == 2 {
            for id in 1..=BATCH {
                client.send(&wire::ack(AckKind::Pubrel, id));
            }
            for id in 1..=BATCH {
                client.expect_ack(AckKind::Pubcomp, id);
            }
        }
        sent += u64::from(BATCH);
    }
    sent
}

fn lost(outcome: &Outcome) -> u64 {
    outcome.sent - outcome.counts().len() as u64
}

#[test]
fn at_least_once_loses_nothing() {
    let outcome = run("$share/group/load/#", 1, Kind::EverySecond);
    assert_eq!(lost(&outcome), 0);
}

#[test]
fn exactly_once_comes_once() {
    let outcome = run("$share/group/load/#", 2, Kind::EverySecond);
    let twice = outcome.counts().into_values().filter(|count| *count > 1);
    assert_eq!(twice.count(), 0);
    // MQTT-4.8.2-5: what was on its way to a session that ended goes to nobody else, and is counted.
    println!("{} ended with their member", lost(&outcome));
    assert!(lost(&outcome) <= outcome.unfinished);

    let outcome = run("$share/group/load/#", 2, Kind::All);
    assert_eq!(lost(&outcome), 0);
    assert!(outcome.counts().into_values().all(|count| count == 1));
}

#[test]
fn ordered_groups_keep_the_order_of_each_publisher() {
    let outcome = run("$oshare/group/load/#", 1, Kind::All);
    assert_eq!(lost(&outcome), 0);
    for (member, got) in outcome.got.iter().enumerate() {
        let mut latest = HashMap::new();
        let mut seen = HashSet::new();
        for (publisher, number) in got {
            if seen.insert((publisher, number)) {
                // Repetitions keep the order of their own (4.6).
                let before = latest.insert(publisher, number);
                assert!(
                    before < Some(number),
                    "member {member}: {before:?}, {number}"
                );
            }
        }
    }
}
