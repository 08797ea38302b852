use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use fnv::FnvBuildHasher;

use crate::sync::lock;

/// Requests of the peer that wait for an answer of this side, and those that were cancelled and have not come back from
/// their handlers: these have been answered, and take no place in the window. Their number is bounded by what handlers
/// take in, mailboxes and inboxes.
pub(super) struct OpenRequests {
    window: usize,
    /// Whether each is cancelled. The hasher is a seeded one: the peer chooses the keys.
    requests: Mutex<HashMap<u64, bool, FnvBuildHasher>>,
    /// How many are cancelled, so that asking is cheap while none is. Written under the lock.
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
        } else if requests.len() >= self.window && self.waiting(&requests) >= self.window {
            Opened::Full
        } else {
            requests.insert(id, false);
            Opened::Yes
        }
    }

    /// Whether it is to be answered now. Of no effect when the request is not open: the answer and the cancellation met
    /// on their ways.
    pub(super) fn cancel(&self, id: u64) -> bool {
        let mut requests = lock(&self.requests);
        let open = requests.get_mut(&id).is_some_and(|cancelled| !std::mem::replace(cancelled, true));
        if open {
            self.cancelled.fetch_add(1, Ordering::Release);
        }
        open
    }

    /// Its handler is done with it. Whether it is to be answered now: it was open, and not cancelled.
    pub(super) fn close(&self, id: u64) -> bool {
        let mut requests = lock(&self.requests);
        let cancelled = requests.remove(&id);
        if cancelled == Some(true) {
            self.cancelled.fetch_sub(1, Ordering::Release);
        }
        cancelled == Some(false)
    }

    pub(super) fn is_cancelled(&self, id: u64) -> bool {
        self.cancelled.load(Ordering::Acquire) > 0 && lock(&self.requests).get(&id).copied().unwrap_or(false)
    }

    pub(super) fn len(&self) -> usize {
        self.waiting(&lock(&self.requests))
    }

    fn waiting(&self, requests: &HashMap<u64, bool, FnvBuildHasher>) -> usize {
        requests.len().saturating_sub(self.cancelled.load(Ordering::Relaxed))
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
        assert!(open.close(7));
        assert!(!open.close(7));
        assert_eq!(open.open(9), Opened::Yes);
    }

    #[test]
    fn only_an_open_request_can_be_cancelled_and_only_it_is() {
        let open = OpenRequests::new(8);
        assert!(!open.cancel(7));
        open.open(7);
        open.open(8);
        assert!(!open.is_cancelled(7));
        assert!(open.cancel(7));
        assert!(!open.cancel(7), "it is answered once");
        assert!(open.is_cancelled(7) && !open.is_cancelled(8));
        assert!(!open.close(7), "it was answered when it was cancelled");
        assert!(!open.is_cancelled(7));
        assert_eq!(open.cancelled.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn what_is_cancelled_takes_no_place_and_keeps_its_id_until_it_is_closed() {
        let open = OpenRequests::new(1);
        assert_eq!(open.open(7), Opened::Yes);
        assert!(open.cancel(7));
        assert_eq!((open.len(), open.open(7)), (0, Opened::Duplicate));
        assert_eq!((open.open(8), open.open(9)), (Opened::Yes, Opened::Full));
        assert!(!open.close(7) && open.close(8));
        assert_eq!((open.len(), open.open(7)), (0, Opened::Yes));
    }
}
