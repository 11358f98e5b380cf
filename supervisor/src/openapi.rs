//! The table of routes as a document in OpenAPI 3.1.

use crate::host::Health;
use crate::limits::{NAME_BYTES, PATTERNS};
use crate::routes::{Answer, Kind, Parameter, ROUTES, Route, Verb};
use denali_client::{Act, Create, Event, GuestView, HostView, Inspection, Outcome, Problem};
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

/// Where schemas are in the document.
const SCHEMAS: &str = "/components/schemas";

/// What there is to ask for, in OpenAPI 3.1.
#[must_use]
pub fn document() -> Value {
    let mut paths = Map::new();
    for route in ROUTES {
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[verb(route.verb)] = operation(route);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Denali supervisor",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Looks after all guests of a host. It listens on a Unix socket; who may ask is \
                            told by who connects.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "http://localhost", "description": "At the supervisor's Unix socket."}],
        "paths": paths,
        "components": {"schemas": schemas()},
    })
}

fn verb(verb: Verb) -> &'static str {
    match verb {
        Verb::Get => "get",
        Verb::Post => "post",
        Verb::Delete => "delete",
    }
}

/// The schemas of all data, by their names.
fn schemas() -> Map<String, Value> {
    let settings =
        SchemaSettings::draft2020_12().with(|settings| settings.definitions_path = SCHEMAS.into());
    let mut generator = SchemaGenerator::new(settings);
    generator.subschema_for::<Create>();
    generator.subschema_for::<Act>();
    generator.subschema_for::<Outcome>();
    generator.subschema_for::<Problem>();
    generator.subschema_for::<GuestView>();
    generator.subschema_for::<Inspection>();
    generator.subschema_for::<Event>();
    generator.subschema_for::<HostView>();
    generator.subschema_for::<Health>();
    generator.take_definitions(true)
}

fn operation(route: &Route) -> Value {
    let mut responses = Map::new();
    for answer in route.answers {
        responses.insert(answer.code.to_string(), response(answer));
    }
    for code in route.problems.iter().chain(&[403, 503]) {
        responses.insert(code.to_string(), problem(*code));
    }
    responses.insert("default".into(), problem(0));
    let mut operation = json!({
        "operationId": route.id,
        "summary": route.summary,
        "responses": responses,
    });
    if !route.parameters.is_empty() {
        operation["parameters"] = route.parameters.iter().map(parameter).collect();
    }
    if let Some(schema) = route.body {
        let content = json!({"application/json": {"schema": reference(schema)}});
        operation["requestBody"] = json!({"required": true, "content": content});
    }
    operation
}

fn response(answer: &Answer) -> Value {
    let mut response = json!({"description": answer.what});
    if let Some((media, schema)) = answer.media {
        let content = schema.map_or(json!({}), |schema| json!({"schema": reference(schema)}));
        response["content"] = json!({ media: content });
    }
    response
}

fn problem(code: u16) -> Value {
    let what = match code {
        400 => "The request is malformed; the message names the field.",
        403 => "Who connects may not ask for this.",
        404 => "There is no such guest, or it has none of this.",
        408 => "The request took too long to come.",
        413 => "The request is too large.",
        422 => "The request cannot be fulfilled as it is; the message says why.",
        503 => "The host lacks something, or the supervisor has too much to do or stops.",
        _ => "Something else is wrong.",
    };
    let content = json!({"application/json": {"schema": reference("Problem")}});
    json!({"description": what, "content": content})
}

fn parameter(parameter: &Parameter) -> Value {
    let name = json!({"type": "string", "minLength": 1, "maxLength": NAME_BYTES,
                      "pattern": "^[A-Za-z0-9_][A-Za-z0-9._-]*$"});
    let schema = match parameter.kind {
        Kind::PathName | Kind::Name => name,
        Kind::Patterns => json!({
            "type": "array",
            "maxItems": PATTERNS,
            "items": {"type": "string", "minLength": 1, "maxLength": NAME_BYTES,
                      "pattern": "^[A-Za-z0-9._*?-]*$"},
        }),
        Kind::Number(max) => json!({"type": "integer", "minimum": 1, "maximum": max}),
        Kind::Flag => json!({"type": "boolean"}),
    };
    let in_path = parameter.kind == Kind::PathName;
    json!({
        "name": parameter.name,
        "in": if in_path { "path" } else { "query" },
        "required": in_path,
        "description": parameter.what,
        "schema": schema,
    })
}

fn reference(schema: &str) -> Value {
    json!({"$ref": format!("#{SCHEMAS}/{schema}")})
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// Every `$ref` in a document.
    fn references(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(fields) => {
                if let Some(Value::String(target)) = fields.get("$ref") {
                    found.insert(target.clone());
                }
                fields.values().for_each(|value| references(value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }

    #[test]
    fn what_is_referred_to_is_there_and_described() {
        let document = document();
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        assert!(found.len() >= 15, "{found:?}");
        for target in &found {
            let schema = document.pointer(target.strip_prefix('#').unwrap());
            assert!(schema.is_some_and(|schema| schema["description"].is_string()), "{target}");
        }
        let defined = document["components"]["schemas"].as_object().unwrap();
        for name in defined.keys() {
            assert!(found.contains(&format!("#{SCHEMAS}/{name}")), "{name} is used nowhere");
        }
    }

    #[test]
    fn parameters_of_paths_are_those_in_them_and_names_are_of_one_route_each() {
        let mut ids = BTreeSet::new();
        for route in ROUTES {
            assert!(ids.insert(route.id), "{}", route.id);
            let in_path = route.parameters.iter().filter(|one| one.kind == Kind::PathName);
            let named: Vec<_> = in_path.map(|one| format!("{{{}}}", one.name)).collect();
            assert_eq!(route.path.matches('{').count(), named.len(), "{}", route.path);
            assert!(named.iter().all(|name| route.path.contains(name)), "{}", route.path);
        }
    }
}
