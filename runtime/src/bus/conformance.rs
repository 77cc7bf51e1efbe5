//! bus/conformance (to be written)
