//! A plan for a person (`orlop plan`) and for a program (`--json`).

use std::fmt::Write as _;

use orlop_init::plan::Shown;
use orlop_init::sys::abi;
use serde::Serialize;

use super::{Fill, Op, Plan, Slot, View};

/// A plan as data, for `--json`.
#[derive(Debug, Serialize)]
pub struct Dump {
    /// The ops in order.
    pub ops: Vec<Step>,
    /// What the launcher fills the slots with.
    pub slots: Vec<String>,
    /// The launcher's half, one line each.
    pub outside: Vec<String>,
    /// What a person should know.
    pub warnings: Vec<String>,
}

/// One op as data.
#[derive(Debug, Serialize)]
pub struct Step {
    /// Its name.
    pub op: &'static str,
    /// Its operands, by name.
    pub operands: serde_json::Map<String, serde_json::Value>,
    /// JSON pointer into `config.json`, when it comes from there.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub place: String,
    /// What it does, in words.
    pub doing: String,
}

impl Dump {
    /// The plan as data.
    #[must_use]
    pub fn new(plan: &Plan) -> Self {
        let bytes = plan.encode(&[]);
        let ops = plan
            .steps()
            .map(|(op, origin)| Step {
                op: op.name(),
                operands: operands(op, &bytes),
                place: origin.pointer.to_string(),
                doing: origin.doing.to_string(),
            })
            .collect();
        let slots = plan.fills().iter().map(describe).collect();
        Self { ops, slots, outside: outside(plan), warnings: plan.warnings.clone() }
    }
}

/// The plan as text, one op a line, with its place behind it.
#[must_use]
pub fn text(plan: &Plan) -> String {
    let dump = Dump::new(plan);
    let mut text = String::new();
    for line in &dump.outside {
        let _ = writeln!(text, "   | {line}");
    }
    for (index, fill) in dump.slots.iter().enumerate() {
        let _ = writeln!(text, "   < slot {} {fill}", Slot::FIRST_FREE as usize + index);
    }
    for (index, step) in dump.ops.iter().enumerate() {
        let mut line = format!("{index:4} {:<18}", kebab(step.op));
        for (name, value) in &step.operands {
            if !is_empty(value) {
                let _ = write!(line, " {name}={}", plain(value));
            }
        }
        if !step.place.is_empty() {
            let _ = write!(line, "  # {}", step.place);
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }
    for warning in &dump.warnings {
        let _ = writeln!(text, "   ! {warning}");
    }
    text
}

fn operands(op: &Op, bytes: &[u8]) -> serde_json::Map<String, serde_json::Value> {
    let mut map = serde_json::Map::new();
    let Some(view) = View::parse(bytes) else { return map };
    let string = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
    op.operands(&mut |name, operand| {
        let value = match operand {
            Shown::U32(number) if is_mode(name) => format!("0o{number:o}").into(),
            Shown::U32(number) if is_bits(name) => format!("{number:#x}").into(),
            Shown::U64(number) if is_bits(name) => format!("{number:#x}").into(),
            Shown::U32(number) => number.into(),
            Shown::U64(number) => number.into(),
            Shown::I32(number) => number.into(),
            Shown::Str(text) => string(view.str(text)).into(),
            Shown::Bytes(run) if name == "program" => {
                format!("{} instructions", view.bytes(run).len() / 8).into()
            }
            Shown::Bytes(run) => String::from_utf8_lossy(view.bytes(run)).into_owned().into(),
            Shown::Words(words) => view.words(words).collect::<Vec<_>>().into(),
            Shown::Strs(strs) => view.strs(strs).map(string).collect::<Vec<_>>().into(),
            Shown::Slot(slot) => slot_name(slot).into(),
            Shown::Gate(gate) => kebab(&format!("{gate:?}")).into(),
            Shown::Target(target) => format!("{:#x}", target.0).into(),
        };
        map.insert(name.to_owned(), value);
    });
    map
}

fn is_mode(name: &str) -> bool {
    matches!(name, "mode" | "mask")
}

fn is_bits(name: &str) -> bool {
    const BITS: &[&str] = &[
        "kinds",
        "kind",
        "attributes",
        "flags",
        "set",
        "clear",
        "all_set",
        "all_clear",
        "propagation",
        "keep",
        "effective",
        "permitted",
        "inheritable",
        "ambient",
        "persona",
    ];
    BITS.contains(&name)
}

fn is_empty(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::String(text) => text.is_empty() || text == "0x0" || text == "none",
        serde_json::Value::Array(list) => list.is_empty(),
        serde_json::Value::Number(number) => number.as_i64() == Some(0),
        _ => false,
    }
}

fn plain(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text)
            if !text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '"') =>
        {
            text.clone()
        }
        value => value.to_string(),
    }
}

fn slot_name(slot: Slot) -> String {
    match slot {
        Slot::CONTROL => "control".into(),
        Slot::START => "start".into(),
        Slot::CONSOLE => "console".into(),
        Slot::HOOK_STATE => "hook-state".into(),
        Slot::TARGET => "target".into(),
        Slot::NONE => "none".into(),
        Slot(number) => format!("slot {number}"),
    }
}

fn describe(fill: &Fill) -> String {
    match fill {
        Fill::Tree { path, recursive, ids, propagation } => {
            let recursive = if *recursive { "tree" } else { "mount" };
            let ids = if ids.is_some() { ", id-mapped" } else { "" };
            let peer = match *propagation {
                0 => ", the host's peer",
                abi::MS_PRIVATE => ", private",
                _ => ", slave",
            };
            format!("{recursive} {path:?}{ids}{peer}")
        }
        Fill::Root { path } => format!("a clone of {path:?}, mounted in the container's folder"),
        Fill::Namespace { path, kind, .. } => format!("namespace {path:?} ({kind:#x})"),
        Fill::CgroupProcs { index } => format!("cgroup.procs of hierarchy {index}"),
        Fill::ResctrlTasks { index: 0 } => "tasks of the class of resctrl".into(),
        Fill::ResctrlTasks { .. } => "tasks of the monitoring group of resctrl".into(),
    }
}

fn outside(plan: &Plan) -> Vec<String> {
    let outside = &plan.outside;
    let mut lines = Vec::new();
    let into = if outside.into_cgroup { ", into the cgroup" } else { "" };
    lines.push(format!("clone {:#x}{into}", outside.clone_flags));
    if let Some(maps) = &outside.maps {
        let sides = [("uid", &maps.uid, &maps.uid_by), ("gid", &maps.gid, &maps.gid_by)];
        for (name, extents, program) in sides {
            for extent in extents {
                let (inside, out, count) = (extent.inside, extent.outside, extent.count);
                lines.push(format!("at mapped: {name} {inside} is {out} outside, {count} in all"));
            }
            if let Some(program) = program {
                lines.push(format!("at mapped: {name}s by {program:?}"));
            }
        }
        if maps.deny_setgroups {
            lines.push("at mapped: setgroups is denied".into());
        }
    }
    if let Some(score) = outside.oom_score {
        lines.push(format!("at mapped: oom score {score}"));
    }
    if let Some(offsets) = &outside.time_offsets {
        lines.push(format!("at attached: time offsets {:?}", offsets.trim_end()));
    }
    for device in &outside.net_devices {
        lines.push(format!("at attached: network device {:?} as {:?}", device.name, device.inside));
    }
    let trees = outside.trees.iter();
    lines.extend(trees.map(|tree| format!("at tree: the ids of that of op {}", tree.op)));
    let hooks = [
        ("at runtime-hooks", &outside.runtime_hooks),
        ("after start", &outside.poststart),
        ("after delete", &outside.poststop),
    ];
    for (when, hooks) in hooks {
        lines.extend(hooks.iter().map(|hook| format!("{when}: {} {:?}", hook.name, hook.path)));
    }
    if let Some(listener) = &outside.listener {
        lines.push(format!("at listener: to {:?}", listener.path));
    }
    for limit in &outside.limits {
        lines.push(format!("at ready: limit {} {}:{}", limit.resource, limit.soft, limit.hard));
    }
    lines
}

fn kebab(name: &str) -> String {
    let mut text = String::new();
    for (index, letter) in name.chars().enumerate() {
        if letter.is_ascii_uppercase() && index > 0 {
            text.push('-');
        }
        text.push(letter.to_ascii_lowercase());
    }
    text
}
