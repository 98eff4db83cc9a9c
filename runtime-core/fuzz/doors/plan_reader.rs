//! The door for plans: arbitrary bytes as the stage would map them. No panic, and
//! nothing is read that is not in them.

use orlop_init::plan::{HEADER_WORDS, MAGIC, OP_WORDS, Op, Plan, Shown};
use orlop_init::wire::Message;

/// Slots in a frame that is put around the bytes.
const SLOTS: u32 = 16;
/// Bytes of an op.
const RECORD: usize = OP_WORDS * 4;
/// Longest list that is walked to its end: one can name the same bytes often.
const MOST: usize = 4096;

pub(crate) fn run(data: &[u8]) {
    read(data);
    // A right frame around them, else almost everything would end at the magic.
    if let Some((count, rest)) = data.split_first() {
        read(&framed(u32::from(*count % 64), rest));
    }
    if let Some(message) = Message::read(data) {
        assert!(message.text.len() <= data.len());
    }
}

fn framed(ops: u32, rest: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let records = ops as usize * RECORD;
    let arena = rest.len().saturating_sub(records) as u32 + 1;
    let header = [MAGIC, SLOTS, ops, arena];
    for word in header.into_iter().chain([0; HEADER_WORDS - 4]).chain([u32::MAX; SLOTS as usize]) {
        bytes.extend_from_slice(&word.to_ne_bytes());
    }
    bytes.extend_from_slice(rest);
    // Records that are missing are no ops; the arena ends in a NUL.
    let least = (HEADER_WORDS + SLOTS as usize) * 4 + records + arena as usize;
    bytes.resize(least, 0);
    bytes
}

fn read(bytes: &[u8]) {
    let Some(plan) = Plan::parse(bytes) else { return };
    assert!(plan.slots().count() * 4 <= bytes.len());
    for index in 0..plan.len() {
        let Some(op) = plan.op(index) else { continue };
        assert!(!op.name().is_empty());
        let mut operands = 0;
        op.operands(&mut |_, operand| {
            operands += 1;
            look(&plan, bytes.len(), operand);
        });
        assert!(operands < OP_WORDS);
        // What was read can be written, and read again as the same.
        let mut encoded = bytes.to_vec();
        let record = op.encode();
        let start = record_at(&plan, bytes, index);
        for (place, word) in encoded[start..start + RECORD].chunks_exact_mut(4).zip(record) {
            place.copy_from_slice(&word.to_ne_bytes());
        }
        let again: Option<Op> = Plan::parse(&encoded).and_then(|plan| plan.op(index));
        assert_eq!(again, Some(op));
    }
    assert_eq!(plan.op(plan.len()), None, "an op beyond the end");
}

fn record_at(plan: &Plan<'_>, bytes: &[u8], index: usize) -> usize {
    assert!(bytes.len() >= plan.len() * RECORD);
    (HEADER_WORDS + plan.slots().count()) * 4 + index * RECORD
}

fn look(plan: &Plan<'_>, most: usize, operand: Shown) {
    match operand {
        Shown::Str(at) => assert!(plan.str(at).count_bytes() < most),
        Shown::Bytes(run) => assert_eq!(plan.bytes(run).len(), run.len as usize),
        Shown::Words(list) => assert_eq!(plan.words(list).count(), list.len as usize),
        Shown::Strs(list) => {
            let longest = plan.strs(list).take(MOST).map(std::ffi::CStr::count_bytes).max();
            assert!(longest.unwrap_or(0) < most);
        }
        Shown::Slot(slot) => drop(std::hint::black_box(plan.slot(slot))),
        Shown::U32(_) | Shown::U64(_) | Shown::I32(_) | Shown::Gate(_) | Shown::Target(_) => {}
    }
}
