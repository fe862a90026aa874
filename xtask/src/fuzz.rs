//! `cargo xtask fuzz`: every parser of outside bytes under libFuzzer.
//!
//! The toolchain is the pinned stable one: the coverage that libFuzzer needs is an LLVM pass that
//! `-Cpasses` switches on, and libFuzzer itself is C++ that the crate `libfuzzer-sys` brings along.
//! Sanitizers would need a nightly toolchain; the code is safe Rust, and memory is capped instead.

mod grown;
mod report;

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context as _, bail, ensure};
use cargo_metadata::MetadataCommand;

use report::Outcome;

pub(crate) const HELP: &str = "\
  cargo xtask fuzz [--seconds N] [--planted | --keep] [TARGET...]
                       every parser of outside bytes, N seconds (20) each; --planted: the parsers
                       with a bug planted into each, which has to be found; --keep: no run, what
                       earlier ones have found goes into fuzz/grown";

/// What cargo-fuzz passes too, without the sanitizer.
const COVERAGE: &str = "-Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares";

/// Seconds after which one input counts as a hang.
const INPUT_SECONDS: u32 = 5;

struct Options {
    seconds: u64,
    is_planted: bool,
    is_kept: bool,
    targets: Vec<String>,
}

/// Runs what the arguments ask for; the findings.
pub(crate) fn run(root: &Path, arguments: &[String]) -> anyhow::Result<Vec<String>> {
    let mut options = parse(arguments)?;
    let known = targets(root)?;
    for target in &options.targets {
        ensure!(
            known.contains(target),
            "{target:?} is no target; there are {known:?}"
        );
    }
    if options.targets.is_empty() {
        options.targets = known;
    }
    let folder = target_folder()?.join(match options.is_planted {
        true => "fuzz-planted",
        false => "fuzz",
    });
    let program = build(root, &folder, options.is_planted)?;
    if options.is_kept {
        for target in &options.targets {
            keep(root, &folder, &program, target)?;
        }
        return Ok(Vec::new());
    }
    let problems = Mutex::new(Vec::new());
    println!("{}", report::HEADER);
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    side_by_side(&options.targets, workers, |target| {
        let result = one(root, &folder, &program, target, &options);
        let problem = match result {
            Ok(outcome) => outcome.told(target, options.is_planted),
            Err(error) => Some(format!("{target}: {error:#}")),
        };
        taken(&problems).extend(problem);
    });
    Ok(problems
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner))
}

/// Runs all of them, so many at a time, in order.
fn side_by_side(targets: &[String], workers: usize, run: impl Fn(&str) + Sync) {
    let queue = Mutex::new(VecDeque::from_iter(targets));
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                // Not in the head of the loop: the lock would be held through its body.
                let next = || taken(&queue).pop_front();
                while let Some(target) = next() {
                    run(target);
                }
            });
        }
    });
}

fn taken<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn parse(arguments: &[String]) -> anyhow::Result<Options> {
    let mut options = Options {
        seconds: 20,
        is_planted: false,
        is_kept: false,
        targets: Vec::new(),
    };
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--seconds" => {
                let seconds = arguments.next().context("--seconds needs a number")?;
                options.seconds = seconds.parse().context("--seconds needs a number")?;
            }
            "--planted" => options.is_planted = true,
            "--keep" => options.is_kept = true,
            other if other.starts_with('-') => bail!("{other:?} is no option\n{HELP}"),
            target => options.targets.push(target.to_owned()),
        }
    }
    ensure!(
        !(options.is_planted && options.is_kept),
        "what finds planted bugs is not kept"
    );
    Ok(options)
}

/// The targets, by their corpus folders.
fn targets(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for folder in fs::read_dir(root.join("fuzz/corpus")).context("fuzz/corpus")? {
        names.push(folder?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

fn target_folder() -> anyhow::Result<PathBuf> {
    let metadata = MetadataCommand::new().no_deps().exec()?;
    Ok(metadata.target_directory.into())
}

fn build(root: &Path, folder: &Path, is_planted: bool) -> anyhow::Result<PathBuf> {
    let host = host()?;
    let planted = if is_planted {
        " --cfg planted_bugs"
    } else {
        ""
    };
    // With a target named, build scripts and macros stay without coverage.
    let status = Command::new(cargo())
        .current_dir(root)
        .args(["build", "--quiet", "--locked", "--package", "bifrust-fuzz"])
        .args([
            "--features",
            "libfuzzer",
            "--profile",
            "fuzz",
            "--target",
            &host,
        ])
        .arg("--target-dir")
        .arg(folder)
        .env("RUSTFLAGS", format!("{COVERAGE}{planted}"))
        .status()
        .context("cargo build")?;
    ensure!(
        status.success(),
        "the fuzzer did not build; it needs a C++ compiler (Debian: g++)"
    );
    Ok(folder.join(host).join("fuzz").join("bifrust-fuzz"))
}

fn cargo() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

fn host() -> anyhow::Result<String> {
    let output = Command::new("rustc")
        .arg("-vV")
        .output()
        .context("rustc -vV")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc names no host")?.to_owned())
}

/// Runs one target to its time's end or first finding.
fn one(
    root: &Path,
    folder: &Path,
    program: &Path,
    target: &str,
    options: &Options,
) -> anyhow::Result<Outcome> {
    let work = folder.join("run").join(target);
    let corpus = work.join("corpus");
    let seeds = root.join("fuzz/corpus").join(target);
    if options.is_planted && work.exists() {
        // What an earlier run found would be found at once.
        fs::remove_dir_all(&work)?;
    }
    fs::create_dir_all(&corpus)?;
    if options.is_planted {
        copy_holding(program, target, &seeds, &corpus)?;
    }
    let log_path = work.join("log");
    let log = File::create(&log_path)?;
    let mut command = Command::new(program);
    command
        .env("BIFRUST_FUZZ_TARGET", target)
        .arg(format!("-max_total_time={}", options.seconds))
        .arg(format!("-timeout={INPUT_SECONDS}"))
        .arg("-print_final_stats=1")
        .arg(format!("-artifact_prefix={}/", work.display()));
    let dictionary = root.join("fuzz/dictionaries").join(target);
    if dictionary.exists() {
        command.arg(format!("-dict={}", dictionary.display()));
    }
    command.arg(corpus);
    if !options.is_planted {
        let grown = work.join("grown");
        grown::unpack(&root.join("fuzz/grown").join(target), &grown)?;
        command.arg(seeds).arg(grown);
    }
    let started = Instant::now();
    let status = command
        .stdout(Stdio::null())
        .stderr(log)
        .status()
        .with_context(|| program.display().to_string())?;
    let seconds = started.elapsed().as_secs_f64();
    let text = String::from_utf8_lossy(&fs::read(&log_path)?).into_owned();
    Ok(Outcome::read(&text, status.success(), seconds))
}

/// Packs a least set of inputs that reaches every edge which is known to be reachable.
fn keep(root: &Path, folder: &Path, program: &Path, target: &str) -> anyhow::Result<()> {
    let work = folder.join("run").join(target);
    let (corpus, least, known) = (work.join("corpus"), work.join("least"), work.join("grown"));
    let packed = root.join("fuzz/grown").join(target);
    grown::unpack(&packed, &known)?;
    if least.exists() {
        fs::remove_dir_all(&least)?;
    }
    fs::create_dir_all(&least)?;
    fs::create_dir_all(&corpus)?;
    let output = Command::new(program)
        .env("BIFRUST_FUZZ_TARGET", target)
        .args(["-set_cover_merge=1", "-use_counters=0"])
        .arg(format!("-timeout={INPUT_SECONDS}"))
        .args([&least, &root.join("fuzz/corpus").join(target)])
        .args([&corpus, &known])
        .output()
        .with_context(|| program.display().to_string())?;
    ensure!(
        output.status.success(),
        "{target}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    println!("{target:<20} {} inputs", grown::pack(&least, &packed)?);
    Ok(())
}

/// Copies the seeds that do not show the planted bug by themselves: the fuzzer has to find it.
fn copy_holding(program: &Path, target: &str, seeds: &Path, corpus: &Path) -> anyhow::Result<()> {
    for seed in fs::read_dir(seeds).with_context(|| seeds.display().to_string())? {
        let seed = seed?;
        let status = Command::new(program)
            .env("BIFRUST_FUZZ_TARGET", target)
            .arg(seed.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()?;
        if status.success() {
            fs::copy(seed.path(), corpus.join(seed.file_name()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[test]
    fn runs_are_side_by_side() {
        let (began, begun) = mpsc::channel();
        let begun = Mutex::new(begun);
        side_by_side(
            &["a".to_owned(), "b".to_owned()],
            2,
            |target| match target {
                "b" => began.send(()).unwrap(),
                _ => taken(&begun)
                    .recv_timeout(Duration::from_secs(60))
                    .expect("b runs beside a"),
            },
        );
    }
}
