//! ports (to be written)
