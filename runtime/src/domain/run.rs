//! run (to be written)
