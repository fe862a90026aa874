//! The bifrust program: server, clients, users, config, load.
//!
//! ```text
//! main -> arguments -> start    node::start, signals, ready file
//!                   -> user     the users file
//!                   -> publish, subscribe    over `client`, blocking sockets
//!                   -> config   what `node::config` says about a file
//!                   -> bench    load on any broker
//! ```

mod arguments;
mod bench;
mod carrier;
mod client;
mod config;
mod endpoint;
mod exit;
mod logging;
mod password;
mod publish;
mod ready_file;
mod signals;
mod start;
mod subscribe;
mod user;

use std::process::ExitCode;

use clap::Parser as _;

use crate::arguments::{Arguments, Command};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Start(arguments) => start::run(&arguments),
        Command::Pub(arguments) => publish::run(&arguments),
        Command::Sub(arguments) => subscribe::run(&arguments),
        Command::User { command } => user::run(&command),
        Command::Config { command } => config::run(&command),
        Command::Bench(arguments) => bench::run(&arguments),
    };
    outcome.unwrap_or_else(|error| exit::tell(&error))
}
