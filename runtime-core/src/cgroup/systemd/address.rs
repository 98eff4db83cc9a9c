//! Where a bus listens: an address of D-Bus becomes an address of a socket.
//!
//! Reads the environment, as every client of D-Bus does; connects to nothing.

use std::env::var_os;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use nix::sys::socket::UnixAddr;
use nix::unistd::geteuid;

use crate::error::{Error, Kind, Result};

/// Where the system's bus listens (D-Bus specification, "Well-known Message Bus
/// Instances").
const SYSTEM: &str = "unix:path=/run/dbus/system_bus_socket";

/// One bus: the system's, or the user's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    /// How errors call the bus.
    pub(super) name: &'static str,
    text: OsString,
}

impl Address {
    /// The bus of the system's manager, or of the user's.
    ///
    /// # Errors
    /// A user without a session.
    pub(super) fn find(user: bool) -> Result<Self> {
        let set = |name: &str| var_os(name).filter(|value| !value.is_empty());
        if !user {
            let text = set("DBUS_SYSTEM_BUS_ADDRESS").unwrap_or(SYSTEM.into());
            return Ok(Self { name: "the system bus", text });
        }
        let name = "the bus of the user's session";
        if let Some(text) = set("DBUS_SESSION_BUS_ADDRESS") {
            return Ok(Self { name, text });
        }
        // COMPAT(runc): the same two places, and no others.
        let socket = set("XDG_RUNTIME_DIR").map(|dir| PathBuf::from(dir).join("bus"));
        match socket.filter(|socket| socket.exists()) {
            Some(socket) => Ok(Self::at(name, &socket)),
            None => {
                let uid = geteuid();
                let what = format!(
                    "user {uid} has no session with systemd: DBUS_SESSION_BUS_ADDRESS is not set, \
                     and there is no socket \"bus\" in XDG_RUNTIME_DIR"
                );
                let hint = "log in through systemd-logind with the package dbus-user-session, or \
                            use \"loginctl enable-linger\"";
                Err(Error::new(Kind::Cgroup, what).hint(hint))
            }
        }
    }

    /// The bus whose socket is at a path.
    pub(super) fn at(name: &'static str, socket: &Path) -> Self {
        Self { name, text: to_text(socket) }
    }

    /// The sockets, to be tried in order.
    ///
    /// # Errors
    /// None that can be reached by a unix socket.
    pub(super) fn sockets(&self) -> Result<Vec<UnixAddr>> {
        let addresses = self.text.as_bytes().split(|byte| *byte == b';');
        let found: Vec<UnixAddr> = addresses.filter_map(socket).collect();
        if found.is_empty() {
            let what = format!("{} has no address of a unix socket: {:?}", self.name, self.text);
            return Err(Error::new(Kind::Cgroup, what));
        }
        Ok(found)
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at {:?}", self.name, self.text)
    }
}

/// One address of a list: `unix:path=/run/bus,guid=0123`.
fn socket(address: &[u8]) -> Option<UnixAddr> {
    let keys = address.strip_prefix(b"unix:")?;
    let mut pairs = keys.split(|byte| *byte == b',').filter_map(|pair| {
        let at = pair.iter().position(|byte| *byte == b'=')?;
        Some((&pair[..at], unescape(&pair[at + 1..])?))
    });
    pairs.find_map(|(key, value)| match key {
        b"path" => UnixAddr::new(Path::new(OsStr::from_bytes(&value))).ok(),
        b"abstract" => UnixAddr::new_abstract(&value).ok(),
        b"runtime" if value == b"yes" => {
            UnixAddr::new(&PathBuf::from(var_os("XDG_RUNTIME_DIR")?).join("bus")).ok()
        }
        _ => None,
    })
}

/// Undoes `%2f`; none when it is no escape.
fn unescape(value: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some((&first, tail)) = rest.split_first() {
        if first != b'%' {
            bytes.push(first);
            rest = tail;
            continue;
        }
        let (digits, tail) = tail.split_at_checked(2)?;
        let digits = std::str::from_utf8(digits).ok()?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = tail;
    }
    Some(bytes)
}

fn to_text(socket: &Path) -> OsString {
    let mut text = b"unix:path=".to_vec();
    for byte in socket.as_os_str().as_bytes() {
        match byte {
            b'-' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'_' | b'/' | b'.' => text.push(*byte),
            byte => text.extend(format!("%{byte:02x}").bytes()),
        }
    }
    OsString::from_vec(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Option<PathBuf> {
        socket(text.as_bytes()).map(|address| address.path().unwrap().to_path_buf())
    }

    #[test]
    fn addresses_are_read() {
        assert_eq!(path("unix:path=/run/a").unwrap(), Path::new("/run/a"));
        assert_eq!(path("unix:guid=0,path=/run/a%20b").unwrap(), Path::new("/run/a b"));
        let address = socket(b"unix:abstract=/tmp/x,guid=1").unwrap();
        assert_eq!(address.as_abstract(), Some(&b"/tmp/x"[..]));
        for text in ["tcp:host=a", "unix:", "unix:path=/a%2", "unix:path=/a%zz", "unix:dir=/a", ""]
        {
            assert_eq!(socket(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_path_survives_its_text() {
        let socket = Path::new("/run/user/1000/a b;c,d%/bus");
        let address = Address::at("", socket);
        assert_eq!(address.sockets().unwrap()[0].path(), Some(socket));
    }

    #[test]
    fn a_list_is_tried_in_order() {
        let address = Address { name: "x", text: "tcp:port=1;unix:path=/a;unix:path=/b".into() };
        let sockets = address.sockets().unwrap();
        let paths: Vec<_> = sockets.iter().map(|socket| socket.path().unwrap()).collect();
        assert_eq!(paths, [Path::new("/a"), Path::new("/b")]);
        let none = Address { name: "the x bus", text: "tcp:port=1".into() };
        assert!(none.sockets().unwrap_err().to_string().starts_with("the x bus has no address"));
    }
}
