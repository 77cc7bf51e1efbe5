//! bus/embedded (to be written)
