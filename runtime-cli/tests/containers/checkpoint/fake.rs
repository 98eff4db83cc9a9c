//! A program that speaks as CRIU does and only notes what it is told: so that what we
//! say can be tested where CRIU itself does not work.
//!
//! It reads and writes the protocol by itself, field by field, so that a number that is
//! wrong in ours is seen.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, recv, sendmsg, socketpair,
};
use nix::unistd::{Pid, chroot};

/// The folder in which it notes what it was told, and finds how it shall behave.
pub(crate) const FOLDER: &str = "ORLOP_TEST_CRIU";

/// The descriptor of the conversation.
const SOCKET: i32 = 3;

/// Which fields are messages, by the numbers on the way to them.
const MESSAGES: &[&str] = &["2", "2.11", "2.23", "2.25", "2.27", "2.39", "5"];

/// What its processes are brought back in, by the config's names.
pub(super) const NAMESPACES: [(&str, CloneFlags); 6] = [
    ("mount", CloneFlags::CLONE_NEWNS),
    ("cgroup", CloneFlags::CLONE_NEWCGROUP),
    ("uts", CloneFlags::CLONE_NEWUTS),
    ("ipc", CloneFlags::CLONE_NEWIPC),
    ("pid", CloneFlags::CLONE_NEWPID),
    ("network", CloneFlags::CLONE_NEWNET),
];

const DUMP: u64 = 1;
const RESTORE: u64 = 2;
const PRE_DUMP: u64 = 4;
const NOTIFY: u64 = 6;
const FEATURE_CHECK: u64 = 9;
const VERSION: u64 = 10;

/// The end of this process, if it is called by CRIU's name.
pub(crate) fn main() -> Option<ExitCode> {
    let name = std::env::args_os().next()?;
    if Path::new(&name).file_name()? != "criu" {
        return None;
    }
    let folder = PathBuf::from(std::env::var_os(FOLDER)?);
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    assert_eq!(arguments, ["swrk", "3"]);
    let fake = Fake { folder };
    Some(if fake.serve() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

struct Fake {
    folder: PathBuf,
}

/// A request: each field as `2.23.1=value`.
struct Request(Vec<(String, String)>);

impl Fake {
    /// What a test has put into the folder.
    fn told(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.folder.join(name)).ok()
    }

    fn serve(&self) -> bool {
        let request = receive();
        let kind = request.number("1").unwrap();
        if kind == VERSION {
            if self.told("is silent").is_some() {
                self.hang();
            }
            let version = self.told("version").unwrap_or_else(|| "4 1 1".to_owned());
            let parts: Vec<u64> = version.split(' ').map(|part| part.parse().unwrap()).collect();
            let mut inner = Vec::new();
            for (field, part) in [1, 2, 4].into_iter().zip(&parts) {
                number(&mut inner, field, *part);
            }
            answer(VERSION, true, |out| bytes(out, 10, &inner));
            return true;
        }
        self.note(&request);
        if kind == FEATURE_CHECK {
            let has = u64::from(self.told("lacks").is_none());
            let mut inner = Vec::new();
            number(&mut inner, 1, has);
            number(&mut inner, 2, has);
            answer(FEATURE_CHECK, true, |out| bytes(out, 8, &inner));
            return true;
        }
        if let Some(words) = self.told("refuses") {
            let log = request.text("2.10").unwrap().to_owned();
            let work = request.number("2.17").or(request.number("2.1")).unwrap();
            let work = format!("/proc/{}/fd/{work}", nix::unistd::getppid());
            fs::write(Path::new(&work).join(log), words).unwrap();
            answer(kind, false, |out| number(out, 7, 22));
            return false;
        }
        match kind {
            DUMP | PRE_DUMP => self.dump(kind, &request),
            RESTORE => self.restore(&request),
            other => panic!("what is {other}?"),
        }
    }

    fn note(&self, request: &Request) {
        let mut file =
            File::options().append(true).create(true).open(self.folder.join("said")).unwrap();
        for (field, value) in &request.0 {
            writeln!(file, "{field}={value}").unwrap();
        }
    }

    /// Says who it is, and never anything again.
    fn hang(&self) -> ! {
        let (draft, path) = (self.folder.join("draft"), self.folder.join("hangs"));
        fs::write(&draft, std::process::id().to_string()).unwrap();
        fs::rename(&draft, &path).unwrap();
        loop {
            std::thread::park();
        }
    }

    /// Mounts cgroup v2 without options, as CRIU does: the machine's own are gone.
    fn take_options(&self) {
        if self.told("takes options").is_none() {
            return;
        }
        if self.told("takes them later").is_some() {
            fs::write(self.folder.join("waits"), "").unwrap();
            while self.told("go").is_none() {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
        }
        let at = self.folder.join("cgroup2");
        fs::create_dir_all(&at).unwrap();
        let kind = Some("cgroup2");
        mount(kind, &at, kind, MsFlags::empty(), None::<&str>).unwrap();
        umount2(&at, MntFlags::MNT_DETACH).unwrap();
    }

    fn dump(&self, kind: u64, request: &Request) -> bool {
        self.take_options();
        if self.told("works for ever").is_some() {
            self.hang();
        }
        let pid = i32::try_from(request.number("2.2").unwrap()).unwrap();
        for script in ["network-lock", "status-ready", "post-dump", "network-unlock"] {
            notify(script, pid, None);
        }
        let stays = request.number("2.3") == Some(1) || kind == PRE_DUMP;
        if !stays {
            kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
        }
        answer(kind, true, |_| {});
        // As CRIU does: it waits for the next dump, and its socket is closed.
        kind == DUMP
    }

    /// Mounts what it was told, and has the probe sleep there.
    fn restore(&self, request: &Request) -> bool {
        self.take_options();
        let root = request.text("2.13").unwrap();
        let none = None::<&str>;
        let nothing = self.told("mounts nothing").is_some();
        let mounts = request.all("2.23.1").zip(request.all("2.23.2"));
        let mounts = mounts.filter(|(key, _)| !key.starts_with("/dev/"));
        for (key, value) in mounts.filter(|(key, _)| !nothing || key.starts_with("/sys/")) {
            let flags = MsFlags::MS_BIND;
            let at = format!("{root}{key}");
            // On a file system that CRIU would have mounted before.
            if key.starts_with("/sys/") {
                if fs::read_dir(format!("{root}/sys")).unwrap().next().is_none() {
                    let above = format!("{root}/sys");
                    let kind = Some("tmpfs");
                    mount(kind, above.as_str(), kind, MsFlags::empty(), none).unwrap();
                }
                fs::create_dir_all(&at).unwrap();
            }
            mount(Some(value), at.as_str(), none, flags, none).unwrap();
            if self.told("mounts for writing").as_deref() != Some(key) {
                let read_only = flags | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
                mount(none, at.as_str(), none, read_only, none).unwrap();
            }
        }
        if self.told("has a root for writing").is_some() {
            let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT;
            mount(none, root, none, flags, none).unwrap();
        }
        self.note(&Request(
            (0..8)
                .filter_map(|fd| {
                    let link = fs::read_link(format!("/proc/self/fd/{fd}")).ok()?;
                    Some((format!("fd {fd}"), link.display().to_string()))
                })
                .collect(),
        ));
        let cgroup = fs::read_to_string("/proc/self/cgroup").unwrap();
        self.note(&Request(vec![("cgroup".into(), cgroup.trim_end().replace('\n', " "))]));
        let has_terminal = self.told("has a terminal").is_some();
        let hangs = self.told("works for ever").is_some();
        let folder = hangs.then(|| File::open(&self.folder).unwrap());
        let says_it_all = self.told("says it all").is_some();
        let child = self.bring_back(request, root);
        let pid = child.cast_signed();
        if let Some(folder) = &folder {
            nix::unistd::fchdir(folder).unwrap();
            Fake { folder: PathBuf::from(".") }.hang();
        }
        notify("setup-namespaces", pid, None);
        let (master, _slave) = pair();
        if has_terminal {
            notify("orphan-pts-master", pid, Some(&master));
        }
        notify("post-restore", pid, None);
        if says_it_all {
            notify("pre-resume", pid, None);
        }
        let mut inner = Vec::new();
        number(&mut inner, 1, u64::from(child));
        answer(RESTORE, true, |out| bytes(out, 4, &inner));
        true
    }

    /// The process, in namespaces that are, as with CRIU itself, not this program's own: a
    /// thread's. It lives on when this program has ended.
    fn bring_back(&self, request: &Request, root: &str) -> u32 {
        let mut new: CloneFlags = NAMESPACES.iter().map(|(_, flag)| *flag).collect();
        if request.all("2.27.1").any(|key| key == "extRootNetNS") {
            new -= CloneFlags::CLONE_NEWNET;
        }
        if let Some(name) = self.told("stays in") {
            new.remove(NAMESPACES.iter().find(|(one, _)| *one == name).unwrap().1);
        }
        let open = |path| File::open(path).unwrap();
        let joined: Vec<File> = request.all("2.39.2").map(open).collect();
        let spawn = || {
            unshare(new).unwrap();
            for namespace in &joined {
                setns(namespace, CloneFlags::empty()).unwrap();
            }
            chroot(root).unwrap();
            std::env::set_current_dir("/").unwrap();
            Command::new("/bin/probe").arg("sleep").spawn().map(|child| child.id())
        };
        std::thread::scope(|scope| scope.spawn(spawn).join()).unwrap().unwrap()
    }
}

fn pair() -> (OwnedFd, OwnedFd) {
    socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC).unwrap()
}

impl Request {
    fn all<'a>(&'a self, field: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(name, _)| name == field).map(|(_, value)| &**value)
    }

    fn text(&self, field: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name == field).map(|(_, value)| &**value)
    }

    fn number(&self, field: &str) -> Option<u64> {
        self.text(field).map(|text| text.parse().unwrap())
    }
}

fn receive() -> Request {
    let mut buffer = vec![0; 1 << 16];
    let length = recv(SOCKET, &mut buffer, MsgFlags::empty()).unwrap();
    if length == 0 {
        // Whoever asked has gone.
        std::process::exit(1);
    }
    let mut fields = Vec::new();
    read(&buffer[..length], "", &mut fields);
    Request(fields)
}

/// Protocol buffers, encoding: numbers and what has a length.
fn read(mut rest: &[u8], above: &str, fields: &mut Vec<(String, String)>) {
    while !rest.is_empty() {
        let tag = varint(&mut rest);
        let name = match above {
            "" => (tag >> 3).to_string(),
            above => format!("{above}.{}", tag >> 3),
        };
        if tag & 7 == 0 {
            fields.push((name, varint(&mut rest).to_string()));
            continue;
        }
        assert_eq!(tag & 7, 2, "{name}");
        let length = usize::try_from(varint(&mut rest)).unwrap();
        let (value, after) = rest.split_at(length);
        rest = after;
        if MESSAGES.contains(&&*name) {
            read(value, &name, fields);
        } else {
            fields.push((name, String::from_utf8(value.to_vec()).unwrap()));
        }
    }
}

fn varint(rest: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, after) = rest.split_first().unwrap();
        *rest = after;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    value
}

fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn number(out: &mut Vec<u8>, field: u64, value: u64) {
    put(out, field << 3);
    put(out, value);
}

fn bytes(out: &mut Vec<u8>, field: u64, value: &[u8]) {
    put(out, field << 3 | 2);
    put(out, value.len() as u64);
    out.extend_from_slice(value);
}

fn answer(kind: u64, success: bool, more: impl FnOnce(&mut Vec<u8>)) {
    send(&message(kind, success, more), None);
}

fn message(kind: u64, success: bool, more: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    number(&mut out, 1, kind);
    number(&mut out, 2, u64::from(success));
    more(&mut out);
    out
}

/// Asks, and ends if the answer is no.
fn notify(script: &str, pid: i32, fd: Option<&OwnedFd>) {
    let mut inner = Vec::new();
    bytes(&mut inner, 1, script.as_bytes());
    number(&mut inner, 2, u64::try_from(pid).unwrap());
    send(&message(NOTIFY, true, |out| bytes(out, 5, &inner)), fd);
    let answer = receive();
    assert_eq!(answer.number("1"), Some(NOTIFY));
    if answer.number("3") != Some(1) {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        std::process::exit(1);
    }
}

fn send(message: &[u8], fd: Option<&OwnedFd>) {
    let slices = [std::io::IoSlice::new(message)];
    let fds: Vec<i32> = fd.iter().map(|fd| fd.as_raw_fd()).collect();
    let rights = [ControlMessage::ScmRights(&fds)];
    let rights: &[_] = if fds.is_empty() { &[] } else { &rights };
    sendmsg::<()>(SOCKET, &slices, rights, MsgFlags::MSG_NOSIGNAL, None).unwrap();
}
