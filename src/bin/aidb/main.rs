//! `aidb`: the operator's tool.

fn main() {}
