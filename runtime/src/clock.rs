//! clock (to be written)
