//! Configuration.
mod check;
mod located;
mod measure;
mod nearest;
mod problem;
mod table;
mod yaml;
pub use nearest::nearest;
pub use problem::{PROBLEMS_MAX, Place, Problem, Problems};
