//! How the kernel writes the numbers of a cgroup, PURE: tables of keys, pressure,
//! lists, entries of devices. A line that is none of these is an error with its file.

use std::collections::BTreeMap;

use nix::errno::Errno;

use super::{BlockEntry, Pressure, Rdma, Stall};
use crate::cgroup::directory::{Directory, kind_of};
use crate::error::{Error, Kind, Result};

/// The files of one cgroup. What the kernel does not have is `None`.
pub(super) struct Files<'a>(pub(super) &'a Directory);

impl Files<'_> {
    /// A whole text.
    pub(super) fn text(&self, file: &str) -> Result<Option<String>> {
        self.existing(file, self.0.read_all(file))
    }

    fn existing(&self, file: &str, read: Result<String, Errno>) -> Result<Option<String>> {
        match read {
            Ok(text) => Ok(Some(text)),
            // KERNEL(<5.2), and pressure that is not counted: ENOTSUP on reading.
            Err(Errno::ENOENT | Errno::EOPNOTSUPP) => Ok(None),
            Err(errno) => {
                let error = Error::os(errno as i32, "reading the cgroup's statistics");
                Err(error.at_path(self.0.path().join(file)).of_kind(kind_of(errno)))
            }
        }
    }

    /// Parses what is there.
    pub(super) fn parse<T>(
        &self,
        file: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(text) = self.text(file)? else { return Ok(None) };
        parse(&text).map(Some).ok_or_else(|| self.unreadable(file))
    }

    fn unreadable(&self, file: &str) -> Error {
        let error = Error::new(Kind::Cgroup, "the cgroup's statistics can't be read");
        error.at_path(self.0.path().join(file))
    }

    /// A number; `max` is `u64::MAX`, and nothing is 0. It needs one read(2).
    pub(super) fn number(&self, file: &str) -> Result<u64> {
        let Some(text) = self.existing(file, self.0.read(file))? else { return Ok(0) };
        number(&text).ok_or_else(|| self.unreadable(file))
    }

    /// What is used of each device for remote DMA. The limits name every device.
    pub(super) fn rdma(&self) -> Result<Vec<Rdma>> {
        let Some(mut devices) = self.parse("rdma.max", rdma)? else { return Ok(Vec::new()) };
        let used = self.parse("rdma.current", rdma)?.unwrap_or_default();
        for device in &mut devices {
            let used = used.iter().find(|used| used.device == device.device);
            let (handles, objects) = used.map_or((0, 0), |used| (used.handles.1, used.objects.1));
            (device.handles.0, device.objects.0) = (handles, objects);
        }
        Ok(devices)
    }

    /// A table of keys and numbers.
    pub(super) fn table(&self, file: &str) -> Result<Option<BTreeMap<String, u64>>> {
        self.parse(file, table)
    }
}

pub(super) fn number(text: &str) -> Option<u64> {
    match text.trim_end() {
        "max" => Some(u64::MAX),
        digits => digits.parse().ok(),
    }
}

pub(super) fn table(text: &str) -> Option<BTreeMap<String, u64>> {
    let line = |line: &str| {
        let (key, value) = line.split_once(' ')?;
        Some((key.to_owned(), value.parse().ok()?))
    };
    text.lines().map(line).collect()
}

/// `mlx4_0 hca_handle=2 hca_object=max` in each line, as the most of each.
fn rdma(text: &str) -> Option<Vec<Rdma>> {
    let line = |line: &str| {
        let mut words = line.split(' ');
        let mut device = Rdma { device: words.next()?.to_owned(), ..Rdma::default() };
        for word in words {
            match word.split_once('=')? {
                ("hca_handle", value) => device.handles.1 = number(value)?,
                ("hca_object", value) => device.objects.1 = number(value)?,
                _ => {}
            }
        }
        Some(device)
    };
    text.lines().map(line).collect()
}

/// Numbers between white space.
pub(super) fn numbers(text: &str) -> Option<Vec<u64>> {
    text.split_ascii_whitespace().map(|word| word.parse().ok()).collect()
}

/// A list of the kernel's: `0-2,4`.
pub(super) fn list(text: &str) -> Option<Vec<u16>> {
    let mut all = Vec::new();
    for part in text.trim_end().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        all.extend(first.parse::<u16>().ok()?..=last.parse().ok()?);
    }
    Some(all)
}

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`, and the same for `full`, which
/// the processors of the whole machine do not have.
pub(super) fn pressure(text: &str) -> Option<Pressure> {
    let mut pressure = Pressure::default();
    for line in text.lines() {
        let (who, rest) = line.split_once(' ')?;
        let stall = match who {
            "some" => &mut pressure.some,
            "full" => &mut pressure.full,
            _ => continue,
        };
        for word in rest.split(' ') {
            let (key, value) = word.split_once('=')?;
            let Stall { avg10, avg60, avg300, total } = stall;
            match key {
                "avg10" => *avg10 = value.parse().ok()?,
                "avg60" => *avg60 = value.parse().ok()?,
                "avg300" => *avg300 = value.parse().ok()?,
                "total" => *total = value.parse().ok()?,
                _ => {}
            }
        }
    }
    Some(pressure)
}

/// v1: `8:0 Read 4096` or `8:0 7`, and a last line with the sum of all.
pub(super) fn block_entries(text: &str) -> Option<Vec<BlockEntry>> {
    let entry = |line: &str| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let (device, op, value) = match words[..] {
            [device, value] => (device, "", value),
            [device, op, value] => (device, op, value),
            _ => return None,
        };
        let (major, minor) = device_number(device)?;
        Some(BlockEntry { major, minor, op: op.to_owned(), value: value.parse().ok()? })
    };
    text.lines().filter(|line| !line.starts_with("Total")).map(entry).collect()
}

/// v2: a line for each device, `8:0 rbytes=1 wbytes=2 rios=3 ...`. `keys` are those that
/// are wanted, with what they are called.
pub(super) fn block_keys(text: &str, keys: &[(&str, &str)]) -> Option<Vec<BlockEntry>> {
    let mut entries = Vec::new();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let Some((major, minor)) = words.next().and_then(device_number) else { continue };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            if let Some((_, op)) = keys.iter().find(|(wanted, _)| *wanted == key) {
                let (op, value) = ((*op).to_owned(), value.parse().ok()?);
                entries.push(BlockEntry { major, minor, op, value });
            }
        }
    }
    Some(entries)
}

fn device_number(text: &str) -> Option<(u64, u64)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_lists() {
        assert_eq!(number("17\n"), Some(17));
        assert_eq!(number("max\n"), Some(u64::MAX));
        assert_eq!(number("x\n"), None);
        assert_eq!(list("0-2,4\n"), Some(vec![0, 1, 2, 4]));
        assert_eq!(list("\n"), Some(vec![]));
        assert_eq!(list("1-\n"), None);
        assert_eq!(numbers("1 2 3 \n"), Some(vec![1, 2, 3]));
    }

    #[test]
    fn a_table_has_a_key_and_a_number_in_each_line() {
        let wanted = [("anon", 1), ("file", 2)].map(|(key, value)| (key.to_owned(), value));
        assert_eq!(table("anon 1\nfile 2\n"), Some(wanted.into()));
        assert_eq!(table("anon one\n"), None);
        assert_eq!(table("anon\n"), None);
    }

    #[test]
    fn pressure_is_told_for_some_and_for_all() {
        let text = "some avg10=1.50 avg60=0.00 avg300=0.25 total=4711\n\
                    full avg10=0.00 avg60=0.00 avg300=0.00 total=3\n";
        let some = Stall { avg10: 1.5, avg60: 0.0, avg300: 0.25, total: 4711 };
        let full = Stall { total: 3, ..Stall::default() };
        assert_eq!(pressure(text), Some(Pressure { some, full }));
        assert_eq!(pressure("some avg10\n"), None);
    }

    #[test]
    fn devices_are_told_apart_by_number_and_direction() {
        let entry =
            |major, minor, op: &str, value| BlockEntry { major, minor, op: op.to_owned(), value };
        let v1 = "8:0 Read 4096\n8:0 Write 0\n253:1 7\nTotal 4103\n";
        let wanted = vec![entry(8, 0, "Read", 4096), entry(8, 0, "Write", 0), entry(253, 1, "", 7)];
        assert_eq!(block_entries(v1), Some(wanted));
        assert_eq!(block_entries("8:0 Read\n"), None);
        let v2 = "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n253:0 \n";
        let keys = [("rbytes", "Read"), ("wbytes", "Write")];
        let wanted = vec![entry(8, 0, "Read", 1), entry(8, 0, "Write", 2)];
        assert_eq!(block_keys(v2, &keys), Some(wanted));
        assert_eq!(block_keys("8:0 rbytes=x\n", &keys), None);
    }
}
