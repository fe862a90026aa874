//! Messages that the broker keeps: for offline sessions, and retained ones.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Context;
use bifrust_mqtt_codec::{Packet, Qos};
use tokio::time::timeout;

use super::arguments::Arguments;
use super::broker::Meter;
use super::connections::open_all;
use super::link::{Hello, Link};
use super::payload::{Stamp, nanos_since};
use super::progress::Progress;
use super::report::{Report, Running};
use super::tally::Tally;

/// How long nothing may arrive before what is missing counts as lost.
const SILENCE: Duration = Duration::from_secs(10);

/// Stores messages for sessions that are away, then lets them come and take them.
pub(super) async fn offline(arguments: &Arguments) -> anyhow::Result<Report> {
    let meter = Meter::new(arguments.pid)?;
    let each = arguments.messages.unwrap_or(500);
    let sessions = arguments.clients;
    let topic = |index: usize| format!("{}/offline/{index}", arguments.prefix);
    let hello = |index| Hello::persistent(arguments, "away", index);
    let links = open_all(arguments, sessions, "away", hello).await?;
    for (index, mut link) in links.into_iter().enumerate() {
        link.subscribe(topic(index), arguments.qos).await?;
        link.disconnect().await?;
    }
    let start = Instant::now();
    let total = each * sessions as u64;
    let running = Running::begin("store", meter)?;
    let topics = (0..total).map(|n| topic((n % sessions as u64) as usize));
    let stamps = (0..total).map(|n| (0, n / sessions as u64));
    store(arguments, start, topics.zip(stamps), total, Retain::No).await?;
    let stored = running.end_counting(total)?;

    let running = Running::begin("drain", meter)?;
    let tally = Rc::new(RefCell::new(Tally::new()));
    let progress = Rc::new(Progress::show("drained", total, arguments.quiet));
    let mut tasks = Vec::new();
    for index in 0..sessions {
        let (arguments, tally) = (arguments.clone(), tally.clone());
        let progress = progress.clone();
        tasks.push(tokio::task::spawn_local(async move {
            let mut hello = Hello::persistent(&arguments, "away", index);
            hello.clean_start = false;
            let mut link = Link::connect(&arguments, hello).await?;
            take(&mut link, index as u32, each, start, &tally, &progress).await?;
            link.disconnect().await
        }));
    }
    for task in tasks {
        task.await??;
    }
    let drained = running.end(total, total, &tally.borrow())?;
    Ok(Report {
        scenario: "offline".to_owned(),
        phases: vec![stored, drained],
    })
}

/// Stores retained messages, then has one subscriber ask for all of them.
pub(super) async fn retain(arguments: &Arguments) -> anyhow::Result<Report> {
    let meter = Meter::new(arguments.pid)?;
    let total = arguments.messages.unwrap_or(100_000);
    let topic = |n: u64| format!("{}/retain/{}/{n}", arguments.prefix, n % 1000);
    let start = Instant::now();
    let running = Running::begin("store", meter)?;
    let topics = (0..total).map(topic);
    let stamps = (0..total).map(|n| (n as u32, 0));
    store(arguments, start, topics.zip(stamps), total, Retain::Yes).await?;
    let stored = running.end_counting(total)?;

    let tally = RefCell::new(Tally::new());
    let progress = Progress::show("delivered", total, arguments.quiet);
    let mut link = Link::connect(arguments, Hello::transient(arguments, "sub", 0)).await?;
    let running = Running::begin("deliver", meter)?;
    link.subscribe(format!("{}/retain/#", arguments.prefix), arguments.qos)
        .await?;
    take(&mut link, 0, total, start, &tally, &progress).await?;
    let delivered = running.end(total, total, &tally.borrow())?;
    Ok(Report {
        scenario: "retain".to_owned(),
        phases: vec![stored, delivered],
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Retain {
    No,
    Yes,
}

/// Publishes with at most the window unacknowledged; QoS 0 is followed by a PINGREQ that shows
/// that the broker has read all.
async fn store(
    arguments: &Arguments,
    start: Instant,
    messages: impl Iterator<Item = (String, (u32, u64))>,
    total: u64,
    retain: Retain,
) -> anyhow::Result<()> {
    let progress = Progress::show("stored", total, arguments.quiet);
    let mut link = Link::connect(arguments, Hello::transient(arguments, "store", 0)).await?;
    let window = arguments.window.min(link.receive_maximum);
    let mut unacknowledged = 0;
    let mut messages = messages.peekable();
    while messages.peek().is_some() || unacknowledged > 0 {
        while unacknowledged < window {
            let Some((topic, (publisher, sequence))) = messages.next() else {
                break;
            };
            let stamp = Stamp {
                publisher,
                sequence,
                sent_ns: nanos_since(start),
            };
            let payload = stamp.payload(arguments.size);
            link.push_publish(&topic, &payload, arguments.qos, retain == Retain::Yes)?;
            if arguments.qos == Qos::AtMostOnce {
                progress.add(1);
            }
            unacknowledged += 1;
        }
        if arguments.qos == Qos::AtMostOnce {
            link.push(&Packet::Pingreq)?;
            while link.receive().await? != Packet::Pingresp {}
            unacknowledged = 0;
            continue;
        }
        let packet = timeout(SILENCE, link.receive())
            .await
            .context("no acknowledgement")??;
        let mut next = Some(packet);
        while let Some(packet) = next {
            if link.answer(&packet)? {
                unacknowledged -= 1;
                progress.add(1);
            }
            next = link.next()?;
        }
    }
    link.disconnect().await
}

/// Takes `count` messages and acknowledges them.
async fn take(
    link: &mut Link,
    subscriber: u32,
    count: u64,
    start: Instant,
    tally: &RefCell<Tally>,
    progress: &Progress,
) -> anyhow::Result<()> {
    let mut taken = 0;
    let mut open = 0;
    while taken < count || open > 0 {
        // What does not come counts as lost.
        let Ok(packet) = timeout(SILENCE, link.receive()).await else {
            return Ok(());
        };
        let mut next = Some(packet?);
        while let Some(packet) = next {
            match &packet {
                Packet::Publish(publish) => {
                    if let Some(stamp) = Stamp::of(&publish.payload) {
                        let age = stamp.age(start);
                        tally
                            .borrow_mut()
                            .count(subscriber, stamp.publisher, stamp.sequence, age);
                    }
                    taken += 1;
                    open += u64::from(publish.qos == Qos::ExactlyOnce);
                    progress.add(1);
                }
                Packet::Pubrel(_) => open = open.saturating_sub(1),
                _ => {}
            }
            link.answer(&packet)?;
            next = link.next()?;
        }
    }
    link.flush().await
}
