//! A value that is replaced while others use it: settings and secrets that change without a restart.
//!
//! Written by whoever reads the configuration again, read by whoever works by it, at the beginning of each piece of work;
//! so one call or one round has one version of it. It holds one value, never waits long, and cannot fail.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

/// A value that may be replaced. Cheap to clone; all clones are one.
pub struct Live<T>(Arc<RwLock<Arc<T>>>);

impl<T> Live<T> {
    /// It begins with this.
    #[must_use]
    pub fn new(value: T) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(value))))
    }

    /// The value as it is now; it stays so for whoever has it.
    #[must_use]
    pub fn get(&self) -> Arc<T> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces the value for everybody who asks from now on.
    pub fn set(&self, value: T) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(value);
    }
}

impl<T> Clone for Live<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Default> Default for Live<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T: fmt::Debug> fmt::Debug for Live<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

impl<T> From<T> for Live<T> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_asks_gets_the_newest_and_whoever_has_one_keeps_it() {
        let live = Live::new("old");
        let (other, held) = (live.clone(), live.get());
        other.set("new");
        assert_eq!((*held, *live.get()), ("old", "new"));
    }
}
