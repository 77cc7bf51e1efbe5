//! The bench (being written).
fn main() {}
