//! Which devices a container may use: PURE.
//!
//! Rules of the configuration become one normal form: a default, and exceptions
//! to it in order. Of two rules that speak about the same access to the same
//! device the later one holds. From the normal form come the lines for v1's
//! `devices.allow` and `devices.deny`, and v2's program (see `program`).
//!
//! COMPAT(runc): the devices every container needs are allowed behind the rules
//! of the configuration, and without any rule nothing else is.

use oci_spec::runtime::{LinuxDevice, LinuxDeviceCgroup, LinuxDeviceType};

use crate::error::{Error, Kind, Result};

/// mknod(2) of a device; as in `BPF_DEVCG_ACC_MKNOD`.
pub(super) const MKNOD: u8 = 1;
/// Opening a device for reading.
pub(super) const READ: u8 = 2;
/// Opening a device for writing.
pub(super) const WRITE: u8 = 4;
/// Every access.
pub(super) const ALL: u8 = MKNOD | READ | WRITE;

/// A kind of device node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Node {
    Block,
    Char,
}

/// A set of devices: those of one kind, or of one major number, or one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Devices {
    pub(super) node: Node,
    /// Every major number when absent.
    pub(super) major: Option<u32>,
    /// Every minor number when absent.
    pub(super) minor: Option<u32>,
}

impl Devices {
    fn covers(&self, other: &Self) -> bool {
        let covers = |mine: Option<u32>, other| mine.is_none() || mine == other;
        self.node == other.node
            && covers(self.major, other.major)
            && covers(self.minor, other.minor)
    }

    fn meets(&self, other: &Self) -> bool {
        let meet = |a: Option<u32>, b: Option<u32>| a.is_none() || b.is_none() || a == b;
        self.node == other.node && meet(self.major, other.major) && meet(self.minor, other.minor)
    }
}

/// One exception to the default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rule {
    pub(super) devices: Devices,
    pub(super) allow: bool,
    pub(super) access: u8,
}

/// The normal form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rules {
    /// What holds for a device that no exception names.
    pub(super) allow: bool,
    /// In order, the later one holds.
    pub(super) exceptions: Vec<Rule>,
}

/// Major and minor numbers of the character devices that every container may
/// use, with the path that a device of the configuration may claim for itself.
const DEFAULTS: [(&str, u32, Option<u32>); 9] = [
    ("/dev/null", 1, Some(3)),
    ("/dev/random", 1, Some(8)),
    ("/dev/full", 1, Some(7)),
    ("/dev/tty", 5, Some(0)),
    ("/dev/zero", 1, Some(5)),
    ("/dev/urandom", 1, Some(9)),
    // The pseudo terminals and ptmx.
    ("", 136, None),
    ("", 5, Some(2)),
    // COMPAT(runc): /dev/net/tun, for tunnels that a container makes by itself, with
    // CAP_NET_ADMIN.
    ("", 10, Some(200)),
];

impl Rules {
    /// The rules of `/linux/resources/devices` and, behind them, the defaults
    /// that no device in `/linux/devices` replaces.
    ///
    /// # Errors
    /// One for each rule that makes no sense.
    pub(super) fn new(
        listed: &[LinuxDeviceCgroup],
        devices: &[LinuxDevice],
    ) -> Result<Self, Vec<Error>> {
        let mut rules = Self { allow: false, exceptions: Vec::new() };
        let mut errors = Vec::new();
        for (index, rule) in listed.iter().enumerate() {
            if let Err(error) = rules.add_listed(index, rule) {
                errors.push(error);
            }
        }
        // Making a node gives no access to the device behind it.
        for node in [Node::Char, Node::Block] {
            rules.add(Devices { node, major: None, minor: None }, true, MKNOD);
        }
        let claimed = |path: &str| devices.iter().any(|device| device.path().as_os_str() == path);
        for (path, major, minor) in DEFAULTS {
            if path.is_empty() || !claimed(path) {
                rules.add(Devices { node: Node::Char, major: Some(major), minor }, true, ALL);
            }
        }
        if rules.exceptions.iter().all(|rule| rule.allow != rules.allow) {
            // All say the same, so their order means nothing: the sorted ones
            // share their comparisons in the program.
            rules.exceptions.sort_unstable();
        }
        if errors.is_empty() { Ok(rules) } else { Err(errors) }
    }

    /// The first rule that has letters which say nothing.
    ///
    /// COMPAT(runc): it passes over them.
    pub(super) fn more_letters(listed: &[LinuxDeviceCgroup]) -> Option<usize> {
        let mut all = listed.iter().map(|rule| rule.access().as_deref().unwrap_or_default());
        all.position(|letters| letters.chars().any(|letter| !"rwm".contains(letter)))
    }

    fn add_listed(&mut self, index: usize, rule: &LinuxDeviceCgroup) -> Result<()> {
        let pointer = |field: &str| format!("/linux/resources/devices/{index}{field}");
        let letters = rule.access().as_deref().unwrap_or_default();
        if letters.is_empty() {
            let text = format!("device access at {index} field cannot be empty");
            return Err(Error::config(pointer("/access"), text));
        }
        let bit = |(letter, bit): (char, u8)| if letters.contains(letter) { bit } else { 0 };
        let access = [('r', READ), ('w', WRITE), ('m', MKNOD)].map(bit).iter().sum::<u8>();
        if access == 0 {
            let text = format!("device access {letters:?} has none of the letters r, w and m");
            return Err(Error::config(pointer("/access"), text));
        }
        let number = |field: &str, value: Option<i64>| match value {
            // COMPAT(runc): -1 is another way to say every number.
            None | Some(-1) => Ok(None),
            Some(number) => u32::try_from(number).map(Some).map_err(|_| {
                Error::config(pointer(field), format!("{number} is not a device number"))
            }),
        };
        let (major, minor) = (number("/major", rule.major())?, number("/minor", rule.minor())?);
        match rule.typ().unwrap_or_default() {
            // COMPAT(runc): runc takes this type as every access to every
            // device, whatever the rule says beside it; we read the whole rule,
            // so that one that allows little does not open everything.
            LinuxDeviceType::A if (major, minor, access) == (None, None, ALL) => {
                *self = Self { allow: rule.allow(), exceptions: Vec::new() };
            }
            LinuxDeviceType::A => {
                self.add(Devices { node: Node::Block, major, minor }, rule.allow(), access);
                self.add(Devices { node: Node::Char, major, minor }, rule.allow(), access);
            }
            LinuxDeviceType::B => {
                self.add(Devices { node: Node::Block, major, minor }, rule.allow(), access);
            }
            LinuxDeviceType::C => {
                self.add(Devices { node: Node::Char, major, minor }, rule.allow(), access);
            }
            other => {
                let text = format!("invalid cgroup device type {:?}", other.as_str());
                return Err(Error::config(pointer("/type"), text));
            }
        }
        Ok(())
    }

    fn add(&mut self, devices: Devices, allow: bool, access: u8) {
        for rule in &mut self.exceptions {
            if devices.covers(&rule.devices) {
                rule.access &= !access;
            }
        }
        self.exceptions.retain(|rule| rule.access != 0);
        let against = self.exceptions.iter().any(|rule| {
            rule.allow != allow && rule.access & access != 0 && rule.devices.meets(&devices)
        });
        if allow == self.allow && !against {
            return;
        }
        let mixed = self.exceptions.iter().any(|rule| rule.allow != allow);
        let same = self.exceptions.iter_mut().find(|rule| rule.devices == devices);
        match same {
            Some(rule) if !mixed => rule.access |= access,
            _ => self.exceptions.push(Rule { devices, allow, access }),
        }
    }

    /// Whether these rules forbid nothing.
    pub(super) fn allow_all(&self) -> bool {
        self.allow && self.exceptions.is_empty()
    }

    /// The lines for v1, in order: whether each goes to `devices.allow`.
    ///
    /// # Errors
    /// An exception from an exception: v1 keeps one list, and would silently
    /// ignore it.
    pub(super) fn lines(&self) -> Result<Vec<(bool, String)>> {
        let mut lines = vec![(self.allow, "a".to_owned())];
        for rule in &self.exceptions {
            if rule.allow == self.allow {
                let line = line(rule);
                return Err(Error::unsupported(
                    "/linux/resources/devices",
                    format!("cgroup v1 can't take \"{line}\" out of a wider device rule"),
                ));
            }
            // v1 wants one entry with everything that is asked for: what a wider
            // one gives has to be said again.
            let wider = self.exceptions.iter().filter(|wider| wider.devices.covers(&rule.devices));
            let access = wider.fold(rule.access, |access, wider| access | wider.access);
            let line = line(&Rule { access, ..*rule });
            lines.push((rule.allow, line));
        }
        Ok(lines)
    }

    /// The lines for v1 that make these rules of `before`: what both allow is allowed all
    /// the while. None where the two do not begin alike.
    ///
    /// # Errors
    /// As [`Self::lines`]'s.
    pub(super) fn changes(&self, before: &Self) -> Result<Option<Vec<(bool, String)>>> {
        if self.allow != before.allow {
            return Ok(None);
        }
        let entries = |rules: &Self| -> Result<Vec<(String, String)>> {
            let lines = rules.lines()?.into_iter().skip(1);
            let parts = lines.filter_map(|(_, line)| {
                let (device, access) = line.rsplit_once(' ')?;
                Some((device.to_owned(), access.to_owned()))
            });
            Ok(parts.collect())
        };
        let (old, new) = (entries(before)?, entries(self)?);
        let more = |these: &[(String, String)], than: &[(String, String)]| {
            let mut more = Vec::new();
            for (device, access) in these {
                let there = than.iter().find(|(other, _)| other == device);
                let there = there.map_or("", |(_, access)| access);
                let letters: String = access.chars().filter(|one| !there.contains(*one)).collect();
                if !letters.is_empty() {
                    more.push(format!("{device} {letters}"));
                }
            }
            more
        };
        // An entry is an exception from what holds for all.
        let added = more(&new, &old).into_iter().map(|line| (!self.allow, line));
        let removed = more(&old, &new).into_iter().map(|line| (self.allow, line));
        Ok(Some(added.chain(removed).collect()))
    }

    /// What the rules say, for tests: the reference that lists and programs are
    /// compared with.
    #[cfg(test)]
    pub(super) fn permits(&self, node: Node, major: u32, minor: u32, access: u8) -> bool {
        let asked = Devices { node, major: Some(major), minor: Some(minor) };
        [MKNOD, READ, WRITE].into_iter().filter(|bit| access & bit != 0).all(|bit| {
            let last = self
                .exceptions
                .iter()
                .rev()
                .find(|rule| rule.access & bit != 0 && rule.devices.covers(&asked));
            last.map_or(self.allow, |rule| rule.allow)
        })
    }
}

fn line(rule: &Rule) -> String {
    let node = match rule.devices.node {
        Node::Block => 'b',
        Node::Char => 'c',
    };
    let number = |value: Option<u32>| value.map_or("*".to_owned(), |value| value.to_string());
    let mut line = format!("{node} {}:{} ", number(rule.devices.major), number(rule.devices.minor));
    for (bit, letter) in [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')] {
        if rule.access & bit != 0 {
            line.push(letter);
        }
    }
    line
}

/// A program or list that the kernel can't hold.
pub(super) fn too_many() -> Error {
    Error::new(Kind::InvalidConfig, "there are too many device rules for one program")
        .at(crate::error::Place::Config("/linux/resources/devices".into()))
}

#[cfg(test)]
#[path = "devices_tests.rs"]
mod tests;
