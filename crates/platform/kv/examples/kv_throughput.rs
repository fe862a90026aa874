//! Commands per CPU second through one range on disk.
//!
//! `cargo run --release -p bifrust-kv --example kv_throughput -- [commands] [value bytes] [outstanding]`

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use std::time::Instant;

use bifrust_kv::{Ack, Clock, Config, Coprocessor, Node, Rows, Wire, keyspaces};
use bifrust_model::TenantNumber;
use bifrust_model::record::{self, RecordError};
use bifrust_storage::{Keyspace, Read, StorageError, Store};
use bytes::Bytes;

const BODIES: Keyspace = Keyspace("bodies");
const CURSORS: Keyspace = Keyspace("cursors");

/// One message into one session: a body row, and a cursor that moves.
#[derive(Clone, PartialEq, prost::Message)]
struct Insert {
    #[prost(uint64, tag = "1")]
    session: u64,
    #[prost(bytes = "bytes", tag = "2")]
    body: Bytes,
}

struct Command(Insert);

impl Wire for Command {
    fn encode(&self) -> Bytes {
        record::encode(1, &self.0)
    }

    fn decode(bytes: Bytes) -> Result<Self, RecordError> {
        Ok(Self(record::decode(bytes, 1)?))
    }
}

struct Inserts;

impl Coprocessor for Inserts {
    type Command = Command;
    type Reply = u64;
    type Effect = u64;
    type Query = ();
    type Answer = ();
    const NAME: &'static str = "inserts";
    const KEYSPACES: &'static [Keyspace] = &[BODIES, CURSORS];

    fn apply(
        &mut self,
        rows: &mut Rows<'_>,
        Command(insert): Command,
        effects: &mut Vec<u64>,
    ) -> u64 {
        let session = insert.session.to_be_bytes();
        let cursor = rows.get(CURSORS, &session);
        let next = cursor
            .and_then(|cursor| cursor[..].try_into().ok())
            .map_or(1, |cursor| u64::from_be_bytes(cursor) + 1);
        let mut key = Vec::with_capacity(16);
        key.extend_from_slice(&session);
        key.extend_from_slice(&next.to_be_bytes());
        rows.put(BODIES, key, insert.body);
        rows.put(CURSORS, session.to_vec(), next.to_be_bytes().to_vec());
        effects.push(next);
        next
    }

    fn query(_: &dyn Read, (): ()) -> Result<(), StorageError> {
        Ok(())
    }

    fn align_split(key: &[u8]) -> Vec<u8> {
        key.to_vec()
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let numbers: Vec<usize> = std::env::args().skip(1).flat_map(|a| a.parse()).collect();
    let number = |at: usize, default| numbers.get(at).copied().unwrap_or(default);
    let (commands, size, outstanding) = (number(0, 1_000_000), number(1, 64), number(2, 1_000));
    let folder = std::env::var_os("THROUGHPUT_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = tempfile::tempdir_in(folder)?;
    let all = [keyspaces(), Inserts::KEYSPACES].concat();
    let store = Store::open(bifrust_storage::Config::new(folder.path()), &all)?;
    let node = Node::open(store, Config::default(), Clock::new())?;
    let effects = Arc::new(AtomicU64::new(0));
    let counted = effects.clone();
    let client = node.host(Inserts, move |some| {
        counted.fetch_add(some.len() as u64, Ordering::Relaxed);
    })?;

    let (permit, permits) = sync_channel(outstanding);
    let body = Bytes::from(vec![b'x'; size]);
    let (wall, cpu) = (Instant::now(), cpu_seconds());
    for n in 0..commands {
        if n >= outstanding {
            permits.recv()?;
        }
        let permit = permit.clone();
        let command = Command(Insert {
            session: n as u64 % 100,
            body: body.clone(),
        });
        let done = move |reply: Result<u64, _>| {
            reply.expect("the queue is longer than what is outstanding");
            let _ = permit.send(()); // The last ones have no one to hear them.
        };
        let tenant = TenantNumber(n as u64 % 4);
        client.execute(tenant, b"", command, Ack::Durable, Box::new(done));
    }
    node.stop();
    let (wall, cpu) = (wall.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    let counts = node.counts();
    println!(
        "{commands} commands of {size} bytes, {outstanding} outstanding: {:.0}/s, {:.0} per CPU second, \
         {:.1} per batch, {} effects, {} refused",
        commands as f64 / wall,
        commands as f64 / cpu,
        counts.commands as f64 / counts.batches as f64,
        effects.load(Ordering::Relaxed),
        counts.refused,
    );
    Ok(())
}

/// CPU time of this process, all threads.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks = |at| {
        let field = after_name.split_whitespace().nth(at);
        field.and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0)
    };
    (ticks(11) + ticks(12)) / 100.0
}
