//! The ops: what the stage can do, one intent each.
//!
//! An op says what shall be, not which system calls make it so. It has no
//! branch; a choice that only the running kernel can make is a policy of one op,
//! named in its description.

use crate::plan::{Bytes, Gate, OP_WORDS, Operand, Shown, Slot, Str, Strs, Target, Words};

macro_rules! ops {
    ($($(#[$doc:meta])* $name:ident { $($(#[$fdoc:meta])* $field:ident: $type:ty),* $(,)? })*) => {
        /// One step of the stage.
        #[allow(missing_docs)] // operands are told in their op's description
        #[derive(Debug, Clone, Copy, PartialEq)]
        pub enum Op {
            $($(#[$doc])* $name { $($(#[$fdoc])* $field: $type),* },)*
        }

        #[repr(u32)]
        #[derive(Clone, Copy)]
        enum Code { $($name,)* }

        /// Number of different ops.
        pub const OP_COUNT: usize = [$(Code::$name),*].len();

        impl Op {
            /// The record of this op.
            #[must_use]
            pub fn encode(&self) -> [u32; OP_WORDS] {
                let mut words = [0u32; OP_WORDS];
                #[allow(unused_variables, unused_mut, unused_assignments)] // ops without operands
                match *self {
                    $(Self::$name { $($field),* } => {
                        words[0] = Code::$name as u32 + 1; // zeroes are no op
                        let mut at = 1;
                        $(
                            if let Some(place) = words.get_mut(at..) { Operand::put($field, place); }
                            at += <$type as Operand>::WORDS;
                        )*
                        const { assert!(OP_WORDS > 0 $(+ <$type as Operand>::WORDS)*) };
                    })*
                }
                words
            }

            /// The op in a record, or `None` when it is none.
            #[must_use]
            pub fn decode(words: &[u32; OP_WORDS], arena: &[u8]) -> Option<Self> {
                let code = words[0];
                $(if code == Code::$name as u32 + 1 {
                    #[allow(unused_mut, unused_variables, unused_assignments)] // ops without operands
                    let mut at = 1;
                    $(
                        let $field = <$type as Operand>::get(words.get(at..)?, arena)?;
                        #[allow(unused_assignments)] // the last operand
                        { at += <$type as Operand>::WORDS; }
                    )*
                    return Some(Self::$name { $($field),* });
                })*
                None
            }

            /// The op's name as plans print it.
            #[must_use]
            pub fn name(&self) -> &'static str {
                match self { $(Self::$name { .. } => stringify!($name),)* }
            }

            /// Hands every operand to `each`, with its name.
            pub fn operands(&self, each: &mut dyn FnMut(&'static str, Shown)) {
                #[allow(unused_variables)] // ops without operands
                match *self {
                    $(Self::$name { $($field),* } => { $(each(stringify!($field), Operand::show($field));)* })*
                }
            }
        }
    };
}

/// In `Bind`: the tree, not its topmost mount alone.
pub const BIND_RECURSIVE: u32 = 1;
/// In `Bind`: it is refused to take back a restriction that the source has.
pub const BIND_LOCKED: u32 = 4;
/// In `Bind`: the source is a path in the root.
pub const BIND_INSIDE: u32 = 8;
/// In `Bind`: the launcher maps the ids of the tree, at [`Gate::Tree`].
///
/// [`Gate::Tree`]: crate::plan::Gate::Tree
pub const BIND_MAPPED: u32 = 16;
/// In `Bind`: the propagation reaches the mounts below.
pub const PROPAGATION_RECURSIVE: u32 = 2;
/// In `Chdir`: it must work.
pub const CHDIR_MUST: u32 = 0;
/// In `Chdir`: make the directory; one that root may not enter is left for later.
pub const CHDIR_MAKE: u32 = 1;
/// In `Chdir`: one that root may not enter is left for later.
pub const CHDIR_TRY: u32 = 2;
/// In `Console`, `like`: it is bound to /dev/console.
pub const CONSOLE_BOUND: u32 = 1;
/// In `Console`, `like`: no carriage return is added to the end of a line.
pub const CONSOLE_BARE_LINES: u32 = 2;

/// Groups stay as they are: the namespace has no setgroups(2).
pub const GROUPS_LEFT: u32 = 0;
/// Groups are set.
pub const GROUPS_SET: u32 = 1;
/// Groups are set, or none are to be, and the user namespace that was joined denies it.
pub const GROUPS_IF_LET: u32 = 2;
/// In `Device`: made, or bound when the kernel does not let us.
pub const DEVICE_MADE: u32 = 0;
/// In `Device`: the host's own, bound.
pub const DEVICE_BOUND: u32 = 1;
/// In `Device`: made or there already, since nothing may be mounted.
pub const DEVICE_NEVER_BOUND: u32 = 2;
/// In `Mount`, `below`: what lies in the directory is copied into it.
pub const BELOW_COPY: u32 = 1;
/// In `Mount`, `below`: it takes the mode of a directory that was there.
pub const BELOW_MODE: u32 = 2;
/// In `Mount`, `below`: the fallback may be written to.
pub const FALLBACK_WRITABLE: u32 = 4;
/// In `Hook`, `like`: its working directory is the root, which is not entered yet.
pub const HOOK_IN_ROOT: u32 = 1;
/// In `Hook`, `like`: it has the HOME that the container's program will have.
pub const HOOK_HOME: u32 = 2;
/// How many mounts the stage can hold for later ops: each is a descriptor, of which a
/// process has 1024 by default, and it has others too.
pub const MOST_HELD: usize = 768;

ops! {
    // ---- run ----
    /// Close every descriptor but 0–2, the slots, and `preserve` more from 3 on.
    KeepFds { preserve: u32 }
    /// Tell the launcher that this point is reached, and wait for its word.
    WaitFor { gate: Gate }
    /// Move into cgroups: write to the list of each, in these slots.
    JoinCgroups { slots: Words }
    /// Join namespaces: pairs of (slot, `CLONE_NEW*`). Those that may only be
    /// joined from inside the user namespace are tried again after it.
    Join { namespaces: Words }
    /// Join namespaces of the process in a slot (a pidfd) at once.
    JoinProcess { slot: Slot, kinds: u32 }
    /// Make new namespaces for this process.
    Unshare { kinds: u32 }
    /// Go on in a child, which is the container's init; tell the launcher its
    /// pidfd and exit. For pid namespaces that were joined or unshared.
    CloneInit { kinds: u32 }
    /// Be root of the user namespace; drop all groups as `groups` says, of which there
    /// are [`GROUPS_LEFT`], [`GROUPS_SET`] and [`GROUPS_IF_LET`].
    BecomeRoot { groups: u32 }
    /// Enter the time namespace made for children.
    EnterTime {}
    /// A session of its own, and every signal as after boot.
    Session {}
    /// Not observable by the container: no ptrace, no /proc/self/fd.
    Undumpable {}
    /// A fresh session keyring; a kernel without keys is left alone.
    Keyring { name: Str }
    /// The score by which the kernel chooses whom to kill (proc(5)).
    OomScore { value: Str }

    // ---- mounts ----
    /// Propagation of the mount of / (`MS_SLAVE`, ...), and of all below it.
    Propagation { kind: u64, recursive: u32 }
    /// Make the mount that holds `path` private: pivot_root(2) wants it so.
    ParentPrivate { path: Str }
    /// The root: a clone of the tree at `path`, mounted onto itself.
    RootTree { path: Str }
    /// The root as it is, in a mount namespace where nothing of ours is mounted.
    RootDirectory { path: Str }
    /// The root that the launcher has mounted, in `slot`, in a mount namespace of others.
    /// Whatever is cloned from here on becomes what `kind` says (`MS_SLAVE` or
    /// `MS_PRIVATE`) before it is attached: no peer of the host's mounts.
    RootMounted { slot: Slot, kind: u64 }
    /// Mount a new file system. `options` are pairs of key and value, an empty
    /// value being a flag. `keep` is 1 when it is the procfs for our own writes.
    /// `below` is [`BELOW_COPY`] and [`BELOW_MODE`]. When the kernel answers EPERM
    /// and there is a `fallback`, that tree of the host is bound instead, with the
    /// attributes and, without [`FALLBACK_WRITABLE`], read-only throughout. `hold` is
    /// the number under which later ops find this mount, 0 for none of them. `label` is
    /// what SELinux calls its directory, empty where the file system knows by itself.
    Mount {
        fs_type: Str, source: Str, options: Strs, attributes: u32, propagation: u64,
        at: Str, target: Target, keep: u32, below: u32, fallback: Str, hold: u32, label: Str,
    }
    /// Mount a host's tree: the detached one in `slot`, else the one at `source`.
    /// `flags` are [`BIND_RECURSIVE`], [`BIND_LOCKED`], [`BIND_INSIDE`], [`BIND_MAPPED`]
    /// and [`PROPAGATION_RECURSIVE`]; attributes go to the topmost mount, `all_*` to those below it too.
    Bind {
        slot: Slot, source: Str, flags: u32, set: u64, clear: u64, all_set: u64, all_clear: u64,
        propagation: u64, at: Str, target: Target, hold: u32,
    }
    /// Take away again what is mounted from here on, unless the launcher lets this process
    /// go on at every gate to come. Signals wait. Needs the procfs for our own writes.
    TakeBack {}
    /// Take the mount at `at` away, with all that is mounted below it, if it is one of
    /// `known`: the bytes of their [`MountId`]s, one after the other. A file's needs the
    /// procfs for our own writes.
    ///
    /// [`MountId`]: crate::wire::MountId
    Unmount { at: Str, known: Bytes }
    /// Change the mount at `at`; `recursive` reaches those below. For this op and all
    /// that have them, `under` is the number of a mount that is held, 0 for none, and
    /// `below` the path from there: what holds a mount may be renamed meanwhile.
    MountAttributes {
        at: Str, under: u32, below: Str, recursive: u32, set: u64, clear: u64, propagation: u64,
    }
    /// Change the options of the file system mounted at `at`.
    Reconfigure { at: Str, under: u32, below: Str, options: Strs }
    /// A directory in the root, and those above it.
    Mkdir { at: Str, mode: u32 }
    /// A symbolic link in the root, at a path that ends in its name. What is there
    /// stays; with `replace` a file that can be unlinked does not, but for the device
    /// of the terminals.
    Symlink { at: Str, to: Str, replace: u32 }
    /// A device node, at a path that ends in its name; `bind` is [`DEVICE_MADE`],
    /// [`DEVICE_BOUND`] or [`DEVICE_NEVER_BOUND`].
    Device { at: Str, mode: u32, major: u32, minor: u32, uid: u32, gid: u32, bind: u32 }
    /// Hide a path: an empty read-only directory or the host's /dev/null on it.
    /// A path that does not exist is left alone. `label` is what SELinux calls the
    /// directory, empty for what it is by itself.
    Mask { at: Str, under: u32, below: Str, label: Str }
    /// A path, and all mounted below it, read-only. One that does not exist is
    /// left alone.
    ReadOnly { at: Str, under: u32, below: Str }
    /// A procfs of our own, not mounted anywhere, for the writes to come.
    OpenProc {}
    /// A kernel parameter: path below /proc/sys, value as it is.
    Sysctl { key: Str, value: Bytes }
    /// pivot_root(2), and the old root gone.
    PivotRoot {}
    /// Move the root over / where pivot_root is impossible (an initramfs). What is
    /// mounted at `revealing` is taken away from below it, or covered.
    MoveRoot { revealing: Strs }
    /// chroot(2) into the root.
    ChangeRoot {}
    /// Propagation of the new root.
    RootPropagation { kind: u64, recursive: u32 }
    /// The new root read-only.
    RootReadOnly {}

    // ---- hooks and console ----
    /// Run a program in the container's namespaces with the state on its input.
    /// `timeout` is in milliseconds, 0 for none. `like` is [`HOOK_IN_ROOT`] and
    /// [`HOOK_HOME`]; the filter, if there is one, is for the program alone.
    Hook {
        path: Str, argv: Strs, envp: Strs, timeout: u32, like: u32, filter: Bytes, flags: u32,
    }
    /// A terminal: made in the root's devpts, made the controlling one, its master
    /// sent to the console socket. `like` is [`CONSOLE_BOUND`] and
    /// [`CONSOLE_BARE_LINES`]. Rows and columns in `size`, 0 for none.
    Console { size: u32, like: u32, uid: u32, gid: u32 }
    /// Standard streams belong to the container's user; those that are the host's
    /// /dev/null become the container's.
    Stdio { uid: u32, gid: u32 }

    // ---- process ----
    /// The loopback device of a new network namespace is up (netdevice(7)).
    Loopback {}
    /// sethostname(2)
    Hostname { name: Bytes }
    /// setdomainname(2)
    Domainname { name: Bytes }
    /// setrlimit(2)
    ResourceLimit { resource: u32, soft: u64, hard: u64 }
    /// umask(2)
    Umask { mask: u32 }
    /// personality(2)
    Personality { persona: u32 }
    /// sched_setattr(2)
    Scheduler { policy: u32, nice: i32, priority: u32, flags: u64, runtime: u64, deadline: u64, period: u64 }
    /// ioprio_set(2): class and level as the kernel packs them.
    IoPriority { priority: u32 }
    /// sched_setaffinity(2): one bit per processor. An empty mask is every one that
    /// the cgroup has; a kernel that does not let us leaves those that there are.
    Affinity { mask: Bytes }
    /// set_mempolicy(2)
    MemoryPolicy { mode: u32, nodes: Bytes }
    /// What an LSM shall label the program with; written to /proc/self/attr.
    Label { file: Str, value: Bytes }
    /// Drop from the bounding set all that is not in `keep`.
    Bounding { keep: u64 }
    /// Groups, group and user; capabilities survive until `Capabilities`. `set_groups` is
    /// one of [`GROUPS_LEFT`], [`GROUPS_SET`] and [`GROUPS_IF_LET`].
    Ids { uid: u32, gid: u32, groups: Words, set_groups: u32 }
    /// Exactly these capability sets.
    Capabilities { effective: u64, permitted: u64, inheritable: u64, ambient: u64 }
    /// PR_SET_NO_NEW_PRIVS
    NoNewPrivileges {}
    /// Working directory, inside the root for certain. `create` is [`CHDIR_MAKE`]
    /// or [`CHDIR_TRY`] before `Ids`, [`CHDIR_MUST`] after it.
    Chdir { path: Str, create: u32 }
    /// HOME from the container's /etc/passwd, when the environment has none.
    Home { uid: u32 }
    /// Find the program now, in `path` (directories), so that its absence is an
    /// error of create.
    FindProgram { name: Str, path: Strs }
    /// Install a filter. `notify` is 1 when the launcher takes the listener.
    Seccomp { program: Bytes, flags: u32, notify: u32 }
    /// Wait for the byte that starts the container.
    WaitStart {}
    /// Become the program.
    Exec { argv: Strs, envp: Strs }
}
