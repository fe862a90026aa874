//! Messages from publishers to subscribers that are online.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use bifrust_mqtt_codec::{Packet, Qos};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, sleep_until, timeout};

use super::arguments::{Arguments, Scenario};
use super::broker::Meter;
use super::connections::open_all;
use super::link::{Hello, Link};
use super::payload::{Stamp, nanos_since};
use super::progress::Progress;
use super::report::{Report, Running};
use super::tally::Tally;

/// How long nothing may arrive before what is missing counts as lost.
const SILENCE: Duration = Duration::from_secs(5);

/// Who talks to whom.
struct Shape {
    publishers: usize,
    subscribers: usize,
    /// Subscribers that get each message.
    fan: u64,
    /// Topic of a publisher.
    topic: fn(&str, usize) -> String,
    /// Filter of a subscriber.
    filter: fn(&str, usize) -> String,
}

/// What all tasks of a run share.
struct Shared {
    arguments: Arguments,
    start: Instant,
    tally: RefCell<Tally>,
    publishers: Vec<Publisher>,
    fan: u64,
    progress: Progress,
    arrived: Notify,
    failure: RefCell<Option<anyhow::Error>>,
}

/// How far one publisher is.
#[derive(Default)]
struct Publisher {
    sent: Cell<u64>,
    received: Cell<u64>,
    room: Notify,
}

impl Publisher {
    fn outstanding(&self, fan: u64) -> u64 {
        self.sent.get() - (self.received.get() / fan).min(self.sent.get())
    }
}

/// Runs `p2p`, `fan-in`, `fan-out`, `shared` or `persist`.
pub(super) async fn run(arguments: &Arguments) -> anyhow::Result<Report> {
    let shape = shape_of(arguments);
    let meter = Meter::new(arguments.pid)?;
    let is_persistent = arguments.scenario == Scenario::Persist;
    let subscribers = open_all(arguments, shape.subscribers, "sub", |index| {
        let mut hello = Hello::transient(arguments, "sub", index);
        hello.is_persistent = is_persistent;
        hello
    })
    .await?;
    let mut stuck = Vec::new();
    for index in 0..arguments.stuck {
        let mut hello = Hello::transient(arguments, "stuck", index);
        hello.is_persistent = arguments.stuck_persistent;
        hello.is_narrow = true;
        let mut link = Link::connect(arguments, hello).await?;
        link.subscribe((shape.filter)(&arguments.prefix, index), arguments.qos)
            .await?;
        stuck.push(link);
    }
    let publishers = open_all(arguments, shape.publishers, "pub", |index| {
        Hello::transient(arguments, "pub", index)
    })
    .await?;
    let shared = Rc::new(Shared {
        arguments: arguments.clone(),
        start: Instant::now(),
        tally: RefCell::new(match arguments.scenario {
            // Which member gets a message is the broker's choice, and the order with it.
            Scenario::Shared if !arguments.ordered => Tally::unordered(),
            _ => Tally::new(),
        }),
        publishers: (0..shape.publishers)
            .map(|_| Publisher::default())
            .collect(),
        fan: shape.fan,
        progress: Progress::show("received", arguments.messages.unwrap_or(0), arguments.quiet),
        arrived: Notify::new(),
        failure: RefCell::new(None),
    });
    let tasks = start(&shape, &shared, subscribers, publishers).await?;
    let phase = measure(&shared, &meter, &tasks).await;
    for task in tasks.subscribers.into_iter().chain(tasks.publishers) {
        task.abort();
    }
    drop(stuck);
    if let Some(error) = shared.failure.take() {
        return Err(error);
    }
    let name = format!("{:?}", arguments.scenario).to_lowercase();
    Ok(Report {
        scenario: name,
        phases: vec![phase?],
    })
}

fn shape_of(arguments: &Arguments) -> Shape {
    let n = arguments.clients;
    let own: fn(&str, usize) -> String = |prefix, index| format!("{prefix}/pair/{index}");
    match arguments.scenario {
        Scenario::FanIn => Shape {
            publishers: n,
            subscribers: 1,
            fan: 1,
            topic: |prefix, index| format!("{prefix}/in/{index}"),
            filter: |prefix, _| format!("{prefix}/in/#"),
        },
        Scenario::FanOut => Shape {
            publishers: 1,
            subscribers: n,
            fan: n as u64,
            topic: |prefix, _| format!("{prefix}/out"),
            filter: |prefix, _| format!("{prefix}/out"),
        },
        Scenario::Shared => Shape {
            publishers: n,
            subscribers: arguments.members,
            fan: 1,
            topic: |prefix, index| format!("{prefix}/shared/{index}"),
            filter: match arguments.ordered {
                true => |prefix, _| format!("$oshare/bench/{prefix}/shared/#"),
                false => |prefix, _| format!("$share/bench/{prefix}/shared/#"),
            },
        },
        _ => Shape {
            publishers: n,
            subscribers: n,
            fan: 1,
            topic: own,
            filter: own,
        },
    }
}

struct Tasks {
    subscribers: Vec<JoinHandle<()>>,
    publishers: Vec<JoinHandle<()>>,
    stop: watch::Sender<bool>,
}

async fn start(
    shape: &Shape,
    shared: &Rc<Shared>,
    subscribers: Vec<Link>,
    publishers: Vec<Link>,
) -> anyhow::Result<Tasks> {
    let arguments = &shared.arguments;
    let (stop, stopped) = watch::channel(false);
    let mut tasks = Tasks {
        subscribers: Vec::new(),
        publishers: Vec::new(),
        stop,
    };
    for (index, mut link) in subscribers.into_iter().enumerate() {
        link.subscribe((shape.filter)(&arguments.prefix, index), arguments.qos)
            .await?;
        let shared = shared.clone();
        // The members of a group get each message once together.
        let index = match arguments.scenario {
            Scenario::Shared => 0,
            _ => index,
        };
        tasks.subscribers.push(tokio::task::spawn_local(async move {
            let result = subscriber(&shared, link, index as u32).await;
            shared.note(result);
        }));
    }
    for (index, link) in publishers.into_iter().enumerate() {
        let topic = (shape.topic)(&arguments.prefix, index);
        let (shared, stopped) = (shared.clone(), stopped.clone());
        tasks.publishers.push(tokio::task::spawn_local(async move {
            let result = publisher(&shared, link, index, topic, stopped).await;
            shared.note(result);
        }));
    }
    Ok(tasks)
}

impl Shared {
    fn note(&self, result: anyhow::Result<()>) {
        if let Err(error) = result {
            self.failure.borrow_mut().get_or_insert(error);
            self.arrived.notify_one();
        }
    }

    fn sent(&self) -> u64 {
        self.publishers
            .iter()
            .map(|publisher| publisher.sent.get())
            .sum()
    }

    fn has_failed(&self) -> bool {
        self.failure.borrow().is_some()
    }

    /// Messages that publisher `index` is to send in all.
    fn quota(&self, index: usize) -> u64 {
        let Some(messages) = self.arguments.messages else {
            return u64::MAX;
        };
        let publishers = self.publishers.len() as u64;
        messages / publishers + u64::from((index as u64) < messages % publishers)
    }
}

async fn measure(
    shared: &Rc<Shared>,
    meter: &Meter,
    tasks: &Tasks,
) -> anyhow::Result<super::report::Phase> {
    let arguments = &shared.arguments;
    if arguments.warm_up > 0.0 {
        sleep(Duration::from_secs_f64(arguments.warm_up)).await;
        shared.tally.borrow_mut().forget_latencies();
    }
    let (sent_before, received_before) = (shared.sent(), shared.tally.borrow().received);
    let running = Running::begin("deliver", *meter)?;
    if arguments.messages.is_some() {
        while !tasks.publishers.iter().all(JoinHandle::is_finished) && !shared.has_failed() {
            let _ = timeout(Duration::from_millis(20), shared.arrived.notified()).await; // or look again
        }
    } else {
        sleep(arguments.duration()).await;
    }
    tasks.stop.send_replace(true);
    let quiet = drain(shared).await;
    let sent = shared.sent();
    let tally = shared.tally.borrow();
    let mut phase = running.end(sent - sent_before, sent * shared.fan, &tally)?;
    // The silence that showed the loss was no load.
    phase.seconds -= quiet.as_secs_f64();
    phase.received -= received_before;
    phase.expected -= sent_before * shared.fan;
    phase.sent_per_second = phase.sent as f64 / phase.seconds;
    phase.received_per_second = phase.received as f64 / phase.seconds;
    phase.per_cpu_second = phase
        .broker_cpu_seconds
        .filter(|cpu| *cpu > 0.0)
        .map(|cpu| phase.received as f64 / cpu);
    Ok(phase)
}

/// Waits until all has arrived, or nothing has for a while; how long that was.
async fn drain(shared: &Shared) -> Duration {
    let mut last = Instant::now();
    let mut before = shared.tally.borrow().received;
    loop {
        let tally = shared.tally.borrow().distinct();
        if tally >= shared.sent() * shared.fan || shared.has_failed() {
            return Duration::ZERO;
        }
        let now = shared.tally.borrow().received;
        if now != before {
            (last, before) = (Instant::now(), now);
        }
        if last.elapsed() > SILENCE {
            return last.elapsed();
        }
        sleep(Duration::from_millis(5)).await;
    }
}

async fn subscriber(shared: &Shared, mut link: Link, index: u32) -> anyhow::Result<()> {
    loop {
        while let Some(packet) = link.next()? {
            if let Packet::Publish(publish) = &packet {
                shared.take(index, &publish.payload);
            }
            link.answer(&packet)?;
        }
        link.flush().await?;
        link.readable().await?;
    }
}

impl Shared {
    fn take(&self, subscriber: u32, payload: &[u8]) {
        let Some(stamp) = Stamp::of(payload) else {
            return;
        };
        let Some(publisher) = self.publishers.get(stamp.publisher as usize) else {
            return;
        };
        self.tally.borrow_mut().count(
            subscriber,
            stamp.publisher,
            stamp.sequence,
            stamp.age(self.start),
        );
        self.progress.add(1);
        publisher.received.set(publisher.received.get() + 1);
        publisher.room.notify_one();
    }
}

async fn publisher(
    shared: &Shared,
    mut link: Link,
    index: usize,
    topic: String,
    mut stopped: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let arguments = &shared.arguments;
    let me = &shared.publishers[index];
    let count = shared.publishers.len();
    let quota = shared.quota(index);
    let window = (arguments.window / count + usize::from(index < arguments.window % count)).max(1);
    let pace = arguments
        .rate
        .map(|rate| Duration::from_secs_f64(count as f64 / rate));
    // Publishers take turns within their pace instead of all sending at one moment.
    let mut due = tokio::time::Instant::now()
        + pace.map_or(Duration::ZERO, |pace| {
            pace.mul_f64(index as f64 / count as f64)
        });
    let mut unacknowledged = 0;
    loop {
        let may_send = !*stopped.borrow() && me.sent.get() < quota;
        if !may_send && unacknowledged == 0 {
            return Ok(());
        }
        let mut has_room = may_send;
        while has_room {
            has_room = me.sent.get() < quota
                && unacknowledged < link.receive_maximum
                && match pace {
                    Some(_) => due <= tokio::time::Instant::now(),
                    None => me.outstanding(shared.fan) < window as u64,
                };
            if has_room {
                let sequence = me.sent.get();
                let sent_ns = nanos_since(shared.start);
                let stamp = Stamp {
                    publisher: index as u32,
                    sequence,
                    sent_ns,
                };
                let payload = stamp.payload(arguments.size);
                link.push_publish(&topic, &payload, arguments.qos, false)?;
                unacknowledged += usize::from(arguments.qos != Qos::AtMostOnce);
                me.sent.set(sequence + 1);
                due += pace.unwrap_or_default();
            }
        }
        link.flush().await?;
        tokio::select! {
            result = link.readable() => result?,
            () = me.room.notified(), if pace.is_none() && may_send => {}
            () = sleep_until(due), if pace.is_some() && may_send => {}
            _ = stopped.changed(), if may_send => {}
        }
        while let Some(packet) = link.next()? {
            unacknowledged -= usize::from(link.answer(&packet)?);
        }
    }
}
