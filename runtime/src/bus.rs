//! bus (to be written)
