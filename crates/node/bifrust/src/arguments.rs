//! The command line.

use std::path::PathBuf;

use bifrust_node::config::{Flags, Sources};
use clap::{Args, Parser, Subcommand};

use crate::{bench, publish, subscribe};

/// BifRust: a multi-tenant MQTT broker
#[derive(Parser, Debug)]
#[command(
    name = "bifrust",
    version,
    after_help = "Examples:
  bifrust start --dev                       a broker on this machine, everybody may use it
  bifrust sub -t 'sensors/#' -v             see what is published
  bifrust pub -t sensors/1 -m 21.5          publish something
  bifrust user add --file users.toml --tenant default --user alice < password.txt
  bifrust start --config bifrust.toml       a broker for others

`bifrust COMMAND --help` explains each command."
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Start a node
    ///
    /// Layers: built-in defaults < config file < environment (BIFRUST__SECTION__KEY, with _FILE
    /// behind it for a file that holds the value) < flags. `bifrust config keys` lists every key.
    ///
    /// Without --dev only users of the users file get in: see `bifrust user add --help`.
    ///
    /// Exit codes: 2 config, 3 data folder locked, 4 port taken.
    Start(StartArguments),
    /// Publish messages
    #[command(disable_help_flag = true)]
    Pub(Box<publish::Arguments>),
    /// Subscribe and print what comes
    #[command(disable_help_flag = true)]
    Sub(Box<subscribe::Arguments>),
    /// Change who may connect
    User {
        #[command(subcommand)]
        command: UserCommand,
    },
    /// Check a config file, list what may stand in it
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Put load on a broker and measure it
    #[command(disable_help_flag = true)]
    Bench(Box<BenchArguments>),
}

/// The load's own arguments, and the help that a short -h would have given.
#[derive(Args, Debug)]
pub(crate) struct BenchArguments {
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
    #[command(flatten)]
    own: bench::Arguments,
}

impl std::ops::Deref for BenchArguments {
    type Target = bench::Arguments;

    fn deref(&self) -> &bench::Arguments {
        &self.own
    }
}

/// What `bifrust start` is told.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  bifrust start --dev
  bifrust start --dev --tcp 127.0.0.1:0 --ws off --api off --data /tmp/b --ready-file /tmp/ready
  bifrust start --dev --tls 127.0.0.1:8883 --cert cert.pem --key key.pem
  bifrust start --config /etc/bifrust/bifrust.toml
  BIFRUST__LISTEN__TCP=0.0.0.0:1884 bifrust start

SIGTERM or SIGINT stops gracefully, a second one at once. SIGHUP reads the settings again.")]
pub(crate) struct StartArguments {
    #[command(flatten)]
    pub(crate) node: NodeArguments,
    /// Write a JSON object with pid, version and the bound addresses here once the node serves
    #[arg(long, value_name = "FILE")]
    pub(crate) ready_file: Option<PathBuf>,
}

/// Where a node's config comes from.
#[derive(Args, Debug)]
pub(crate) struct NodeArguments {
    /// Config file, by default /etc/bifrust/bifrust.toml if it is there
    #[arg(long, value_name = "FILE", env = "BIFRUST_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// Data folder, made if missing [default: /var/lib/bifrust for root, else
    /// ~/.local/share/bifrust]
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Address for MQTT, or off [default: 0.0.0.0:1883, with --dev 127.0.0.1:1883]
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) tcp: Option<String>,
    /// Address for MQTT over WebSocket, or off [default: 0.0.0.0:8083, with --dev 127.0.0.1:8083]
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) ws: Option<String>,
    /// Address for MQTT over TLS, with --cert and --key [default: off]
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) tls: Option<String>,
    /// Address for MQTT over WebSocket over TLS, with --cert and --key [default: off]
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) wss: Option<String>,
    /// PEM file with the certificate and its chain; read again when it changes
    #[arg(long, value_name = "FILE")]
    pub(crate) cert: Option<PathBuf>,
    /// PEM file with the certificate's private key
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
    /// Address for health and metrics, or off [default: 127.0.0.1:8091]
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) api: Option<String>,
    /// Let everybody in, on loopback addresses only; a user name TENANT/USER chooses the tenant,
    /// all others are in tenant `dev`
    #[arg(long)]
    pub(crate) dev: bool,
    /// Like --dev, on any address: everybody who reaches the port may do everything
    #[arg(long)]
    pub(crate) dev_insecure: bool,
}

impl NodeArguments {
    /// The file, the environment and these flags.
    pub(crate) fn sources(&self) -> anyhow::Result<Sources> {
        let flags = Flags {
            data: self.data.clone(),
            tcp: self.tcp.clone(),
            ws: self.ws.clone(),
            tls: self.tls.clone(),
            wss: self.wss.clone(),
            cert: self.cert.clone(),
            key: self.key.clone(),
            api: self.api.clone(),
            is_dev: self.dev,
            is_dev_insecure: self.dev_insecure,
        };
        Ok(Sources::of_process(self.config.as_deref(), flags)?)
    }
}

#[derive(Subcommand, Debug)]
pub(crate) enum UserCommand {
    /// Add a user, or give it a new password and new rules
    ///
    /// The password comes from --password-file, else from stdin. A running node takes the change
    /// within a second.
    #[command(after_help = "Examples:
  bifrust user add --file users.toml --tenant default --user alice
  printf %s \"$SECRET\" | bifrust user add --file users.toml --tenant acme --user bob
  bifrust user add --file users.toml --tenant acme --user device \\
      --publish 'devices/%c/up' --subscribe 'devices/%c/#' --password-file secret

Rules are topic filters: %c is the client id, %u the user name. Without --publish (--subscribe)
the user may publish to (subscribe to) everything in its tenant.")]
    Add(UserAdd),
    /// Remove a user
    Remove(UserName),
    /// List users and their rules
    List(UserList),
}

#[derive(Args, Debug)]
pub(crate) struct UserName {
    /// Users file, the one that `auth.file` of the config names; made if missing
    #[arg(long, value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Tenant of the user; clients of another one than `default` connect as TENANT/USER
    #[arg(long, default_value = bifrust_model::DEFAULT_TENANT)]
    pub(crate) tenant: String,
    /// Name of the user
    #[arg(long)]
    pub(crate) user: String,
}

#[derive(Args, Debug)]
pub(crate) struct UserAdd {
    #[command(flatten)]
    pub(crate) name: UserName,
    /// File with the password; its last line end does not count
    #[arg(long, value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,
    /// Also let it prove its password by SCRAM-SHA-256 (MQTT 5 enhanced authentication)
    #[arg(long)]
    pub(crate) scram: bool,
    /// Topic filter it may publish to; may be given more than once
    #[arg(long, value_name = "FILTER")]
    pub(crate) publish: Vec<String>,
    /// Topic filter it may subscribe to; may be given more than once
    #[arg(long, value_name = "FILTER")]
    pub(crate) subscribe: Vec<String>,
    /// It may publish nothing
    #[arg(long, conflicts_with = "publish")]
    pub(crate) publish_nothing: bool,
    /// It may subscribe to nothing
    #[arg(long, conflicts_with = "subscribe")]
    pub(crate) subscribe_nothing: bool,
}

#[derive(Args, Debug)]
pub(crate) struct UserList {
    /// Users file
    #[arg(long, value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// A JSON object per user
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Subcommand, Debug)]
pub(crate) enum ConfigCommand {
    /// Check a config file: every mistake with its line, its key and what would be right
    ///
    /// The environment (BIFRUST__SECTION__KEY) counts as for a node that starts here, and the users
    /// file that the config names is read too.
    Check {
        /// Config file
        file: PathBuf,
    },
    /// Show the config that a node would start with, and where each value comes from
    ///
    /// Takes what `bifrust start` takes, and prints a config file that says the same.
    Show(Box<NodeArguments>),
    /// List every key with what it is for, what it takes and its default
    Keys,
}
