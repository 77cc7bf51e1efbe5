//! store/conformance (to be written)
