//! The plan: what the compiler hands to the launcher.
//!
//! It has two halves. The stage's half is a list of [`Op`]s over an arena, each
//! with its [`Origin`] so that a failure can be told with a place. The launcher's
//! half ([`Outside`]) is all that must happen in the runtime's own namespaces,
//! at named gates. Nothing here knows a live descriptor: what only the launcher
//! knows is a [`Slot`], and `fills` says what belongs into it.

mod build;
mod check;
mod dump;

use std::borrow::Cow;
use std::ffi::CStr;
use std::path::{Path, PathBuf};

pub use build::{Builder, Place};
pub use check::check;
pub use dump::{Dump, text};
pub use orlop_init::plan::{Bytes, Gate, Slot, Str, Strs, Target, Words};
use orlop_init::plan::{HEADER_WORDS, MAGIC, OP_WORDS};
pub use orlop_init::{op::Op, plan::Plan as View};

/// A compiled bundle, or the compiled process of an `exec`.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    ops: Vec<Op>,
    origins: Vec<Origin>,
    arena: Vec<u8>,
    fills: Vec<Fill>,
    /// What happens outside the stage.
    pub outside: Outside,
    /// What a person should know though it is no failure, one line each.
    pub warnings: Vec<String>,
}

/// Where an op comes from, and what it does in words.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Origin {
    /// JSON pointer into `config.json`; empty for what Orlop does by itself.
    pub pointer: Cow<'static, str>,
    /// What the op is doing, as an error begins: `mounting tmpfs on "/dev/shm"`.
    pub doing: Cow<'static, str>,
}

/// What the launcher puts into a slot, from [`Slot::FIRST_FREE`] on in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fill {
    /// A detached clone of a tree of the host, opened with the launcher's
    /// privileges; with the whole tree below it when `recursive`, and seen
    /// through `ids` when there are any.
    Tree {
        /// Path on the host, absolute.
        path: PathBuf,
        /// Whether the mounts below come along.
        recursive: bool,
        /// The mapping of an idmapped mount (mount_setattr(2)).
        ids: Option<IdMapping>,
        /// `MS_SLAVE` or `MS_PRIVATE`: what it is to the host's mounts, for all of it; 0
        /// for a peer where the host's are shared.
        propagation: u64,
    },
    /// The container's root, a clone that the caller has mounted in the container's
    /// folder: the mount namespace is the caller's own.
    Root {
        /// What it is a clone of: a path on the host, absolute.
        path: PathBuf,
    },
    /// A namespace file of the host.
    Namespace {
        /// Its path.
        path: PathBuf,
        /// `CLONE_NEW*`, checked against the file.
        kind: u32,
        /// Which entry of the config's `/linux/namespaces` it is.
        index: usize,
    },
    /// The list by which a process joins the container's cgroup in hierarchy `index`
    /// (cgroup v1, or cgroup v2 where clone3 can't place the child).
    CgroupProcs {
        /// Index into the cgroup manager's list.
        index: usize,
    },
    /// A list of tasks of the resctrl file system, joined in the same way.
    ResctrlTasks {
        /// 0 for that of the class, 1 for that of the monitoring group.
        index: usize,
    },
}

/// How an idmapped mount or a user namespace translates ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdMapping {
    /// These extents.
    Extents {
        /// User ids.
        uid: Vec<Extent>,
        /// Group ids.
        gid: Vec<Extent>,
        /// Whether the mounts below are mapped too (`ridmap`).
        recursive: bool,
    },
    /// The container's own user namespace's.
    Container {
        /// Whether the mounts below are mapped too (`ridmap`).
        recursive: bool,
    },
}

/// One line of a uid_map (user_namespaces(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// First id inside.
    pub inside: u32,
    /// First id outside.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

/// The launcher's half.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outside {
    /// Namespaces made by the clone itself (`CLONE_NEW*`).
    pub clone_flags: u32,
    /// Whether the clone puts the child into the container's cgroup
    /// (`CLONE_INTO_CGROUP`).
    pub into_cgroup: bool,
    /// At [`Gate::Mapped`]: the maps of the new user namespace.
    pub maps: Option<Maps>,
    /// At [`Gate::Mapped`]: a score that only the launcher may set.
    pub oom_score: Option<i32>,
    /// At [`Gate::Ready`]: limits that only the launcher may raise.
    pub limits: Vec<Limit>,
    /// At [`Gate::Attached`]: `/proc/PID/timens_offsets`, in its own format.
    pub time_offsets: Option<String>,
    /// At [`Gate::Attached`]: network devices of the host that become the container's.
    pub net_devices: Vec<NetDevice>,
    /// At [`Gate::Tree`]: the trees whose ids are mapped then.
    pub trees: Vec<MappedTree>,
    /// At [`Gate::RuntimeHooks`], in this order: prestart, createRuntime.
    pub runtime_hooks: Vec<Hook>,
    /// After the start: poststart.
    pub poststart: Vec<Hook>,
    /// After the delete: poststop.
    pub poststop: Vec<Hook>,
    /// At [`Gate::Listener`]: the agent that takes the seccomp listener.
    pub listener: Option<Listener>,
}

/// A tree that lies in the root, with the mounts that the stage has made there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MappedTree {
    /// The number of the op that binds it.
    pub op: u32,
    /// The ids through which it is seen.
    pub ids: IdMapping,
}

/// A network device that changes its namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetDevice {
    /// Its name on the host.
    pub name: String,
    /// Its name in the container; the kernel puts a number for `%d`.
    pub inside: String,
    /// JSON pointer into `config.json`.
    pub pointer: String,
}

/// The maps of a new user namespace.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Maps {
    /// User ids.
    pub uid: Vec<Extent>,
    /// Group ids.
    pub gid: Vec<Extent>,
    /// The program that writes the map of user ids, where the caller may not
    /// (newuidmap(1)).
    pub uid_by: Option<PathBuf>,
    /// The same for group ids (newgidmap(1)).
    pub gid_by: Option<PathBuf>,
    /// Whether setgroups(2) must be denied first: an unprivileged writer.
    pub deny_setgroups: bool,
}

/// A resource limit (setrlimit(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// `RLIMIT_*`
    pub resource: u32,
    /// In the resource's unit.
    pub soft: u64,
    /// In the resource's unit.
    pub hard: u64,
}

/// A hook that runs in the runtime's namespaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// JSON pointer into `config.json`.
    pub pointer: String,
    /// How errors call it: `createRuntime hook #0`.
    pub name: String,
    /// Absolute path of the program.
    pub path: PathBuf,
    /// With the program's name; never empty.
    pub args: Vec<String>,
    /// `NAME=value`; nothing is inherited.
    pub env: Vec<String>,
    /// In seconds; `None` waits for ever.
    pub timeout: Option<u32>,
}

/// Where a seccomp listener goes (runtime-spec, config-linux, seccomp).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Path of the agent's unix socket.
    pub path: PathBuf,
    /// Handed on as it is.
    pub metadata: String,
}

impl Plan {
    /// The ops in order, each with its origin.
    pub fn steps(&self) -> impl Iterator<Item = (&Op, &Origin)> {
        self.ops.iter().zip(&self.origins)
    }

    /// The bytes of an operand.
    #[must_use]
    pub fn bytes(&self, bytes: Bytes) -> &[u8] {
        let from = bytes.at as usize;
        self.arena.get(from..from + bytes.len as usize).unwrap_or_default()
    }

    /// The text of an operand.
    #[must_use]
    pub fn str(&self, Str(at): Str) -> &CStr {
        let rest = self.arena.get(at as usize..).unwrap_or_default();
        CStr::from_bytes_until_nul(rest).unwrap_or_default()
    }

    /// The origin of op number `index`.
    #[must_use]
    pub fn origin(&self, index: usize) -> Option<&Origin> {
        self.origins.get(index)
    }

    /// What belongs into the free slots, from [`Slot::FIRST_FREE`] on.
    #[must_use]
    pub fn fills(&self) -> &[Fill] {
        &self.fills
    }

    /// Whether the stage joins cgroups by writing to their lists.
    #[must_use]
    pub fn writes_cgroups(&self) -> bool {
        self.fills.iter().any(|fill| matches!(fill, Fill::CgroupProcs { .. }))
    }

    /// What the caller has to mount a clone of, for the container's root.
    #[must_use]
    pub fn mounted_root(&self) -> Option<&Path> {
        self.fills.iter().find_map(|fill| match fill {
            Fill::Root { path } => Some(path.as_path()),
            _ => None,
        })
    }

    /// The gates that the stage will stop at, in order.
    pub fn gates(&self) -> impl Iterator<Item = Gate> {
        self.ops.iter().filter_map(|op| match op {
            Op::WaitFor { gate } => Some(*gate),
            Op::Bind { flags, .. } if flags & orlop_init::op::BIND_MAPPED != 0 => Some(Gate::Tree),
            Op::Seccomp { notify: 1, .. } => Some(Gate::Listener),
            _ => None,
        })
    }

    /// The bytes that the stage reads, with these descriptors in the slots (-1
    /// for none; the slot's number is the index).
    #[must_use]
    pub fn encode(&self, slots: &[i32]) -> Vec<u8> {
        let slot_words = slots.len().next_multiple_of(2);
        let words = HEADER_WORDS + slot_words + self.ops.len() * OP_WORDS;
        let mut bytes = Vec::with_capacity(words * 4 + self.arena.len() + 8);
        let mut put = |word: u32| bytes.extend_from_slice(&word.to_ne_bytes());
        let arena = self.arena.len().max(1);
        for word in [MAGIC, slots.len() as u32, self.ops.len() as u32, arena as u32, 0, 0, 0, 0] {
            put(word);
        }
        for index in 0..slot_words {
            put(slots.get(index).copied().unwrap_or(-1).cast_unsigned());
        }
        for op in &self.ops {
            let mut record = [0; OP_WORDS * 4];
            for (place, word) in record.chunks_exact_mut(4).zip(op.encode()) {
                place.copy_from_slice(&word.to_ne_bytes());
            }
            bytes.extend_from_slice(&record);
        }
        bytes.extend_from_slice(&self.arena);
        bytes.resize(words * 4 + arena, 0);
        bytes
    }
}
