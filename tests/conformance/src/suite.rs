//! Rows and how they run.

use std::any::Any;
use std::env;
use std::fs;
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};
use std::thread;

use bifrust_e2e::Broker;
use bifrust_e2e::broker::{Builder, run_cli};
use bifrust_e2e::websocket::{Upgrade, WebSocket};
use tempfile::TempDir;

use crate::peer::Peer;

/// Rows at work at a time.
const WORKERS: usize = 8;

/// A function that shows statements.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Where it is: `connect::a_second_connect_is_the_last`.
    pub name: &'static str,
    /// The statements, as `3.1.0-2`.
    pub shows: &'static [&'static str],
    /// Why it cannot hold yet.
    pub pending: Option<&'static str>,
    /// Panics where the broker does not conform.
    pub run: fn(&Scene<'_>),
}

/// A table of rows: function, then the statements that it shows, then why it cannot hold yet.
#[macro_export]
macro_rules! rows {
    ($($run:ident: $($number:literal),+ $(=> pending $why:literal)?;)+) => {
        /// The rows of this file.
        pub const ROWS: &[$crate::Row] = &[$($crate::Row {
            name: stringify!($run),
            shows: &[$($number),+],
            pending: $crate::rows!(@pending $($why)?),
            run: $run,
        }),+];
    };
    (@pending) => { None };
    (@pending $why:literal) => { Some($why) };
}

/// All rows of these files.
pub fn rows_of(files: &[(&str, &[Row])]) -> Vec<Row> {
    files.iter().flat_map(|(_, rows)| *rows).copied().collect()
}

/// Tenants that are not as the others.
const CONFIG: &str = r#"
[limits]
connect_timeout_seconds = 60

[tenants.qos0.settings]
MaximumQoS = 0

[tenants.qos1.settings]
MaximumQoS = 1

[tenants.noretain.settings]
RetainEnabled = false

[tenants.nowildcard.settings]
WildcardSubscriptionEnabled = false

[tenants.noid.settings]
SubscriptionIdentifierEnabled = false

[tenants.noshare.settings]
SharedSubscriptionEnabled = false

[tenants.smallwill.settings]
MaxLastWillBytes = 16

[tenants.receive2.settings]
ReceivingMaximum = 2

[tenants.small.settings]
MaxUserPayloadBytes = 1024
MaxLastWillBytes = 512

[tenants.keepalive.settings]
MaxKeepAliveSeconds = 1

[tenants.alias5.settings]
MaxTopicAlias = 5

[tenants.noalias.settings]
MaxTopicAlias = 0
"#;

/// The brokers of a run.
#[derive(Default)]
pub struct Suite {
    fault: Option<u8>,
    open: OnceLock<Broker>,
    guarded: OnceLock<Guarded>,
}

struct Guarded {
    broker: Broker,
    _folder: TempDir,
}

impl Suite {
    /// With a planted fault.
    pub fn faulty(fault: u8) -> Self {
        Self {
            fault: Some(fault),
            ..Self::default()
        }
    }

    fn builder(&self) -> Builder {
        match self.fault {
            Some(fault) => Broker::builder().env("BIFRUST_TEST_FAULT", fault.to_string()),
            None => Broker::builder(),
        }
    }

    /// The broker that lets everybody in.
    pub fn open(&self) -> &Broker {
        self.open
            .get_or_init(|| self.builder().config(CONFIG).start())
    }

    /// Runs rows, several at a time, and tells which of them do not hold.
    pub fn run(&self, rows: &[Row]) -> Vec<Failure> {
        let next = AtomicUsize::new(0);
        let failures = Mutex::new(Vec::new());
        self.open();
        // What a row says when it fails is in the report; nothing is printed beside it.
        panic::set_hook(Box::new(|_| ()));
        thread::scope(|scope| {
            for _ in 0..WORKERS {
                scope.spawn(|| {
                    while let Some(row) = rows.get(next.fetch_add(1, Ordering::Relaxed)) {
                        if let Err(why) = self.try_row(row) {
                            let failure = Failure {
                                name: row.name,
                                shows: row.shows,
                                why,
                            };
                            failures.lock().expect("no panic holds it").push(failure);
                        }
                    }
                });
            }
        });
        drop(panic::take_hook());
        let mut failures = failures.into_inner().expect("no panic holds it");
        failures.sort_by_key(|failure| failure.name);
        failures
    }

    /// Runs one row; what it says where it does not hold.
    pub fn try_row(&self, row: &Row) -> Result<(), String> {
        let scene = Scene {
            suite: self,
            tenant: tenant_of(row.name),
        };
        catch_unwind(AssertUnwindSafe(|| (row.run)(&scene))).map_err(|panic| text(&*panic))
    }
}

fn text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_default()
}

fn tenant_of(name: &str) -> String {
    name.chars()
        .filter(|c| c.is_ascii_alphanumeric())
        .take(60)
        .collect()
}

/// A row that does not hold.
#[derive(Debug)]
pub struct Failure {
    /// Its name.
    pub name: &'static str,
    /// What it should show.
    pub shows: &'static [&'static str],
    /// Expected and seen bytes.
    pub why: String,
}

/// Runs rows on fresh brokers and fails with all of them that do not hold, and with the pending ones
/// that do. `CONFORMANCE_ROW` runs only the rows with that in their name.
pub fn check(rows: &[Row]) {
    let only = env::var("CONFORMANCE_ROW").unwrap_or_default();
    let rows: Vec<Row> = rows
        .iter()
        .filter(|row| row.name.contains(&only))
        .copied()
        .collect();
    let failures = Suite::default().run(&rows);
    let mut report = String::new();
    for row in &rows {
        let failure = failures.iter().find(|failure| failure.name == row.name);
        match (failure, row.pending) {
            (Some(failure), None) => {
                report.push_str(&format!(
                    "\n  {} {:?}: {}",
                    row.name, row.shows, failure.why
                ));
            }
            (None, Some(why)) => {
                report.push_str(&format!(
                    "\n  {} holds now; it was pending: {why}",
                    row.name
                ));
            }
            _ => {}
        }
    }
    assert!(report.is_empty(), "{report}");
}

/// Where a row runs: a tenant of its own at a broker that others use too.
pub struct Scene<'a> {
    suite: &'a Suite,
    tenant: String,
}

impl<'a> Scene<'a> {
    /// The same at another tenant.
    pub fn at(&self, tenant: &str) -> Self {
        Self {
            suite: self.suite,
            tenant: tenant.to_owned(),
        }
    }

    fn user(&self) -> String {
        format!("{}/u", self.tenant)
    }

    /// A connection with nothing sent.
    pub fn dial(&self) -> Peer {
        Peer::dial(self.suite.open().tcp(), &self.user())
    }

    /// A connection, and what is sent first.
    pub fn send(&self, text: &str) -> Peer {
        let mut peer = self.dial();
        peer.send(text);
        peer
    }

    /// A 3.1.1 client with a session that ends with its connection.
    pub fn v4(&self, id: &str) -> Peer {
        let mut peer = self.send(&format!("10 [<MQTT> 04 82 0000 <{id}> <@>]"));
        peer.expect("20 [00 00]");
        peer
    }

    /// A 3.1.1 client with a session that stays; `present` is what CONNACK says.
    pub fn v4_kept(&self, id: &str, present: u8) -> Peer {
        let mut peer = self.send(&format!("10 [<MQTT> 04 80 0000 <{id}> <@>]"));
        peer.expect(&format!("20 [{present:02x} 00]"));
        peer
    }

    /// A 5.0 client with a session that ends with its connection.
    pub fn v5(&self, id: &str) -> Peer {
        self.v5_with(id, "")
    }

    /// The same with CONNECT properties.
    pub fn v5_with(&self, id: &str, properties: &str) -> Peer {
        let mut peer = self.send(&format!("10 [<MQTT> 05 82 0000 [{properties}] <{id}> <@>]"));
        peer.expect("20 [00 00 *]");
        peer
    }

    /// A 5.0 client with Clean Start 0 and a session that stays an hour.
    pub fn v5_kept(&self, id: &str, present: u8) -> Peer {
        self.v5_kept_with(id, present, "")
    }

    /// The same with more CONNECT properties.
    pub fn v5_kept_with(&self, id: &str, present: u8, properties: &str) -> Peer {
        let text = format!("10 [<MQTT> 05 80 0000 [11 00000e10 {properties}] <{id}> <@>]");
        let mut peer = self.send(&text);
        peer.expect(&format!("20 [{present:02x} 00 *]"));
        peer
    }

    /// Asks for a WebSocket upgrade with these sub-protocols.
    pub fn upgrade(&self, protocols: &str) -> (WebSocket, Upgrade) {
        WebSocket::open(self.suite.open().ws(), "/mqtt", Some(protocols))
    }

    /// A connection over a WebSocket.
    pub fn over(&self, socket: WebSocket) -> Peer {
        Peer::over(Box::new(socket), &self.user())
    }

    /// A connection to a broker whose users may publish to `ok/#` and subscribe to `ok/#` only;
    /// they log in as `t/u` with the password `p`.
    pub fn guarded(&self) -> Peer {
        let guarded = self
            .suite
            .guarded
            .get_or_init(|| guarded(self.suite.builder()));
        Peer::dial(guarded.broker.tcp(), "t/u")
    }
}

/// A broker whose one user has rules.
fn guarded(builder: Builder) -> Guarded {
    let folder = TempDir::with_prefix("bifrust-conformance-").expect("a folder");
    let file = folder.path().join("users.toml");
    let name = file.display().to_string();
    let args = [
        "user", "add", "--file", &name, "--tenant", "t", "--user", "u", "--scram",
    ];
    let output = run_cli(&args, "p\n");
    assert_eq!(output.code, 0, "{output:?}");
    let user = "name = \"u\"\n";
    let rules = format!("{user}publish = [\"ok/#\"]\nsubscribe = [\"ok/#\"]\n");
    let text = fs::read_to_string(&file).expect("a users file");
    assert!(text.contains(user), "{text}");
    fs::write(&file, text.replace(user, &rules)).expect("written");
    let config = format!("[auth]\nfile = {name:?}\n");
    Guarded {
        broker: builder.strict().config(config).start(),
        _folder: folder,
    }
}
