//! What CRIU's log file says of a failure, in one line with the file's name.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::error::{Error, Kind, excerpt};

/// How much of the file's end is looked at, in bytes.
const TAIL: u64 = 64 * 1024;

/// How many of the last errors are quoted.
const MOST: usize = 3;

/// The same failure, with the errors that CRIU has written last. A failure that is not
/// CRIU's is left as it is.
pub(super) fn explain(error: Error, log: &Path) -> Error {
    if !matches!(error.kind(), Kind::Os | Kind::AlreadyExists | Kind::ChildDied) {
        return error;
    }
    // A FIFO would be waited for.
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_NOFOLLOW;
    let opened = File::options().read(true).custom_flags(flags).open(log);
    let Ok(file) = opened else { return error };
    let already = error.to_string();
    let mut told = errors(&tail(file));
    // CRIU's answer may quote its first error too.
    told.retain(|line| !already.contains(line.as_str()));
    if told.is_empty() {
        return Error::new(error.kind(), format!("{error}, see")).at_path(log);
    }
    let words = format!("{error}: {}, see", excerpt(&told.join("; ")));
    Error::new(error.kind(), words).at_path(log)
}

fn tail(mut file: File) -> String {
    let length = file.metadata().map_or(0, |metadata| metadata.len());
    let mut bytes = Vec::new();
    let _ = file.seek(SeekFrom::Start(length.saturating_sub(TAIL)));
    let _ = file.take(TAIL).read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The last lines that tell an error, without time and without the last word on all of
/// it, which says only that it failed.
fn errors(text: &str) -> Vec<String> {
    let lines = text.lines().filter_map(|line| line.find("Error").map(|at| line[at..].trim()));
    let lines: Vec<&str> = lines.filter(|line| !line.ends_with("FAILED.")).collect();
    lines[lines.len().saturating_sub(MOST)..].iter().map(|line| (*line).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "(00.1) Something\n\
        (00.2) Error (criu/a.c:1): one\n(00.3) Error (criu/a.c:2): two\n\
        Error (criu/util.c:641): three\n(00.4) Unfreezing\n(00.5) Error (criu/a.c:3): four\n\
        (00.6) Error (criu/cr-dump.c:2111): Dumping FAILED.\n";

    #[test]
    fn the_last_errors_are_quoted_in_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("dump.log");
        std::fs::write(&log, LOG).unwrap();
        let error = explain(Error::new(Kind::Os, "criu failed: type DUMP errno 0"), &log);
        let expected = format!(
            "criu failed: type DUMP errno 0: Error (criu/a.c:2): two; Error (criu/util.c:641): \
             three; Error (criu/a.c:3): four, see {log:?}"
        );
        assert_eq!(error.to_string(), expected);
        let answer = "criu failed: type DUMP errno 0: Error (criu/a.c:2): two";
        let error = explain(Error::new(Kind::Os, answer), &log);
        let expected = format!(
            "{answer}: Error (criu/util.c:641): three; Error (criu/a.c:3): four, see {log:?}"
        );
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn a_failure_without_a_log_is_told_all_the_same() {
        let error = Error::new(Kind::Os, "criu failed");
        assert_eq!(explain(error, Path::new("/nowhere")).to_string(), "criu failed");
    }
}
