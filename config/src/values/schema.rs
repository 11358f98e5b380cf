//! The JSON Schemas of values that are written as text.

use super::{
    Address, Destination, MacAddress, MemorySize, Ports, Publish, Resolver, Span, Subnet, Window,
};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use std::borrow::Cow;

macro_rules! text_schema {
    ($type:ty, $pattern:literal, $example:literal) => {
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({"type": "string", "pattern": $pattern, "examples": [$example]})
            }
        }
    };
}

text_schema!(MacAddress, "^([0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}$", "02:00:00:00:00:01");
text_schema!(Address, r"^\d{1,3}(\.\d{1,3}){3}$", "10.0.2.2");
text_schema!(Subnet, r"^\d{1,3}(\.\d{1,3}){3}/\d{1,2}$", "10.0.2.15/24");
text_schema!(
    Publish,
    r"^((\d{1,3}(\.\d{1,3}){3}|\[[0-9A-Fa-f:.]+\]):)?\d{1,5}:\d{1,5}(/(tcp|udp))?$",
    "127.0.0.1:8080:80"
);

impl JsonSchema for MemorySize {
    fn schema_name() -> Cow<'static, str> {
        "MemorySize".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"anyOf": [
            {"type": "string", "pattern": r"^\d+(KiB|MiB|GiB)$", "examples": ["16MiB"]},
            {"type": "integer", "minimum": 0, "description": "bytes"},
        ]})
    }
}

impl JsonSchema for Span {
    fn schema_name() -> Cow<'static, str> {
        "Span".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"anyOf": [
            {"type": "string", "pattern": r"^\d+(ns|us|ms|s)$", "examples": ["200us"]},
            {"const": 0},
        ]})
    }
}

impl JsonSchema for Window {
    fn schema_name() -> Cow<'static, str> {
        "Window".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"anyOf": [
            {"type": "string", "pattern": r"^(adaptive|\d+(ns|us|ms|s))$", "examples": ["200us"]},
            {"const": 0},
        ]})
    }
}

text_schema!(Resolver, r"^(\d{1,3}(\.\d{1,3}){3}|\[[0-9A-Fa-f:.]+\])(:\d{1,5})?$", "192.0.2.53:53");
text_schema!(Destination, r"^(\*\.)?[0-9A-Za-z._-]+(/\d{1,2})?$", "192.0.2.0/24");

impl JsonSchema for Ports {
    fn schema_name() -> Cow<'static, str> {
        "Ports".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let port = serde_json::json!({"type": "integer", "minimum": 1, "maximum": 65535});
        let range = serde_json::json!({"type": "string", "pattern": r"^\d{1,5}(-\d{1,5})?$"});
        json_schema!({"anyOf": [
            port,
            range,
            {"type": "array", "minItems": 1, "maxItems": 64, "items": {"anyOf": [port, range]}},
        ]})
    }
}
