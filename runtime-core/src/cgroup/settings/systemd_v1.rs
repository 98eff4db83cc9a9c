//! The limits and the device rules of cgroup v1 as properties of a unit of systemd.
//!
//! Its names of before v2, and more than there: what systemd is not told of devices it
//! opens again when it likes. A file for which it has no word it leaves alone.

use zbus::Variant;

use super::systemd::{INFINITY, Properties, list, of_device, text, whole_percents};
use super::{PERIOD, QUOTA, Write};
use crate::cgroup::devices::Rules;
use crate::error::{Error, Result};

/// A limit of CPU time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cgroup) struct Bandwidth {
    /// In microseconds; none when it is negative.
    pub(in crate::cgroup) quota: i64,
    /// In microseconds.
    pub(in crate::cgroup) period: u64,
}

impl Default for Bandwidth {
    /// A new cgroup's.
    fn default() -> Self {
        Self { quota: -1, period: 100_000 }
    }
}

impl Properties {
    /// `before` is what holds of a limit of CPU time that is not named, or named by half.
    pub(super) fn limits_v1(&mut self, writes: &mut [Write], before: Bandwidth) {
        for write in writes.iter() {
            self.limit_v1(write);
        }
        self.bandwidth(writes, before);
    }

    fn limit_v1(&mut self, write: &Write) {
        let value = write.value.trim();
        let name = match &*write.file {
            "memory.limit_in_bytes" => "MemoryLimit",
            "cpu.shares" => "CPUShares",
            "pids.max" => "TasksMax",
            "blkio.weight" => "BlockIOWeight",
            "blkio.weight_device" => return self.device("BlockIODeviceWeight", value),
            "blkio.throttle.read_bps_device" => return self.device("BlockIOReadBandwidth", value),
            "blkio.throttle.write_bps_device" => {
                return self.device("BlockIOWriteBandwidth", value);
            }
            _ => return,
        };
        let number = match value {
            "-1" | "max" => Some(INFINITY),
            value => value.parse().ok(),
        };
        if let Some(number) = number {
            self.set(name, Variant::U64(number));
        }
    }

    /// `8:0 1048576`; 0 takes a limit away.
    fn device(&mut self, name: &'static str, value: &str) {
        let Some((device, number)) = value.split_once(' ') else { return };
        if let Ok(number) = number.parse() {
            self.add(name, of_device(device, if number == 0 { INFINITY } else { number }));
        }
    }

    fn bandwidth(&mut self, writes: &mut [Write], before: Bandwidth) {
        let named = |file| writes.iter().rposition(|write| write.file == file);
        let (at_quota, at_period) = (named(QUOTA), named(PERIOD));
        if at_quota.is_none() && at_period.is_none() {
            return;
        }
        let quota = at_quota.map_or(Ok(before.quota), |at| writes[at].value.parse());
        let period = at_period.map_or(Ok(before.period), |at| writes[at].value.parse());
        let (Ok(quota), Ok(period @ 1..)) = (quota, period) else { return };
        let per_second = match u64::try_from(quota) {
            Ok(quota) => {
                let (whole, rounded) = whole_percents(quota, period);
                // COMPAT(runc): the file has the same.
                if let (Some(at), Some(quota)) = (at_quota, rounded) {
                    writes[at].value = quota.to_string();
                }
                whole
            }
            Err(_) => INFINITY,
        };
        self.set("CPUQuotaPeriodUSec", Variant::U64(period));
        self.set("CPUQuotaPerSecUSec", Variant::U64(per_second));
    }

    /// Which devices there are, in the place of those so far.
    ///
    /// # Errors
    /// A rule that systemd has no words for.
    pub(super) fn devices(&mut self, rules: &Rules) -> Result<()> {
        let pair = |path: String, access: String| Variant::new((path, access));
        let of = pair(String::new(), String::new()).value_signature().clone();
        let mut allowed = Vec::new();
        for (allow, line) in rules.lines()?.into_iter().skip(1) {
            let Some((path, access)) = path(&line).filter(|_| allow) else {
                let verb = if allow { "allows" } else { "denies" };
                let what = format!(
                    "on cgroup v1 systemd would forget a device rule that {verb} \"{line}\": it \
                     has no words for it"
                );
                return Err(Error::unsupported("/linux/resources/devices", what));
            };
            allowed.push(pair(path, access));
        }
        let policy = if rules.allow { "auto" } else { "strict" };
        self.set("DevicePolicy", text(policy));
        // Each assignment adds to the list but an empty one, which makes it so.
        self.add("DeviceAllow", list(&of, []));
        if !allowed.is_empty() {
            self.add("DeviceAllow", list(&of, allowed));
        }
        Ok(())
    }
}

/// The devices of a line for `devices.allow` in systemd's words, and the access.
fn path(line: &str) -> Option<(String, String)> {
    let mut words = line.split(' ');
    let (kind, numbers, access) = (words.next()?, words.next()?, words.next()?);
    let kind = if kind == "b" { "block" } else { "char" };
    let path = match numbers.split_once(':')? {
        ("*", "*") => format!("{kind}-*"),
        ("*", _) => return None,
        (major, "*") => format!("{kind}-{major}"),
        _ => format!("/dev/{kind}/{numbers}"),
    };
    Some((path, access.to_owned()))
}
