//! The `barkeep` program.

fn main() {}
