//! Golden plans: a config in, the whole plan out as text, without root.
//!
//! A case is a folder of `tests/golden`: `config.json`, or `patch.json` as a merge
//! patch on `base.json`; `host.json` and `options.json` as patches on the
//! fixture's; `process.json` makes it an `exec`. What comes out is `plan.txt`, the
//! plan or the errors. `ORLOP_BLESS=1` writes it anew; read the difference before
//! you commit it.

mod fixture;

use std::fs;
use std::path::{Path, PathBuf};

use orlop::bundle::{Bundle, Parsed};
use orlop::{compile, plan};
use serde_json::Value;

#[test]
fn every_case_compiles_to_its_plan() {
    let bless = std::env::var_os("ORLOP_BLESS").is_some();
    let mut wrong = Vec::new();
    let cases = cases();
    assert!(cases.len() >= 35, "only {} cases found", cases.len());
    for case in cases {
        let name = case.file_name().expect("a name").to_string_lossy().into_owned();
        let got = outcome(&case).unwrap_or_else(|why| panic!("{name}: {why}"));
        let path = case.join("plan.txt");
        if bless {
            fs::write(&path, &got).expect("writing plan.txt");
            continue;
        }
        let expected = fs::read_to_string(&path).unwrap_or_default();
        if got != expected {
            wrong.push(format!("{name}:\n{}", difference(&expected, &got)));
        }
    }
    assert!(wrong.is_empty(), "plans differ (ORLOP_BLESS=1 accepts them):\n{}", wrong.join("\n"));
}

fn cases() -> Vec<PathBuf> {
    let mut cases: Vec<PathBuf> = fs::read_dir(fixture::golden())
        .expect("tests/golden")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.is_dir())
        .collect();
    cases.sort();
    cases
}

/// The text of the plan, or the errors, of one case.
fn outcome(case: &Path) -> Result<String, String> {
    let config = match fixture::read(&case.join("config.json")) {
        Some(config) => config,
        None => {
            let patch =
                fixture::read(&case.join("patch.json")).unwrap_or(Value::Object(<_>::default()));
            let mut config = fixture::base();
            fixture::merge(&mut config, &patch);
            config
        }
    };
    let host = fixture::host(fixture::read(&case.join("host.json")).as_ref());
    let options = fixture::options(&host, fixture::read(&case.join("options.json")).as_ref());
    let Parsed { value: spec, warnings } = match Bundle::parse(config.to_string().as_bytes()) {
        Ok(parsed) => parsed,
        Err(error) => return Ok(format!("error: {error}\n")),
    };
    let result = match fs::read(case.join("process.json")) {
        Ok(bytes) => {
            let process = Bundle::parse_process(&bytes).map_err(|error| error.to_string())?;
            compile::exec(&process.value, &spec, &host, &options)
        }
        Err(_) => compile::create(&spec, &host, &options),
    };
    let mut text: String = warnings.iter().map(|warning| format!("warning: {warning}\n")).collect();
    match result {
        Ok(compiled) => {
            plan::check(&compiled).map_err(|broken| broken.join("; "))?;
            text.push_str(&plan::text(&compiled));
        }
        Err(errors) => errors.iter().for_each(|error| text.push_str(&format!("error: {error}\n"))),
    }
    Ok(text)
}

fn difference(expected: &str, got: &str) -> String {
    let (old, new): (Vec<_>, Vec<_>) = (expected.lines().collect(), got.lines().collect());
    let gone = old.iter().filter(|line| !new.contains(line)).map(|line| format!("- {line}"));
    let come = new.iter().filter(|line| !old.contains(line)).map(|line| format!("+ {line}"));
    let lines: Vec<String> = gone.chain(come).collect();
    if lines.is_empty() { "the order of the lines".into() } else { lines.join("\n") }
}

/// The table of configs that must be refused: patch on the base, and the errors.
#[test]
fn every_bad_config_is_refused_with_its_place() {
    let table = fixture::read(&fixture::golden().join("../bad.json")).expect("tests/bad.json");
    let mut wrong = Vec::new();
    for row in table.as_array().expect("a list") {
        let mut config = fixture::base();
        fixture::merge(&mut config, &row["patch"]);
        let host = fixture::host(row.get("host"));
        let options = fixture::options(&host, None);
        let errors: Vec<String> = match Bundle::parse(config.to_string().as_bytes()) {
            Err(error) => vec![error.to_string()],
            Ok(parsed) => match compile::create(&parsed.value, &host, &options) {
                Ok(_) => Vec::new(),
                Err(errors) => errors.iter().map(ToString::to_string).collect(),
            },
        };
        let expected: Vec<&str> = match &row["error"] {
            Value::String(one) => vec![one],
            several => {
                several.as_array().expect("errors").iter().filter_map(Value::as_str).collect()
            }
        };
        if errors != expected {
            wrong.push(format!("{}\n  wanted {expected:#?}\n  got {errors:#?}", row["patch"]));
        }
        assert!(errors.iter().all(|error| error.lines().count() == 1), "{errors:?}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
