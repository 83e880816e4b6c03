//! `sim`: runs AiDb under simulated faults.

fn main() {}
