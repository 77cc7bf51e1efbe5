//! x
pub mod age;
pub mod exit;
pub mod printer;
pub mod style;
pub mod table;
pub mod yaml;
