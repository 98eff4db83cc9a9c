//! The way into a running machine: one connection for each user, which all calls
//! share, since a handshake takes an emulated processor longer than most commands.
//!
//! All files are named from the machine's folder, where ssh runs: a socket's path
//! must be short.

use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{cache, progress};
use crate::command::{self, Output};

/// What a handshake may take, beside what else the machine does.
const CONNECT: Duration = Duration::from_secs(60);

/// The log of the connections.
pub const LOG: &str = "ssh.log";

/// Who one is in there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum User {
    /// root
    Root,
    /// An ordinary user with a manager of its own
    Ordinary,
}

impl User {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::Root, Self::Ordinary];

    /// The name of the socket of that user's connection.
    #[must_use]
    pub fn socket(self) -> String {
        format!("ssh-{}.sock", self.name())
    }

    fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Ordinary => "lab",
        }
    }
}

/// A machine's door.
#[derive(Debug)]
pub struct Ssh {
    /// The machine's folder.
    pub folder: PathBuf,
    /// The port on loopback.
    pub port: u16,
}

impl Ssh {
    /// Whether the machine's server is there.
    #[must_use]
    pub fn answers(&self) -> bool {
        // QEMU accepts for a machine that does not listen yet: only its word counts.
        let Ok(mut stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)) else {
            return false;
        };
        let mut word = [0; 4];
        stream.set_read_timeout(Some(Duration::from_secs(2))).is_ok()
            && stream.read_exact(&mut word).is_ok()
            && word == *b"SSH-"
    }

    /// Makes the connection that the calls share, if there is none. The caller has
    /// the folder's lock: nobody else is making one.
    ///
    /// # Errors
    /// The machine does not let us in.
    pub fn connect(&self, user: User) -> Result<()> {
        if self.connected(user) {
            return Ok(());
        }
        // A dead connection's socket would keep ssh from sharing the new one.
        cache::remove(&self.folder.join(user.socket()))?;
        let log = self.folder.join(LOG);
        let (out, err) = progress::log(&log)?;
        let mut master = self.client("ssh", user);
        // It stays in the background and must keep none of our descriptors open.
        master.args(["-o", "ControlMaster=yes", "-o", "ControlPersist=yes", "-N", "-f"]);
        master.args(["-p", &self.port.to_string(), &self.place(user)]);
        master.stdin(Stdio::null()).stdout(out).stderr(err);
        let mut child = master.spawn().context("starting ssh")?;
        let status = command::wait(&mut child, CONNECT);
        if status.is_none() {
            let _ = child.kill();
            let _ = child.wait();
        }
        ensure!(
            status.is_some_and(|status| status.success()),
            "ssh cannot connect: {}; its log is {}",
            progress::last_line(&log),
            log.display()
        );
        Ok(())
    }

    /// Whether that connection is there.
    #[must_use]
    pub fn connected(&self, user: User) -> bool {
        let mut check = self.client("ssh", user);
        check.args(["-O", "check", &self.place(user)]);
        command::run(&mut check, "", Duration::from_secs(10)).is_ok_and(|output| output.code == 0)
    }

    /// A shell's line in there, still to be run.
    #[must_use]
    pub fn command(&self, user: User, line: impl AsRef<OsStr>) -> Command {
        let mut ssh = self.client("ssh", user);
        ssh.args(["-p", &self.port.to_string(), &self.place(user), "--"]).arg(line);
        ssh
    }

    /// A login, with a terminal.
    #[must_use]
    pub fn login(&self, user: User) -> Command {
        let mut ssh = self.client("ssh", user);
        ssh.args(["-t", "-p", &self.port.to_string(), &self.place(user)]);
        ssh
    }

    /// Copies files and folders, still to be run.
    #[must_use]
    pub fn copy(&self, user: User, files: &[PathBuf], to: &str) -> Command {
        let mut scp = self.client("scp", user);
        scp.args(["-r", "-p", "-P", &self.port.to_string(), "--"]).args(files);
        scp.arg(format!("{}:{to}", self.place(user)));
        scp
    }

    /// Runs a short line as root.
    ///
    /// # Errors
    /// It does not end in time.
    pub fn ask(&self, line: &str, limit: Duration) -> Result<Output> {
        let mut output = command::run(&mut self.command(User::Root, line), "", limit)?;
        line.clone_into(&mut output.line);
        Ok(output)
    }

    fn place(&self, user: User) -> String {
        format!("{}@{}", user.name(), Ipv4Addr::LOCALHOST)
    }

    fn client(&self, program: &str, user: User) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.folder).args(["-F", "none", "-i", "image/key"]);
        for option in [
            "IdentitiesOnly=yes",
            "BatchMode=yes",
            "StrictHostKeyChecking=yes",
            "UserKnownHostsFile=image/known_hosts",
            "GlobalKnownHostsFile=none",
            "HostKeyAlias=lab",
            "UpdateHostKeys=no",
            "LogLevel=ERROR",
            "ServerAliveInterval=30",
            "ServerAliveCountMax=10",
            // Three times as fast on an emulated processor as the default.
            "Ciphers=aes128-gcm@openssh.com",
        ] {
            command.args(["-o", option]);
        }
        command.args(["-o", &format!("ControlPath={}", user.socket())]);
        command
    }
}

/// A word as a shell reads it back.
#[must_use]
pub fn quote(word: &OsStr) -> OsString {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_./=:,+@%".contains(byte);
    let bytes = word.as_bytes();
    if !bytes.is_empty() && bytes.iter().all(plain) {
        return word.to_owned();
    }
    let parts: Vec<_> = bytes.split(|byte| *byte == b'\'').collect();
    OsString::from_vec([b"'", parts.join(&br"'\''"[..]).as_slice(), b"'"].concat())
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_dead_connections_socket_does_not_stay() {
        let folder = tempfile::tempdir().unwrap();
        // A port where nobody listens.
        let port =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let ssh = Ssh { folder: folder.path().to_owned(), port };
        let sockets = User::ALL.map(|user| folder.path().join(user.socket()));
        for socket in &sockets {
            File::create(socket).unwrap();
        }
        assert!(ssh.connect(User::Ordinary).is_err());
        assert!(sockets[0].exists() && !sockets[1].exists());
    }

    #[test]
    fn a_shell_reads_every_word_back() {
        let words =
            ["", "plain", "a b", "it's", "'", "$HOME `x`", "*", "a\nb", "\\", "~", "ü", "-n"];
        for word in words.map(str::as_bytes).into_iter().chain([&b"#"[..], b"\xff'\xfe"]) {
            let line = [b"printf '<%s>' ", quote(OsStr::from_bytes(word)).as_bytes()].concat();
            let mut shell = Command::new("sh");
            let output = shell.arg("-c").arg(OsStr::from_bytes(&line)).output().unwrap();
            assert_eq!(output.stdout, [b"<", word, b">"].concat());
        }
        assert_eq!(quote(OsStr::new("/usr/bin/x")), "/usr/bin/x");
    }

    #[test]
    fn nothing_of_the_persons_own_ssh_is_used() {
        let ssh = Ssh { folder: PathBuf::from("/x"), port: 7 };
        let command = ssh.command(User::Ordinary, "true");
        let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy()).collect();
        assert_eq!(words[..4], ["-F", "none", "-i", "image/key"]);
        assert_eq!(words[words.len() - 5..], ["-p", "7", "lab@127.0.0.1", "--", "true"]);
        assert!(words.iter().any(|word| word == "StrictHostKeyChecking=yes"));
    }
}
