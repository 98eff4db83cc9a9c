//! Mount options: a pure table from the option's name to what it changes.
//!
//! Decides what an fstab-style word means to the kernel's mount calls. Knows
//! neither the mount it belongs to nor the host; what may be done with an effect
//! on this or that kind of mount is `mounts.rs`'s business.
//!
//! SPEC: config.md, "Linux mount options". The last of contradicting ones wins; kinds of
//! propagation come one after another, as with mount(8).

use orlop_init::sys::abi::{
    MOUNT_ATTR_ATIME, MOUNT_ATTR_NOATIME, MOUNT_ATTR_NODEV, MOUNT_ATTR_NODIRATIME,
    MOUNT_ATTR_NOEXEC, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NOSYMFOLLOW, MOUNT_ATTR_RDONLY,
    MOUNT_ATTR_RELATIME, MOUNT_ATTR_STRICTATIME, MS_PRIVATE, MS_SHARED, MS_SLAVE, MS_UNBINDABLE,
};

/// Changes to the attributes of a mount, as mount_setattr(2) takes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Attributes {
    /// `MOUNT_ATTR_*` to set.
    pub(super) set: u64,
    /// `MOUNT_ATTR_*` to clear; the whole access-time field when one is set.
    pub(super) clear: u64,
}

impl Attributes {
    fn change(&mut self, set: u64, mut clear: u64) {
        // The kernel takes the access-time field as a whole only, so clearing one
        // policy is going back to the default, unless another is in force.
        if clear & MOUNT_ATTR_ATIME == MOUNT_ATTR_STRICTATIME {
            let other = self.set & MOUNT_ATTR_NOATIME != 0;
            clear = if other { 0 } else { MOUNT_ATTR_ATIME };
        }
        self.set = self.set & !clear | set;
        self.clear = (self.clear | clear) & !(set & !MOUNT_ATTR_ATIME);
    }

    /// Whether the mount is asked to be read-only.
    pub(super) fn read_only(self) -> bool {
        self.set & MOUNT_ATTR_RDONLY != 0
    }

    /// These, and `later` on top of them.
    pub(super) fn and(self, later: Self) -> Self {
        let mut both = self;
        both.change(later.set, later.clear);
        both
    }
}

/// What a list of options asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct MountOptions {
    /// A bind mount, and whether the mounts below come along.
    pub(super) bind: Option<bool>,
    /// Change the mount that is there.
    pub(super) remount: bool,
    /// Attributes of the topmost mount.
    pub(super) top: Attributes,
    /// Attributes of the mounts below too (the `r...` options).
    pub(super) all: Attributes,
    /// Flags of the file system itself, as fsconfig(2) takes them.
    pub(super) superblock: Vec<&'static str>,
    /// `MS_SHARED` and so on, and whether it reaches the mounts below; one after another,
    /// since a slave that is made shared is both.
    pub(super) propagation: Vec<(u64, bool)>,
    /// An id-mapped mount, and whether the mounts below are mapped too.
    pub(super) id_map: Option<bool>,
    /// What lies below a tmpfs is copied into it.
    pub(super) copy_up: bool,
    /// The file system's own options: key and value, an empty value for none.
    pub(super) data: Vec<(String, String)>,
    /// Options that today's kernels decide by themselves.
    pub(super) without_effect: Vec<&'static str>,
}

#[derive(Debug, Clone, Copy)]
enum Effect {
    /// Attributes to set and to clear.
    Top(u64, u64),
    /// The same for the whole tree.
    All(u64, u64),
    Superblock,
    Propagation(u64, bool),
    Bind(bool),
    IdMap(bool),
    Remount,
    CopyUp,
    Nothing,
    KernelDecides,
}

use Effect::{All, Bind, CopyUp, IdMap, KernelDecides, Nothing, Propagation, Superblock, Top};

const TABLE: &[(&str, Effect)] = &[
    ("async", Superblock),
    ("atime", Top(MOUNT_ATTR_RELATIME, MOUNT_ATTR_ATIME)),
    ("bind", Bind(false)),
    ("defaults", Nothing),
    ("dev", Top(0, MOUNT_ATTR_NODEV)),
    ("diratime", Top(0, MOUNT_ATTR_NODIRATIME)),
    ("dirsync", Superblock),
    ("exec", Top(0, MOUNT_ATTR_NOEXEC)),
    ("idmap", IdMap(false)),
    // File systems that keep a change counter always do so since Linux 6.0, and
    // fsconfig(2) has no name for the old flag.
    ("iversion", KernelDecides),
    ("lazytime", Superblock),
    // The log of a file system context replaces the kernel's: never loud.
    ("loud", Nothing),
    ("mand", Superblock),
    ("noatime", Top(MOUNT_ATTR_NOATIME, MOUNT_ATTR_ATIME)),
    ("nodev", Top(MOUNT_ATTR_NODEV, 0)),
    ("nodiratime", Top(MOUNT_ATTR_NODIRATIME, 0)),
    ("noexec", Top(MOUNT_ATTR_NOEXEC, 0)),
    ("noiversion", KernelDecides),
    ("nolazytime", Superblock),
    ("nomand", Superblock),
    // Without another policy the kernel's default is relatime again.
    ("norelatime", Nothing),
    ("nostrictatime", Top(0, MOUNT_ATTR_STRICTATIME)),
    ("nosuid", Top(MOUNT_ATTR_NOSUID, 0)),
    ("nosymfollow", Top(MOUNT_ATTR_NOSYMFOLLOW, 0)),
    ("private", Propagation(MS_PRIVATE, false)),
    ("ratime", All(MOUNT_ATTR_RELATIME, MOUNT_ATTR_ATIME)),
    ("rbind", Bind(true)),
    ("rdev", All(0, MOUNT_ATTR_NODEV)),
    ("rdiratime", All(0, MOUNT_ATTR_NODIRATIME)),
    ("relatime", Top(MOUNT_ATTR_RELATIME, MOUNT_ATTR_ATIME)),
    ("remount", Effect::Remount),
    ("rexec", All(0, MOUNT_ATTR_NOEXEC)),
    ("ridmap", IdMap(true)),
    ("rnoatime", All(MOUNT_ATTR_NOATIME, MOUNT_ATTR_ATIME)),
    ("rnodev", All(MOUNT_ATTR_NODEV, 0)),
    ("rnodiratime", All(MOUNT_ATTR_NODIRATIME, 0)),
    ("rnoexec", All(MOUNT_ATTR_NOEXEC, 0)),
    ("rnorelatime", All(MOUNT_ATTR_RELATIME, MOUNT_ATTR_ATIME)),
    ("rnostrictatime", All(MOUNT_ATTR_RELATIME, MOUNT_ATTR_ATIME)),
    ("rnosuid", All(MOUNT_ATTR_NOSUID, 0)),
    ("rnosymfollow", All(MOUNT_ATTR_NOSYMFOLLOW, 0)),
    ("ro", Top(MOUNT_ATTR_RDONLY, 0)),
    ("rprivate", Propagation(MS_PRIVATE, true)),
    ("rrelatime", All(MOUNT_ATTR_RELATIME, MOUNT_ATTR_ATIME)),
    ("rro", All(MOUNT_ATTR_RDONLY, 0)),
    ("rrw", All(0, MOUNT_ATTR_RDONLY)),
    ("rshared", Propagation(MS_SHARED, true)),
    ("rslave", Propagation(MS_SLAVE, true)),
    ("rstrictatime", All(MOUNT_ATTR_STRICTATIME, MOUNT_ATTR_ATIME)),
    ("rsuid", All(0, MOUNT_ATTR_NOSUID)),
    ("rsymfollow", All(0, MOUNT_ATTR_NOSYMFOLLOW)),
    ("runbindable", Propagation(MS_UNBINDABLE, true)),
    ("rw", Top(0, MOUNT_ATTR_RDONLY)),
    ("shared", Propagation(MS_SHARED, false)),
    ("silent", Nothing),
    ("slave", Propagation(MS_SLAVE, false)),
    ("strictatime", Top(MOUNT_ATTR_STRICTATIME, MOUNT_ATTR_ATIME)),
    ("suid", Top(0, MOUNT_ATTR_NOSUID)),
    ("symfollow", Top(0, MOUNT_ATTR_NOSYMFOLLOW)),
    ("sync", Superblock),
    ("tmpcopyup", CopyUp),
    ("unbindable", Propagation(MS_UNBINDABLE, false)),
];

/// The options that Orlop knows by name, sorted (`features` lists them).
pub fn known() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|(name, _)| *name)
}

impl MountOptions {
    /// Reads a list in its order; what the table does not know is data for the
    /// file system.
    pub(super) fn parse<'a>(options: impl IntoIterator<Item = &'a str>) -> Self {
        let mut all = Self::default();
        for option in options {
            match TABLE.binary_search_by_key(&option, |(name, _)| *name) {
                Ok(index) => all.apply(TABLE[index].0, TABLE[index].1),
                Err(_) => all.data.extend(split(option).filter(|part| !part.is_empty()).map(pair)),
            }
        }
        all
    }

    fn apply(&mut self, name: &'static str, effect: Effect) {
        match effect {
            Top(set, clear) => self.top.change(set, clear),
            All(set, clear) => self.all.change(set, clear),
            Superblock => self.superblock.push(name),
            Propagation(kind, recursive) => self.propagation.push((kind, recursive)),
            Bind(recursive) => self.bind = Some(recursive),
            IdMap(recursive) => self.id_map = Some(recursive),
            Effect::Remount => self.remount = true,
            CopyUp => self.copy_up = true,
            Nothing => {}
            KernelDecides => self.without_effect.push(name),
        }
    }
}

/// mount(2) takes one string with commas in it, so one option may hold several;
/// quoted or escaped commas (SELinux contexts, overlay directories) belong to
/// the value.
fn split(option: &str) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    option.split(move |letter: char| {
        let literal = escaped;
        escaped = letter == '\\' && !literal;
        if letter == '"' && !literal {
            quoted = !quoted;
        }
        letter == ',' && !quoted && !literal
    })
}

fn pair(option: &str) -> (String, String) {
    let (key, value) = option.split_once('=').unwrap_or((option, ""));
    // The quotes keep mount(2) from splitting; fsconfig(2) would take them in.
    let bare = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    (key.to_owned(), bare.unwrap_or(value).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(options: &str) -> MountOptions {
        MountOptions::parse(options.split_whitespace())
    }

    fn top(set: u64, clear: u64) -> MountOptions {
        MountOptions { top: Attributes { set, clear }, ..MountOptions::default() }
    }

    fn all(set: u64, clear: u64) -> MountOptions {
        MountOptions { all: Attributes { set, clear }, ..MountOptions::default() }
    }

    #[test]
    fn the_table_is_sorted_and_has_no_name_twice() {
        assert!(TABLE.is_sorted_by(|a, b| a.0 < b.0));
        assert_eq!(known().count(), TABLE.len());
    }

    /// Numbers from include/uapi/linux/mount.h, not our own names for them.
    #[test]
    fn every_attribute_option_sets_or_clears_its_bit() {
        let bits: &[(&str, u64, u64)] = &[
            ("ro", 1, 0),
            ("rw", 0, 1),
            ("nosuid", 2, 0),
            ("suid", 0, 2),
            ("nodev", 4, 0),
            ("dev", 0, 4),
            ("noexec", 8, 0),
            ("exec", 0, 8),
            ("noatime", 0x10, 0x70),
            ("atime", 0, 0x70),
            ("strictatime", 0x20, 0x70),
            ("nostrictatime", 0, 0x70),
            ("relatime", 0, 0x70),
            ("norelatime", 0, 0),
            ("nodiratime", 0x80, 0),
            ("diratime", 0, 0x80),
            ("nosymfollow", 0x20_0000, 0),
            ("symfollow", 0, 0x20_0000),
        ];
        for (name, set, clear) in bits {
            assert_eq!(parse(name), top(*set, *clear), "{name}");
            let recursive = match *name {
                "norelatime" => all(0, 0x70),
                _ => all(*set, *clear),
            };
            let name = format!("r{name}");
            assert_eq!(parse(&name), recursive, "{name}");
        }
    }

    #[test]
    fn every_propagation_has_a_recursive_form() {
        for (name, kind) in [("unbindable", 17), ("private", 18), ("slave", 19), ("shared", 20u64)]
        {
            assert_eq!(parse(name).propagation, [(1 << kind, false)], "{name}");
            assert_eq!(parse(&format!("r{name}")).propagation, [(1 << kind, true)], "{name}");
        }
    }

    #[test]
    fn the_other_options_have_their_own_fields() {
        assert_eq!(parse("bind").bind, Some(false));
        assert_eq!(parse("rbind").bind, Some(true));
        assert_eq!(parse("idmap").id_map, Some(false));
        assert_eq!(parse("ridmap").id_map, Some(true));
        assert!(parse("remount").remount);
        assert!(parse("tmpcopyup").copy_up);
        let flags = ["async", "dirsync", "lazytime", "mand", "nolazytime", "nomand", "sync"];
        assert_eq!(MountOptions::parse(flags).superblock, flags);
        assert_eq!(parse("iversion noiversion").without_effect, ["iversion", "noiversion"]);
        assert_eq!(parse("defaults silent loud"), MountOptions::default());
    }

    #[test]
    fn the_last_option_wins() {
        assert_eq!(parse("ro rw"), top(0, 1));
        assert_eq!(parse("rw ro"), top(1, 0));
        assert_eq!(parse("noatime strictatime"), top(0x20, 0x70));
        assert_eq!(parse("noatime atime"), top(0, 0x70));
        assert_eq!(parse("strictatime nostrictatime"), top(0, 0x70));
        assert_eq!(parse("noatime nostrictatime"), top(0x10, 0x70));
        assert_eq!(parse("noatime norelatime"), top(0x10, 0x70));
        assert_eq!(parse("rbind bind").bind, Some(false));
    }

    #[test]
    fn kinds_of_propagation_keep_their_order() {
        let kinds = [(1 << 19, true), (1 << 20, false)];
        assert_eq!(parse("rslave shared").propagation, kinds);
        assert_eq!(parse("shared rslave").propagation, [kinds[1], kinds[0]]);
    }

    #[test]
    fn what_the_table_does_not_know_is_data() {
        let data = |options| parse(options).data;
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(data("size=64k mode=1777"), [pair("size", "64k"), pair("mode", "1777")]);
        assert_eq!(data("newinstance"), [pair("newinstance", "")]);
        assert_eq!(data("size=1m,nr_inodes=8,"), [pair("size", "1m"), pair("nr_inodes", "8")]);
        assert_eq!(data(r#"context="u:r:t:s0:c1,c2""#), [pair("context", "u:r:t:s0:c1,c2")]);
        assert_eq!(data(r"lowerdir=/a\,b:/c"), [pair("lowerdir", r"/a\,b:/c")]);
        assert_eq!(data("idmap=uids=0-1-2"), [pair("idmap", "uids=0-1-2")]);
        assert_eq!(data("RO"), [pair("RO", "")]);
    }

    #[test]
    fn later_attributes_come_on_top_of_earlier_ones() {
        let options = parse("ro nosuid noatime rrw rstrictatime");
        let both = options.top.and(options.all);
        assert_eq!(both, Attributes { set: 0x22, clear: 0x71 });
    }
}
