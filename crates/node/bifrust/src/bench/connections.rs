//! Connections: opening many, holding them, opening and closing them again and again.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::arguments::Arguments;
use super::broker::Meter;
use super::link::{Hello, Link};
use super::progress::Progress;
use super::report::{Report, Running};

/// Opens `count` connections, [`Arguments::concurrency`] at a time, in the order of their index.
pub(super) async fn open_all(
    arguments: &Arguments,
    count: usize,
    role: &'static str,
    hello: impl Fn(usize) -> Hello,
) -> anyhow::Result<Vec<Link>> {
    let progress = Progress::show("connected", count as u64, arguments.quiet);
    let mut links = Vec::with_capacity(count);
    let indices: Vec<usize> = (0..count).collect();
    for batch in indices.chunks(arguments.concurrency) {
        let opening: Vec<_> = batch
            .iter()
            .map(|index| {
                let (arguments, hello) = (arguments.clone(), hello(*index));
                tokio::task::spawn_local(async move { Link::connect(&arguments, hello).await })
            })
            .collect();
        for task in opening {
            links.push(
                task.await
                    .map_err(|error| anyhow::anyhow!("{role} client: {error}"))??,
            );
            progress.add(1);
        }
    }
    Ok(links)
}

/// Opens connections and holds them.
pub(super) async fn connect(arguments: &Arguments) -> anyhow::Result<Report> {
    let meter = Meter::new(arguments.pid)?;
    let before = meter.read()?.resident;
    let running = Running::begin("connect", meter)?;
    let links = open_all(arguments, arguments.clients, "idle", |i| {
        Hello::transient(arguments, "idle", i)
    })
    .await?;
    let mut phase = running.end_counting(links.len() as u64)?;
    sleep(Duration::from_secs_f64(arguments.hold)).await;
    let after = meter.read()?.resident;
    phase.broker_resident_bytes = after;
    phase.resident_bytes_each = after
        .zip(before)
        .map(|(after, before)| (after as f64 - before as f64) / links.len() as f64);
    for link in links {
        link.disconnect().await?;
    }
    Ok(Report {
        scenario: "connect".to_owned(),
        phases: vec![phase],
    })
}

/// Opens and closes connections all the time.
pub(super) async fn churn(arguments: &Arguments) -> anyhow::Result<Report> {
    let meter = Meter::new(arguments.pid)?;
    let progress = Rc::new(Progress::show(
        "connected",
        arguments.messages.unwrap_or(0),
        arguments.quiet,
    ));
    let started = Rc::new(Cell::new(0));
    let end = Instant::now() + arguments.duration();
    let running = Running::begin("churn", meter)?;
    let workers: Vec<_> = (0..arguments.clients)
        .map(|index| {
            let (arguments, progress) = (arguments.clone(), progress.clone());
            let started = started.clone();
            tokio::task::spawn_local(async move {
                let goes_on = || match arguments.messages {
                    Some(messages) => started.get() < messages,
                    None => Instant::now() < end,
                };
                while goes_on() {
                    started.set(started.get() + 1);
                    let hello = Hello::transient(&arguments, "churn", index);
                    Link::connect(&arguments, hello).await?.disconnect().await?;
                    progress.add(1);
                }
                anyhow::Ok(())
            })
        })
        .collect();
    for worker in workers {
        worker.await??;
    }
    let phase = running.end_counting(progress.value())?;
    Ok(Report {
        scenario: "churn".to_owned(),
        phases: vec![phase],
    })
}
