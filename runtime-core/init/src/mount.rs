//! Mounts: the root, what is mounted in it, and the way in.
//!
//! Every mount is made detached, configured by its descriptor and only then
//! attached onto the descriptor of its place; no path is ever looked up twice.

use core::ffi::CStr;

use crate::copy_up;
use crate::live;
use crate::op::{
    BELOW_COPY, BELOW_MODE, BIND_INSIDE, BIND_LOCKED, BIND_MAPPED, BIND_RECURSIVE,
    FALLBACK_WRITABLE, PROPAGATION_RECURSIVE,
};
use crate::path::{self, Make, PathBuf};
use crate::plan::{Gate, Slot, Strs, Target};
use crate::run::{Done, Fail, Stage, in_part};
use crate::sys::{self, Errno, Fd, NO_FD, Sys, abi};
use crate::wire::Part;

/// A file system to be made.
pub struct NewMount {
    pub fs_type: &'static CStr,
    pub source: &'static CStr,
    pub options: Strs,
    pub attributes: u32,
    pub propagation: u64,
    pub at: &'static CStr,
    pub target: Target,
    /// `BELOW_COPY`, `BELOW_MODE` and `FALLBACK_WRITABLE`.
    pub below: u32,
    /// A tree of the host to bind instead when the kernel refuses; may be empty.
    pub fallback: &'static CStr,
    /// The number under which it is held, 0 for none.
    pub hold: u32,
    /// What SELinux calls its directory; may be empty.
    pub label: &'static CStr,
}

/// Where something is in the root: below a mount that is held, or by its whole path.
pub struct Place {
    pub at: &'static CStr,
    pub under: u32,
    pub below: &'static CStr,
}

/// A tree of the host to be mounted in the root.
pub struct Source {
    /// The number of the op.
    pub op: u32,
    pub slot: Slot,
    pub path: &'static CStr,
    pub flags: u32,
    pub top: abi::MountAttr,
    pub all: abi::MountAttr,
    pub propagation: u64,
    /// The number under which it is held, 0 for none.
    pub hold: u32,
}

pub fn propagation(kind: u64, recursive: bool) -> Done {
    let attr = abi::MountAttr { propagation: kind, ..abi::MountAttr::default() };
    let flags = if recursive { abi::AT_RECURSIVE } else { 0 };
    sys::mount_setattr(abi::AT_FDCWD, c"/", flags, &attr).map_err(in_part(Part::Whole))
}

/// The mount that holds a directory can only be named by its own root, so go up
/// until the kernel takes the path for one.
#[inline(never)]
pub fn parent_private(path: &'static CStr) -> Done {
    let attr = abi::MountAttr { propagation: abi::MS_PRIVATE, ..abi::MountAttr::default() };
    let mut bytes = path.to_bytes();
    loop {
        let mut prefix = PathBuf::new();
        prefix.push(if bytes.is_empty() { b"/" } else { bytes }).map_err(in_part(Part::Resolve))?;
        match sys::mount_setattr(abi::AT_FDCWD, prefix.as_c_str(), 0, &attr) {
            Err(Errno(abi::EINVAL)) if !bytes.is_empty() => {}
            result => return result.map_err(in_part(Part::Whole)),
        }
        let end = bytes.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        bytes = bytes.get(..end).unwrap_or_default();
    }
}

pub fn root_tree(stage: &mut Stage, path: &'static CStr) -> Done {
    let flags = abi::OPEN_TREE_CLONE | abi::OPEN_TREE_CLOEXEC | abi::AT_RECURSIVE;
    let place = sys::openat(abi::AT_FDCWD, path, abi::O_PATH | abi::O_DIRECTORY | abi::O_CLOEXEC)
        .map_err(in_part(Part::Open))?;
    let tree =
        sys::open_tree(place, c"", flags | abi::AT_EMPTY_PATH).map_err(in_part(Part::MakeMount))?;
    sys::move_mount(tree, place).map_err(in_part(Part::Attach))?;
    sys::close(place);
    stage.root = tree;
    Ok(())
}

pub fn root_directory(stage: &mut Stage, path: &'static CStr) -> Done {
    let flags = abi::O_PATH | abi::O_DIRECTORY | abi::O_CLOEXEC;
    stage.root = sys::openat(abi::AT_FDCWD, path, flags).map_err(in_part(Part::Open))?;
    Ok(())
}

/// Opens the place of a mount, made if it may be, and checks that it is neither
/// the root itself nor inside a procfs: what is mounted there could fake what
/// programs believe.
fn open_target(stage: &Stage, at: &'static CStr, target: Target, source: Option<Fd>) -> Done<Fd> {
    let make = if target.has(Target::DIR) {
        Some(Make::Dir(0o755))
    } else if target.has(Target::LIKE_SOURCE) {
        let kind = source.map_or(Ok(abi::S_IFDIR), |fd| Ok(sys::fstat(fd)?.kind()));
        let kind = kind.map_err(in_part(Part::Verify))?;
        Some(if kind == abi::S_IFDIR { Make::Dir(0o755) } else { Make::File })
    } else {
        None
    };
    if target.has(Target::NO_SYMLINK) {
        let flags = abi::O_PATH | abi::O_DIRECTORY;
        let strictly = || path::open(stage.root, at, flags, abi::RESOLVE_NO_SYMLINKS);
        let opened = match (strictly(), make) {
            (Err(Errno(abi::ENOENT)), Some(make)) => {
                sys::close(path::open_or_make(stage.root, at.to_bytes(), make)?);
                strictly()
            }
            (opened, _) => opened,
        };
        return opened.map_err(|errno| match errno {
            Errno(abi::ELOOP | abi::ENOTDIR) => in_part(Part::NotDirectory)(errno),
            _ => in_part(Part::Resolve)(errno),
        });
    }
    let fd = match make {
        Some(make) => path::open_or_make(stage.root, at.to_bytes(), make)?,
        None => path::open(stage.root, at, abi::O_PATH, 0).map_err(in_part(Part::Resolve))?,
    };
    let (root, here) = (sys::fstat(stage.root), sys::fstat(fd));
    let (root, here) = (root.map_err(in_part(Part::Verify))?, here.map_err(in_part(Part::Verify))?);
    if (root.inode, root.dev_major, root.dev_minor) == (here.inode, here.dev_major, here.dev_minor)
    {
        return Err(Fail::new(Part::Verify, abi::EBUSY)); // a link led back to /
    }
    if target.0 & (Target::IN_PROC.0 | Target::FROM_PROC.0) == 0
        && sys::fs_magic(fd).map_err(in_part(Part::Verify))? == abi::PROC_SUPER_MAGIC
    {
        return Err(Fail::new(Part::InsideProc, abi::EPERM));
    }
    Ok(fd)
}

pub fn mount(stage: &mut Stage, new: &NewMount, keep: bool) -> Done {
    let inherited = if new.below & BELOW_MODE != 0 { mode_at(stage, new.at)? } else { None };
    let place = open_target(stage, new.at, new.target, None)?;
    let mount = match make(stage, new, inherited) {
        Err(Fail { errno: Errno(abi::EPERM), .. }) if !new.fallback.is_empty() => {
            host_tree(stage, new)?
        }
        result => result?,
    };
    if new.below & BELOW_COPY != 0 {
        copy_up::copy_up(place, mount, inherited.is_some())?;
    }
    sys::move_mount(mount, place).map_err(in_part(Part::Attach))?;
    live::attached(stage, mount)?;
    sys::close(place);
    set_propagation(mount, new.propagation, 0)?;
    if keep {
        stage.proc = mount;
    }
    if new.hold != 0 || !keep {
        hold(stage, mount, new.hold)?;
    }
    Ok(())
}

/// Keeps the root of a mount for later ops, if there are any.
fn hold(stage: &mut Stage, mount: Fd, number: u32) -> Done {
    let Some(index) = (number as usize).checked_sub(1) else {
        if stage.made.is_none() {
            sys::close(mount);
        }
        return Ok(());
    };
    let held = stage.held.get_mut(index).ok_or(Fail::new(Part::Decode, abi::EPROTO))?;
    *held = Held { mount, seen: None };
    Ok(())
}

/// The root of a mount that later ops change or cover.
#[derive(Clone, Copy)]
pub struct Held {
    pub mount: Fd,
    /// Whether its path leads to it, once somebody has looked.
    seen: Option<bool>,
}

impl Held {
    pub const NONE: Self = Self { mount: NO_FD, seen: None };
}

impl Place {
    /// Opens what is there: below the mount that is held, and by the whole path where
    /// that is something else; `NO_FD` for what is missing.
    ///
    /// A mount is found by its descriptor: another container that has the same files
    /// can rename the directory that it is on, and what is at the path then is not
    /// what was mounted there. The path is asked too where it leads elsewhere: by a
    /// link, or since the same place was spelled otherwise and covered.
    fn open(&self, stage: &mut Stage) -> Sys<[Fd; 2]> {
        let index = (self.under as usize).wrapping_sub(1);
        let Some(Held { mount, seen }) = stage.held.get(index).copied() else {
            return Ok([NO_FD, if_there(path::open(stage.root, self.at, abi::O_PATH, 0))?]);
        };
        let (below, leads_out) = match path::open_beneath(mount, self.below) {
            Err(Errno(abi::EXDEV)) => (NO_FD, true),
            result => (if_there(result)?, false),
        };
        if self.at.is_empty() {
            return Ok([below, NO_FD]); // that mount, whatever its path leads to
        }
        let seen = match seen {
            Some(seen) => seen,
            None => self.is_seen(stage.root, mount)?,
        };
        if let Some(held) = stage.held.get_mut(index) {
            held.seen = Some(seen);
        }
        if seen && !leads_out {
            return Ok([below, NO_FD]);
        }
        let by_path = if_there(path::open(stage.root, self.at, abi::O_PATH, 0))?;
        if by_path != NO_FD && below != NO_FD && is_same(below, by_path)? {
            sys::close(by_path);
            return Ok([below, NO_FD]);
        }
        Ok([below, by_path])
    }

    /// Whether the path of the mount that is held leads to it.
    #[inline(never)]
    fn is_seen(&self, root: Fd, mount: Fd) -> Sys<bool> {
        let (at, below) = (self.at.to_bytes(), self.below.to_bytes());
        let mut path = PathBuf::new();
        path.push(b"/")?;
        path.push(at.strip_suffix(below).unwrap_or(at))?;
        let found = if_there(path::open(root, path.as_c_str(), abi::O_PATH, 0))?;
        if found == NO_FD {
            return Ok(false);
        }
        let same = is_same(mount, found)?;
        sys::close(found);
        Ok(same)
    }
}

fn if_there(opened: Sys<Fd>) -> Sys<Fd> {
    match opened {
        Err(Errno(abi::ENOENT | abi::ENOTDIR)) => Ok(NO_FD),
        result => result,
    }
}

/// Whether both are the same file, seen through the same mount.
fn is_same(one: Fd, other: Fd) -> Sys<bool> {
    let identity = |fd| -> Sys<_> {
        let stat = sys::fstat(fd)?;
        Ok((stat.mount, stat.inode, stat.dev_major, stat.dev_minor))
    };
    Ok(identity(one)? == identity(other)?)
}

/// The mode of what is at a path; none where there is nothing yet.
fn mode_at(stage: &Stage, at: &'static CStr) -> Done<Option<u32>> {
    // `open_target` makes it, or says why not.
    let Ok(fd) = path::open(stage.root, at, abi::O_PATH, 0) else { return Ok(None) };
    let stat = sys::fstat(fd).map_err(in_part(Part::Verify))?;
    sys::close(fd);
    Ok(Some(u32::from(stat.mode) & 0o7777))
}

/// The new file system, mounted nowhere yet. `mode` is that of its root.
fn make(stage: &Stage, new: &NewMount, mode: Option<u32>) -> Done<Fd> {
    let fs = sys::fsopen(new.fs_type).map_err(in_part(Part::OpenFs))?;
    let logged = |part| move |errno| Fail { part, errno, text: b"", log: fs };
    if let Some(mode) = mode {
        let [special, user, group, others] =
            [9, 6, 3, 0].map(|shift| b'0' + (mode >> shift & 7) as u8);
        let digits = [special, user, group, others, 0];
        let text = CStr::from_bytes_until_nul(&digits).unwrap_or_default();
        sys::fsconfig_string(fs, c"mode", text).map_err(in_part(Part::Configure))?;
    }
    configure(stage, fs, new.source, new.options)?;
    sys::fsconfig_create(fs).map_err(logged(Part::CreateFs))?;
    let mount = sys::fsmount(fs, new.attributes).map_err(logged(Part::MakeMount))?;
    sys::close(fs);
    if !new.label.is_empty() {
        let directory = sys::openat(mount, c".", abi::O_DIRECTORY | abi::O_CLOEXEC)
            .map_err(in_part(Part::Open))?;
        sys::xattr::fsetxattr(directory, c"security.selinux", new.label.to_bytes_with_nul())
            .map_err(in_part(Part::SetAttributes))?;
        sys::close(directory);
    }
    Ok(mount)
}

/// The tree of the host that stands in for a file system; what stands in for a
/// sysfs nobody may change through this clone of it.
fn host_tree(stage: &Stage, new: &NewMount) -> Done<Fd> {
    let flags = abi::OPEN_TREE_CLONE | abi::OPEN_TREE_CLOEXEC | abi::AT_RECURSIVE;
    let tree = sys::open_tree(abi::AT_FDCWD, new.fallback, flags).map_err(in_part(Part::Open))?;
    keep_out(stage, tree)?;
    let read_only = if new.below & FALLBACK_WRITABLE == 0 { abi::MOUNT_ATTR_RDONLY } else { 0 };
    // The access-time field can only be set as a whole, and is of no use here.
    let set = u64::from(new.attributes) & !abi::MOUNT_ATTR_ATIME | read_only;
    let attr = abi::MountAttr { set, ..abi::MountAttr::default() };
    sys::mount_setattr(tree, c"", abi::AT_EMPTY_PATH | abi::AT_RECURSIVE, &attr)
        .map_err(in_part(Part::SetAttributes))?;
    Ok(tree)
}

fn configure(stage: &Stage, fs: Fd, source: &'static CStr, options: Strs) -> Done {
    if !source.is_empty() {
        let failed =
            |errno| Fail { part: Part::Configure, errno, text: source.to_bytes(), log: NO_FD };
        sys::fsconfig_string(fs, c"source", source).map_err(failed)?;
    }
    let mut words = stage.plan.strs(options);
    while let (Some(key), Some(value)) = (words.next(), words.next()) {
        let result = if value.is_empty() {
            sys::fsconfig_flag(fs, key)
        } else {
            sys::fsconfig_string(fs, key, value)
        };
        result.map_err(|errno| Fail {
            part: Part::Configure,
            errno,
            text: key.to_bytes(),
            log: NO_FD,
        })?;
    }
    Ok(())
}

fn set_propagation(mount: Fd, propagation: u64, flags: u32) -> Done {
    if propagation == 0 {
        return Ok(());
    }
    let attr = abi::MountAttr { propagation, ..abi::MountAttr::default() };
    sys::mount_setattr(mount, c"", abi::AT_EMPTY_PATH | flags, &attr)
        .map_err(in_part(Part::Propagate))
}

/// Where the host's mounts are around the container's, takes a clone out of its peers'
/// group while nobody sees it: what is mounted in it would come up on the host, and what
/// goes with it would go there.
fn keep_out(stage: &Stage, tree: Fd) -> Done {
    set_propagation(tree, stage.kept_out, abi::AT_RECURSIVE)
}

/// COMPAT(runc): move_mount(2) says EINVAL where mount(2) says ENOTDIR, which
/// Docker explains to its users.
fn mismatch(tree: Fd, place: Fd, errno: Errno) -> Fail {
    let is_directory = |fd| sys::fstat(fd).map(|stat| stat.kind() == abi::S_IFDIR).ok();
    if errno == Errno(abi::EINVAL) && is_directory(tree) != is_directory(place) {
        return Fail::new(Part::Attach, abi::ENOTDIR);
    }
    Fail { errno, ..Fail::new(Part::Attach, 0) }
}

pub fn bind(stage: &mut Stage, source: &Source, at: &'static CStr, target: Target) -> Done {
    let tree = match source.slot {
        Slot::NONE => {
            let recursive = if source.flags & BIND_RECURSIVE == 0 { 0 } else { abi::AT_RECURSIVE };
            let flags = abi::OPEN_TREE_CLONE | abi::OPEN_TREE_CLOEXEC | recursive;
            let tree = if source.flags & BIND_INSIDE == 0 {
                sys::open_tree(abi::AT_FDCWD, source.path, flags)
            } else {
                path::open(stage.root, source.path, abi::O_PATH, 0).and_then(|inside| {
                    let tree = sys::open_tree(inside, c"", flags | abi::AT_EMPTY_PATH);
                    sys::close(inside);
                    tree
                })
            };
            tree.map_err(in_part(Part::Open))?
        }
        slot => stage.plan.slot(slot),
    };
    keep_out(stage, tree)?;
    if target.has(Target::FROM_PROC)
        && sys::fs_magic(tree).map_err(in_part(Part::Verify))? != abi::PROC_SUPER_MAGIC
    {
        return Err(Fail::new(Part::NotProc, abi::EPERM));
    }
    if source.flags & BIND_LOCKED != 0 {
        let there = sys::attributes(tree).map_err(in_part(Part::Verify))?;
        let (set, clear) = (source.top.set, source.top.clear);
        // With one restriction taken back, or another policy of access times.
        let times = clear & (abi::MOUNT_ATTR_ATIME | abi::MOUNT_ATTR_NODIRATIME);
        if clear & !times & there & !abi::MOUNT_ATTR_NOSYMFOLLOW != 0 || (there ^ set) & times != 0
        {
            return Err(Fail::new(Part::SetAttributes, abi::EPERM));
        }
    }
    if source.flags & BIND_MAPPED != 0 {
        stage.wait_for(Gate::Tree, source.op, tree.cast_unsigned())?;
    }
    let place = open_target(stage, at, target, Some(tree))?;
    for (attr, flags) in [(&source.top, 0), (&source.all, abi::AT_RECURSIVE)] {
        if attr.set | attr.clear != 0 {
            sys::mount_setattr(tree, c"", abi::AT_EMPTY_PATH | flags, attr)
                .map_err(in_part(Part::SetAttributes))?;
        }
    }
    sys::move_mount(tree, place).map_err(|errno| mismatch(tree, place, errno))?;
    live::attached(stage, tree)?;
    sys::close(place);
    let recursive = if source.flags & PROPAGATION_RECURSIVE == 0 { 0 } else { abi::AT_RECURSIVE };
    set_propagation(tree, source.propagation, recursive)?;
    hold(stage, tree, source.hold)
}

pub fn change(stage: &mut Stage, at: &Place, recursive: bool, attr: &abi::MountAttr) -> Done {
    let flags = if recursive { abi::AT_RECURSIVE } else { 0 };
    each_mount(stage, at, |_, fd| {
        sys::mount_setattr(fd, c"", abi::AT_EMPTY_PATH | flags, attr)
            .map_err(in_part(Part::SetAttributes))
    })
}

pub fn reconfigure(stage: &mut Stage, at: &Place, options: Strs) -> Done {
    each_mount(stage, at, |stage, fd| {
        let fs = sys::fspick(fd).map_err(in_part(Part::OpenFs))?;
        configure(stage, fs, c"", options)?;
        sys::fsconfig_reconfigure(fs).map_err(|errno| Fail {
            part: Part::CreateFs,
            errno,
            text: b"",
            log: fs,
        })?;
        sys::close(fs);
        Ok(())
    })
}

/// Does something to the mount at a place, which must be there.
fn each_mount(stage: &mut Stage, at: &Place, act: impl Fn(&Stage, Fd) -> Done) -> Done {
    let [held, by_path] = at.open(stage).map_err(in_part(Part::Resolve))?;
    // Mounts that come yet may cover any of them.
    stage.held.iter_mut().for_each(|held| held.seen = None);
    if (held, by_path) == (NO_FD, NO_FD) {
        return Err(Fail::new(Part::Resolve, abi::ENOENT));
    }
    if held != NO_FD {
        act(stage, held)?;
        sys::close(held);
    }
    if by_path != NO_FD {
        match act(stage, by_path) {
            // What is no mount was put there instead of the one that was meant.
            Err(Fail { errno: Errno(abi::EINVAL), .. }) if held != NO_FD => {}
            result => result?,
        }
        sys::close(by_path);
    }
    Ok(())
}

/// Hides what is at a path, whatever it is. Opened once, so that nothing can be
/// put in its place between the look and the mount.
pub fn mask(stage: &mut Stage, at: &Place, label: &CStr) -> Done {
    for place in at.open(stage).map_err(in_part(Part::Resolve))? {
        if place != NO_FD {
            mask_one(stage, place, label)?;
        }
    }
    Ok(())
}

fn mask_one(stage: &mut Stage, place: Fd, label: &CStr) -> Done {
    let kind = sys::fstat(place).map_err(in_part(Part::Verify))?.kind();
    let cover =
        if kind == abi::S_IFDIR { empty_directory(stage, label)? } else { null_device(stage)? };
    sys::move_mount(cover, place).map_err(in_part(Part::Attach))?;
    sys::close(place);
    if stage.empty == NO_FD && kind == abi::S_IFDIR {
        stage.empty = cover; // attached now, so it may be cloned
    } else {
        sys::close(cover);
    }
    Ok(())
}

/// One file system for all masked directories, with room for nothing.
fn empty_directory(stage: &Stage, label: &CStr) -> Done<Fd> {
    if stage.empty != NO_FD {
        return clone_mount(stage.empty, 0);
    }
    new_empty_directory(label)
}

pub fn new_empty_directory(label: &CStr) -> Done<Fd> {
    let fs = sys::fsopen(c"tmpfs").map_err(in_part(Part::OpenFs))?;
    for (key, value) in [(c"nr_blocks", c"1"), (c"nr_inodes", c"1"), (c"context", label)] {
        if !value.is_empty() {
            sys::fsconfig_string(fs, key, value).map_err(in_part(Part::Configure))?;
        }
    }
    sys::fsconfig_create(fs).map_err(in_part(Part::CreateFs))?;
    let attributes = abi::MOUNT_ATTR_RDONLY
        | abi::MOUNT_ATTR_NOSUID
        | abi::MOUNT_ATTR_NODEV
        | abi::MOUNT_ATTR_NOEXEC;
    let mount = sys::fsmount(fs, attributes as u32).map_err(in_part(Part::MakeMount))?;
    sys::close(fs);
    Ok(mount)
}

/// The host's null device, never the container's: that one may be anything.
fn null_device(stage: &Stage) -> Done<Fd> {
    let tree = host_file(c"/dev/null", stage.kept_out)?;
    let stat = sys::fstat(tree).map_err(in_part(Part::Verify))?;
    if stat.kind() != abi::S_IFCHR || (stat.rdev_major, stat.rdev_minor) != (1, 3) {
        return Err(Fail::new(Part::Verify, abi::ENODEV));
    }
    Ok(tree)
}

pub fn clone_mount(fd: Fd, flags: u32) -> Done<Fd> {
    let flags = flags | abi::OPEN_TREE_CLONE | abi::OPEN_TREE_CLOEXEC | abi::AT_EMPTY_PATH;
    sys::open_tree(fd, c"", flags).map_err(in_part(Part::MakeMount))
}

pub fn read_only(stage: &mut Stage, at: &Place) -> Done {
    for place in at.open(stage).map_err(in_part(Part::Resolve))? {
        if place != NO_FD {
            read_only_one(place)?;
        }
    }
    Ok(())
}

fn read_only_one(place: Fd) -> Done {
    let tree = clone_mount(place, abi::AT_RECURSIVE)?;
    let attr = abi::MountAttr { set: abi::MOUNT_ATTR_RDONLY, ..abi::MountAttr::default() };
    sys::mount_setattr(tree, c"", abi::AT_EMPTY_PATH | abi::AT_RECURSIVE, &attr)
        .map_err(in_part(Part::SetAttributes))?;
    sys::move_mount(tree, place).map_err(in_part(Part::Attach))?;
    sys::close(place);
    sys::close(tree);
    Ok(())
}

/// A procfs that is mounted nowhere, so that nothing can be mounted over it.
pub fn open_proc(stage: &mut Stage) -> Done {
    let fs = sys::fsopen(c"proc").map_err(in_part(Part::OpenFs))?;
    sys::fsconfig_create(fs).map_err(in_part(Part::CreateFs))?;
    stage.proc = sys::fsmount(fs, 0).map_err(in_part(Part::MakeMount))?;
    sys::close(fs);
    Ok(())
}

/// Binds an open object of our own mount namespace onto a place: a terminal.
pub fn bind_fd(stage: &Stage, fd: Fd, place: Fd) -> Done {
    let tree = clone_mount(fd, 0)?;
    keep_out(stage, tree)?;
    sys::move_mount(tree, place).map_err(in_part(Part::Attach))?;
    sys::close(tree);
    Ok(())
}

/// A clone of one file of the host, not of what it may link to.
pub fn host_file(path: &'static CStr, kept_out: u64) -> Done<Fd> {
    let flags = abi::OPEN_TREE_CLONE | abi::OPEN_TREE_CLOEXEC | abi::AT_SYMLINK_NOFOLLOW;
    let tree = sys::open_tree(abi::AT_FDCWD, path, flags).map_err(in_part(Part::Open))?;
    set_propagation(tree, kept_out, 0)?;
    Ok(tree)
}

#[cfg(test)]
mod tests;
