//! The options of a mount, as containerd writes them.

use nix::mount::MsFlags;

/// A map of ids as `inside:outside:count` (user_namespaces(7)), one or more.
const MAP: &str = "inside:outside:count[,…]";

/// What they come to.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Options {
    pub flags: MsFlags,
    /// What is the file system's own.
    pub data: Vec<String>,
    /// The source is a file, to be had as a block device; past the host's cache if true.
    pub on_loop: Option<bool>,
    pub ids: Option<Ids>,
}

/// Owners in the mount, of users and of groups.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Ids {
    pub uid: Vec<Extent>,
    pub gid: Vec<Extent>,
}

pub(super) type Extent = orlop::plan::Extent;

/// Whether an option sets a flag or takes it away (mount(8)).
const FLAGS: &[(&str, bool, MsFlags)] = &[
    ("async", false, MsFlags::MS_SYNCHRONOUS),
    ("atime", false, MsFlags::MS_NOATIME),
    ("bind", true, MsFlags::MS_BIND),
    ("dev", false, MsFlags::MS_NODEV),
    ("diratime", false, MsFlags::MS_NODIRATIME),
    ("dirsync", true, MsFlags::MS_DIRSYNC),
    ("exec", false, MsFlags::MS_NOEXEC),
    ("noatime", true, MsFlags::MS_NOATIME),
    ("nodev", true, MsFlags::MS_NODEV),
    ("nodiratime", true, MsFlags::MS_NODIRATIME),
    ("noexec", true, MsFlags::MS_NOEXEC),
    ("norelatime", false, MsFlags::MS_RELATIME),
    ("nostrictatime", false, MsFlags::MS_STRICTATIME),
    ("nosuid", true, MsFlags::MS_NOSUID),
    ("rbind", true, MsFlags::MS_BIND.union(MsFlags::MS_REC)),
    ("relatime", true, MsFlags::MS_RELATIME),
    ("ro", true, MsFlags::MS_RDONLY),
    ("rw", false, MsFlags::MS_RDONLY),
    ("strictatime", true, MsFlags::MS_STRICTATIME),
    ("suid", false, MsFlags::MS_NOSUID),
    ("sync", true, MsFlags::MS_SYNCHRONOUS),
];

impl Options {
    /// # Errors
    /// What an option lacks, or that it is not supported.
    pub(super) fn parse(list: &[String]) -> Result<Self, String> {
        let flags = MsFlags::empty();
        let mut options = Self { flags, data: Vec::new(), on_loop: None, ids: None };
        let (mut uid, mut gid, mut direct) = (None, None, false);
        for text in list {
            if let Some((_, sets, flag)) = FLAGS.iter().find(|(name, ..)| name == text) {
                options.flags.set(*flag, *sets);
                continue;
            }
            match text.split_once('=') {
                Some(("uidmap", map)) => uid = Some(extents(text, map)?),
                Some(("gidmap", map)) => gid = Some(extents(text, map)?),
                None if text == "defaults" => {}
                None if text == "loop" => options.on_loop = Some(false),
                None if text == "direct-io" => direct = true,
                // They are containerd's own, and not for the kernel.
                _ if text.starts_with("X-containerd.") || text == "remount" => {
                    return Err(format!("the mount option {text:?} is not supported"));
                }
                _ => options.data.push(text.clone()),
            }
        }
        match &mut options.on_loop {
            Some(past) => *past = direct,
            None if direct => options.data.push("direct-io".to_owned()),
            None => {}
        }
        options.ids = match (uid, gid) {
            (None, None) => None,
            (Some(uid), Some(gid)) => Some(Ids { uid, gid }),
            _ => return Err("one of uidmap and gidmap is given without the other".to_owned()),
        };
        Ok(options)
    }
}

fn extents(option: &str, map: &str) -> Result<Vec<Extent>, String> {
    let extent = |text: &str| {
        let mut numbers = text.split(':').map(|number| number.parse().ok());
        let extent =
            Extent { inside: numbers.next()??, outside: numbers.next()??, count: numbers.next()?? };
        numbers.next().is_none().then_some(extent)
    };
    let list: Option<Vec<_>> = map.split(',').map(extent).collect();
    list.ok_or_else(|| format!("the mount option {option:?} is not of the form {MAP}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(list: &[&str]) -> Result<Options, String> {
        Options::parse(&list.iter().map(|&one| one.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn the_last_word_counts() {
        let options = parse(&["rbind", "ro", "nosuid", "rw", "defaults", "index=off"]).unwrap();
        let flags = MsFlags::MS_BIND | MsFlags::MS_REC | MsFlags::MS_NOSUID;
        let data = vec!["index=off".to_owned()];
        let expected = Options { flags, data, on_loop: None, ids: None };
        assert_eq!(options, expected);
    }

    #[test]
    fn files_and_maps() {
        assert_eq!(parse(&["direct-io", "loop"]).unwrap().on_loop, Some(true));
        let options = parse(&["direct-io"]).unwrap();
        assert_eq!((options.on_loop, &*options.data[0]), (None, "direct-io"));
        let options = parse(&["uidmap=0:1000:1,1:2000:9", "gidmap=0:5:7"]).unwrap();
        let extent = |inside, outside, count| Extent { inside, outside, count };
        let uid = vec![extent(0, 1000, 1), extent(1, 2000, 9)];
        assert_eq!(options.ids, Some(Ids { uid, gid: vec![extent(0, 5, 7)] }));
        for bad in ["0:1", "0:1:2:3", "", "0:-1:2", "a:b:c", "0:0:99999999999"] {
            let said = parse(&[&format!("uidmap={bad}"), "gidmap=0:0:1"]).unwrap_err();
            assert!(said.contains(&format!("uidmap={bad}\" is not of the form")), "{said}");
        }
        let said = parse(&["gidmap=0:0:1"]).unwrap_err();
        assert!(said.contains("without the other"), "{said}");
        let said = parse(&["X-containerd.mount"]).unwrap_err();
        assert!(said.contains("not supported"), "{said}");
    }
}
