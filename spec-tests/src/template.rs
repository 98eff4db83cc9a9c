//! Places in a text that are filled in: `${name}`, `${name.member}`.
//!
//! A text that is nothing but one such place becomes the value itself, of
//! whatever kind; inside of a longer text it becomes its words.

use serde_json::{Map, Value};

/// Fills in what `lookup` knows; what it does not know is left as it is.
pub(crate) fn fill(value: &Value, lookup: &dyn Fn(&str) -> Option<Value>) -> Value {
    match value {
        Value::String(text) => text_of(text, lookup),
        Value::Array(elements) => elements.iter().map(|element| fill(element, lookup)).collect(),
        Value::Object(members) => {
            let filled = members.iter().map(|(name, value)| {
                let name = words(&text_of(name, lookup));
                (name, fill(value, lookup))
            });
            Value::Object(filled.collect::<Map<_, _>>())
        }
        other => other.clone(),
    }
}

/// The names that are still open.
pub(crate) fn open_places(value: &Value) -> Vec<String> {
    let mut places = Vec::new();
    let found = std::cell::RefCell::new(&mut places);
    fill(value, &|name| {
        found.borrow_mut().push(name.to_owned());
        None
    });
    places
}

/// Finds `a.b.c` in a document.
pub(crate) fn find(document: &Value, path: &str) -> Option<Value> {
    let found = path.split('.').try_fold(document, |value, name| match value {
        Value::Array(elements) => elements.get(name.parse::<usize>().ok()?),
        value => value.get(name),
    });
    found.cloned()
}

fn text_of(text: &str, lookup: &dyn Fn(&str) -> Option<Value>) -> Value {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let Some(end) = closing(after) else { break };
        // The name may have places of its own: `${host.${kind}}`.
        let name = words(&text_of(&after[..end], lookup));
        let value = lookup(&name).unwrap_or_else(|| format!("${{{name}}}").into());
        parts.extend([before.into(), value]);
        rest = &after[end + 1..];
    }
    match &mut parts[..] {
        [before, value] if before == "" && rest.is_empty() => value.take(),
        parts => (parts.iter().map(words).collect::<String>() + rest).into(),
    }
}

/// Where the brace is that closes a place whose inside begins here.
fn closing(inside: &str) -> Option<usize> {
    let mut depth = 0;
    for (at, letter) in inside.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 0 => return Some(at),
            '}' => depth -= 1,
            _ => {}
        }
    }
    None
}

fn words(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn filled(value: &Value) -> Value {
        let known = json!({"n": 7, "s": "text", "d": "er", "deep": {"er": [1, 2]}});
        fill(value, &|name| find(&known, name))
    }

    #[test]
    fn places_are_filled() {
        assert_eq!(filled(&json!("${n}")), json!(7));
        assert_eq!(filled(&json!("a ${n} ${s}")), json!("a 7 text"));
        assert_eq!(filled(&json!({"${s}": ["${deep.er.1}"]})), json!({"text": [2]}));
        assert_eq!(filled(&json!("${deep.${d}.0}")), json!(1));
        assert_eq!(filled(&json!("a ${later.${n}} ${n}")), json!("a ${later.7} 7"));
        assert_eq!(filled(&json!("${deep}")), json!({"er": [1, 2]}));
    }

    #[test]
    fn what_is_not_known_stays_and_is_told() {
        assert_eq!(filled(&json!("x ${later}")), json!("x ${later}"));
        assert_eq!(filled(&json!("x ${later} ${n}")), json!("x ${later} 7"));
        assert_eq!(open_places(&json!({"a": ["${b}", "c ${d}"]})), ["b", "d"]);
        assert_eq!(filled(&json!("${open")), json!("${open"));
    }
}
