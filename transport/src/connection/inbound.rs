use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use fnv::FnvBuildHasher;

use crate::sync::lock;

/// Requests of the peer that wait for an answer of this side.
pub(super) struct OpenRequests {
    window: usize,
    /// Whether each is cancelled. The hasher is a seeded one: the peer chooses the keys.
    requests: Mutex<HashMap<u64, bool, FnvBuildHasher>>,
    /// How many are cancelled, so that asking is cheap while none is.
    cancelled: AtomicUsize,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Opened {
    Yes,
    /// An open request has this id.
    Duplicate,
    /// The window is full.
    Full,
}

impl OpenRequests {
    pub(super) fn new(window: usize) -> Self {
        Self { window, requests: Mutex::new(HashMap::default()), cancelled: AtomicUsize::new(0) }
    }

    pub(super) fn open(&self, id: u64) -> Opened {
        let mut requests = lock(&self.requests);
        if requests.contains_key(&id) {
            Opened::Duplicate
        } else if requests.len() >= self.window {
            Opened::Full
        } else {
            requests.insert(id, false);
            Opened::Yes
        }
    }

    /// Of no effect when the request is not open: the answer and the cancellation met on their ways.
    pub(super) fn cancel(&self, id: u64) {
        let mut requests = lock(&self.requests);
        if let Some(cancelled) = requests.get_mut(&id)
            && !std::mem::replace(cancelled, true)
        {
            self.cancelled.fetch_add(1, Ordering::Release);
        }
    }

    /// Whether it was cancelled; `None` when it is not open.
    pub(super) fn close(&self, id: u64) -> Option<bool> {
        let mut requests = lock(&self.requests);
        let cancelled = requests.remove(&id);
        if cancelled == Some(true) {
            self.cancelled.fetch_sub(1, Ordering::Release);
        }
        cancelled
    }

    pub(super) fn is_cancelled(&self, id: u64) -> bool {
        self.cancelled.load(Ordering::Acquire) > 0 && lock(&self.requests).get(&id).copied().unwrap_or(false)
    }

    pub(super) fn len(&self) -> usize {
        lock(&self.requests).len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_open_until_it_is_closed_and_no_longer() {
        let open = OpenRequests::new(2);
        assert_eq!(open.open(7), Opened::Yes);
        assert_eq!(open.open(7), Opened::Duplicate);
        assert_eq!(open.open(8), Opened::Yes);
        assert_eq!(open.open(9), Opened::Full);
        assert_eq!(open.close(7), Some(false));
        assert_eq!(open.close(7), None);
        assert_eq!(open.open(9), Opened::Yes);
    }

    #[test]
    fn only_an_open_request_can_be_cancelled_and_only_it_is() {
        let open = OpenRequests::new(8);
        open.cancel(7);
        open.open(7);
        open.open(8);
        assert!(!open.is_cancelled(7));
        open.cancel(7);
        open.cancel(7);
        assert!(open.is_cancelled(7) && !open.is_cancelled(8));
        assert_eq!(open.close(7), Some(true));
        assert!(!open.is_cancelled(7));
        assert_eq!(open.cancelled.load(Ordering::Relaxed), 0);
    }
}
