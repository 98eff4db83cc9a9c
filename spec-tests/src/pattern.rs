//! Patterns: what a JSON document must look like.
//!
//! A pattern is JSON too. An object asks for its own members and lets others be, a
//! list has a pattern for each element; anything else must be equal. Names with a
//! dollar ask for more:
//! `{"$not": p}`, `{"$has": p}` (an element, a part of a text), `{"$lacks": p}`,
//! `{"$all": [p…]}` (each is an element), `{"$order": [p…]}` (elements in this
//! order), `{"$set": [p…]}` (these and no others), `{"$each": p}`,
//! `{"$any": [p…]}` (one of them fits), `{"$gt": n}`, `{"$ge": n}`, `{"$lt": n}`,
//! `{"$le": n}`, `{"$is": "string"}`, `{"$size": p}`, `{"$starts": "a"}`,
//! `{"$ends": "a"}`, `{"$absent": true}`, `{"$only": [name…]}` (no other members),
//! `{"$members": p}` (the value of each).

use serde_json::{Map, Value, json};

/// Where a document differs from a pattern.
#[derive(Debug, PartialEq)]
pub(crate) struct Mismatch {
    /// The way to the value, names with dots between them.
    pub(crate) place: String,
    expected: String,
    seen: String,
}

impl std::fmt::Display for Mismatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let place = if self.place.is_empty() { "" } else { &format!("{}: ", self.place) };
        write!(f, "{place}expected {}, saw {}", self.expected, self.seen)
    }
}

/// As much of a value as helps a reader.
pub(crate) fn brief(value: &Value) -> String {
    const MOST: usize = 240;
    let text = value.to_string();
    match text.char_indices().nth(MOST) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

/// Whether a document looks like a pattern.
pub(crate) fn check(pattern: &Value, seen: &Value) -> Result<(), Mismatch> {
    at("", pattern, seen)
}

fn fits(pattern: &Value, seen: &Value) -> bool {
    at("", pattern, seen).is_ok()
}

fn wrong(place: &str, pattern: &Value, seen: &Value) -> Mismatch {
    Mismatch { place: place.to_owned(), expected: brief(pattern), seen: brief(seen) }
}

fn at(place: &str, pattern: &Value, seen: &Value) -> Result<(), Mismatch> {
    if let (Some(patterns), Some(elements)) = (pattern.as_array(), seen.as_array())
        && patterns.len() == elements.len()
    {
        let mut pairs = patterns.iter().zip(elements).enumerate();
        return pairs
            .try_for_each(|(n, (pattern, one))| at(&format!("{place}[{n}]"), pattern, one));
    }
    let Some(asked) = pattern.as_object() else {
        return if pattern == seen { Ok(()) } else { Err(wrong(place, pattern, seen)) };
    };
    let (special, plain): (Vec<_>, Vec<_>) =
        asked.iter().partition(|(name, _)| name.starts_with('$'));
    operators(place, &special, seen)?;
    if plain.is_empty() && !special.is_empty() {
        return Ok(());
    }
    let Some(members) = seen.as_object() else { return Err(wrong(place, pattern, seen)) };
    for (name, pattern) in plain {
        let below = if place.is_empty() { name.clone() } else { format!("{place}.{name}") };
        at(&below, pattern, members.get(name).unwrap_or(&Value::Null))?;
    }
    Ok(())
}

fn operators(place: &str, asked: &[(&String, &Value)], seen: &Value) -> Result<(), Mismatch> {
    for (name, argument) in asked {
        // An element that differs is told by itself, with its number.
        if *name == "$each" {
            let elements = seen.as_array().map_or(&[][..], Vec::as_slice);
            for (number, element) in elements.iter().enumerate() {
                at(&format!("{place}[{number}]"), argument, element)?;
            }
        } else if !holds(name, argument, seen) {
            return Err(nearest(name, place, argument, seen)
                .unwrap_or_else(|| wrong(place, &json!({ name.as_str(): argument }), seen)));
        }
    }
    Ok(())
}

/// Of a list without the element that is asked for, what is wrong with the one
/// that has most of it.
fn nearest(name: &str, place: &str, argument: &Value, seen: &Value) -> Option<Mismatch> {
    let (elements, members) = (seen.as_array()?, argument.as_object()?);
    let alike = |element: &&Value| {
        members.iter().filter(|(name, pattern)| fits(pattern, &element[name.as_str()])).count()
    };
    let best = elements.iter().max_by_key(alike).filter(|best| alike(best) > 0)?;
    let number = elements.iter().position(|element| element == best)?;
    (name == "$has").then(|| at(&format!("{place}[{number}]"), argument, best).err()).flatten()
}

fn holds(name: &str, argument: &Value, seen: &Value) -> bool {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    match name {
        "$not" => !fits(argument, seen),
        "$has" => has(argument, seen),
        "$lacks" => !has(argument, seen),
        "$all" => list(argument).iter().all(|one| has(one, seen)),
        "$none" => !list(argument).iter().any(|one| has(one, seen)),
        "$any" => list(argument).iter().any(|one| fits(one, seen)),
        "$order" => in_order(&list(argument), &list(seen)),
        "$set" => {
            seen.as_array().is_some_and(|seen| seen.len() == list(argument).len())
                && list(argument).iter().all(|one| has(one, seen))
        }
        "$gt" | "$ge" | "$lt" | "$le" => compare(name, argument, seen),
        "$only" => {
            let (names, members) = (list(argument), seen.as_object());
            members.is_none_or(|seen| seen.keys().all(|name| names.iter().any(|one| one == name)))
        }
        "$members" => {
            seen.as_object().is_none_or(|seen| seen.values().all(|member| fits(argument, member)))
        }
        "$is" => argument == kind(seen),
        "$size" => {
            let size = seen.as_array().map(Vec::len).or_else(|| seen.as_object().map(Map::len));
            size.is_some_and(|size| fits(argument, &size.into()))
        }
        "$starts" => both(argument, seen, |part, whole| whole.starts_with(part)),
        "$ends" => both(argument, seen, |part, whole| whole.ends_with(part)),
        "$absent" => seen.is_null() == (argument == true),
        _ => false,
    }
}

fn both(argument: &Value, seen: &Value, test: impl Fn(&str, &str) -> bool) -> bool {
    matches!((argument.as_str(), seen.as_str()), (Some(part), Some(whole)) if test(part, whole))
}

/// An element of an array, a member's value of an object, or a part of a text.
fn has(argument: &Value, seen: &Value) -> bool {
    match seen {
        Value::Array(elements) => elements.iter().any(|element| fits(argument, element)),
        Value::Object(members) => members.values().any(|member| fits(argument, member)),
        Value::String(whole) => match argument {
            Value::String(part) => whole.contains(part.as_str()),
            Value::Number(part) => whole.contains(&part.to_string()),
            _ => false,
        },
        _ => false,
    }
}

/// Each pattern fits an element behind that of the one before it.
fn in_order(patterns: &[Value], elements: &[Value]) -> bool {
    let mut elements = elements.iter();
    patterns.iter().all(|pattern| elements.any(|element| fits(pattern, element)))
}

fn compare(name: &str, argument: &Value, seen: &Value) -> bool {
    let number = |value: &Value| match value {
        Value::String(text) => text.trim().parse().ok(),
        value => value.as_f64(),
    };
    let (Some(limit), Some(seen)) = (number(argument), number(seen)) else { return false };
    match name {
        "$gt" => seen > limit,
        "$ge" => seen >= limit,
        "$lt" => seen < limit,
        _ => seen <= limit,
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// The names with a dollar in a pattern that mean nothing.
pub(crate) fn unknown_operators(pattern: &Value) -> Vec<String> {
    const KNOWN: [&str; 20] = [
        "$not", "$has", "$lacks", "$all", "$none", "$any", "$order", "$set", "$each", "$gt", "$ge",
        "$lt", "$le", "$is", "$size", "$starts", "$ends", "$absent", "$only", "$members",
    ];
    match pattern {
        Value::Array(elements) => elements.iter().flat_map(unknown_operators).collect(),
        Value::Object(members) => members
            .iter()
            .flat_map(|(name, value)| {
                let wrong = name.starts_with('$')
                    && !name.starts_with("${")
                    && !KNOWN.contains(&name.as_str());
                wrong.then(|| name.clone()).into_iter().chain(unknown_operators(value))
            })
            .collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn yes(pattern: &Value, seen: &Value) {
        assert_eq!(check(pattern, seen), Ok(()), "{pattern} and {seen}");
    }

    fn no(pattern: &Value, seen: &Value) {
        assert!(check(pattern, seen).is_err(), "{pattern} and {seen}");
    }

    #[test]
    fn plain_values_are_equal_and_objects_ask_for_a_part() {
        yes(&json!({"a": 1}), &json!({"a": 1, "b": 2}));
        no(&json!({"a": 1}), &json!({"a": 2}));
        no(&json!({"a": 1}), &json!([1]));
        yes(&json!([1, 2]), &json!([1, 2]));
        yes(&json!([{"a": 1}]), &json!([{"a": 1, "b": 2}]));
        yes(&json!({"$size": 2, "a": 1}), &json!({"a": 1, "b": 2}));
        no(&json!({"$size": 2, "a": 2}), &json!({"a": 1, "b": 2}));
        no(&json!([1]), &json!([1, 2]));
        yes(&json!({"a": null}), &json!({}));
    }

    #[test]
    fn a_mismatch_says_where() {
        let error = check(&json!({"a": {"b": "x"}}), &json!({"a": {"b": "y"}})).unwrap_err();
        assert_eq!(error.to_string(), r#"a.b: expected "x", saw "y""#);
        let error = check(&json!({"$each": {"a": 1}}), &json!([{"a": 1}, {"a": 2}])).unwrap_err();
        assert_eq!(error.place, "[1].a");
        let list = json!([{"at": 1, "b": 1}, {"at": 2, "b": 1}]);
        let error = check(&json!({"$has": {"at": 2, "b": 2}}), &list).unwrap_err();
        assert_eq!(error.to_string(), "[1].b: expected 2, saw 1");
    }

    #[test]
    fn elements_are_found() {
        let seen = json!([{"at": "/a", "is": "x"}, {"at": "/b"}]);
        yes(&json!({"$has": {"at": "/b"}}), &seen);
        no(&json!({"$has": {"at": "/c"}}), &seen);
        yes(&json!({"$lacks": {"at": "/c"}}), &seen);
        yes(&json!({"$order": [{"at": "/a"}, {"at": "/b"}]}), &seen);
        no(&json!({"$order": [{"at": "/b"}, {"at": "/a"}]}), &seen);
        yes(&json!({"$size": 2}), &seen);
        yes(&json!({"$all": [{"at": "/b"}, {"is": "x"}]}), &seen);
        no(&json!({"$none": [{"at": "/z"}, {"is": "x"}]}), &seen);
        yes(&json!({"$set": ["a", "b"]}), &json!(["b", "a"]));
        no(&json!({"$set": ["a"]}), &json!(["b", "a"]));
        yes(&json!({"$has": "lo"}), &json!("hello"));
    }

    #[test]
    fn numbers_texts_and_kinds() {
        yes(&json!({"$gt": 1, "$le": 2}), &json!(2));
        no(&json!({"$gt": 2}), &json!(2));
        yes(&json!({"$ge": 3}), &json!("3"));
        no(&json!({"$ge": 3}), &json!("max"));
        yes(&json!({"$starts": "ab", "$ends": "cd"}), &json!("abcd"));
        yes(&json!({"$is": "integer"}), &json!(3));
        no(&json!({"$is": "integer"}), &json!("3"));
        yes(&json!({"a": {"$absent": true}}), &json!({}));
        no(&json!({"a": {"$absent": true}}), &json!({"a": 1}));
        yes(&json!({"$any": [1, {"$gt": 5}]}), &json!(6));
        no(&json!({"$not": {"a": 1}}), &json!({"a": 1}));
        no(&json!({"$wrong": 1}), &json!(1));
        yes(&json!({"$only": ["a", "b"]}), &json!({"a": 1}));
        no(&json!({"$only": ["a"]}), &json!({"a": 1, "b": 1}));
        no(&json!({"$members": 1}), &json!({"a": 1, "b": 2}));
    }

    #[test]
    fn wrong_names_are_told() {
        let pattern = json!({"${a}": [{"$hsa": 1}], "b": {"$not": {"$x": 1}}});
        assert_eq!(unknown_operators(&pattern), ["$hsa", "$x"]);
    }
}
