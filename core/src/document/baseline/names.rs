//! Names of columns, which the cells of all rows of a table have in common: kept once, they cost no allocation a cell, and stay
//! where the processor has them at hand.

use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::Arc;

/// More are forgotten and begun anew: a peer may describe any number.
const NAMES_MAX: usize = 1 << 14;

thread_local! {
    static NAMES: RefCell<HashSet<Arc<str>>> = RefCell::default();
}

/// A name as all cells share it.
pub(super) fn shared(name: &str) -> Arc<str> {
    NAMES.with_borrow_mut(|names| {
        if let Some(known) = names.get(name) {
            return known.clone();
        }
        if names.len() >= NAMES_MAX {
            names.clear();
        }
        let new: Arc<str> = name.into();
        names.insert(new.clone());
        new
    })
}
