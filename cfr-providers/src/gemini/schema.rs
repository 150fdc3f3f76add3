//! Schemas, between JSON Schema and what Google takes or gives for one (providers.md §7.2).

use serde_json::{Map, Value, json};

/// Members of a schema whose values are schemas by name.
const BY_NAME: [&str; 4] = ["properties", "patternProperties", "$defs", "definitions"];
/// Members of a schema whose values are data and no schemas.
const DATA: [&str; 5] = ["enum", "const", "default", "example", "examples"];

/// A JSON Schema as `parametersJsonSchema` and `responseJsonSchema` take it: everything but `const`, which says the
/// same as an `enum` of one.
pub(super) fn sent(schema: &Value) -> Value {
    let Value::Object(members) = schema else { return schema.clone() };
    members
        .iter()
        .map(
            |(name, value)| {
                if name == "const" { ("enum".to_owned(), json!([value])) } else { member(name, value, sent) }
            },
        )
        .collect()
}

/// A member of a schema, with `change` done to all schemas in it.
fn member(name: &str, value: &Value, change: fn(&Value) -> Value) -> (String, Value) {
    let value = match value {
        value if DATA.contains(&name) => value.clone(),
        Value::Object(named) if BY_NAME.contains(&name) => {
            Value::Object(named.iter().map(|(name, schema)| (name.clone(), change(schema))).collect())
        }
        Value::Object(_) => change(value),
        Value::Array(list) => list.iter().map(change).collect(),
        value => value.clone(),
    };
    (name.to_owned(), value)
}

/// Google's own schema, a part of OpenAPI's, as a JSON Schema. Its types are shouted, `nullable` is a type, its 64-bit
/// numbers are texts, and its names come in either form.
pub(super) fn read(schema: &Value) -> Value {
    let Value::Object(members) = schema else { return schema.clone() };
    let nullable = members.get("nullable") == Some(&Value::Bool(true));
    let mut read = Map::new();
    for (name, value) in members {
        match (camel(name).as_str(), value) {
            ("nullable" | "propertyOrdering", _) => {}
            ("type", Value::String(kind)) => drop(read.insert("type".into(), kind_of(kind, nullable))),
            (
                "minItems" | "maxItems" | "minLength" | "maxLength" | "minProperties" | "maxProperties",
                Value::String(number),
            ) => {
                drop(read.insert(camel(name), number.parse::<u64>().map_or_else(|_| value.clone(), Value::from)));
            }
            (name, value) => read.extend([member(name, value, self::read)]),
        }
    }
    Value::Object(read)
}

fn kind_of(kind: &str, nullable: bool) -> Value {
    let kind = kind.to_ascii_lowercase();
    if nullable { json!([kind, "null"]) } else { kind.into() }
}

/// `snake_case` as `camelCase`.
pub(super) fn camel(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut raise = false;
    for letter in name.chars() {
        match letter {
            '_' if !out.is_empty() => raise = true,
            letter if raise => {
                out.extend(letter.to_uppercase());
                raise = false;
            }
            letter => out.push(letter),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_const_becomes_an_enum_of_one_wherever_it_is_a_schemas() {
        let schema = json!({"type": "object", "properties": {"const": {"const": 1}, "x": {"anyOf": [{"const": "a"}]}},
            "default": {"const": 2}, "additionalProperties": {"const": null}});
        let expected = json!({"type": "object", "properties": {"const": {"enum": [1]}, "x": {"anyOf": [{"enum": ["a"]}]}},
            "default": {"const": 2}, "additionalProperties": {"enum": [null]}});
        assert_eq!(sent(&schema), expected);
    }

    #[test]
    fn googles_own_schema_becomes_a_json_schema() {
        let google = json!({"type": "OBJECT", "nullable": true, "property_ordering": ["a_b"],
            "properties": {"a_b": {"type": "ARRAY", "items": {"type": "STRING", "enum": ["X"]}, "max_items": "3"}}});
        let expected = json!({"type": ["object", "null"],
            "properties": {"a_b": {"type": "array", "items": {"type": "string", "enum": ["X"]}, "maxItems": 3}}});
        assert_eq!(read(&google), expected);
    }
}
