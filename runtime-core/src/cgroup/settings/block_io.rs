//! Block I/O limits, whose files differ by the scheduler that the kernel has.

use oci_spec::runtime::{LinuxBlockIo, LinuxResources, LinuxThrottleDevice};

use super::{List, Missing};

/// A list of throttled devices: the field's name, the file of v1, the key of
/// v2's `io.max`.
type Throttles<'a> =
    (&'static str, &'static str, &'static str, &'a Option<Vec<LinuxThrottleDevice>>);

fn throttles(block_io: &LinuxBlockIo) -> [Throttles<'_>; 4] {
    [
        (
            "throttleReadBpsDevice",
            "blkio.throttle.read_bps_device",
            "rbps",
            block_io.throttle_read_bps_device(),
        ),
        (
            "throttleWriteBpsDevice",
            "blkio.throttle.write_bps_device",
            "wbps",
            block_io.throttle_write_bps_device(),
        ),
        (
            "throttleReadIOPSDevice",
            "blkio.throttle.read_iops_device",
            "riops",
            block_io.throttle_read_iops_device(),
        ),
        (
            "throttleWriteIOPSDevice",
            "blkio.throttle.write_iops_device",
            "wiops",
            block_io.throttle_write_iops_device(),
        ),
    ]
}

/// `io.weight` (1 to 10000) for a weight of v1 (10 to 1000).
///
/// COMPAT(runc): the line through both ends.
fn io_weight(weight: u16) -> u64 {
    1 + (u64::from(weight).max(10) - 10) * 9999 / 990
}

impl List {
    pub(super) fn block_io_v1(&mut self, resources: &LinuxResources) {
        let Some(block_io) = resources.block_io() else { return };
        if let Some(weight) = block_io.weight().filter(|weight| *weight != 0) {
            let instead = Missing::Instead { file: "blkio.bfq.weight", value: weight.to_string() };
            let pointer = "/linux/resources/blockIO/weight";
            self.push("blkio", "blkio.weight", &weight, pointer).missing = instead;
        }
        if let Some(weight) = block_io.leaf_weight().filter(|weight| *weight != 0) {
            let pointer = "/linux/resources/blockIO/leafWeight";
            self.push("blkio", "blkio.leaf_weight", &weight, pointer);
        }
        for (index, device) in block_io.weight_device().iter().flatten().enumerate() {
            let pointer = format!("/linux/resources/blockIO/weightDevice/{index}");
            let Some(number) = self.number(&pointer, device.major(), device.minor()) else {
                continue;
            };
            if let Some(weight) = device.weight().filter(|weight| *weight != 0) {
                let value = format!("{number} {weight}");
                let instead =
                    Missing::Instead { file: "blkio.bfq.weight_device", value: value.clone() };
                let pointer = format!("{pointer}/weight");
                self.push("blkio", "blkio.weight_device", &value, pointer).missing = instead;
            }
            if let Some(weight) = device.leaf_weight().filter(|weight| *weight != 0) {
                let value = format!("{number} {weight}");
                let pointer = format!("{pointer}/leafWeight");
                self.push("blkio", "blkio.leaf_weight_device", &value, pointer);
            }
        }
        for (field, file, _, devices) in throttles(block_io) {
            for (index, device) in devices.iter().flatten().enumerate() {
                let pointer = format!("/linux/resources/blockIO/{field}/{index}");
                if let Some(number) = self.number(&pointer, device.major(), device.minor()) {
                    self.push("blkio", file, &format!("{number} {}", device.rate()), pointer);
                }
            }
        }
    }

    pub(super) fn block_io_v2(&mut self, resources: &LinuxResources) {
        let Some(block_io) = resources.block_io() else { return };
        if let Some(weight) = block_io.weight().filter(|weight| *weight != 0) {
            let value = io_weight(weight).to_string();
            let pointer = "/linux/resources/blockIO/weight";
            self.push("io", "io.bfq.weight", &weight, pointer).missing =
                Missing::Instead { file: "io.weight", value };
        }
        let leaf = "cgroup v2 has no weight of a cgroup's own processes";
        if block_io.leaf_weight().is_some_and(|weight| weight != 0) {
            self.unsupported("/linux/resources/blockIO/leafWeight", leaf);
        }
        for (index, device) in block_io.weight_device().iter().flatten().enumerate() {
            let pointer = format!("/linux/resources/blockIO/weightDevice/{index}");
            if device.leaf_weight().is_some_and(|weight| weight != 0) {
                self.unsupported(&format!("{pointer}/leafWeight"), leaf);
            }
            let number = self.number(&pointer, device.major(), device.minor());
            if let (Some(number), Some(weight)) =
                (number, device.weight().filter(|weight| *weight != 0))
            {
                let value = format!("{number} {}", io_weight(weight));
                let pointer = format!("{pointer}/weight");
                self.push("io", "io.bfq.weight", &format!("{number} {weight}"), pointer).missing =
                    Missing::Instead { file: "io.weight", value };
            }
        }
        for (field, _, key, devices) in throttles(block_io) {
            for (index, device) in devices.iter().flatten().enumerate() {
                let pointer = format!("/linux/resources/blockIO/{field}/{index}");
                if let Some(number) = self.number(&pointer, device.major(), device.minor()) {
                    // v1 takes a limit away with 0, v2 with a word.
                    let rate = match device.rate() {
                        0 => "max".to_owned(),
                        rate => rate.to_string(),
                    };
                    self.push("io", "io.max", &format!("{number} {key}={rate}"), pointer);
                }
            }
        }
    }

    fn number(&mut self, pointer: &str, major: i64, minor: i64) -> Option<String> {
        for (field, number) in [("major", major), ("minor", minor)] {
            if u32::try_from(number).is_err() {
                let text = format!("{number} is not a device number");
                self.refuse(format!("{pointer}/{field}"), text);
                return None;
            }
        }
        Some(format!("{major}:{minor}"))
    }
}
