//! sqlite (to be written)
