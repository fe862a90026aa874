//! The bifrust program.

fn main() {}
