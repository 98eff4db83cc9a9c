//! The log: one line a record, as engines read runc's.
//!
//! Decides the shape of a line and where it goes. Who logs, and what, is not known
//! here.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use log::{Level, LevelFilter, Log, Metadata, Record};

/// Writes to `file`, or to stderr when there is none.
#[derive(Default)]
struct Logger {
    file: Option<File>,
    json: bool,
}

/// Starts the log and says whether it goes to a file. It is there, on stderr, even
/// when the file or the format is refused.
pub(crate) fn start(file: Option<&Path>, format: &str, debug: bool) -> anyhow::Result<bool> {
    let (logger, result) = match Logger::open(file, format) {
        Ok(logger) => (logger, Ok(file.is_some())),
        Err(error) => (Logger::default(), Err(error)),
    };
    log::set_max_level(if debug { LevelFilter::Debug } else { LevelFilter::Info });
    log::set_boxed_logger(Box::new(logger)).context("starting a second log")?;
    result
}

impl Logger {
    fn open(file: Option<&Path>, format: &str) -> anyhow::Result<Self> {
        let json = match format {
            // COMPAT(runc): an empty one was not given.
            "" | "text" => false,
            "json" => true,
            _ => anyhow::bail!("invalid log-format: {format}"),
        };
        // Appended: an engine keeps one file for many commands.
        let file = file.map(|path| {
            // Nobody else may put lines in, whatever the umask is.
            let opened = OpenOptions::new().create(true).append(true).mode(0o644).open(path);
            opened.map_err(|error| orlop::Error::io(&error, "opening the log").at_path(path))
        });
        Ok(Self { file: file.transpose()?, json })
    }
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let message = record.args().to_string();
        let line = line(self.json, SystemTime::now(), record.level(), &message);
        // One write a line, so that the lines of two processes do not mix. A log
        // that can't be written is no reason to fail the container.
        let _ = match &self.file {
            Some(file) => (&mut &*file).write_all(line.as_bytes()),
            None => std::io::stderr().write_all(line.as_bytes()),
        };
    }

    fn flush(&self) {}
}

/// COMPAT(runc): the keys and the names of levels are logrus's.
fn line(json: bool, time: SystemTime, level: Level, message: &str) -> String {
    let time = rfc3339(time);
    let level = match level {
        Level::Error => "error",
        Level::Warn => "warning",
        Level::Info => "info",
        Level::Debug => "debug",
        Level::Trace => "trace",
    };
    let message = serde_json::Value::from(message);
    if json {
        format!("{{\"level\":\"{level}\",\"msg\":{message},\"time\":\"{time}\"}}\n")
    } else {
        format!("time=\"{time}\" level={level} msg={message}\n")
    }
}

/// Seconds are enough for a reader, and what logrus prints.
fn rfc3339(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (days, second) = (seconds / 86400, seconds % 86400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Year, month and day of a count of days since 1970. Years begin in March here, so
/// that the leap day is the last of its year and months follow one formula.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468; // since the first of March of the year 0
    let (era, day) = (days / 146_097, days % 146_097); // 400 years
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let january = month >= 10;
    (era * 400 + year + u64::from(january), if january { month - 9 } else { month + 3 }, day)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn the_calendar_holds_at_its_edges() {
        assert_eq!(rfc3339(at(0)), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(at(951_782_399)), "2000-02-28T23:59:59Z");
        assert_eq!(rfc3339(at(951_782_400)), "2000-02-29T00:00:00Z");
        assert_eq!(rfc3339(at(4_102_444_799)), "2099-12-31T23:59:59Z");
        assert_eq!(rfc3339(at(4_107_542_400)), "2100-03-01T00:00:00Z");
    }

    // containerd cmd/containerd-shim-runc-v2/process/utils.go (getLastRuntimeError):
    // "level" == "error", "msg", "time" as RFC 3339; podman libpod/oci_conmon_common.go
    // (readConmonPipeData): one object in the whole file.
    #[test]
    fn a_json_line_has_the_keys_that_engines_read() {
        let line = line(true, at(0), Level::Error, "no \"x\"\nhere");
        let value: serde_json::Value = serde_json::from_str(line.trim_end()).unwrap();
        assert_eq!(value["level"], "error");
        assert_eq!(value["msg"], "no \"x\"\nhere");
        assert_eq!(value["time"], "1970-01-01T00:00:00Z");
        assert_eq!(line.matches('\n').count(), 1);
    }

    #[test]
    fn a_text_line_is_one_line() {
        let line = line(false, at(0), Level::Warn, "a\nb");
        assert_eq!(line, "time=\"1970-01-01T00:00:00Z\" level=warning msg=\"a\\nb\"\n");
    }
}
