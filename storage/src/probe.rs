//! Looking into the running logic from a simulation: which rare branches were taken, and what happens when one rule is broken
//! on purpose. Without the feature `sim` both are nothing at all.
//!
//! `mark` counts a branch. `broken` asks whether the rule of that name is to be broken in this run: a simulator that does not
//! notice is not worth its time. Names are sentences, listed in the server's `sim/coverage.rs` and `sim/mutations.rs`.

#[cfg(feature = "sim")]
mod counted {
    use std::cell::{Cell, RefCell};
    use std::collections::BTreeMap;

    thread_local! {
        static MARKS: RefCell<BTreeMap<&'static str, u64>> = const { RefCell::new(BTreeMap::new()) };
        static BROKEN: Cell<Option<&'static str>> = const { Cell::new(None) };
    }

    /// A branch worth counting was taken.
    pub fn mark(name: &'static str) {
        MARKS.with_borrow_mut(|marks| *marks.entry(name).or_default() += 1);
    }

    /// How often each branch was taken on this thread since the last call.
    pub fn take_marks() -> BTreeMap<&'static str, u64> {
        MARKS.take()
    }

    /// Whether this rule is broken in this run.
    pub fn broken(name: &'static str) -> bool {
        BROKEN.get().is_some_and(|broken| broken == name)
    }

    /// Breaks one rule on this thread, or none.
    pub fn break_rule(name: Option<&'static str>) {
        BROKEN.set(name);
    }
}

#[cfg(feature = "sim")]
pub use counted::{break_rule, broken, mark, take_marks};

/// A branch worth counting was taken.
#[cfg(not(feature = "sim"))]
#[inline(always)]
pub fn mark(_name: &'static str) {}

/// Whether this rule is broken in this run: never, outside a simulation.
#[cfg(not(feature = "sim"))]
#[inline(always)]
pub fn broken(_name: &'static str) -> bool {
    false
}
