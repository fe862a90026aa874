//! `bifrust bench`: load on any MQTT broker, and what came of it.
//!
//! ```text
//! arguments -> scenario -> clients (one task each, one thread) -> tally -> report
//!                               meter of the broker's process --^
//! ```
//!
//! Everything runs on one thread, so that what is counted needs no locks. Latency is measured by
//! one clock: senders and receivers live in this process.

mod arguments;
mod broker;
mod connections;
mod filters;
mod flow;
mod link;
mod payload;
mod progress;
mod report;
mod stock;
mod tally;

use std::process::ExitCode;

pub(crate) use arguments::Arguments;
use arguments::Scenario;

/// Runs one scenario and prints its report. Exit code 1 if QoS 1 or 2 lost, doubled or reordered.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    arguments.check()?;
    let mut arguments = arguments.clone();
    arguments.route = Some(arguments.endpoint.route()?);
    let arguments = &arguments;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let tasks = tokio::task::LocalSet::new();
    let report = runtime.block_on(tasks.run_until(async {
        match arguments.scenario {
            Scenario::Connect => connections::connect(arguments).await,
            Scenario::Churn => connections::churn(arguments).await,
            Scenario::P2p
            | Scenario::FanIn
            | Scenario::FanOut
            | Scenario::Shared
            | Scenario::Persist => flow::run(arguments).await,
            Scenario::Offline => stock::offline(arguments).await,
            Scenario::Retain => stock::retain(arguments).await,
            Scenario::Subscribe => filters::subscribe(arguments).await,
        }
    }))?;
    report.print(arguments.json)?;
    Ok(if report.kept_its_promises(arguments.qos) {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(1)
    })
}
