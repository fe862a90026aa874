use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use bifrust_model::TenantNumber;
use bifrust_storage::{FjallConfig, FreeSpaceFloor, SyncMode};

use super::*;
use crate::testing::wait;
use crate::toy::{TOY, Text, Toy, all_keyspaces};
use crate::{Ack, ExecuteError, QueryError};

const TENANT: TenantNumber = TenantNumber(1);

/// Long enough to say "never" of what must happen, on any machine.
const LONG: Duration = Duration::from_secs(60);

type Outcome = Result<usize, ExecuteError>;

fn open(store: &Store) -> Node {
    Node::open(store.clone(), Config::default(), Clock::new()).unwrap()
}

fn memory() -> Store {
    Store::memory(&all_keyspaces())
}

fn send(client: &Client<Toy>, text: &str, ack: Ack) -> Receiver<Outcome> {
    let (tell, told) = channel();
    let command = Text(text.to_owned());
    let done = move |outcome| tell.send(outcome).unwrap();
    client.execute(TENANT, b"key", command, ack, Box::new(done));
    told
}

fn run(client: &Client<Toy>, text: &str) -> Outcome {
    send(client, text, Ack::Durable).recv_timeout(LONG).unwrap()
}

fn count(client: &Client<Toy>, from: &[u8]) -> Result<usize, QueryError> {
    wait(|done| client.query(b"key", from.to_vec(), done))
}

/// Holds the writer thread of a store until the sender is dropped.
fn hold_syncs(store: &Store) -> Sender<()> {
    let (open, gate) = channel::<()>();
    let (reached, is_there) = channel();
    let hold = move || {
        reached.send(()).unwrap();
        let _ = gate.recv();
    };
    store.write(WriteBatch::new(), Box::new(hold)).unwrap();
    is_there.recv_timeout(LONG).unwrap();
    open
}

#[test]
fn durable_replies_wait_for_the_sync_and_applied_ones_do_not() {
    let store = memory();
    let node = open(&store);
    let client = node.host(Toy, |_| {}).unwrap();
    let gate = hold_syncs(&store);
    let durable = send(&client, "+a", Ack::Durable);
    let applied = send(&client, "+b", Ack::Applied);
    assert_eq!(applied.recv_timeout(LONG).unwrap(), Ok(2));
    assert_eq!(count(&client, b"").unwrap(), 2); // Both are visible.
    assert!(durable.try_recv().is_err());
    drop(gate);
    assert_eq!(durable.recv_timeout(LONG).unwrap(), Ok(1));
    node.stop();
}

#[test]
fn effects_come_in_the_order_of_commands_and_before_the_durable_reply() {
    let store = memory();
    let node = open(&store);
    let (tell, told) = channel();
    let handler =
        move |effects: Vec<String>| effects.into_iter().for_each(|e| tell.send(e).unwrap());
    let client = node.host(Toy, handler).unwrap();
    assert_eq!(told.try_recv().unwrap(), "lead over 0");
    let replies: Vec<_> = (0..2_000)
        .map(|n| {
            let ack = if n % 3 == 0 {
                Ack::Durable
            } else {
                Ack::Applied
            };
            send(&client, &format!("!{n}"), ack)
        })
        .collect();
    for (n, reply) in replies.iter().enumerate() {
        assert_eq!(reply.recv_timeout(LONG).unwrap(), Ok(0));
        if n % 3 == 0 {
            let expected = format!("!{n}");
            assert!(told.try_iter().any(|effect| effect == expected));
        }
    }
    node.stop();
}

#[test]
fn the_order_of_effects_is_that_of_commands() {
    let node = open(&memory());
    let (tell, told) = channel();
    let handler =
        move |effects: Vec<String>| effects.into_iter().for_each(|e| tell.send(e).unwrap());
    let client = node.host(Toy, handler).unwrap();
    for n in 0..2_000 {
        let ack = if n % 7 == 0 {
            Ack::Durable
        } else {
            Ack::Applied
        };
        send_and_forget(&client, &format!("!{n}"), ack);
    }
    node.stop();
    let expected = (0..2_000).map(|n| format!("!{n}"));
    let expected: Vec<_> = std::iter::once("lead over 0".to_owned())
        .chain(expected)
        .collect();
    assert_eq!(told.try_iter().collect::<Vec<_>>(), expected);
}

fn send_and_forget(client: &Client<Toy>, text: &str, ack: Ack) {
    let command = Text(text.to_owned());
    client.execute(
        TENANT,
        b"key",
        command,
        ack,
        Box::new(|outcome| assert!(outcome.is_ok())),
    );
}

#[test]
fn while_a_sync_runs_commands_gather_into_one_batch() {
    let store = memory();
    let node = open(&store);
    let client = node.host(Toy, |_| {}).unwrap();
    let gate = hold_syncs(&store);
    let first = send(&client, "+first", Ack::Durable);
    while count(&client, b"").unwrap() == 0 {} // Until it is applied, and waits for its sync.
    let more: Vec<_> = (0..50)
        .map(|n| send(&client, &format!("+{n}"), Ack::Durable))
        .collect();
    drop(gate);
    assert_eq!(first.recv_timeout(LONG).unwrap(), Ok(1));
    for reply in more {
        assert!(reply.recv_timeout(LONG).unwrap().is_ok());
    }
    node.stop();
    let counts = node.counts();
    assert_eq!((counts.commands, counts.batches), (51, 2));
}

#[test]
fn a_full_queue_is_busy_and_nothing_of_it_is_applied() {
    let config = Config {
        queue_commands_max: 20,
        ..Config::default()
    };
    let node = Node::open(memory(), config, Clock::new()).unwrap();
    let (open, gate) = channel::<()>();
    let (reached, is_there) = channel();
    let handler = move |effects: Vec<String>| {
        if effects == ["!hold"] {
            reached.send(()).unwrap();
            let _ = gate.recv();
        }
    };
    let client = node.host(Toy, handler).unwrap();
    let held = send(&client, "!hold", Ack::Applied);
    is_there.recv_timeout(LONG).unwrap();
    let replies: Vec<_> = (0..15)
        .map(|n| send(&client, &format!("+{n}"), Ack::Durable))
        .collect();
    let refused: Vec<_> = replies[10..]
        .iter()
        .map(|r| r.try_recv().unwrap())
        .collect();
    assert_eq!(refused, [Err(ExecuteError::Busy); 5]);
    drop(open);
    assert!(held.recv_timeout(LONG).unwrap().is_ok());
    for reply in &replies[..10] {
        assert!(reply.recv_timeout(LONG).unwrap().is_ok());
    }
    assert_eq!(count(&client, b"").unwrap(), 10);
    assert_eq!(node.counts().refused, 5);
    node.stop();
}

fn disk(folder: &std::path::Path, floor: FreeSpaceFloor) -> Store {
    let config = bifrust_storage::Config {
        free_space_floor: floor,
        engine: FjallConfig {
            sync: SyncMode::NoneForTests,
            ..FjallConfig::default()
        },
        ..bifrust_storage::Config::new(folder)
    };
    Store::open(config, &all_keyspaces()).unwrap()
}

#[test]
fn below_the_free_space_floor_only_what_frees_space_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let store = disk(folder.path(), FreeSpaceFloor::Bytes(u64::MAX));
    let node = open(&store);
    let client = node.host(Toy, |_| {}).unwrap();
    assert_eq!(run(&client, "+a"), Err(ExecuteError::Full));
    assert_eq!(run(&client, "!"), Ok(0));
    node.stop();
}

#[test]
fn rows_and_log_survive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    for round in 1..4 {
        let store = disk(folder.path(), FreeSpaceFloor::Bytes(0));
        let node = open(&store);
        let (tell, told) = channel();
        let client = node
            .host(Toy, move |effects| tell.send(effects).unwrap())
            .unwrap();
        assert_eq!(
            told.try_recv().unwrap(),
            [format!("lead over {}", round - 1)]
        );
        assert_eq!(run(&client, &format!("+{round}")), Ok(round));
        node.stop();
        let progress = meta::progress(store.read(), meta::RangeId(1)).unwrap();
        assert_eq!(progress.applied, round as u64);
    }
}

#[test]
fn stop_answers_everything_and_refuses_what_comes_later() {
    let node = open(&memory());
    let client = node.host(Toy, |_| {}).unwrap();
    let replies: Vec<_> = (0..500)
        .map(|n| send(&client, &format!("+{n}"), Ack::Durable))
        .collect();
    node.stop();
    for reply in replies {
        assert!(reply.try_recv().unwrap().is_ok());
    }
    let late = send(&client, "+late", Ack::Durable).try_recv().unwrap();
    assert_eq!(late, Err(ExecuteError::Stopping));
    assert!(matches!(count(&client, b""), Err(QueryError::Stopping)));
    assert!(matches!(node.host(Toy, |_| {}), Err(OpenError::Stopping)));
    node.stop();
}

#[test]
fn a_service_is_hosted_once() {
    let node = open(&memory());
    let _client = node.host(Toy, |_| {}).unwrap();
    assert!(matches!(
        node.host(Toy, |_| {}),
        Err(OpenError::AlreadyHosted("toy"))
    ));
    node.stop();
}

#[test]
fn a_store_without_the_keyspaces_is_refused() {
    let node = open(&Store::memory(crate::keyspaces()));
    let refusal = node.host(Toy, |_| {}).err().unwrap();
    assert!(refusal.to_string().contains(TOY.0), "{refusal}");
    node.stop();
}

#[test]
fn a_panic_in_apply_stops_that_range_and_is_reported() {
    let (tell, told) = channel();
    let config = Config {
        on_fatal: Arc::new({
            let tell = std::sync::Mutex::new(tell);
            move |message: &str| tell.lock().unwrap().send(message.to_owned()).unwrap()
        }),
        ..Config::default()
    };
    let node = Node::open(memory(), config, Clock::new()).unwrap();
    let client = node.host(Toy, |_| {}).unwrap();
    assert_eq!(run(&client, "?"), Err(ExecuteError::Unknown));
    assert!(told.recv_timeout(LONG).unwrap().contains("toy"));
    node.stop();
    assert_eq!(run(&client, "+a"), Err(ExecuteError::Stopping));
}

#[test]
fn a_panic_in_a_query_is_an_answer() {
    let node = open(&memory());
    let client = node.host(Toy, |_| {}).unwrap();
    assert!(matches!(count(&client, b"panic"), Err(QueryError::Failed)));
    assert_eq!(count(&client, b"").unwrap(), 0);
    node.stop();
}
