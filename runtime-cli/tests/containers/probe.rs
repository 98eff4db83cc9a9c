//! What the process of a container under test does: it looks around and prints.
//!
//! Every word it prints is a fact of the container; whether it is right is the
//! test's business.

use std::fs;
use std::io::{Read, Write, copy};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, Signal, raise};
use nix::sys::stat::{Mode, SFlag, major, makedev, minor, mknod};
use nix::unistd::{Uid, chroot, mkdir, sethostname, setuid};

/// The probe's end, if this process is called by its name.
pub(crate) fn main() -> Option<ExitCode> {
    let arguments: Vec<String> = std::env::args().collect();
    let name = Path::new(arguments.first()?).file_name()?;
    if name != "probe" {
        return None;
    }
    let words: Vec<&str> = arguments[1..].iter().map(String::as_str).collect();
    Some(match act(&words) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("probe {words:?}: {error}");
            ExitCode::from(99)
        }
    })
}

fn act(words: &[&str]) -> std::io::Result<u8> {
    match words {
        ["exit", code] => return Ok(number(code)),
        ["raise", signal] => raise(signal.parse().map_err(|_| invalid(signal))?)?,
        ["sleep"] => loop {
            std::thread::sleep(Duration::from_secs(3600));
        },
        // A hook that takes as long as the test wants.
        ["until", path, runs] => {
            fs::write(runs, "")?;
            while !Path::new(path).exists() {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        ["wait", signal] => wait(signal.parse().map_err(|_| invalid(signal))?)?,
        ["family", count] => family(number(count))?,
        ["nest", cgroups] => nest(Path::new(cgroups))?,
        // Where the filter ends the thread that asks for another root.
        ["lose-first-thread"] => {
            drop(std::thread::spawn(|| std::thread::sleep(Duration::from_secs(3600))));
            chroot(".")?;
        }
        ["eat", megabytes] => {
            let eaten = vec![1_u8; usize::from(number(megabytes)) << 20];
            println!("{}", eaten.len());
        }
        ["leave", how @ ..] => leave(how.contains(&"quietly"))?,
        ["bereave"] => bereave()?,
        ["hear"] => {
            for line in std::io::stdin().lines() {
                println!("heard {}", line?);
            }
        }
        ["say", rest @ ..] => println!("{}", rest.join(" ")),
        ["cat", paths @ ..] => {
            for path in paths {
                std::io::stdout().write_all(&fs::read(path)?)?;
            }
        }
        ["copy", path] => copy(&mut fs::File::open(path)?, &mut std::io::stdout()).map(drop)?,
        ["write", path, text] => fs::write(path, text)?,
        // A hook keeps its standard input, under the name of its kind.
        ["keep", path] => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text)?;
            fs::File::options().append(true).create(true).open(path)?.write_all(text.as_bytes())?;
        }
        // What is printed goes into a file.
        ["into", path, rest @ ..] => {
            let file = fs::File::create(path)?;
            nix::unistd::dup2_stdout(file)?;
            return act(rest);
        }
        ["ls", path] => list(path)?,
        ["stat", paths @ ..] => paths.iter().try_for_each(|path| stat(path))?,
        ["labels", paths @ ..] => {
            for path in paths {
                println!("{path} {}", label(path)?);
            }
        }
        ["node", path] => println!("{}", kind(&fs::metadata(path)?)),
        ["spy-out", file, pids @ ..] => crate::spy::look_out(file, pids)?,
        ["spy", pids @ ..] => crate::spy::look(pids)?,
        ["try", calls @ ..] => calls.iter().for_each(|call| println!("{call} {}", attempt(call))),
        ["write-each", text, paths @ ..] => {
            for path in paths {
                let end = fs::write(path, text).err().and_then(|error| error.raw_os_error());
                println!("{path} {}", end.map_or("ok".to_owned(), errno_name));
            }
        }
        ["terminal"] => terminal()?,
        ["flood", terminal] => flood(Path::new(terminal)),
        ["fds"] => fds()?,
        ["cwd"] => println!("{}", std::env::current_dir()?.display()),
        ["env"] => std::env::vars().for_each(|(name, value)| println!("{name}={value}")),
        ["notify" | "notify-for-ever" | "notify-and-sleep", ..] => notify(words)?,
        _ => return Err(invalid(&words.join(" "))),
    }
    Ok(0)
}

/// Says something to who waits for it.
fn notify(words: &[&str]) -> std::io::Result<()> {
    match words {
        // Each word is one datagram.
        ["notify", words @ ..] => {
            let to = std::env::var("NOTIFY_SOCKET").map_err(std::io::Error::other)?;
            let socket = UnixDatagram::unbound()?;
            for word in words {
                socket.send_to(word.replace(',', "\n").as_bytes(), &to)?;
            }
        }
        ["notify-for-ever"] => {
            // More than there is room for: somebody listens.
            for _ in 0..2000 {
                act(&["notify", "STATUS=x"])?;
            }
            println!("more");
            loop {
                act(&["notify", "STATUS=x"])?;
            }
        }
        ["notify-and-sleep", words @ ..] => {
            act(&[&["notify"], words].concat())?;
            act(&["sleep"])?;
        }
        _ => {}
    }
    Ok(())
}

fn invalid(what: &str) -> std::io::Error {
    std::io::Error::other(format!("what is {what:?}?"))
}

fn number(text: &str) -> u8 {
    text.parse().unwrap_or(99)
}

/// Says that it waits, and ends well when the signal comes. Process 1 of a pid
/// namespace gets no signal that it does not wait for.
fn wait(signal: Signal) -> std::io::Result<()> {
    let set = SigSet::from(signal);
    set.thread_block()?;
    println!("ready");
    set.wait()?;
    Ok(())
}

/// Writes to a terminal for ever, whenever there is one.
fn flood(terminal: &Path) -> ! {
    loop {
        let mut options = fs::File::options();
        options.write(true).custom_flags(OFlag::O_NOCTTY.bits());
        if let Ok(mut file) = options.open(terminal) {
            while file.write_all(&[b'x'; 4096]).is_ok() {}
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Leaves a child behind, with our streams or without.
fn leave(quietly: bool) -> std::io::Result<()> {
    let mut child = Command::new("/bin/probe");
    child.arg("sleep");
    if quietly {
        child.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    }
    child.spawn().map(drop)
}

/// Sleeps with that many children.
fn family(count: u8) -> std::io::Result<()> {
    for _ in 0..count {
        drop(Command::new("/bin/probe").arg("sleep").spawn()?);
    }
    println!("ready");
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

/// Sleeps with no child, but with a child's child, whose parent is whoever takes orphans.
fn bereave() -> std::io::Result<()> {
    Command::new("/bin/probe").arg("leave").status()?;
    family(0)
}

/// Goes down into cgroups of its own, in each hierarchy that is there, until no path
/// reaches it. Has children there.
fn nest(cgroups: &Path) -> std::io::Result<()> {
    let mut hierarchies = vec![cgroups.to_path_buf()];
    if !cgroups.join("cgroup.procs").exists() {
        let entries = fs::read_dir(cgroups)?.flatten();
        hierarchies = entries.map(|entry| entry.path()).filter(|path| !path.is_symlink()).collect();
    }
    let name = "x".repeat(250);
    for hierarchy in hierarchies {
        std::env::set_current_dir(hierarchy)?;
        for _ in 0..20 {
            fs::create_dir(&name)?;
            std::env::set_current_dir(&name)?;
        }
        // A cpuset without processors takes nobody.
        let _ = fs::write("cgroup.procs", "0");
    }
    family(2)
}

/// `kind mode uid:gid` and the device or link it is.
fn stat(path: &str) -> std::io::Result<()> {
    let data = fs::symlink_metadata(path)?;
    let kind = match data.is_symlink() {
        true => format!("link {}", fs::read_link(path)?.display()),
        false => kind(&data),
    };
    println!("{path} {kind} {:o} {}:{}", data.mode() & 0o7777, data.uid(), data.gid());
    Ok(())
}

/// What SELinux calls it.
fn label(path: &str) -> std::io::Result<String> {
    let mut value = [0; 256];
    let length = rustix::fs::getxattr(path, "security.selinux", &mut value[..])?;
    Ok(String::from_utf8_lossy(&value[..length]).trim_end_matches('\0').to_owned())
}

/// What kind of file it is, and a device's number.
fn kind(data: &fs::Metadata) -> String {
    match data.mode() & libc::S_IFMT {
        libc::S_IFCHR => format!("char {}:{}", major(data.rdev()), minor(data.rdev())),
        libc::S_IFBLK => format!("block {}:{}", major(data.rdev()), minor(data.rdev())),
        libc::S_IFIFO => "fifo".to_owned(),
        libc::S_IFDIR => "dir".to_owned(),
        _ => "file".to_owned(),
    }
}

/// How a system call ends: `ok`, or the name of its error.
fn attempt(call: &str) -> String {
    let result = match call {
        "mkdir" => mkdir("/tmp/probe-dir", Mode::S_IRWXU),
        "chroot" => chroot("/tmp"),
        "sethostname" => sethostname("probe"),
        "setuid" => setuid(Uid::from_raw(0)),
        // /dev/kmsg
        "mknod" => mknod("/tmp/node", SFlag::S_IFCHR, Mode::S_IRWXU, makedev(1, 11)),
        "open-node" => open("/tmp/node", OFlag::O_RDONLY, Mode::empty()).map(drop),
        "open-null" => open("/dev/null", OFlag::O_RDWR, Mode::empty()).map(drop),
        "unshare" => unshare(CloneFlags::CLONE_NEWUTS),
        _ => return "unknown".to_owned(),
    };
    result.err().map_or("ok".to_owned(), |errno| errno_name(errno as i32))
}

fn errno_name(errno: i32) -> String {
    format!("{:?}", Errno::from_raw(errno))
}

fn terminal() -> std::io::Result<()> {
    for fd in [0, 1, 2] {
        let name = fs::read_link(format!("/proc/self/fd/{fd}"))?;
        println!("{fd} {}", name.display());
    }
    let size = rustix::termios::tcgetwinsize(std::io::stdout())?;
    println!("{} rows {} columns", size.ws_row, size.ws_col);
    Ok(())
}

fn list(path: &str) -> std::io::Result<()> {
    let mut names: Vec<_> = fs::read_dir(path)?.flatten().map(|entry| entry.file_name()).collect();
    names.sort();
    names.iter().for_each(|name| println!("{}", name.display()));
    Ok(())
}

/// Its open descriptors and what they are, but for the one that lists them.
fn fds() -> std::io::Result<()> {
    let entries: Vec<_> = fs::read_dir("/proc/self/fd")?.flatten().collect();
    for entry in entries {
        if let Ok(target) = fs::read_link(entry.path()) {
            println!("{} {}", entry.file_name().display(), target.display());
        }
    }
    Ok(())
}
