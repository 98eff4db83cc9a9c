//! Moving network devices of the host into the container's network namespace
//! (runtime-spec, config-linux, "Network Devices"), and bringing up its own.
//!
//! The kernel moves and renames in one step, and takes all addresses away by it; they
//! are given back there. A device that was moved is the namespace's from then on.

use std::os::fd::BorrowedFd;

use nix::errno::Errno;

use super::netlink::{Answer, Request, Socket, word};
use crate::error::{Error, Place, Result};
use crate::plan::NetDevice;

/// Length of `struct ifinfomsg` and of `struct ifaddrmsg`.
const LINK: usize = 16;
const ADDRESS: usize = 8;
/// `IFLA_NEW_IFINDEX` (linux/if_link.h)
const NEW_INDEX: u16 = 49;
/// What of an address's flags its owner has chosen: the rest is its state.
const CHOSEN: u32 = libc::IFA_F_NODAD
    | libc::IFA_F_HOMEADDRESS
    | libc::IFA_F_MANAGETEMPADDR
    | libc::IFA_F_NOPREFIXROUTE
    | libc::IFA_F_MCAUTOJOIN;

/// Moves devices into the network namespace of a process and brings them up there.
///
/// # Errors
/// A device that is not there, or can't be moved; a name that is taken. Nothing has
/// been moved if that could be told before.
pub(super) fn move_all(devices: &[NetDevice], (pid, pidfd): (i32, BorrowedFd<'_>)) -> Result<()> {
    if devices.is_empty() {
        return Ok(());
    }
    let socket = |socket: Result<Socket, Errno>| {
        socket.map_err(|errno| Error::os(errno as i32, "opening a netlink socket"))
    };
    let (mut host, mut inside) = (socket(Socket::new())?, socket(Socket::of(pidfd))?);
    let found: Result<Vec<u32>> =
        devices.iter().map(|device| look(device, &mut host, &mut inside)).collect();
    for (device, index) in devices.iter().zip(found?) {
        give(device, index, pid, &mut host, &mut inside).map_err(|errno| {
            let doing = format!("moving the network device {:?}", device.name);
            let error = Error::os(errno as i32, doing).at(place(device));
            match errno {
                Errno::EINVAL => error.hint("a device of this kind may be bound to its namespace"),
                _ => error,
            }
        })?;
    }
    Ok(())
}

/// Brings up the loopback device in the network namespace of a process.
///
/// # Errors
/// The namespace can't be entered, or not be changed.
pub(super) fn loopback_up(pidfd: BorrowedFd<'_>) -> Result<()> {
    let up = |mut inside: Socket| {
        let index = named(&mut inside, "lo")?;
        change_up(&mut inside, index)
    };
    Socket::of(pidfd)
        .and_then(up)
        .map_err(|errno| Error::os(errno as i32, "bringing up the loopback device"))
}

/// The number of a device, whose new name nobody has.
fn look(device: &NetDevice, host: &mut Socket, inside: &mut Socket) -> Result<u32> {
    let NetDevice { name, inside: new, .. } = device;
    let failed = |errno: Errno, doing: String| Error::os(errno as i32, doing).at(place(device));
    let index = named(host, name)
        .map_err(|errno| failed(errno, format!("looking for the network device {name:?}")))?;
    // The kernel fills in a number that nobody has. Else it would tell when the device
    // is there already.
    if !new.contains('%') {
        let doing = || format!("looking for the name {new:?} in the network namespace");
        match named(inside, new) {
            Err(Errno::ENODEV) => {}
            Err(errno) => return Err(failed(errno, doing())),
            Ok(_) => return Err(failed(Errno::EEXIST, doing())),
        }
    }
    Ok(index)
}

fn place(device: &NetDevice) -> Place {
    Place::Config(device.pointer.clone())
}

fn give(
    device: &NetDevice,
    index: u32,
    pid: i32,
    host: &mut Socket,
    inside: &mut Socket,
) -> Result<(), Errno> {
    // With the device down, those of IPv6 are gone.
    let listed = host.list(libc::RTM_GETADDR, &[0; ADDRESS])?;
    let addresses = listed.iter().filter(|address| word(&address.0, 4) == index);
    let index = change_namespace(device, index, pid, host, inside)?;
    for request in addresses.filter_map(|address| same_address(address, index)) {
        inside.ask(request)?;
    }
    change_up(inside, index)
}

fn change_up(inside: &mut Socket, index: u32) -> Result<(), Errno> {
    let up = (libc::IFF_UP as u32).to_ne_bytes();
    let fixed = [&link(index)[..8], &up, &up].concat();
    inside.ask(Request::new(libc::RTM_NEWLINK, 0, &fixed)).map(drop)
}

/// Moves and renames a device. It keeps its number if that is free there; else it
/// gets one that we know it by.
fn change_namespace(
    device: &NetDevice,
    index: u32,
    pid: i32,
    host: &mut Socket,
    inside: &mut Socket,
) -> Result<u32, Errno> {
    let mut moved = |new: u32| {
        let request = Request::new(libc::RTM_NEWLINK, 0, &link(index))
            .with(libc::IFLA_IFNAME, &text(&device.inside))
            .with(libc::IFLA_NET_NS_PID, &pid.to_ne_bytes())
            .with(NEW_INDEX, &new.to_ne_bytes());
        host.ask(request).map(|_| new)
    };
    match moved(index) {
        Err(Errno::EBUSY) => {
            let listed = inside.list(libc::RTM_GETLINK, &link(0))?;
            let last = listed.iter().map(|link| word(&link.0, 4)).max().unwrap_or_default();
            moved(last + 1)
        }
        moved => moved,
    }
}

/// The number of the device of this name.
fn named(socket: &mut Socket, name: &str) -> Result<u32, Errno> {
    let request = Request::new(libc::RTM_GETLINK, 0, &link(0));
    let found = socket.ask(request.with(libc::IFLA_IFNAME, &text(name)))?;
    found.first().map(|link| word(&link.0, 4)).ok_or(Errno::ENODEV)
}

/// SPEC: permanent addresses of global scope, of any family.
fn same_address(address: &Answer, index: u32) -> Option<Request> {
    let fixed = address.0.get(..ADDRESS)?;
    let attributes = || address.attributes(ADDRESS);
    let long = attributes().find(|(kind, _)| *kind == libc::IFA_FLAGS);
    let flags = long.map_or(u32::from(fixed[2]), |(_, value)| word(value, 0));
    if flags & libc::IFA_F_PERMANENT == 0 || fixed[3] != libc::RT_SCOPE_UNIVERSE {
        return None;
    }
    let flags = flags & CHOSEN;
    // The scope is that one, and its flags are told whole below.
    let head = [&[fixed[0], fixed[1], 0, fixed[3]], &index.to_ne_bytes()[..]].concat();
    let create = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
    let request = Request::new(libc::RTM_NEWADDR, create, &head);
    let kept = [libc::IFA_ADDRESS, libc::IFA_LOCAL, libc::IFA_BROADCAST];
    let request = attributes()
        .filter(|(kind, _)| kept.contains(kind))
        .fold(request, |request, (kind, value)| request.with(kind, value));
    Some(request.with(libc::IFA_FLAGS, &flags.to_ne_bytes()))
}

/// `struct ifinfomsg`: nothing but the number.
fn link(index: u32) -> [u8; LINK] {
    let mut bytes = [0; LINK];
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    bytes
}

fn text(name: &str) -> Vec<u8> {
    [name.as_bytes(), &[0]].concat()
}
