//! The log: lines to containerd, which copies them into its own.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::OnceLock;

use log::{LevelFilter, Log, Metadata, Record};

struct Lines(OnceLock<File>);

static LINES: Lines = Lines(OnceLock::new());

impl Log for Lines {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let Some(mut file) = self.0.get() else { return };
        let level = record.level().as_str().to_lowercase();
        let message = record.args().to_string();
        let line = format!("level={level} msg={message:?}\n");
        // Nobody may be there to read it, and the shim waits for nobody.
        let _ = file.write(line.as_bytes());
    }

    fn flush(&self) {}
}

/// Where lines go from now on.
pub(crate) fn start(file: File, debug: bool) {
    let _ = LINES.0.set(file);
    let _ = log::set_logger(&LINES);
    log::set_max_level(if debug { LevelFilter::Debug } else { LevelFilter::Info });
}

/// What a step must keep open.
pub(crate) fn file() -> Option<BorrowedFd<'static>> {
    LINES.0.get().map(AsFd::as_fd)
}
