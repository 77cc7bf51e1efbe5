//! store/sqlite (to be written)
