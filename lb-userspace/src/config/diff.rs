//! What a reload changes, key by key: from which value to which. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Map, Value};

use super::Config;
use super::file::show_duration;
use crate::admin::model::Change;

/// The longest value that is shown.
const MAX_SHOWN: usize = 200;

/// Every key that differs; empty: the configurations are equal. Keys are those of the file; services and
/// backends are known by their names.
pub fn diff(old: &Config, new: &Config) -> Vec<Change> {
    if old == new {
        return Vec::new();
    }
    let mut changes = Vec::new();
    // Of strings, numbers, lists and mappings by strings: there is nothing that JSON could not say.
    if let (Ok(old), Ok(new)) = (serde_json::to_value(old), serde_json::to_value(new)) {
        compare("", &old, &new, &mut changes);
    }
    if changes.is_empty() {
        // A part that is not shown, such as the path of a webhook.
        changes.push(Change { key: "a value that is not shown".to_owned(), from: None, to: None });
    }
    changes
}

/// The same of configurations as `show` has them.
pub fn diff_shown(old: &Value, new: &Value) -> Vec<Change> {
    let mut changes = Vec::new();
    compare("", old, new, &mut changes);
    changes
}

fn compare(key: &str, old: &Value, new: &Value, changes: &mut Vec<Change>) {
    if old == new {
        return;
    }
    match (old, new) {
        (Value::Object(before), Value::Object(after)) if duration(before).is_none() => {
            let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
            for name in keys {
                let at = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
                let (before, after) = (before.get(name), after.get(name));
                compare(
                    &at,
                    before.unwrap_or(&Value::Null),
                    after.unwrap_or(&Value::Null),
                    changes,
                );
            }
        }
        (Value::Array(before), Value::Array(after)) if is_named(before) && is_named(after) => {
            compare_named(key, before, after, changes);
        }
        (Value::Array(before), Value::Array(after))
            if is_mappings(before) && is_mappings(after) =>
        {
            let nothing = Value::Null;
            for index in 0..before.len().max(after.len()) {
                let at = format!("{key}[{index}]");
                let (before, after) = (before.get(index), after.get(index));
                match (before, after) {
                    (Some(before), Some(after)) => compare(&at, before, after, changes),
                    _ => {
                        differs(&at, before.unwrap_or(&nothing), after.unwrap_or(&nothing), changes)
                    }
                }
            }
        }
        _ => differs(key, old, new, changes),
    }
}

/// Elements are the same if their names are; their order matters too.
fn compare_named(key: &str, before: &[Value], after: &[Value], changes: &mut Vec<Change>) {
    let (old_names, new_names) = (names(before), names(after));
    // There may be hundreds of thousands.
    let known: BTreeMap<&str, &Value> = old_names.iter().copied().zip(before).collect();
    let kept: BTreeSet<&str> = new_names.iter().copied().collect();
    for (name, element) in old_names.iter().zip(before).filter(|(name, _)| !kept.contains(*name)) {
        differs(&format!("{key}[{name}]"), element, &Value::Null, changes);
    }
    for (name, element) in new_names.iter().zip(after) {
        let at = format!("{key}[{name}]");
        match known.get(name) {
            Some(previous) => compare(&at, previous, element, changes),
            None => differs(&at, &Value::Null, element, changes),
        }
    }
    let order = |names: &[&str], others: &BTreeSet<&str>| {
        names.iter().filter(|name| others.contains(*name)).copied().collect::<Vec<_>>().join(", ")
    };
    let old: BTreeSet<&str> = old_names.iter().copied().collect();
    let (from, to) = (order(&old_names, &kept), order(&new_names, &old));
    if from != to {
        let [from, to] = [from, to].map(|names| Some(cut(format!("order {names}"))));
        changes.push(Change { key: key.to_owned(), from, to });
    }
}

fn differs(key: &str, old: &Value, new: &Value, changes: &mut Vec<Change>) {
    let is_element = key.ends_with(']');
    let shown = |value: &Value| {
        let is_absent = is_element && value.is_null();
        (!is_absent).then(|| cut(show(value, true)))
    };
    changes.push(Change { key: key.to_owned(), from: shown(old), to: shown(new) });
}

fn is_named(list: &[Value]) -> bool {
    list.iter().all(|element| element["name"].is_string())
}

fn is_mappings(list: &[Value]) -> bool {
    list.iter().all(Value::is_object)
}

fn names(list: &[Value]) -> Vec<&str> {
    list.iter().filter_map(|element| element["name"].as_str()).collect()
}

/// As the file would say it, in short.
fn show(value: &Value, is_outermost: bool) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(value) => value.to_string(),
        Value::String(value) => value.clone(),
        Value::Array(list) => {
            let list: Vec<String> = list.iter().map(|value| show(value, false)).collect();
            format!("[{}]", list.join(", "))
        }
        Value::Object(map) => match duration(map) {
            Some(duration) => show_duration(duration),
            None => mapping(map, is_outermost),
        },
    }
}

/// Of an element inside of an element the name will do.
fn mapping(map: &Map<String, Value>, is_outermost: bool) -> String {
    if !is_outermost && let Some(name) = map.get("name").and_then(Value::as_str) {
        return name.to_owned();
    }
    let keys: Vec<String> = map
        .iter()
        .filter(|(key, value)| *key != "name" && !value.is_null())
        .map(|(key, value)| format!("{key}: {}", show(value, false)))
        .collect();
    format!("{{ {} }}", keys.join(", "))
}

/// What serde makes of a `Duration`.
fn duration(map: &Map<String, Value>) -> Option<Duration> {
    let seconds = map.get("secs")?.as_u64()?;
    let nanoseconds = u32::try_from(map.get("nanos")?.as_u64()?).ok()?;
    (map.len() == 2).then(|| Duration::new(seconds, nanoseconds))
}

fn cut(text: String) -> String {
    match text.char_indices().nth(MAX_SHOWN) {
        None => text,
        Some((end, _)) => format!("{}...", &text[..end]),
    }
}

#[cfg(test)]
mod tests;
