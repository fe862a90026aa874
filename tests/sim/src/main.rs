//! The simulator as a command.

use std::{process::ExitCode, time::Instant};

use clap::{Parser, Subcommand};

/// Runs the simulated cluster.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs seeds one after another and stops at the first that fails.
    Seeds {
        /// How many.
        #[arg(default_value_t = 3_000)]
        count: u64,
        /// The first.
        #[arg(long, default_value_t = 0)]
        from: u64,
        /// Ends after so many seconds, whatever is left.
        #[arg(long)]
        seconds: Option<u64>,
    },
    /// Runs seeds with each bug that is planted on purpose, until it is found. Needs a build with
    /// `RUSTFLAGS="--cfg planted_bugs"`.
    Planted {
        /// How long each may take to be found.
        #[arg(long, default_value_t = 600)]
        seconds: u64,
    },
    /// Runs one seed again, with what its nodes told.
    Replay {
        /// Which.
        seed: u64,
    },
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Seeds {
            count,
            from,
            seconds,
        } => seeds(from, count, seconds),
        Command::Planted { seconds } => planted(seconds),
        Command::Replay { seed } => replay(seed),
    }
}

/// The bugs that stand in the code behind `planted("...")`.
const PLANTED: [&str; 10] = [
    "deaf and sure",
    "departure forgotten",
    "everybody forms",
    "floor not raised",
    "full delta merged",
    "gap ignored",
    "no anti-entropy",
    "refutation ignored",
    "rows of any start",
    "tombstone forgotten",
];

fn planted(seconds: u64) -> ExitCode {
    if !cfg!(planted_bugs) {
        println!("no bugs in this build: set RUSTFLAGS=\"--cfg planted_bugs\"");
        return ExitCode::FAILURE;
    }
    let program = std::env::current_exe().expect("it runs");
    let mut missed = 0;
    for bug in PLANTED {
        let start = Instant::now();
        let run = std::process::Command::new(&program)
            .args(["seeds", "1000000", "--seconds", &seconds.to_string()])
            .env("BIFRUST_PLANTED", bug)
            .output()
            .expect("it runs again");
        let told = String::from_utf8_lossy(&run.stdout);
        let elapsed = start.elapsed();
        println!(
            "{bug}: {elapsed:.1?}, {}",
            told.lines().next().unwrap_or_default()
        );
        missed += usize::from(run.status.success());
    }
    println!("{missed} of {} missed", PLANTED.len());
    ExitCode::from(u8::from(missed > 0))
}

fn seeds(from: u64, count: u64, seconds: Option<u64>) -> ExitCode {
    let start = Instant::now();
    let is_over = || seconds.is_some_and(|seconds| start.elapsed().as_secs() >= seconds);
    let (mut done, mut arrivals) = (0, 0);
    for seed in from..from.saturating_add(count) {
        if is_over() {
            break;
        }
        match bifrust_sim::run(seed) {
            Ok(report) => arrivals += report.arrivals,
            Err(violation) => {
                println!("{violation}");
                return ExitCode::FAILURE;
            }
        }
        done += 1;
    }
    let elapsed = start.elapsed();
    println!(
        "{done} seeds from {from}: nothing found in {elapsed:.1?}; {:.0?} and {} arrivals each",
        elapsed / u32::try_from(done).unwrap_or(u32::MAX).max(1),
        arrivals / done.max(1)
    );
    ExitCode::SUCCESS
}

fn replay(seed: u64) -> ExitCode {
    let plan = bifrust_sim::Plan::from_seed(seed);
    println!("{plan:#?}");
    let end = plan.end;
    let mut world = bifrust_sim::World::new(plan, seed);
    let result = world.run_until(end).and_then(|()| world.check_agreement());
    for (index, node) in world.nodes().iter().enumerate() {
        println!("node {index}: {:?}", node.start());
        if let Some(core) = node.core() {
            println!("{:#?}\n{:#?}", core.status(), core.counters());
        }
    }
    for (at, node, event) in world.told() {
        println!("{at:>12.3?} node {node}: {event}");
    }
    match result {
        Ok(()) => {
            println!("nothing found; {:?}", world.report());
            ExitCode::SUCCESS
        }
        Err(violation) => {
            println!("{violation}");
            ExitCode::FAILURE
        }
    }
}
