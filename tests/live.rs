//! A real local model (being written).
fn main() {}
