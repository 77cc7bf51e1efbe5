//! System tests (being written).
fn main() {}
