//! Panics that are an answer: what a machine says when its own invariants do not hold.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    /// What the panics of this thread have said; `None` while they are for whoever looks on.
    static HEARD: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs it, and says in words what it panicked with, and where. Panics of other threads are told as ever.
pub(super) fn caught<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let told = take_hook();
        set_hook(Box::new(move |panic| {
            let is_ours = HEARD.with_borrow_mut(|heard| heard.as_mut().map(|heard| *heard = panic.to_string()));
            if is_ours.is_none() {
                told(panic);
            }
        }));
    });
    HEARD.set(Some(String::new()));
    let run = catch_unwind(AssertUnwindSafe(run));
    let heard = HEARD.take().unwrap_or_default();
    run.map_err(|_| heard)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_heard_and_a_later_one_of_the_same_thread_is_told_again() {
        assert_eq!(caught(|| 3), Ok(3));
        let heard = caught(|| panic!("as planned")).unwrap_err();
        assert!(heard.contains("as planned") && heard.contains(file!()), "{heard}");
        assert_eq!(HEARD.take(), None, "nothing is kept quiet any more");
    }
}
