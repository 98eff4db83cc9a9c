//! The promises of the stage's program, read off the file itself.

use orlop_init::STAGE;

/// Budget for the program, in bytes.
const MOST: usize = 128 * 1024;

fn number(at: usize, width: usize) -> usize {
    let bytes = &STAGE[at..at + width];
    bytes.iter().rev().fold(0, |value, byte| value << 8 | usize::from(*byte))
}

/// Names of all symbols, and whether each is defined (elf(5), 64 bit).
fn symbols() -> Vec<(String, bool)> {
    const SYMTAB: usize = 2;
    let (sections, size, count) = (number(0x28, 8), number(0x3a, 2), number(0x3c, 2));
    let header = |index: usize| sections + index * size;
    let table = (0..count).find(|index| number(header(*index) + 4, 4) == SYMTAB);
    let table = header(table.expect("the stage has a symbol table"));
    let strings = number(header(number(table + 0x28, 4)) + 0x18, 8);
    let (start, length) = (number(table + 0x18, 8), number(table + 0x20, 8));
    (start..start + length)
        .step_by(24)
        .skip(1) // the first entry is empty by definition
        .map(|at| {
            let name = &STAGE[strings + number(at, 4)..];
            let end = name.iter().position(|byte| *byte == 0).expect("names end");
            let name = String::from_utf8_lossy(&name[..end]).into_owned();
            (name, number(at + 6, 2) != 0)
        })
        .collect()
}

#[test]
fn nothing_is_undefined() {
    let symbols = symbols();
    assert!(symbols.iter().any(|(name, defined)| name == "_start" && *defined));
    let undefined: Vec<_> = symbols.iter().filter(|(_, defined)| !defined).collect();
    assert!(undefined.is_empty(), "{undefined:?}");
}

#[test]
fn no_path_leads_to_a_panic() {
    // The handler is linked only if something calls it.
    let found: Vec<_> = symbols()
        .into_iter()
        .map(|(name, _)| name)
        .filter(|name| name.contains("panic") || name.contains("rust_begin_unwind"))
        .collect();
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn it_is_small_and_static() {
    const INTERPRETER: usize = 3;
    let (headers, size, count) = (number(0x20, 8), number(0x36, 2), number(0x38, 2));
    let kinds: Vec<_> = (0..count).map(|index| number(headers + index * size, 4)).collect();
    assert!(!kinds.contains(&INTERPRETER), "{kinds:?}");
    println!("the stage has {} bytes", STAGE.len());
    assert!(STAGE.len() <= MOST, "{} bytes", STAGE.len());
}
