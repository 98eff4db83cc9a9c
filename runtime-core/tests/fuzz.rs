//! The doors of the fuzz targets (`runtime-core/fuzz`), for two seconds with what
//! a small mutator makes of the golden cases. The same in every run but for how
//! far it comes; a real fuzzer finds more.

#[path = "../fuzz/doors/config.rs"]
mod config;
#[path = "../fuzz/doors/frames.rs"]
mod frames;
#[path = "../fuzz/doors/mount_options.rs"]
mod mount_options;
#[path = "../fuzz/doors/plan_reader.rs"]
mod plan_reader;

use std::fs;
use std::panic::catch_unwind;
use std::path::Path;
use std::time::{Duration, Instant};

use orlop::bundle::Bundle;
use orlop::compile::{self, Options};
use serde_json::{Value, json};

/// For each door.
const TIME: Duration = Duration::from_millis(700);
/// And at most, until there were enough.
const MOST: Duration = Duration::from_secs(60);
/// How many inputs have to come through.
const ENOUGH: u32 = 100;

/// xorshift64*: numbers that are the same on every machine.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        number as usize % limit.max(1)
    }

    fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }
}

/// Sends mutants of the seeds through a door until the time is up.
fn storm(door: fn(&[u8]), seeds: &[Vec<u8>], mutate: fn(&mut Numbers, &[Vec<u8>]) -> Vec<u8>) {
    assert!(!seeds.is_empty(), "no seeds");
    seeds.iter().for_each(|seed| door(seed));
    let mut numbers = Numbers(0x0a1_0b2_0c3);
    let start = Instant::now();
    let mut count = 0;
    while start.elapsed() < TIME || (count < ENOUGH && start.elapsed() < MOST) {
        let input = mutate(&mut numbers, seeds);
        if catch_unwind(|| door(&input)).is_err() {
            panic!("the door fell for input {count}: {}", input.escape_ascii());
        }
        count += 1;
    }
    println!("{count} inputs");
    assert!(count >= ENOUGH, "only {count} inputs: the door is too slow");
}

/// One to four small changes of bytes.
fn bytes(numbers: &mut Numbers, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut input = numbers.pick(seeds).clone();
    for _ in 0..=numbers.below(4) {
        let at = numbers.below(input.len());
        let end = (at + numbers.below(16)).min(input.len());
        match numbers.below(6) {
            0 if !input.is_empty() => input[at] ^= 1 << numbers.below(8),
            1 if !input.is_empty() => input[at] = *numbers.pick(&[0, 1, 0x7f, 0x80, 0xff, b'/']),
            2 => drop(input.drain(at..end)),
            3 => {
                let other = numbers.pick(seeds);
                let from = numbers.below(other.len());
                let piece = &other[from..(from + 24).min(other.len())];
                input.splice(at..end, piece.iter().copied());
            }
            4 => input.truncate(at.max(1)),
            _ => {
                let piece = input[at..end].to_vec();
                input.splice(at..at, piece);
            }
        }
    }
    input
}

/// One to four changes of a document's values; sometimes of its bytes.
fn values(numbers: &mut Numbers, seeds: &[Vec<u8>]) -> Vec<u8> {
    if numbers.below(4) == 0 {
        return bytes(numbers, seeds);
    }
    let seed = numbers.pick(seeds);
    let mut document: Value = serde_json::from_slice(seed).expect("a golden config");
    for _ in 0..=numbers.below(4) {
        change(numbers, &mut document);
    }
    document.to_string().into_bytes()
}

fn change(numbers: &mut Numbers, value: &mut Value) {
    let stop = numbers.below(5) == 0;
    match value {
        Value::Object(map) if !map.is_empty() && !stop => {
            let keys: Vec<String> = map.keys().cloned().collect();
            let key = numbers.pick(&keys);
            if numbers.below(12) == 0 {
                map.remove(key);
            } else if let Some(inner) = map.get_mut(key) {
                change(numbers, inner);
            }
        }
        Value::Array(list) if !list.is_empty() && !stop => {
            let at = numbers.below(list.len());
            match numbers.below(8) {
                0 => drop(list.remove(at)),
                1 => list.push(list[at].clone()),
                _ => change(numbers, &mut list[at]),
            }
        }
        value => *value = odd(numbers),
    }
}

fn odd(numbers: &mut Numbers) -> Value {
    let texts = ["", "/", "..", "a/../..", "x y", "=", "\n", "é", "/proc", "/dev/null", "rbind,ro"];
    match numbers.below(6) {
        0 => json!(*numbers.pick(&[0_i64, 1, -1, 65_535, 4_294_967_295, i64::MAX, i64::MIN])),
        1 => Value::Null,
        2 => json!(numbers.below(2) == 0),
        3 => json!([]),
        _ => json!(*numbers.pick(&texts)),
    }
}

/// Every golden config: a whole one, or the base with its patch.
fn golden() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let read = |path: &Path| -> Option<Value> {
        serde_json::from_slice(&fs::read(path).ok()?).expect("JSON in the golden cases")
    };
    let base = read(&folder.join("base.json")).expect("the base config");
    let mut cases: Vec<_> = fs::read_dir(&folder)
        .expect("the golden cases")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    cases.sort();
    let config = |case: &Path| match read(&case.join("config.json")) {
        Some(config) => Some(config),
        None => {
            let mut config = base.clone();
            merge(&mut config, read(&case.join("patch.json"))?);
            Some(config)
        }
    };
    cases.iter().filter_map(|case| Some(config(case)?.to_string().into_bytes())).collect()
}

fn merge(target: &mut Value, patch: Value) {
    match (target, patch) {
        (Value::Object(target), Value::Object(patch)) => {
            for (key, value) in patch {
                merge(target.entry(key).or_insert(Value::Null), value);
            }
        }
        (target, patch) => *target = patch,
    }
}

#[test]
fn no_config_breaks_the_compiler() {
    storm(config::run, &golden(), values);
}

#[test]
fn no_mount_breaks_the_compiler() {
    let seeds: Vec<Vec<u8>> = [
        "tmpfs\ntmpfs\n/tmp\nmode=1777\nsize=64k\nnosuid\nrro",
        "bind\n/srv\n/data\nrbind\nro\nrslave\nrnoexec",
        "none\n/srv\n/data\nbind\nidmap\nridmap\nuid=0",
        "proc\nproc\n/proc\nnoexec,hidepid=2",
        "overlay\noverlay\n/o\nlowerdir=/a:/b\nupperdir=/c\nworkdir=/d\nremount",
        "cgroup\ncgroup\n/sys/fs/cgroup\nro\nrelatime\nshared",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec();
    let words: Vec<Vec<u8>> = compile::known_mount_options()
        .map(|option| format!("bind\n/a\n/b\n{option}").into_bytes())
        .collect();
    storm(mount_options::run, &[seeds, words].concat(), bytes);
}

#[test]
fn no_bytes_break_the_decoder_of_frames() {
    let frame = |length: u32, stream: u32, message: &[u8]| {
        let (length, stream) = (length.to_be_bytes(), stream.to_be_bytes());
        [&length[..], &stream[..], &[1, 0], message].concat()
    };
    let frames = [frame(3, 1, b"one"), frame(0, 3, b""), frame(5, 5, b"short")];
    let long = [frame((4 << 20) + 1, 7, &[0; 64]), frames[0].clone()].concat();
    let seeds = [frames.concat(), long].map(|bytes| [&[3][..], &bytes].concat());
    storm(frames::run, &seeds, bytes);
}

#[test]
fn no_bytes_break_the_reader_of_plans() {
    let options = Options { id: "c1".into(), bundle: "/bundle".into(), ..Options::default() };
    let encoded = |config: &Vec<u8>| {
        let parsed = Bundle::parse(config).ok()?;
        let plan = compile::create(&parsed.value, &mount_options::host(), &options).ok()?;
        Some(plan.encode(&[3, 4, 5, -1, -1, -1, -1, -1, 6, 7, 8, 9]))
    };
    let seeds: Vec<Vec<u8>> = golden().iter().filter_map(encoded).collect();
    assert!(seeds.len() > 20, "only {} plans", seeds.len());
    storm(plan_reader::run, &seeds, bytes);
}
