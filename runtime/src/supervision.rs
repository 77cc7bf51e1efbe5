//! supervision (to be written)
