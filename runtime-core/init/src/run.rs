//! The loop: fetch an op, carry it out, report the first failure.

use core::ffi::CStr;

use crate::op::{MOST_HELD, Op};
use crate::plan::{Gate, Plan, Slot, Str};
use crate::sys::{self, Errno, Fd, NO_FD, abi};
use crate::wire::{GO, HEAD, Message, MessageKind, MountId, Part, TEXT_MAX, Told};
use crate::{console, exec, file, hook, live, mount, namespace, process, root};

/// Why an op failed: which part, what the kernel said, and the one string that
/// only the running stage knows.
#[derive(Debug, Clone, Copy)]
pub struct Fail {
    pub part: Part,
    pub errno: Errno,
    pub text: &'static [u8],
    /// A file system context whose log says more (fsopen(2)).
    pub log: Fd,
}

/// The result of an op.
pub type Done<T = ()> = Result<T, Fail>;

impl Fail {
    pub const fn new(part: Part, errno: i32) -> Self {
        Self { part, errno: Errno(errno), text: b"", log: NO_FD }
    }

    pub const fn text(self, text: &'static CStr) -> Self {
        Self { text: text.to_bytes(), ..self }
    }
}

/// `map_err(in_part(Part::Open))`
pub fn in_part(part: Part) -> impl Fn(Errno) -> Fail {
    move |errno| Fail { part, errno, text: b"", log: NO_FD }
}

/// What the stage knows while it runs.
pub struct Stage {
    pub plan: Plan<'static>,
    /// The container's root directory; set by `RootTree` and its like, the end of `PivotRoot`
    /// leaves it valid.
    pub root: Fd,
    /// Whose mount namespace it is: 0 for the container's own, else what every clone of
    /// a tree must become before it is attached.
    pub kept_out: u64,
    /// The root of a procfs that nobody can mount over.
    pub proc: Fd,
    /// The empty read-only file system that masks directories, once mounted.
    pub empty: Fd,
    /// Roots of mounts that later ops change or cover.
    pub held: [mount::Held; MOST_HELD],
    /// Where the last node or link was made, and the directory itself.
    pub parent: Option<(&'static [u8], Fd)>,
    /// The caller's, which its hooks have.
    pub umask: u32,
    /// Whether the user namespace that was joined denies setgroups(2).
    pub groups_denied: bool,
    /// Whether `Chdir` has already led into the working directory.
    pub in_cwd: bool,
    /// The program found by `FindProgram`.
    pub program: exec::Program,
    /// `HOME=...` when the environment has none.
    pub home: exec::Home,
    /// Where failures go: the control socket, after the start its FIFO.
    pub report: Fd,
    /// Whether the launcher knows that only the exec is left.
    pub leaving: bool,
    /// The op that is carried out.
    pub op: u32,
    /// Mounts that the launcher does not know of yet.
    pub told: Told,
    /// Those that are taken back if anything fails.
    pub made: Option<live::Made>,
}

/// The stage's program: `argument` is the plan's descriptor in decimal.
pub fn main(argument: &CStr) -> ! {
    let Some(plan) = open_plan(argument) else { sys::exit(abi::PANICKED) };
    let mut stage = Stage {
        plan,
        root: NO_FD,
        kept_out: 0,
        proc: NO_FD,
        empty: NO_FD,
        held: [mount::Held::NONE; MOST_HELD],
        parent: None,
        umask: 0,
        groups_denied: false,
        in_cwd: false,
        program: exec::Program::default(),
        home: exec::Home::NONE,
        report: plan.slot(Slot::CONTROL),
        leaving: false,
        op: 0,
        told: Told::NONE,
        made: None,
    };
    for index in 0..plan.len() {
        stage.op = index as u32;
        let result = match plan.op(index) {
            Some(op) => stage.carry_out(&op, index as u32),
            None => Err(Fail::new(Part::Decode, abi::EPROTO)),
        };
        if let Err(fail) = result {
            live::take_back(&stage);
            stage.report_failure(index as u32, &fail);
            sys::exit(1);
        }
    }
    sys::exit(0)
}

fn open_plan(argument: &CStr) -> Option<Plan<'static>> {
    let mut fd: Fd = 0;
    for byte in argument.to_bytes() {
        fd = fd.checked_mul(10)?.checked_add(Fd::from(byte.checked_sub(b'0')?))?;
    }
    let size = sys::fstat(fd).ok()?.size as usize;
    let bytes = sys::map(fd, size).ok()?;
    sys::close(fd);
    Plan::parse(bytes)
}

impl Stage {
    fn carry_out(&mut self, op: &Op, index: u32) -> Done {
        if !matches!(op, Op::Symlink { .. } | Op::Device { .. }) {
            file::leave_parent(self);
        }
        match *op {
            Op::KeepFds { preserve } => process::keep_fds(self, preserve),
            Op::WaitFor { gate } => self.wait_for(gate, index, 0),
            Op::JoinCgroups { slots } => namespace::join_cgroups(self, slots),
            Op::Join { namespaces } => namespace::join(self, namespaces),
            Op::JoinProcess { slot, kinds } => namespace::join_process(self, slot, kinds),
            Op::Unshare { kinds } => sys::unshare(kinds).map_err(in_part(Part::Whole)),
            Op::CloneInit { kinds } => namespace::clone_init(self, kinds, index),
            Op::BecomeRoot { groups } => namespace::become_root(self, groups),
            Op::EnterTime {} => namespace::enter_time(),
            Op::Session {} => process::session(self),
            Op::Undumpable {} => process::undumpable(),
            Op::Keyring { name } => process::keyring(self.plan.str(name)),
            Op::OomScore { value } => process::oom_score(self.plan.str(value)),

            Op::Propagation { kind, recursive } => mount::propagation(kind, recursive == 1),
            Op::RootTree { path } => mount::root_tree(self, self.plan.str(path)),
            Op::RootDirectory { path } => mount::root_directory(self, self.plan.str(path)),
            Op::RootMounted { slot, kind } => {
                (self.root, self.kept_out) = (self.plan.slot(slot), kind);
                Ok(())
            }
            Op::ParentPrivate { path } => mount::parent_private(self.plan.str(path)),
            Op::Mount {
                fs_type,
                source,
                options,
                attributes,
                propagation,
                at,
                target,
                keep,
                below,
                fallback,
                hold,
                label,
            } => {
                let new = mount::NewMount {
                    fs_type: self.plan.str(fs_type),
                    source: self.plan.str(source),
                    options,
                    attributes,
                    propagation,
                    at: self.plan.str(at),
                    target,
                    below,
                    fallback: self.plan.str(fallback),
                    hold,
                    label: self.plan.str(label),
                };
                mount::mount(self, &new, keep == 1)
            }
            Op::Bind {
                slot,
                source,
                flags,
                set,
                clear,
                all_set,
                all_clear,
                propagation,
                at,
                target,
                hold,
            } => {
                let source = mount::Source {
                    op: index,
                    slot,
                    path: self.plan.str(source),
                    flags,
                    top: abi::MountAttr { set, clear, ..abi::MountAttr::default() },
                    all: abi::MountAttr {
                        set: all_set,
                        clear: all_clear,
                        ..abi::MountAttr::default()
                    },
                    propagation,
                    hold,
                };
                mount::bind(self, &source, self.plan.str(at), target)
            }
            Op::MountAttributes { at, under, below, recursive, set, clear, propagation } => {
                let attr = abi::MountAttr { set, clear, propagation, userns_fd: 0 };
                mount::change(self, &self.place(at, under, below), recursive == 1, &attr)
            }
            Op::Reconfigure { at, under, below, options } => {
                mount::reconfigure(self, &self.place(at, under, below), options)
            }
            Op::Mkdir { at, mode } => file::mkdir(self, self.plan.str(at), mode),
            Op::Symlink { at, to, replace } => {
                file::symlink(self, self.plan.str(at), self.plan.str(to), replace == 1)
            }
            Op::Device { at, mode, major, minor, uid, gid, bind } => {
                let node = file::Node { mode, major, minor, uid, gid };
                file::device(self, self.plan.str(at), &node, bind)
            }
            Op::Mask { at, under, below, label } => {
                mount::mask(self, &self.place(at, under, below), self.plan.str(label))
            }
            Op::ReadOnly { at, under, below } => {
                mount::read_only(self, &self.place(at, under, below))
            }
            Op::OpenProc {} => mount::open_proc(self),
            Op::Sysctl { key, value } => {
                file::sysctl(self, self.plan.str(key), self.plan.bytes(value))
            }
            Op::PivotRoot {} => root::pivot(self),
            Op::ChangeRoot {} => root::change(self),
            Op::MoveRoot { revealing } => root::move_over(self, self.plan.strs(revealing)),
            Op::RootPropagation { kind, recursive } => root::propagation(kind, recursive == 1),
            Op::TakeBack {} => live::take_back_later(self),
            Op::Unmount { at, known } => live::unmount(self, self.plan.str(at), known),
            Op::RootReadOnly {} => root::read_only(self),

            Op::Hook { path, argv, envp, timeout, like, filter, flags } => {
                let wanted = hook::Wanted { path, argv, envp, timeout, like, filter, flags };
                hook::hook(self, &wanted)
            }
            Op::Console { size, like, uid, gid } => console::console(self, size, like, uid, gid),
            Op::Stdio { uid, gid } => file::stdio(self, uid, gid),
            _ => self.carry_out_process(op, index),
        }
    }

    fn carry_out_process(&mut self, op: &Op, index: u32) -> Done {
        let plan = self.plan;
        let whole = in_part(Part::Whole);
        match *op {
            Op::Loopback {} => sys::loopback_up().map_err(whole),
            Op::Hostname { name } => sys::sethostname(plan.bytes(name)).map_err(whole),
            Op::Domainname { name } => sys::setdomainname(plan.bytes(name)).map_err(whole),
            Op::ResourceLimit { resource, soft, hard } => {
                sys::prlimit(0, resource, &abi::Rlimit { soft, hard }).map_err(whole)
            }
            Op::Umask { mask } => {
                sys::umask(mask);
                Ok(())
            }
            Op::Personality { persona } => sys::personality(persona).map_err(whole),
            Op::Scheduler { policy, nice, priority, flags, runtime, deadline, period } => {
                let size = size_of::<abi::SchedAttr>() as u32;
                let attr = abi::SchedAttr {
                    size,
                    policy,
                    flags,
                    nice,
                    priority,
                    runtime,
                    deadline,
                    period,
                };
                sys::sched_setattr(&attr).map_err(whole)
            }
            Op::IoPriority { priority } => sys::ioprio_set(priority).map_err(whole),
            Op::Affinity { mask } => process::affinity(plan.bytes(mask)),
            Op::MemoryPolicy { mode, nodes } => {
                sys::set_mempolicy(mode, plan.bytes(nodes)).map_err(whole)
            }
            Op::Label { file, value } => file::label(self, plan.str(file), plan.bytes(value)),
            Op::Bounding { keep } => process::bounding(keep),
            Op::Ids { uid, gid, groups, set_groups } => {
                process::ids(self, uid, gid, groups, set_groups)
            }
            Op::Capabilities { effective, permitted, inheritable, ambient } => {
                process::capabilities(effective, permitted, inheritable, ambient)
            }
            Op::NoNewPrivileges {} => {
                sys::prctl(abi::PR_SET_NO_NEW_PRIVS, 1, 0, 0).map_err(whole).map(drop)
            }
            Op::Chdir { path, create } => file::chdir(self, plan.str(path), create),
            Op::Home { uid } => {
                exec::home(self, uid);
                Ok(())
            }
            Op::FindProgram { name, path } => exec::find_program(self, plan.str(name), path),
            Op::Seccomp { program, flags, notify } => {
                // A filter for the program alone may forbid every word.
                if matches!(plan.op(index as usize + 1), Some(Op::Exec { .. })) {
                    self.leave(index)?;
                }
                process::seccomp(self, plan.bytes(program), flags, notify == 1, index)
            }
            Op::WaitStart {} => self.wait_start(),
            Op::Exec { argv, envp } => {
                self.leave(index)?;
                exec::exec(self, argv, envp)
            }
            // Every other op has an arm in `carry_out`.
            _ => Err(Fail::new(Part::Decode, abi::EPROTO)),
        }
    }

    fn place(&self, at: Str, under: u32, below: Str) -> mount::Place {
        mount::Place { at: self.plan.str(at), under, below: self.plan.str(below) }
    }

    /// Tells the launcher that a gate is reached and waits for its word.
    pub fn wait_for(&mut self, gate: Gate, index: u32, part: u32) -> Done {
        let control = self.plan.slot(Slot::CONTROL);
        self.write(MessageKind::Gate, index, part, gate as i32, control)?;
        let mut word = [0; 1];
        match sys::read(control, &mut word) {
            Ok(1) if word[0] == GO => Ok(()),
            Ok(_) => {
                live::take_back(self);
                sys::exit(1) // the launcher is gone; nobody to tell
            }
            Err(errno) => Err(Fail { errno, ..Fail::new(Part::Gone, 0) }),
        }
    }

    /// Notes a mount for the launcher, who gets it with the next word.
    pub fn tell(&mut self, id: &MountId) -> Done {
        if self.told.push(self.op, id) {
            return Ok(());
        }
        self.write(MessageKind::Mounted, self.op, 0, 0, self.plan.slot(Slot::CONTROL))?;
        self.told.push(self.op, id);
        Ok(())
    }

    /// Writes a message with what was mounted since the last one.
    fn write(&mut self, kind: MessageKind, op: u32, part: u32, number: i32, to: Fd) -> Done {
        let message = Message { kind, op, part, number, text: self.told.text() };
        let mut buffer = [0; HEAD + TEXT_MAX];
        let length = message.write(&mut buffer);
        let bytes = buffer.get(..length).unwrap_or_default();
        // write(2), not send(2): a filter may be in force already, and it is
        // bound to allow read and write.
        sys::write(to, bytes).map_err(in_part(Part::Gone))?;
        self.told.clear();
        Ok(())
    }

    /// Says, once, that what comes now is the exec.
    fn leave(&mut self, index: u32) -> Done {
        if self.leaving {
            return Ok(());
        }
        self.leaving = true;
        self.write(MessageKind::Leaving, index, 0, 0, self.report)
    }

    fn wait_start(&mut self) -> Done {
        let mut word = [0; 1];
        let start = self.plan.slot(Slot::START);
        if start == NO_FD {
            return Ok(()); // the launcher goes straight on: `Ready` was the start
        }
        // A created container may wait for days, and others may share its
        // namespaces: it holds no directory that it does not need.
        let (proc, held) = (self.proc, &mut self.held);
        let held = held.iter_mut().map(|held| &mut held.mount);
        let held = held.filter(|fd| **fd != NO_FD && **fd != proc);
        for fd in held.chain([&mut self.root, &mut self.proc, &mut self.empty]) {
            sys::close(core::mem::replace(fd, NO_FD));
        }
        // Nor a socket at whose other end nobody is any more.
        sys::close(self.plan.slot(Slot::CONTROL));
        self.report = NO_FD;
        loop {
            match sys::read(start, &mut word) {
                Ok(1) => break,
                Ok(_) => return Err(Fail::new(Part::Gone, abi::EPROTO)),
                Err(Errno(abi::EINTR)) => {}
                Err(errno) => return Err(Fail { errno, ..Fail::new(Part::Gone, 0) }),
            }
        }
        self.report = start;
        Ok(())
    }

    fn report_failure(&mut self, index: u32, fail: &Fail) {
        // What an earlier op has taken away is gone.
        if !self.told.text().is_empty() && self.made.is_none() && !self.leaving {
            let control = self.plan.slot(Slot::CONTROL);
            let _ = self.write(MessageKind::Mounted, index, 0, 0, control);
        }
        let mut log = [0; TEXT_MAX];
        let text = match fail.text {
            b"" if fail.log != NO_FD => {
                // A file system context gives one line per read, with its level in
                // front: `e tmpfs: Unknown parameter 'x'`.
                let length = sys::read(fail.log, &mut log).unwrap_or(0);
                let text = log.get(..length).unwrap_or_default();
                text.strip_prefix(b"e ").unwrap_or(text)
            }
            text => text,
        };
        let message = Message {
            kind: MessageKind::Failure,
            op: index,
            part: fail.part as u32,
            number: fail.errno.0,
            text,
        };
        let mut buffer = [0; HEAD + TEXT_MAX];
        let length = message.write(&mut buffer);
        let _ = sys::write(self.report, buffer.get(..length).unwrap_or_default());
    }
}
