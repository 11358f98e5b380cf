//! Whether JSON is what a schema says, for as much of JSON Schema as ours use.

use serde_json::Value;

/// Keywords that say nothing about what is valid.
const SILENT: &[&str] = &["description", "title", "default", "format", "examples"];

/// What is wrong with `value`, if something is; `$ref`s are looked up in `document`. A keyword that is not known
/// fails, so that nothing is passed over.
pub fn wrong(document: &Value, schema: &Value, value: &Value) -> Option<String> {
    let rules = match schema {
        Value::Bool(true) => return None,
        Value::Bool(false) => return Some(format!("{value} is not to be there")),
        schema => schema.as_object().unwrap(),
    };
    rules.iter().find_map(|(rule, wanted)| match rule.as_str() {
        "$ref" => {
            let target = wanted.as_str().unwrap().strip_prefix('#').unwrap();
            wrong(document, document.pointer(target).unwrap(), value)
        }
        "type" => {
            let kinds = wanted.as_array().cloned().unwrap_or_else(|| vec![wanted.clone()]);
            let fits = kinds.iter().any(|kind| is(kind.as_str().unwrap(), value));
            (!fits).then(|| format!("{value} is no {wanted}"))
        }
        "const" => (wanted != value).then(|| format!("{value} is not {wanted}")),
        "enum" => (!wanted.as_array().unwrap().contains(value))
            .then(|| format!("{value} is none of {wanted}")),
        "minimum" => {
            (value.as_f64()? < wanted.as_f64().unwrap()).then(|| format!("{value} < {wanted}"))
        }
        "maximum" => {
            (value.as_f64()? > wanted.as_f64().unwrap()).then(|| format!("{value} > {wanted}"))
        }
        "minItems" => (value.as_array()?.len() < wanted.as_u64().unwrap() as usize)
            .then(|| format!("{value} is short")),
        "maxItems" => (value.as_array()?.len() > wanted.as_u64().unwrap() as usize)
            .then(|| format!("{value} is long")),
        "anyOf" => {
            (!wanted.as_array().unwrap().iter().any(|one| wrong(document, one, value).is_none()))
                .then(|| format!("{value} is none of {wanted}"))
        }
        "oneOf" => {
            let fit = wanted.as_array().unwrap().iter();
            let fit = fit.filter(|one| wrong(document, one, value).is_none()).count();
            (fit != 1).then(|| format!("{value} is {fit} of {wanted}"))
        }
        "allOf" => wanted.as_array().unwrap().iter().find_map(|one| wrong(document, one, value)),
        "items" => value.as_array()?.iter().find_map(|item| wrong(document, wanted, item)),
        "required" => {
            let fields = value.as_object()?;
            let missing = wanted.as_array().unwrap().iter().map(|name| name.as_str().unwrap());
            let missing: Vec<_> = missing.filter(|name| !fields.contains_key(*name)).collect();
            (!missing.is_empty()).then(|| format!("{value} lacks {missing:?}"))
        }
        "properties" => {
            let wanted = wanted.as_object().unwrap();
            let fields = value.as_object()?;
            fields.iter().find_map(|(name, field)| {
                wanted.get(name).and_then(|schema| wrong(document, schema, field))
            })
        }
        "additionalProperties" | "unevaluatedProperties" => {
            let listed = properties(document, schema, value);
            let fields = value.as_object()?;
            let others = fields.iter().filter(|(name, _)| !listed.contains(name));
            others.into_iter().find_map(|(name, field)| {
                wrong(document, wanted, field).map(|why| format!("{name}: {why}"))
            })
        }
        rule if SILENT.contains(&rule) => None,
        rule => panic!("{rule} is not known here"),
    })
}

/// The properties that a schema lists, also in what of `oneOf` and `allOf` fits.
fn properties(document: &Value, schema: &Value, value: &Value) -> Vec<String> {
    let mut names = Vec::new();
    if let Some(properties) = schema["properties"].as_object() {
        names.extend(properties.keys().cloned());
    }
    for parts in ["oneOf", "anyOf", "allOf"] {
        for part in schema[parts].as_array().into_iter().flatten() {
            if wrong(document, part, value).is_none() {
                names.extend(properties(document, part, value));
            }
        }
    }
    names
}

fn is(kind: &str, value: &Value) -> bool {
    match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        kind => panic!("{kind} is no type"),
    }
}
