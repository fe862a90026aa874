//! The suite sees planted faults. `cargo xtask faults` runs all of them.

use std::panic;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use bifrust_conformance::Suite;
use bifrust_conformance::faults::PLANTED;

#[test]
fn every_fault_names_its_row() {
    for (planted, number) in PLANTED.iter().zip(1..) {
        assert_eq!(planted.number, number);
        assert!(planted.catcher().pending.is_none(), "{}", planted.row);
    }
    assert_eq!(PLANTED.len(), 25);
}

#[test]
#[ignore = "needs a broker built with planted faults: cargo xtask faults"]
fn every_planted_fault_is_caught() {
    let next = AtomicUsize::new(0);
    let problems = Mutex::new(Vec::new());
    panic::set_hook(Box::new(|_| ()));
    let sound = Suite::faulty(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some(planted) = PLANTED.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let row = planted.catcher();
                    let mut found = Vec::new();
                    if let Err(why) = sound.try_row(&row) {
                        found.push(format!("{} fails without a fault: {why}", row.name));
                    }
                    if Suite::faulty(planted.number).try_row(&row).is_ok() {
                        found.push(format!("{} does not see: {}", row.name, planted.what));
                    }
                    problems.lock().expect("no panic holds it").extend(found);
                }
            });
        }
    });
    drop(panic::take_hook());
    let problems = problems.into_inner().expect("no panic holds it");
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}
