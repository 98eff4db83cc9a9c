//! The mount table of a process, as the kernel tells it.

use std::fs;

use serde_json::{Value, json};

/// One mount.
#[derive(Debug)]
pub(crate) struct Mount {
    /// Where it is.
    pub(crate) point: String,
    /// Which directory of its file system it shows.
    root: String,
    fs_type: String,
    source: String,
    device: String,
    options: Vec<String>,
    superblock: Vec<String>,
    propagation: Vec<String>,
}

/// This process's mounts, in the order in which they were made.
pub(crate) fn mounts() -> Value {
    of("/proc/self").iter().map(Mount::describe).collect()
}

/// Those of a process by its folder in /proc; none if it can't be seen.
pub(crate) fn of(proc: &str) -> Vec<Mount> {
    let text = fs::read_to_string(format!("{proc}/mountinfo")).unwrap_or_default();
    text.lines().filter_map(parse).collect()
}

impl Mount {
    fn describe(&self) -> Value {
        json!({
            "point": self.point,
            "root": self.root,
            "type": self.fs_type,
            "source": self.source,
            "device": self.device,
            "options": self.options,
            "super": self.superblock,
            // Numbers of peer groups are nobody's business.
            "propagation": self.propagation,
        })
    }
}

/// `id parent device root point options [propagation…] - type source super`
fn parse(line: &str) -> Option<Mount> {
    let (left, right) = line.split_once(" - ")?;
    let left: Vec<&str> = left.split(' ').collect();
    let right: Vec<&str> = right.split(' ').collect();
    let list = |text: &str| text.split(',').map(str::to_owned).collect();
    let kind = |word: &&str| word.split(':').next().unwrap_or(word).to_owned();
    Some(Mount {
        point: plain(left.get(4)?),
        root: plain(left.get(3)?),
        fs_type: (*right.first()?).to_owned(),
        source: plain(right.get(1)?),
        device: (*left.get(2)?).to_owned(),
        options: list(left.get(5)?),
        superblock: list(right.get(2)?),
        propagation: left.get(6..)?.iter().map(kind).collect(),
    })
}

/// The kernel writes white space and backslashes in octal.
fn plain(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        plain.push_str(before);
        let code = after.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) => {
                plain.push(char::from(code));
                rest = &after[3..];
            }
            None => {
                plain.push('\\');
                rest = after;
            }
        }
    }
    plain + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read() {
        let line =
            r"36 35 0:5 /a\040b /mnt\134x rw,noatime shared:1 master:2 - tmpfs none rw,size=1k";
        let mount = parse(line).unwrap().describe();
        assert_eq!(mount["root"], "/a b");
        assert_eq!(mount["point"], r"/mnt\x");
        assert_eq!(mount["options"], json!(["rw", "noatime"]));
        assert_eq!(mount["propagation"], json!(["shared", "master"]));
        assert_eq!(mount["super"], json!(["rw", "size=1k"]));
    }

    #[test]
    fn a_line_without_propagation_is_read() {
        let mount = parse("1 0 8:1 / / ro - ext4 /dev/sda1 ro").unwrap();
        assert!(mount.propagation.is_empty());
        assert_eq!(mount.device, "8:1");
    }
}
