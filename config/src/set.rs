//! `--set dotted.key=value`: a change to one field of a configuration before it is read.

use crate::error::{printable, quoted};
use serde_json::{Map, Value};

/// Most steps of a dotted key.
const STEPS_MAX: usize = 16;

/// Changes `root` as `assignment` (`dotted.key=value`) says, and returns the path of the field.
///
/// The value is taken as JSON if it is JSON, else as text. Steps that are numbers name items of
/// lists, of which the first missing one may be added. Missing objects and lists on the way are
/// made.
pub(crate) fn apply(root: &mut Value, assignment: &str) -> Result<String, String> {
    let Some((key, value)) = assignment.split_once('=') else {
        return Err("has no value; write e.g. --set memory=32MiB".into());
    };
    let steps: Vec<&str> = key.split('.').collect();
    if steps.iter().any(|step| step.is_empty()) || steps.len() > STEPS_MAX {
        return Err(format!(
            "{} is not a dotted key; write e.g. net.0.backend.user.max_connections",
            quoted(key)
        ));
    }
    let value = crate::json::parse(value.as_bytes()).unwrap_or_else(|_| value.into());
    let mut path = String::new();
    let mut place = root;
    for step in steps {
        place = enter(place, step, &path)?;
        match step.parse::<usize>() {
            Ok(index) => path.push_str(&format!("[{index}]")),
            Err(_) if path.is_empty() => path.push_str(&printable(step)),
            Err(_) => path.push_str(&format!(".{}", printable(step))),
        }
    }
    *place = value;
    Ok(path)
}

/// The field or item `step` of `place`, which is called `path` in messages; made if missing.
fn enter<'a>(place: &'a mut Value, step: &str, path: &str) -> Result<&'a mut Value, String> {
    let here = if path.is_empty() { "the configuration" } else { path };
    let index = step.parse::<usize>().ok();
    if place.is_null() {
        *place = match index {
            Some(_) => Value::Array(Vec::new()),
            None => Value::Object(Map::new()),
        };
    }
    match (place, index) {
        (Value::Object(fields), _) => Ok(fields.entry(step).or_insert(Value::Null)),
        (Value::Array(items), Some(index)) => {
            if index == items.len() {
                items.push(Value::Null);
            }
            let count = items.len();
            items.get_mut(index).ok_or_else(|| {
                format!("{here} has {count} items; the next one that can be set is {here}.{count}")
            })
        }
        (Value::Array(_), None) => {
            Err(format!("{here} is a list; name an item by its number, not {}", quoted(step)))
        }
        _ => Err(format!("{here} is a single value and has nothing called {}", quoted(step))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn set(mut root: Value, assignment: &str) -> Result<Value, String> {
        apply(&mut root, assignment).map(|_| root)
    }

    #[test]
    fn values_are_json_or_text() {
        assert_eq!(set(json!({}), "memory=32MiB"), Ok(json!({"memory": "32MiB"})));
        assert_eq!(set(json!({}), "memory=4194304"), Ok(json!({"memory": 4_194_304})));
        assert_eq!(set(json!({}), "name=\"7\""), Ok(json!({"name": "7"})));
        assert_eq!(set(json!({"net": [1]}), "net=[]"), Ok(json!({"net": []})));
        assert_eq!(set(json!({}), "args=a=b"), Ok(json!({"args": "a=b"})));
    }

    #[test]
    fn missing_objects_and_lists_are_made() {
        assert_eq!(
            set(json!({}), "net.0.backend.user.publish.0=8080:80"),
            Ok(json!({"net": [{"backend": {"user": {"publish": ["8080:80"]}}}]}))
        );
        assert_eq!(set(json!({"net": ["a"]}), "net.1=b"), Ok(json!({"net": ["a", "b"]})));
    }

    #[test]
    fn path_of_the_field_is_returned() {
        let path = apply(&mut json!({}), "net.0.backend.user.publish.0=8080:80");
        assert_eq!(path.as_deref(), Ok("net[0].backend.user.publish[0]"));
    }

    #[test]
    fn paths_that_make_no_sense_are_refused() {
        let base = json!({"memory": "16MiB", "net": [{"mtu": 1500}]});
        for (assignment, message) in [
            ("memory", "has no value"),
            ("=1", "is not a dotted key"),
            ("net..mtu=1", "is not a dotted key"),
            ("memory.size=1", "memory is a single value and has nothing called \"size\""),
            ("net.mtu=1", "net is a list; name an item by its number, not \"mtu\""),
            ("net.2.mtu=1", "net has 1 items; the next one that can be set is net.1"),
            ("net.99999999999.mtu=1", "net has 1 items"),
            (
                "a\nb.0.c.1=1",
                "\"a\\nb\"[0].c has 0 items; the next one that can be set is \"a\\nb\"[0].c.0",
            ),
        ] {
            let error = set(base.clone(), assignment).unwrap_err();
            assert!(error.contains(message), "{assignment}: {error}");
        }
        let deep = format!("{}=1", vec!["a"; 1000].join("."));
        assert!(set(base, &deep).is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_assignments_never_panic(assignment in "[a-z0-9.=\\[\\]\"{}]{0,40}") {
            let _ = set(json!({"net": [{"mtu": 1}], "name": "x"}), &assignment);
        }
    }
}
