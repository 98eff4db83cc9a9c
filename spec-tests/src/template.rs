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
    let Some((before, rest)) = text.split_once("${") else { return text.into() };
    let Some((name, after)) = rest.split_once('}') else { return text.into() };
    let value = lookup(name);
    if let Some(value) = &value
        && before.is_empty()
        && after.is_empty()
    {
        return value.clone();
    }
    let middle = value.map_or_else(|| format!("${{{name}}}"), |value| words(&value));
    format!("{before}{middle}{}", words(&text_of(after, lookup))).into()
}

fn words(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn filled(value: Value) -> Value {
        let known = json!({"n": 7, "s": "text", "deep": {"er": [1, 2]}});
        fill(&value, &|name| find(&known, name))
    }

    #[test]
    fn places_are_filled() {
        assert_eq!(filled(json!("${n}")), json!(7));
        assert_eq!(filled(json!("a ${n} ${s}")), json!("a 7 text"));
        assert_eq!(filled(json!({"${s}": ["${deep.er.1}"]})), json!({"text": [2]}));
        assert_eq!(filled(json!("${deep}")), json!({"er": [1, 2]}));
    }

    #[test]
    fn what_is_not_known_stays_and_is_told() {
        assert_eq!(filled(json!("x ${later}")), json!("x ${later}"));
        assert_eq!(filled(json!("x ${later} ${n}")), json!("x ${later} 7"));
        assert_eq!(open_places(&json!({"a": ["${b}", "c ${d}"]})), ["b", "d"]);
        assert_eq!(filled(json!("${open")), json!("${open"));
    }
}
