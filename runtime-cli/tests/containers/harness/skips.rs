//! Tests that can't run here: on the screen, and in a file that the checks of a
//! change compare with the list of those that may be missing.

use std::fs::File;
use std::io::Write;

/// Says so in both places.
pub(super) fn tell(test: &str, reason: &str) {
    let line = format!("SKIP {test}: {reason}");
    println!("{line}");
    let path = concat!(env!("CARGO_TARGET_TMPDIR"), "/skips.txt");
    let file = File::options().append(true).create(true).open(path);
    writeln!(file.unwrap(), "{line}").unwrap();
}
