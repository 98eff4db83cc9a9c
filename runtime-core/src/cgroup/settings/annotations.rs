//! Annotations of the form `org.systemd.property.NAME` become properties.

use std::collections::HashMap;

use zbus::Variant;

use super::gvariant;
use crate::error::{Error, Result, excerpt};

const PREFIX: &str = "org.systemd.property.";

/// Properties that say where the container is, or which process it is.
const OURS: [&str; 3] = ["PIDs", "PIDFDs", "Slice"];

/// Microseconds in a second.
const MICRO: u64 = 1_000_000;

/// The properties, sorted by name.
pub(super) fn properties(
    annotations: Option<&HashMap<String, String>>,
) -> Result<Vec<(String, Variant<'static>)>, Vec<Error>> {
    let all = annotations.into_iter().flatten();
    let mut wanted: Vec<_> =
        all.filter_map(|(key, text)| Some((key.strip_prefix(PREFIX)?, text))).collect();
    wanted.sort();
    let (mut properties, mut errors) = (Vec::new(), Vec::new());
    for (name, text) in wanted {
        match property(name, text) {
            Ok(property) => properties.push(property),
            Err(what) => errors.push(Error::config(
                format!("/annotations/{}", excerpt(&super::escape(&format!("{PREFIX}{name}")))),
                what,
            )),
        }
    }
    if errors.is_empty() { Ok(properties) } else { Err(errors) }
}

fn property(name: &str, text: &str) -> Result<(String, Variant<'static>), String> {
    // COMPAT(runc): what counts as a name.
    if name.len() < 3 || !name.bytes().all(|byte| byte.is_ascii_alphabetic()) {
        return Err(format!("{:?} is not the name of a systemd property", excerpt(name)));
    }
    if OURS.contains(&name) {
        return Err(format!("the systemd property {name:?} is not the configuration's to set"));
    }
    let said = excerpt(text);
    let value = gvariant::parse(text).map_err(|why| {
        format!("the value {said:?} can't be read as a GVariant: {}", excerpt(&why))
    })?;
    // COMPAT(runc): what the documentation calls TimeoutStopSec is TimeoutStopUSec
    // on the bus; "USec" itself has no small letter before "Sec".
    match name.strip_suffix("Sec") {
        Some(stem) if stem.ends_with(|c: char| c.is_ascii_lowercase()) => {
            let value = microseconds(&value)
                .ok_or_else(|| format!("the value {said:?} is not a number of seconds"))?;
            Ok((format!("{stem}USec"), Variant::U64(value)))
        }
        _ => Ok((name.to_owned(), value)),
    }
}

fn microseconds(value: &Variant<'_>) -> Option<u64> {
    let seconds = match value {
        Variant::U8(seconds) => u64::from(*seconds),
        Variant::U16(seconds) => u64::from(*seconds),
        Variant::U32(seconds) => u64::from(*seconds),
        Variant::U64(seconds) => *seconds,
        Variant::I16(seconds) => u64::try_from(*seconds).ok()?,
        Variant::I32(seconds) => u64::try_from(*seconds).ok()?,
        Variant::I64(seconds) => u64::try_from(*seconds).ok()?,
        Variant::F64(seconds) => {
            let value = seconds * MICRO as f64;
            return (value >= 0.0 && value < u64::MAX as f64).then_some(value as u64);
        }
        _ => return None,
    };
    seconds.checked_mul(MICRO)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str, text: &str) -> Result<(String, Variant<'static>), String> {
        let annotations = HashMap::from([(format!("{PREFIX}{name}"), text.to_owned())]);
        match properties(Some(&annotations)) {
            Ok(mut found) => Ok(found.remove(0)),
            Err(errors) => Err(errors[0].to_string()),
        }
    }

    // runc, docs/systemd.md.
    #[test]
    fn values_are_passed_on() {
        let (name, value) = one("TimeoutStopUSec", "uint64 123456789").unwrap();
        assert_eq!((&*name, value), ("TimeoutStopUSec", Variant::U64(123_456_789)));
        let (name, value) = one("CollectMode", "'inactive'").unwrap();
        assert_eq!((&*name, value), ("CollectMode", Variant::Str("inactive".into())));
    }

    #[test]
    fn seconds_become_microseconds() {
        for text in ["2", "2.0", "uint64 2", "byte 2", "int64 2"] {
            let (name, value) = one("TimeoutStopSec", text).unwrap();
            assert_eq!((&*name, value), ("TimeoutStopUSec", Variant::U64(2_000_000)), "{text}");
        }
        assert_eq!(one("RuntimeMaxSec", "0.25").unwrap().1, Variant::U64(250_000));
        for text in ["'2'", "-1", "-1.5", "uint64 18446744073709551615"] {
            assert!(one("TimeoutStopSec", text).unwrap_err().contains("seconds"), "{text}");
        }
        // The names on the bus are left as they are, and so is a word in capitals.
        assert_eq!(one("TimeoutStopUSec", "2").unwrap().1, Variant::I32(2));
        assert_eq!(one("XSec", "2").unwrap().0, "XSec");
    }

    #[test]
    fn what_is_no_property_is_refused_with_its_place() {
        for (name, text) in [
            ("", "1"),
            ("Ab", "1"),
            ("A-b-c", "1"),
            ("Foo1", "1"),
            ("Foo", "x"),
            ("PIDs", "[uint32 1]"),
            ("Slice", "'x.slice'"),
        ] {
            let error = one(name, text).unwrap_err();
            let place = format!("(config.json: /annotations/org.systemd.property.{name})");
            assert!(error.ends_with(&place), "{error}");
        }
    }

    #[test]
    fn an_error_does_not_repeat_all_of_a_long_text() {
        let long = "x".repeat(1 << 20);
        for error in [one("Foo", &long), one("XxSec", &format!("'{long}'")), one(&long, "x y")] {
            let error = error.unwrap_err();
            assert!(error.len() < 4096 && error.contains("x..."), "{}", error.len());
        }
        let error = one(&format!("{long}1"), "1").unwrap_err();
        assert!(error.len() < 4096, "{}", error.len());
    }

    #[test]
    fn other_annotations_are_none_of_ours() {
        let annotations = HashMap::from([("org.systemd.other".to_owned(), "x".to_owned())]);
        assert_eq!(properties(Some(&annotations)).unwrap(), []);
        assert_eq!(properties(None).unwrap(), []);
    }
}
