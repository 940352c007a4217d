//! Stopping what runs, from another thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A token that asks runs to stop. Clones are the same token: keep one, hand another to [`Options`](crate::Options).
///
/// A run that is asked to stop keeps what it has: its outcome says
/// [`Status::Interrupted`](overbook_reports::Status::Interrupted).
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// A token that asks for nothing yet.
    pub fn new() -> Cancel {
        Cancel::default()
    }

    /// Asks to stop. Returns whether that had been asked before.
    pub fn cancel(&self) -> bool {
        self.0.swap(true, Ordering::Relaxed)
    }

    /// Whether runs should stop.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_are_the_same_token() {
        let (token, other) = (Cancel::new(), Cancel::new());
        let clone = token.clone();
        assert!(!token.is_cancelled());
        assert!(!clone.cancel(), "not asked before");
        assert!(token.is_cancelled() && token.cancel());
        assert!(!other.is_cancelled());
    }
}
