//! The limits as properties of a unit of systemd.
//!
//! They are made of the values for the files of cgroup v2, so that what came from
//! `unified` and what was converted is told alike (for v1: `systemd_v1`). systemd writes them again when
//! it likes; those that it has no property for it leaves alone. The files are
//! written by us too: they tell what the kernel refuses.

use std::borrow::Cow;
use std::collections::HashMap;

use zbus::{Array, Signature, Variant};

use super::{Settings, Write, annotations};
use crate::error::{Error, Result};

/// "No limit", in systemd's words.
pub(super) const INFINITY: u64 = u64::MAX;

/// What has systemd forget a unit that failed like any other.
const COLLECT: (&str, &str) = ("CollectMode", "inactive-or-failed");

/// What has a scope fail because somebody asked for it by name.
const FAILS: &str = "RuntimeMaxUSec";

/// COMPAT(runc): its words.
const WEIGHT_IGNORED: &str =
    "unable to apply both cpu.weight and cpu.idle to systemd, ignoring cpu.weight";

/// One property of a unit.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::cgroup) struct Property {
    pub(in crate::cgroup) name: Cow<'static, str>,
    pub(in crate::cgroup) value: Variant<'static>,
    /// The first version of systemd that knows it, 0 where every one that runs on
    /// our oldest kernel does. An older one is not told.
    pub(in crate::cgroup) since: u32,
}

/// What systemd is told about a unit.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Properties(pub(in crate::cgroup) Vec<Property>);

impl Properties {
    /// For a new scope: what every container has, what the annotations want, and the
    /// limits, against which no annotation holds.
    ///
    /// # Errors
    /// An annotation `org.systemd.property.*` that can't be read; as
    /// [`Self::for_update`].
    pub fn for_create(
        settings: &mut Settings,
        annotations: Option<&HashMap<String, String>>,
        id: &str,
    ) -> Result<Self, Vec<Error>> {
        let mut properties = Self::default();
        properties.set("Description", text(&format!("orlop container {id}")));
        properties.set("DefaultDependencies", Variant::Bool(false));
        properties.set("Delegate", Variant::Bool(true));
        // COMPAT(runc): engines read what is counted here.
        let io = if settings.bandwidth.is_none() { "IOAccounting" } else { "BlockIOAccounting" };
        for name in ["CPUAccounting", "MemoryAccounting", io, "TasksAccounting"] {
            properties.set(name, Variant::Bool(true));
        }
        for (name, value) in annotations::properties(annotations)? {
            properties.set(name, value);
        }
        let mut limits = Self::for_update(settings).map_err(|error| vec![error])?;
        // Only a new scope can be told.
        if let Some(group) = settings.writes.iter().rfind(|write| write.file == "memory.oom.group")
        {
            let policy = if group.value.trim() == "1" { "kill" } else { "continue" };
            limits.set_since("OOMPolicy", text(policy), 253);
        }
        // A list as a whole: systemd would join both, and one of two names of a device
        // would hold. Ours come last, as a property has other names (MemoryMaxScale).
        properties.0.retain(|property| limits.0.iter().all(|limit| limit.name != property.name));
        properties.0.append(&mut limits.0);
        properties.collect();
        Ok(properties)
    }

    /// For a scope that is there: its limits.
    ///
    /// # Errors
    /// A device rule that systemd would forget (v1).
    pub fn for_update(settings: &mut Settings) -> Result<Self> {
        let mut properties = Self::default();
        if let Some(before) = settings.bandwidth {
            properties.limits_v1(&mut settings.writes, before);
            let devices = settings.devices.as_ref();
            devices.map_or(Ok(()), |devices| properties.devices(&devices.rules))?;
            return Ok(properties);
        }
        let idle = |write: &Write| write.file == "cpu.idle" && write.value.trim() == "1";
        if settings.writes.iter().any(idle) {
            // One property is both, and the kernel has one of them only.
            let before = settings.writes.len();
            settings.writes.retain(|write| write.file != "cpu.weight");
            if settings.writes.len() < before {
                settings.notes.push(WEIGHT_IGNORED.into());
            }
        }
        properties.limits(&mut settings.writes);
        Ok(properties)
    }

    /// Has one that failed go like any other, when its last process has ended: nobody
    /// needs to ask for it. One that is to fail after some time stays until its
    /// deletion, which tells whether it has.
    ///
    /// COMPAT(runc): there each stays that failed.
    fn collect(&mut self) {
        let decides = |property: &Property| property.name == COLLECT.0 || property.name == FAILS;
        if !self.0.iter().any(decides) {
            self.set(COLLECT.0, text(COLLECT.1));
        }
    }

    /// Whether a unit that failed goes by itself.
    pub(in crate::cgroup) fn collects_failed(&self) -> bool {
        let (name, value) = COLLECT;
        self.0.iter().any(|property| property.name == name && property.value == text(value))
    }

    pub(super) fn set(&mut self, name: impl Into<Cow<'static, str>>, value: Variant<'static>) {
        self.set_since(name, value, 0);
    }

    /// Sets a property, or sets it to another value: of two wishes the later holds.
    fn set_since(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        value: Variant<'static>,
        since: u32,
    ) {
        let name = name.into();
        self.0.retain(|property| property.name != name);
        self.0.push(Property { name, value, since });
    }

    /// Adds to a property that is a list: each assignment adds to it.
    pub(super) fn add(&mut self, name: &'static str, value: Variant<'static>) {
        self.0.push(Property { name: name.into(), value, since: 0 });
    }

    fn limits(&mut self, writes: &mut [Write]) {
        for write in writes.iter_mut() {
            self.limit(write);
        }
    }

    /// What one value for a file means. One that is none of those that the file
    /// takes means nothing here: the kernel will refuse it, and say so.
    fn limit(&mut self, write: &mut Write) {
        let value = write.value.trim();
        let amount = |name| bytes(value).map(|bytes| (name, Variant::U64(bytes), 0));
        let count = |name| number(value).map(|number| (name, Variant::U64(number), 0));
        let mask = |name| Some((name, mask(value)?, 0));
        let property = match &*write.file {
            "memory.max" => amount("MemoryMax"),
            "memory.high" => amount("MemoryHigh"),
            "memory.low" => amount("MemoryLow"),
            "memory.min" => amount("MemoryMin"),
            "memory.swap.max" => amount("MemorySwapMax"),
            "memory.zswap.max" => {
                bytes(value).map(|bytes| ("MemoryZSwapMax", Variant::U64(bytes), 253))
            }
            "pids.max" => count("TasksMax"),
            "cpu.weight" => count("CPUWeight"),
            // The weight 0 is how systemd calls it; there is no way to say no.
            "cpu.idle" => (value == "1").then_some(("CPUWeight", Variant::U64(0), 252)),
            "cpuset.cpus" => mask("AllowedCPUs"),
            "cpuset.mems" => mask("AllowedMemoryNodes"),
            "cpu.max" => return self.quota(write),
            "io.max" => return self.throttle(value),
            "io.weight" | "io.bfq.weight" => return self.weight(write),
            _ => None,
        };
        if let Some((name, value, since)) = property {
            self.set_since(name, value, since);
        }
    }

    /// `quota [period]`, both in microseconds.
    fn quota(&mut self, write: &mut Write) {
        let mut words = write.value.split_whitespace();
        let mut word = || words.next().and_then(number);
        let (Some(quota), Some(period @ 1..)) = (word(), word()) else { return };
        let per_second = match quota {
            INFINITY => INFINITY,
            quota => {
                let (whole, rounded) = whole_percents(quota, period);
                // COMPAT(runc): the file has the same, but for one that is named itself.
                if let Some(quota) = rounded
                    && write.pointer.starts_with("/linux/resources/cpu/")
                {
                    write.value = format!("{quota} {period}");
                }
                whole
            }
        };
        self.set("CPUQuotaPeriodUSec", Variant::U64(period));
        self.set("CPUQuotaPerSecUSec", Variant::U64(per_second));
    }

    /// `8:0 rbps=1048576 wiops=max`
    fn throttle(&mut self, value: &str) {
        let Some((device, limits)) = value.split_once(' ') else { return };
        for (key, limit) in limits.split_whitespace().filter_map(|pair| pair.split_once('=')) {
            let name = match key {
                "rbps" => "IOReadBandwidthMax",
                "wbps" => "IOWriteBandwidthMax",
                "riops" => "IOReadIOPSMax",
                "wiops" => "IOWriteIOPSMax",
                _ => continue,
            };
            if let Some(limit) = number(limit) {
                self.add(name, of_device(device, limit));
            }
        }
    }

    /// `100`, `default 100` or `8:0 100`.
    ///
    /// systemd writes `io.weight`, and what it makes of it into `io.bfq.weight`. It
    /// is told the weight that becomes the one of the configuration there.
    fn weight(&mut self, write: &Write) {
        let bfq = write.file == "io.bfq.weight";
        let words: Vec<&str> = write.value.split_whitespace().collect();
        let (device, weight) = match words[..] {
            [weight] | ["default", weight] => (None, weight),
            [device, weight] => (Some(device), weight),
            _ => return,
        };
        let Ok(weight) = weight.parse::<u64>() else { return };
        let weight = if bfq { of_bfq(weight) } else { weight };
        match device {
            None => self.set("IOWeight", Variant::U64(weight)),
            Some(device) => {
                let value = of_device(device, weight);
                self.add("IODeviceWeight", value);
            }
        }
    }
}

pub(super) fn text(text: &str) -> Variant<'static> {
    Variant::Str(text.to_owned().into())
}

/// `a(st)` with one device and its number.
pub(super) fn of_device(device: &str, number: u64) -> Variant<'static> {
    let pair = Variant::new((format!("/dev/block/{device}"), number));
    list(&pair.value_signature().clone(), [pair])
}

/// An array; the values are of that type.
pub(super) fn list(
    of: &Signature,
    values: impl IntoIterator<Item = Variant<'static>>,
) -> Variant<'static> {
    let mut list = Array::new(of);
    for value in values {
        // It fails for a value of another type only.
        let _ = list.append(value);
    }
    Variant::Array(list)
}

/// A quota as systemd keeps it: microseconds in a second; and that in its period, if
/// it is another than what was asked for.
///
/// COMPAT(runc): systemd keeps whole percents. Rounded up, so that what it writes some
/// day is not less than what was asked for.
pub(super) fn whole_percents(quota: u64, period: u64) -> (u64, Option<u128>) {
    let exact = u128::from(quota) * 1_000_000 / u128::from(period);
    let whole = exact.next_multiple_of(10_000);
    let rounded = (whole != exact).then(|| whole * u128::from(period) / 1_000_000);
    (whole.try_into().unwrap_or(INFINITY), rounded)
}

/// The weight of `io.weight` (1 to 10000) that systemd turns into this one of
/// `io.bfq.weight` (1 to 1000): straight lines that meet in 100 (systemd,
/// `BFQ_WEIGHT`).
fn of_bfq(weight: u64) -> u64 {
    match weight.min(1000) {
        weight @ ..=100 => weight,
        weight => 100 + (weight - 100) * 9900 / 900,
    }
}

/// A number, or `max`.
fn number(text: &str) -> Option<u64> {
    if text == "max" { Some(INFINITY) } else { text.parse().ok() }
}

/// A number of bytes as the kernel reads it (memparse): `max`, `4096`, `1G`.
fn bytes(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match &text[digits.len()..] {
        _ if text == "max" => return Some(INFINITY),
        "" => 0,
        "K" | "k" => 10,
        "M" | "m" => 20,
        "G" | "g" => 30,
        "T" | "t" => 40,
        "P" | "p" => 50,
        "E" | "e" => 60,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// The bits of a list such as `0-3,7` or `0-31:2/16`, which is two of every 16; the
/// first byte has the first eight.
fn mask(list: &str) -> Option<Variant<'static>> {
    // More than any kernel is built for.
    const MOST: usize = 8192;
    let mut bits: Vec<u8> = Vec::new();
    for range in list.split(',').map(str::trim).filter(|range| !range.is_empty()) {
        let (range, group) = range.split_once(':').unwrap_or((range, "1/1"));
        let (used, group) = group.split_once('/')?;
        let (used, group) = (used.parse::<usize>().ok()?, group.parse::<usize>().ok()?);
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last) = (first.parse::<usize>().ok()?, last.parse::<usize>().ok()?);
        if first > last || last >= MOST || used > group || group == 0 {
            return None;
        }
        bits.resize(bits.len().max(last / 8 + 1), 0);
        let chosen = (first..=last).filter(|bit| (bit - first) % group < used);
        chosen.for_each(|bit| bits[bit / 8] |= 1 << (bit % 8));
    }
    (!bits.is_empty()).then(|| self::list(&Signature::U8, bits.into_iter().map(Variant::U8)))
}

#[cfg(test)]
#[path = "systemd_tests.rs"]
mod tests;
