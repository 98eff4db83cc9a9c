//! Tests that can't run here. The checks of a change read these lines and compare
//! them with the list of those that may be missing.

/// Says so.
pub(super) fn tell(test: &str, reason: &str) {
    println!("SKIP {test}: {reason}");
}
