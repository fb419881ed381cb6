//! Mistakes made on purpose: the simulator plants one and has to find it. Nothing of this is in a build without the feature.

use std::cell::Cell;

thread_local! {
    static PLANTED: Cell<Option<&'static str>> = const { Cell::new(None) };
}

/// Whether this thread makes the mistake of this name.
pub fn is(name: &str) -> bool {
    PLANTED.with(|planted| planted.get() == Some(name))
}

/// Plants a mistake in this thread, or takes it out.
pub fn plant(name: Option<&'static str>) {
    PLANTED.with(|planted| planted.set(name));
}
