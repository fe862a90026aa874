//! Runs one target: over files, or with the feature `libfuzzer` under libFuzzer.

#![cfg_attr(feature = "libfuzzer", no_main)]
#![cfg_attr(feature = "libfuzzer", allow(unsafe_code))] // the entry points that libFuzzer calls

#[cfg(feature = "libfuzzer")]
mod guided {
    use std::sync::LazyLock;

    use bifrust_fuzz::Target;
    use libfuzzer_sys::fuzz_target;
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    /// Memory that a run may take beside what the process has at its start: less than the length that
    /// one field of any format can announce, so that whoever believes one is found.
    const ROOM_BYTES: u64 = 224 << 20;

    static TARGET: LazyLock<Target> = LazyLock::new(|| {
        let name = std::env::var("BIFRUST_FUZZ_TARGET").expect("BIFRUST_FUZZ_TARGET names it");
        bifrust_fuzz::find(&name).expect("a target of that name")
    });

    fuzz_target!(init: limit_memory(), |bytes: &[u8]| {
        (TARGET.check)(bytes);
    });

    fn limit_memory() {
        let statm = std::fs::read_to_string("/proc/self/statm").expect("/proc is mounted");
        let pages = statm.split(' ').next().and_then(|pages| pages.parse().ok());
        let now = pages.unwrap_or(0u64) * rustix::param::page_size() as u64;
        let limit = Rlimit {
            current: Some(now + ROOM_BYTES),
            maximum: getrlimit(Resource::As).maximum,
        };
        setrlimit(Resource::As, limit).expect("a limit may be lowered");
    }
}

#[cfg(not(feature = "libfuzzer"))]
fn main() -> std::process::ExitCode {
    use std::process::ExitCode;

    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().unwrap_or_default();
    let Some(target) = bifrust_fuzz::find(&name) else {
        let names = bifrust_fuzz::TARGETS.map(|target| target.name);
        eprintln!(
            "usage: bifrust-fuzz TARGET FILE...\ntargets: {}",
            names.join(" ")
        );
        return ExitCode::FAILURE;
    };
    for path in arguments {
        match std::fs::read(&path) {
            Ok(bytes) => (target.check)(&bytes),
            Err(error) => {
                eprintln!("{path}: {error}");
                return ExitCode::FAILURE;
            }
        }
        println!("{path}: ok");
    }
    ExitCode::SUCCESS
}
