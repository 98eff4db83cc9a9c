//! The table of numbers against this machine's own headers.

use std::fs;

use crate::reference::{Abi, number};

/// `__NR_name` and its value, from a header of x86.
fn header(name: &str) -> Option<Vec<(String, u32)>> {
    let path = format!("/usr/include/x86_64-linux-gnu/asm/{name}");
    let text = fs::read_to_string(path).ok()?;
    let defines = text.lines().filter_map(|line| line.strip_prefix("#define __NR_"));
    let calls = defines.filter_map(|define| {
        let (name, value) = define.split_once(' ')?;
        let value = value.trim_matches(|c| c == '(' || c == ')');
        let value = match value.strip_prefix("__X32_SYSCALL_BIT + ") {
            Some(value) => value.parse::<u32>().ok()? | 1 << 30,
            None => value.parse().ok()?,
        };
        Some((name.to_owned(), value))
    });
    Some(calls.collect())
}

#[test]
fn the_numbers_of_x86_are_those_of_the_headers() {
    for (file, abi) in
        [("unistd_64.h", Abi::X86_64), ("unistd_32.h", Abi::X86), ("unistd_x32.h", Abi::X32)]
    {
        let Some(calls) = header(file) else {
            eprintln!("SKIP the_numbers_of_x86_are_those_of_the_headers: no asm/{file}");
            continue;
        };
        assert!(calls.len() > 300, "{file}");
        for (name, value) in calls {
            assert_eq!(number(abi, &name), Some(value), "{name} in {file}");
        }
    }
}
