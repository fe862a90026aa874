//! A cluster in one thread on virtual time.
//!
//! ```text
//! seed -> plan    how many nodes, which faults when
//!      -> world   nodes, their disks and clocks, packets and link messages under way
//!      -> checks  after every change that a node shows, and once more when all faults are over
//! ```
//!
//! Everything is drawn from the seed, so a seed that fails fails again: the same events in the same
//! order, which the trace hash shows.

pub mod check;
pub mod network;
pub mod plan;
pub mod world;

pub use check::Violation;
pub use plan::{Fault, Plan};
pub use world::{Report, World};

/// Runs one seed to its end.
pub fn run(seed: u64) -> Result<Report, Violation> {
    World::new(Plan::from_seed(seed), seed).run()
}
