//! Many filters: what each takes, and what a publish that matches one of them costs.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bifrust_mqtt_codec::Packet;
use tokio::task::spawn_local;
use tokio::time::{sleep, timeout};

use super::arguments::Arguments;
use super::broker::Meter;
use super::connections::open_all;
use super::link::{Hello, Link};
use super::payload::{Stamp, nanos_since};
use super::progress::Progress;
use super::report::{Phase, Report, Running};
use super::tally::Tally;

/// Filters in one SUBSCRIBE.
const FILTERS_PER_PACKET: usize = 500;

/// Publishes of each kind that are measured where no number is given.
const PROBES: u64 = 2000;

/// Topics of the warm publishes.
const WARM_TOPICS: u64 = 100;

/// How long a publish may be on its way.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);

/// The fewest filters that are looked at.
const FIRST_STEP: usize = 1000;

/// Subscribes to a thousand filters, ten thousand and so on, and measures publishes in between: to
/// topics that were published to before, and to new ones.
pub(super) async fn subscribe(arguments: &Arguments) -> anyhow::Result<Report> {
    let arguments = &Arguments {
        keep_alive: 0, // What takes minutes is no reason to close.
        ..arguments.clone()
    };
    let meter = Meter::new(arguments.pid)?;
    let total = arguments.clients * arguments.filters;
    let links = open_all(arguments, arguments.clients, "filters", |index| Hello {
        is_persistent: arguments.persistent,
        ..Hello::transient(arguments, "filters", index)
    })
    .await?;
    let links: Vec<_> = links
        .into_iter()
        .map(|link| Rc::new(RefCell::new(Some(link))))
        .collect();
    let mut run = Run {
        arguments,
        meter,
        publisher: Link::connect(arguments, Hello::transient(arguments, "probe", 0)).await?,
        subscribers: links,
        start: Instant::now(),
        sequence: 0,
    };
    let before = meter.read()?.resident;
    let mut phases = Vec::new();
    let mut held = 0;
    for step in steps(total) {
        let running = Running::begin("subscribe", meter)?;
        run.fill(held, step).await?;
        let mut filled = running.end_counting((step - held) as u64)?;
        held = step;
        if held == total {
            sleep(Duration::from_secs_f64(arguments.hold)).await;
        }
        let after = meter.read()?.resident;
        filled.filters = Some(held as u64);
        filled.broker_resident_bytes = after;
        filled.resident_bytes_each = after
            .zip(before)
            .map(|(after, before)| (after as f64 - before as f64) / held as f64);
        phases.push(filled);
        phases.push(run.probe("cold", held).await?);
        phases.push(run.probe("warm", held).await?);
    }
    run.close().await?;
    Ok(Report {
        scenario: "subscribe".to_owned(),
        phases,
    })
}

fn steps(total: usize) -> Vec<usize> {
    let tens = std::iter::successors(Some(FIRST_STEP), |step| step.checked_mul(10));
    let mut steps: Vec<usize> = tens.take_while(|step| *step < total).collect();
    steps.push(total);
    steps
}

/// A subscriber, unless a task has it.
type Subscriber = Rc<RefCell<Option<Link>>>;

struct Run<'a> {
    arguments: &'a Arguments,
    meter: Meter,
    publisher: Link,
    subscribers: Vec<Subscriber>,
    start: Instant,
    sequence: u64,
}

impl Run<'_> {
    /// Adds the filters from number `from` to `to`, all clients at a time.
    async fn fill(&mut self, from: usize, to: usize) -> anyhow::Result<()> {
        let progress = Rc::new(Progress::show(
            "filters",
            (to - from) as u64,
            self.arguments.quiet,
        ));
        let each = self.arguments.filters;
        let mut tasks = Vec::new();
        for (client, subscriber) in self.subscribers.iter().enumerate() {
            let own = |number: usize| number.saturating_sub(client * each).min(each);
            let (first, end) = (own(from), own(to));
            if first == end {
                continue;
            }
            let (subscriber, progress) = (subscriber.clone(), progress.clone());
            let (prefix, qos) = (self.arguments.prefix.clone(), self.arguments.qos);
            tasks.push(spawn_local(async move {
                let mut link = take(&subscriber)?;
                let numbers: Vec<usize> = (first..end).collect();
                for some in numbers.chunks(FILTERS_PER_PACKET) {
                    let filters = some
                        .iter()
                        .map(|n| format!("{prefix}/{client}/{n}/+/state"));
                    link.subscribe_all(filters.collect(), qos).await?;
                    progress.add(some.len() as u64);
                }
                subscriber.replace(Some(link));
                anyhow::Ok(())
            }));
        }
        for task in tasks {
            task.await??;
        }
        Ok(())
    }

    /// Publishes to topics that match one of the first `held` filters, one after the other.
    async fn probe(&mut self, name: &'static str, held: usize) -> anyhow::Result<Phase> {
        let count = self.arguments.messages.unwrap_or(PROBES);
        let is_warm = name == "warm";
        if is_warm {
            for n in 0..WARM_TOPICS {
                self.publish_one(n, held, true, &mut Tally::new()).await?;
            }
        }
        let mut tally = Tally::new();
        let running = Running::begin(name, self.meter)?;
        for n in 0..count {
            let n = if is_warm { n % WARM_TOPICS } else { n };
            self.publish_one(n, held, is_warm, &mut tally).await?;
        }
        let mut phase = running.end(count, count, &tally)?;
        phase.filters = Some(held as u64);
        Ok(phase)
    }

    async fn publish_one(
        &mut self,
        n: u64,
        held: usize,
        is_warm: bool,
        tally: &mut Tally,
    ) -> anyhow::Result<()> {
        let arguments = self.arguments;
        // Spread over all filters, neighbours far apart.
        let filter = (n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20) as usize % held;
        let (client, number) = (filter / arguments.filters, filter % arguments.filters);
        let sequence = self.sequence;
        self.sequence += 1;
        let name = if is_warm {
            format!("{held}")
        } else {
            format!("new{sequence}")
        };
        let topic = format!("{}/{client}/{number}/{name}/state", arguments.prefix);
        let stamp = Stamp {
            publisher: 0,
            sequence,
            sent_ns: nanos_since(self.start),
        };
        let payload = stamp.payload(arguments.size);
        (self.publisher).push_publish(&topic, &payload, arguments.qos, false)?;
        self.publisher.flush().await?;
        let subscriber = &self.subscribers[client];
        let mut link = take(subscriber)?;
        let got = timeout(PROBE_TIMEOUT, receive(&mut link, sequence))
            .await
            .with_context(|| format!("nothing came of a publish to {topic}"))??;
        subscriber.replace(Some(link));
        // Numbered without the ones that were not counted.
        tally.count(0, 0, tally.received, got.age(self.start));
        self.settle().await
    }

    /// Waits for what the publisher is still to be told.
    async fn settle(&mut self) -> anyhow::Result<()> {
        if self.arguments.qos == bifrust_mqtt_codec::Qos::AtMostOnce {
            return Ok(());
        }
        loop {
            let packet = timeout(PROBE_TIMEOUT, self.publisher.receive())
                .await
                .context("no acknowledgement")??;
            if self.publisher.answer(&packet)? {
                return Ok(());
            }
        }
    }

    async fn close(self) -> anyhow::Result<()> {
        for subscriber in self.subscribers {
            take(&subscriber)?.disconnect().await?;
        }
        self.publisher.disconnect().await
    }
}

fn take(subscriber: &Subscriber) -> anyhow::Result<Link> {
    subscriber.take().context("a subscriber has failed before")
}

/// Waits for the publish with this number, and answers it.
async fn receive(link: &mut Link, sequence: u64) -> anyhow::Result<Stamp> {
    loop {
        let packet = link.receive().await?;
        link.answer(&packet)?;
        link.flush().await?;
        if let Packet::Publish(publish) = &packet {
            let stamp = Stamp::of(&publish.payload).context("a message of somebody else came")?;
            ensure!(stamp.sequence <= sequence, "a message came before it left");
            if stamp.sequence == sequence {
                return Ok(stamp);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_end_with_the_total() {
        assert_eq!(steps(10), [10]);
        assert_eq!(steps(1000), [1000]);
        assert_eq!(steps(50_000), [1000, 10_000, 50_000]);
    }
}
