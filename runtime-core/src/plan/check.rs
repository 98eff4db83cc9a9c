//! The invariants of a plan, as code. Every golden test, the property test and
//! the fuzzer call it; a plan that breaks one is a bug of the compiler.

use std::collections::HashSet;

use super::{Gate, Op, Plan, Slot, View};
use orlop_init::op::{
    BIND_MAPPED, CHDIR_MAKE, CHDIR_MUST, CONSOLE_BOUND, DEVICE_NEVER_BOUND, MOST_HELD, OP_COUNT,
};
use orlop_init::plan::Shown;

/// Checks every invariant.
///
/// # Errors
/// One line for each that is broken, with the number of the op.
pub fn check(plan: &Plan) -> Result<(), Vec<String>> {
    let mut broken = Vec::new();
    let mut order = Order::default();
    let mut held = Held::default();
    let slots = Slot::FIRST_FREE as usize + plan.fills().len();
    let bytes = plan.encode(&vec![-1; slots]);
    match View::parse(&bytes) {
        None => broken.push("the stage could not read the plan".to_owned()),
        Some(view) => {
            for index in 0..view.len() {
                if view.op(index).as_ref() != plan.ops.get(index) {
                    broken.push(format!("op {index}: does not survive encoding"));
                }
            }
        }
    }
    for (index, (op, origin)) in plan.steps().enumerate() {
        if origin.doing.is_empty() {
            broken.push(format!("op {index}: {} has no words for an error", op.name()));
        }
        op.operands(&mut |name, operand| {
            if let Shown::Slot(slot) = operand
                && slot != Slot::NONE
                && slot.0 as usize >= slots
            {
                broken.push(format!("op {index}: {name} names slot {}, never filled", slot.0));
            }
        });
        if let Err(why) = held.next(op) {
            broken.push(format!("op {index}: {} {why}", op.name()));
        }
        if let Err(why) = order.next(op) {
            broken.push(format!("op {index}: {} {why}", op.name()));
        }
    }
    if !order.done {
        broken.push("the plan does not end in Exec".to_owned());
    }
    const { assert!(OP_COUNT <= 60, "a plan with this many kinds of ops is an interpreter") };
    if broken.is_empty() { Ok(()) } else { Err(broken) }
}

/// The mounts that are held, by number.
#[derive(Debug, Default)]
struct Held(HashSet<u32>);

impl Held {
    fn next(&mut self, op: &Op) -> Result<(), &'static str> {
        match op {
            Op::Mount { hold, .. } | Op::Bind { hold, .. } if *hold != 0 => {
                if *hold as usize > MOST_HELD {
                    return Err("holds more than the stage can");
                }
                self.0.insert(*hold);
            }
            Op::MountAttributes { under, .. }
            | Op::Reconfigure { under, .. }
            | Op::Mask { under, .. }
            | Op::ReadOnly { under, .. }
                if *under != 0 && !self.0.contains(under) =>
            {
                return Err("is under a mount that is not held");
            }
            _ => {}
        }
        Ok(())
    }
}

/// What has happened so far.
#[derive(Debug, Default)]
struct Order {
    kept: bool,
    hidden: bool,
    session: bool,
    proc: bool,
    rooted: bool,
    pivoted: bool,
    /// The mount namespace is others' too.
    shared: bool,
    /// The same, and what is mounted is below a root that was mounted for that.
    kept_out: bool,
    /// The propagation of the host's mounts is another, in this mount namespace.
    turned: bool,
    read_only: bool,
    identified: bool,
    capable: bool,
    no_new_privileges: bool,
    filtered: bool,
    inside: bool,
    found: bool,
    ready: bool,
    done: bool,
    gate: Option<Gate>,
}

impl Order {
    fn next(&mut self, op: &Op) -> Result<(), &'static str> {
        if self.done {
            return Err("comes after Exec");
        }
        if !self.kept {
            self.kept = true;
            return match op {
                Op::KeepFds { .. } => Ok(()),
                _ => Err("comes before KeepFds: inherited descriptors are open"),
            };
        }
        self.among_the_hosts(op)?;
        match op {
            Op::KeepFds { .. } => return Err("comes twice"),
            Op::WaitFor { gate } => {
                if self.gate.is_some_and(|before| before as u32 >= *gate as u32) {
                    return Err("is a gate out of order");
                }
                self.gate = Some(*gate);
                self.ready |= *gate == Gate::Ready;
            }
            Op::Bind { flags, .. } if flags & BIND_MAPPED != 0 && !self.pivoted => {
                if self.gate.is_some_and(|before| before as u32 > Gate::Tree as u32) {
                    return Err("is a gate out of order");
                }
                self.gate = Some(Gate::Tree);
            }
            Op::OomScore { .. } if self.hidden => {
                return Err("writes a file that a hidden process may not open");
            }
            Op::Undumpable {} => self.hidden = true,
            Op::Join { .. } | Op::JoinProcess { .. } if !self.hidden => {
                return Err("enters where others may look at a process that is not hidden");
            }
            // Changed ids may show the process again.
            Op::BecomeRoot { .. } => self.hidden = false,
            Op::CloneInit { .. } if self.session => {
                return Err("makes a process that does not lead the session");
            }
            Op::Session {} => {
                if !self.hidden {
                    return Err("comes before Undumpable");
                }
                self.session = true;
            }
            Op::OpenProc {} => self.proc = true,
            Op::Sysctl { .. } | Op::Label { .. } if !self.proc => {
                return Err("writes to a procfs that is not there yet");
            }
            Op::Mount { keep: 1, .. } if !self.pivoted => self.proc = true,
            Op::RootReadOnly {} => self.read_only = true,
            Op::RootTree { .. } | Op::RootDirectory { .. } | Op::RootMounted { .. } => {
                if self.rooted {
                    return Err("comes twice");
                }
                if !self.hidden {
                    return Err("opens the root in a process that is not hidden");
                }
                self.rooted = true;
                self.shared = matches!(op, Op::RootDirectory { .. });
            }
            op if self.shared && mounts(op) => return Err("mounts where others would see it"),
            Op::Mount { .. } | Op::Bind { .. } | Op::Mask { .. } | Op::ReadOnly { .. }
                if self.pivoted =>
            {
                return Err("needs the host's mounts, which are gone");
            }
            Op::PivotRoot {} | Op::MoveRoot { .. } | Op::ChangeRoot {} => {
                let kind = matches!(op, Op::ChangeRoot {}) == (self.shared || self.kept_out);
                if !self.rooted || self.pivoted || !kind {
                    return Err("needs a root of its kind, and only once");
                }
                self.pivoted = true;
            }
            _ => return self.next_of_process(op),
        }
        Ok(())
    }

    /// Where the root is mounted among the host's mounts, these stay as they are.
    fn among_the_hosts(&mut self, op: &Op) -> Result<(), &'static str> {
        match op {
            Op::RootMounted { .. } => self.kept_out = true,
            Op::Propagation { .. } | Op::ParentPrivate { .. } => self.turned = true,
            // The clones that these make are not kept out.
            Op::Mask { .. } | Op::ReadOnly { .. } if self.kept_out => {
                return Err("covers a path where others see it");
            }
            _ => {}
        }
        if self.kept_out && self.turned { Err("changes the host's own mounts") } else { Ok(()) }
    }

    /// The half that a further process has too.
    fn next_of_process(&mut self, op: &Op) -> Result<(), &'static str> {
        match op {
            Op::Chdir { create: CHDIR_MUST, .. } => {
                if !self.identified {
                    return Err("comes before Ids");
                }
                self.inside = true;
            }
            Op::Chdir { create: CHDIR_MAKE, .. } if self.read_only => {
                return Err("makes a directory in a root that is read-only");
            }
            Op::FindProgram { .. } => self.found = true,
            Op::Ids { .. } => {
                if self.rooted && !self.pivoted {
                    return Err("comes while the host's mounts are still there");
                }
                self.identified = true;
            }
            Op::Capabilities { .. } => {
                if !self.identified {
                    return Err("comes before Ids, which needs capabilities");
                }
                self.capable = true;
            }
            Op::NoNewPrivileges {} => self.no_new_privileges = true,
            Op::Seccomp { .. } => {
                if self.capable && !self.no_new_privileges {
                    return Err("needs CAP_SYS_ADMIN or no_new_privs, and has neither");
                }
                self.filtered = true;
            }
            Op::WaitStart {} if !self.ready => return Err("comes before the Ready gate"),
            Op::Exec { .. } => {
                if !self.capable {
                    return Err("comes before Capabilities: the program would keep ours");
                }
                if !self.inside || !self.found {
                    return Err("comes before Chdir or FindProgram");
                }
                self.done = true;
            }
            _ => {}
        }
        Ok(())
    }
}

/// Whether an op changes what is mounted.
fn mounts(op: &Op) -> bool {
    match op {
        Op::Propagation { .. }
        | Op::ParentPrivate { .. }
        | Op::Mount { .. }
        | Op::Bind { .. }
        | Op::MountAttributes { .. }
        | Op::Reconfigure { .. }
        | Op::Mask { .. }
        | Op::ReadOnly { .. }
        | Op::RootPropagation { .. }
        | Op::RootReadOnly {} => true,
        Op::Console { like, .. } => like & CONSOLE_BOUND != 0,
        Op::Device { bind, .. } => *bind != DEVICE_NEVER_BOUND,
        _ => false,
    }
}
