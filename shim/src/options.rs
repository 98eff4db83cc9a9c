//! How the runtime is configured: what comes with a task, and what the host has for all.
//!
//! containerd's own clients say it in runc's message. For a runtime of another name CRI
//! passes its table on as TOML, and dockerd no more than the path of such a file; for what
//! is lost on that way there is a file of the host's. The keys are runc's.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use prost::Message;

use crate::messages::Any;
use crate::messages::options::{GENERIC, Generic, Options, RUNC};
use crate::stream::AT_ONCE;
use crate::ttrpc::{Code, Failure};

/// The longest file with options, in bytes.
pub(crate) const LONGEST: u64 = 1 << 20;

/// What the host has for all tasks. It counts where a task says nothing.
const HOST: &str = "/etc/orlop/shim.toml";

/// The keys of a table, in the spelling of containerd's configuration.
const KEYS: [&str; 10] = [
    "NoPivotRoot",
    "NoNewKeyring",
    "ShimCgroup",
    "IoUid",
    "IoGid",
    "BinaryName",
    "Root",
    "SystemdCgroup",
    "CriuImagePath",
    "CriuWorkPath",
];

fn wrong(words: String) -> Failure {
    Failure::new(Code::InvalidArgument, words)
}

/// What counts for a task.
pub(crate) fn of(any: Option<Any>) -> Result<Options, Failure> {
    let options = or(given(any)?, from_file(Path::new(HOST), true)?);
    let name = Path::new(&options.binary_name).file_name().unwrap_or_default();
    if !options.binary_name.is_empty() && name != "orlop" {
        let words = format!("{:?} can't be run: the runtime is in the shim", options.binary_name);
        return Err(wrong(words));
    }
    Ok(options)
}

fn given(any: Option<Any>) -> Result<Options, Failure> {
    let Some(any) = any else { return Ok(Options::default()) };
    let unreadable = |error| wrong(format!("the options: {error}"));
    match any.name() {
        RUNC => Options::decode(&*any.value).map_err(unreadable),
        GENERIC => {
            let Generic { config_path, config_body } =
                Generic::decode(&*any.value).map_err(unreadable)?;
            match (config_body.is_empty(), config_path.is_empty()) {
                (true, true) => Ok(Options::default()),
                (true, false) => from_file(Path::new(&config_path), false),
                (false, _) => table(&String::from_utf8_lossy(&config_body))
                    .map_err(|error| wrong(format!("the options: {error}"))),
            }
        }
        _ => Err(wrong(format!("options of the type {:?} are not supported", any.type_url))),
    }
}

fn from_file(path: &Path, may_lack: bool) -> Result<Options, Failure> {
    let at = |error: &dyn std::fmt::Display| wrong(format!("the options in {path:?}: {error}"));
    match read(path, LONGEST) {
        Ok(text) => table(&text).map_err(|error| at(&error)),
        Err(error) if may_lack && error.kind() == ErrorKind::NotFound => Ok(Options::default()),
        Err(error) => Err(at(&crate::shim::failed(&error).message)),
    }
}

/// The shim reads it itself, and waits for nobody: a fifo, say. It is of whole mebibytes
/// at most.
pub(crate) fn read(path: &Path, longest: u64) -> std::io::Result<String> {
    let file = File::options().read(true).custom_flags(AT_ONCE).open(path)?;
    let found = file.metadata()?;
    if found.is_dir() {
        return Err(rustix::io::Errno::ISDIR.into());
    }
    if !found.is_file() || found.len() > longest {
        let words = format!("it is no regular file, or longer than {} MiB", longest >> 20);
        return Err(std::io::Error::new(ErrorKind::InvalidData, words));
    }
    let mut text = String::new();
    file.take(longest).read_to_string(&mut text)?;
    Ok(text)
}

fn table(text: &str) -> Result<Options, String> {
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| one_line(&error))?;
    if let Some(key) = table.keys().find(|key| !KEYS.contains(&key.as_str())) {
        return Err(format!("there is no option {key:?}"));
    }
    let options: Options = table.try_into().map_err(|error| one_line(&error))?;
    // A daemon's table has all keys, most of them empty.
    if !options.criu_image_path.is_empty() {
        return Err("the images of one task (CriuImagePath) can't be those of all".to_owned());
    }
    Ok(options)
}

/// It comes with a picture of the place.
fn one_line(error: &toml::de::Error) -> String {
    error.message().replace('\n', " ")
}

/// What is said, and otherwise what `others` say.
fn or(said: Options, others: Options) -> Options {
    let text = |said: String, other: String| if said.is_empty() { other } else { said };
    let number = |said: u32, other: u32| if said == 0 { other } else { said };
    Options {
        no_pivot_root: said.no_pivot_root || others.no_pivot_root,
        no_new_keyring: said.no_new_keyring || others.no_new_keyring,
        shim_cgroup: text(said.shim_cgroup, others.shim_cgroup),
        io_uid: number(said.io_uid, others.io_uid),
        io_gid: number(said.io_gid, others.io_gid),
        binary_name: text(said.binary_name, others.binary_name),
        root: text(said.root, others.root),
        systemd_cgroup: said.systemd_cgroup || others.systemd_cgroup,
        criu_image_path: text(said.criu_image_path, others.criu_image_path),
        criu_work_path: text(said.criu_work_path, others.criu_work_path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generic(path: &str, body: &str) -> Result<Options, String> {
        let config_path = path.to_owned();
        let value = Generic { config_path, config_body: body.into() }.encode_to_vec();
        given(Some(Any { type_url: GENERIC.to_owned(), value })).map_err(|failure| failure.message)
    }

    #[test]
    fn a_table_of_cri_is_read() {
        let found = generic("", "SystemdCgroup = true\nRoot = '/a'\nIoUid = 7\n").unwrap();
        let wanted =
            Options { systemd_cgroup: true, root: "/a".into(), io_uid: 7, ..Options::default() };
        assert_eq!(found, wanted);
        assert_eq!(generic("", "").unwrap(), Options::default());
    }

    #[test]
    fn what_is_wrong_with_it_is_told_in_a_line() {
        for (body, wanted) in [
            ("Unknown = 1", "there is no option \"Unknown\""),
            ("SystemdCgroup = 1", "invalid type: integer `1`, expected a boolean"),
            (
                "CriuImagePath = '/a'",
                "the images of one task (CriuImagePath) can't be those of all",
            ),
            ("[a]\n", "there is no option \"a\""),
            ("=\n", ""),
        ] {
            let error = generic("", body).unwrap_err();
            assert!(error.starts_with("the options: ") && error.contains(wanted), "{error}");
            assert!(!error.contains('\n'), "{error}");
        }
        let error = generic("/no/such", "").unwrap_err();
        assert_eq!(error, "the options in \"/no/such\": no such file or directory");
    }

    #[test]
    fn what_is_no_file_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let (fifo, long) = (folder.path().join("fifo"), folder.path().join("long"));
        rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RUSR).unwrap();
        File::create(&long).unwrap().set_len(LONGEST + 1).unwrap();
        for path in [&fifo, &long, Path::new("/dev/zero")] {
            let error = generic(path.to_str().unwrap(), "").unwrap_err();
            assert!(error.ends_with("it is no regular file, or longer than 1 MiB"), "{error}");
        }
        let error = generic("/", "").unwrap_err();
        assert_eq!(error, "the options in \"/\": is a directory");
    }

    #[test]
    fn what_a_task_says_counts_before_the_hosts() {
        let folder = tempfile::tempdir().unwrap();
        let host = folder.path().join("shim.toml");
        assert_eq!(from_file(&host, true).unwrap(), Options::default());
        std::fs::write(&host, "SystemdCgroup = true\nRoot = '/host'\nShimCgroup = '/c'\n").unwrap();
        let host = from_file(&host, true).unwrap();
        let said = Options { root: "/task".into(), ..Options::default() };
        let found = or(said, host);
        assert_eq!((&*found.root, &*found.shim_cgroup), ("/task", "/c"));
        assert!(found.systemd_cgroup && !found.no_pivot_root);
    }
}
