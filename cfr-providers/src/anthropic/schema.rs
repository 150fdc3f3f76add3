//! JSON Schemas in the subset that Anthropic's constrained answers know (providers.md §6.1, structured output).

use serde_json::{Map, Value};

/// Keywords that stay as they are.
const KEPT: [&str; 10] =
    ["type", "enum", "const", "title", "default", "$ref", "required", "description", "minItems", "format"];
/// Keywords that hold one schema.
const HOLDS_ONE: [&str; 1] = ["items"];
/// Keywords that hold a list of schemas.
const HOLDS_LIST: [&str; 3] = ["anyOf", "oneOf", "allOf"];
/// Keywords that hold schemas by name.
const HOLDS_NAMED: [&str; 3] = ["properties", "$defs", "definitions"];
/// Keywords that say nothing to a model.
const SILENT: [&str; 4] = ["$schema", "$id", "$comment", "additionalProperties"];
/// Formats of text that can be enforced.
const FORMATS: [&str; 10] =
    ["date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"];

/// The schema without what cannot be enforced: that is told to the model in the description instead.
pub(crate) fn sanitized(schema: &Value) -> Value {
    let Value::Object(members) = schema else { return schema.clone() };
    let mut kept = Map::new();
    let mut told = Vec::new();
    for (keyword, value) in members {
        match keyword.as_str() {
            "oneOf" => drop(kept.insert("anyOf".into(), list(value))),
            name if HOLDS_LIST.contains(&name) => drop(kept.insert(name.into(), list(value))),
            name if HOLDS_ONE.contains(&name) => drop(kept.insert(name.into(), sanitized(value))),
            name if HOLDS_NAMED.contains(&name) => drop(kept.insert(name.into(), named(value))),
            name if KEPT.contains(&name) && is_enforceable(name, value) => {
                drop(kept.insert(name.into(), value.clone()))
            }
            "additionalProperties" if value.is_object() => told.push(said(keyword, value)),
            name if SILENT.contains(&name) => {}
            _ => told.push(said(keyword, value)),
        }
    }
    describe(&mut kept, &told);
    if is_object(members) {
        kept.insert("additionalProperties".into(), false.into());
    }
    Value::Object(kept)
}

fn list(value: &Value) -> Value {
    value.as_array().map_or_else(|| value.clone(), |list| list.iter().map(sanitized).collect())
}

fn named(value: &Value) -> Value {
    let schemas = |members: &Map<String, Value>| {
        members.iter().map(|(name, schema)| (name.clone(), sanitized(schema))).collect::<Map<_, _>>().into()
    };
    value.as_object().map_or_else(|| value.clone(), schemas)
}

fn is_enforceable(keyword: &str, value: &Value) -> bool {
    match keyword {
        "format" => value.as_str().is_some_and(|format| FORMATS.contains(&format)),
        "minItems" => value.as_u64().is_some_and(|least| least <= 1),
        _ => true,
    }
}

fn said(keyword: &str, value: &Value) -> String {
    match value {
        Value::String(text) => format!("{keyword}: {text}"),
        value => format!("{keyword}: {value}"),
    }
}

fn describe(schema: &mut Map<String, Value>, told: &[String]) {
    if told.is_empty() {
        return;
    }
    let told = told.join(", ");
    let description = match schema.get("description").and_then(Value::as_str) {
        Some(description) => format!("{description}\n{told}"),
        None => told,
    };
    schema.insert("description".into(), description.into());
}

fn is_object(schema: &Map<String, Value>) -> bool {
    let named = |kind: &Value| kind.as_str() == Some("object");
    let kind = schema.get("type");
    kind.is_some_and(|kind| named(kind) || kind.as_array().is_some_and(|kinds| kinds.iter().any(named)))
        || kind.is_none() && schema.contains_key("properties")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(schema: Value, expected: Value) {
        assert_eq!(sanitized(&schema), expected);
    }

    #[test]
    fn bounds_become_words() {
        check(
            json!({"type": "integer", "description": "Age", "minimum": 1, "maximum": 9}),
            json!({"type": "integer", "description": "Age\nminimum: 1, maximum: 9"}),
        );
        check(json!({"type": "string", "format": "color"}), json!({"type": "string", "description": "format: color"}));
        check(json!({"type": "string", "format": "date"}), json!({"type": "string", "format": "date"}));
    }

    #[test]
    fn every_object_is_closed_at_any_depth() {
        check(
            json!({"type": "object", "properties": {"a": {"properties": {}}, "b": {"type": ["object", "null"]}}}),
            json!({
                "type": "object",
                "properties": {
                    "a": {"properties": {}, "additionalProperties": false},
                    "b": {"type": ["object", "null"], "additionalProperties": false},
                },
                "additionalProperties": false,
            }),
        );
    }

    #[test]
    fn a_property_may_have_the_name_of_a_keyword() {
        check(
            json!({"type": "object", "properties": {"minimum": {"type": "integer"}}, "$schema": "x"}),
            json!({"type": "object", "properties": {"minimum": {"type": "integer"}}, "additionalProperties": false}),
        );
    }

    #[test]
    fn one_of_several_is_any_of_them_and_lists_keep_a_bound_of_one() {
        check(
            json!({"oneOf": [{"type": "array", "minItems": 1, "maxItems": 3, "items": {"minLength": 2}}]}),
            json!({"anyOf": [
                {"type": "array", "minItems": 1, "items": {"description": "minLength: 2"}, "description": "maxItems: 3"},
            ]}),
        );
    }
}
