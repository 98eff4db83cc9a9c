//! How a case changes a config: members are merged, null takes one away, and
//! lists can be lengthened.

use serde_json::{Map, Value};

/// A merge patch as RFC 7396 has it: objects are merged, null removes, anything
/// else replaces.
pub(crate) fn merge(target: &mut Value, patch: &Value) {
    let Some(members) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Some(object) = target.as_object_mut() else { return };
    for (name, value) in members {
        if value.is_null() {
            object.remove(name);
        } else {
            merge(object.entry(name.clone()).or_insert(Value::Null), value);
        }
    }
}

/// Puts elements at the end of the lists that JSON pointers name; lists and
/// objects on the way are made when they are missing.
pub(crate) fn lengthen(target: &mut Value, lists: &Map<String, Value>) {
    for (pointer, elements) in lists {
        let mut place = &mut *target;
        for name in pointer.split('/').skip(1) {
            if !place.is_object() {
                *place = Value::Object(Map::new());
            }
            let Some(object) = place.as_object_mut() else { return };
            place = object.entry(name.to_owned()).or_insert(Value::Null);
        }
        let list = place.as_array().cloned().unwrap_or_default();
        let more = elements.as_array().cloned().unwrap_or_default();
        *place = list.into_iter().chain(more).collect();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn members_are_merged_and_null_removes() {
        let mut value = json!({"a": {"b": 1, "c": 2}, "d": [1]});
        merge(&mut value, &json!({"a": {"b": null, "e": {"f": 3}}, "d": [2]}));
        assert_eq!(value, json!({"a": {"c": 2, "e": {"f": 3}}, "d": [2]}));
    }

    #[test]
    fn lists_become_longer() {
        let mut value = json!({"a": {"b": [1]}});
        let lists = json!({"/a/b": [2], "/c/d": [3]});
        lengthen(&mut value, lists.as_object().unwrap());
        assert_eq!(value, json!({"a": {"b": [1, 2]}, "c": {"d": [3]}}));
    }
}
