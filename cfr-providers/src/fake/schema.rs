//! A value that fits a simple JSON schema.

use serde_json::{Map, Value, json};

use super::words::Dice;

/// Objects in objects at the most; deeper ones are empty.
const DEPTH_MAX: usize = 16;

/// A value for `schema`: the first alternative, the first of an enumeration, every property that is named.
pub(super) fn instance(schema: &Value, dice: &mut Dice) -> Value {
    Maker { root: schema, dice }.value(schema, 0)
}

struct Maker<'a> {
    root: &'a Value,
    dice: &'a mut Dice,
}

impl Maker<'_> {
    fn value(&mut self, schema: &Value, depth: usize) -> Value {
        if depth > DEPTH_MAX {
            return Value::Null;
        }
        if let Some(fixed) = fixed(schema) {
            return fixed;
        }
        if let Some(target) = self.referred(schema) {
            return self.value(&target, depth + 1);
        }
        let alternative = ["anyOf", "oneOf", "allOf"].iter().find_map(|word| schema[word].get(0).cloned());
        if let Some(alternative) = alternative {
            return self.value(&alternative, depth + 1);
        }
        self.of_type(schema, depth)
    }

    fn of_type(&mut self, schema: &Value, depth: usize) -> Value {
        match type_of(schema) {
            "string" => self.text(schema).into(),
            "integer" | "number" => number(schema, self.dice.roll() % 10),
            "boolean" => self.dice.roll().is_multiple_of(2).into(),
            "array" => self.list(schema, depth),
            "null" => Value::Null,
            _ => self.object(schema, depth),
        }
    }

    fn object(&mut self, schema: &Value, depth: usize) -> Value {
        let properties = schema["properties"].as_object().into_iter().flatten();
        properties.map(|(name, inner)| (name.clone(), self.value(inner, depth + 1))).collect::<Map<_, _>>().into()
    }

    fn list(&mut self, schema: &Value, depth: usize) -> Value {
        let count = schema["minItems"].as_u64().unwrap_or(1).clamp(1, 8);
        (0..count).map(|_| self.value(&schema["items"], depth + 1)).collect()
    }

    fn text(&mut self, schema: &Value) -> String {
        match schema["format"].as_str() {
            Some("date") => return "2026-01-31".into(),
            Some("date-time") => return "2026-01-31T12:00:00Z".into(),
            Some("email") => return "reader@example.org".into(),
            Some("uri") => return "https://example.org/".into(),
            _ => {}
        }
        let least = usize::try_from(schema["minLength"].as_u64().unwrap_or(0).min(1_000)).unwrap_or(0);
        let mut text = self.dice.word().to_owned();
        while text.len() < least {
            text.push(' ');
            text.push_str(self.dice.word());
        }
        let most = schema["maxLength"].as_u64().and_then(|most| usize::try_from(most).ok());
        text.truncate(most.unwrap_or(usize::MAX));
        text
    }

    /// The schema behind `{"$ref": "#/…"}`.
    fn referred(&self, schema: &Value) -> Option<Value> {
        let path = schema["$ref"].as_str()?.strip_prefix('#')?;
        self.root.pointer(path).cloned()
    }
}

fn fixed(schema: &Value) -> Option<Value> {
    let first = |word: &str| schema[word].get(0).cloned();
    schema.get("const").cloned().or_else(|| first("enum")).or_else(|| schema.get("default").cloned())
}

/// The type, the first one of several, or an object when none is named.
fn type_of(schema: &Value) -> &str {
    schema["type"].as_str().or_else(|| schema["type"].get(0)?.as_str()).unwrap_or("object")
}

fn number(schema: &Value, offset: u64) -> Value {
    let least = schema["minimum"].as_i64().or_else(|| schema["exclusiveMinimum"].as_i64().map(|n| n.saturating_add(1)));
    let number = least.unwrap_or(0).saturating_add_unsigned(offset);
    json!(schema["maximum"].as_i64().map_or(number, |most| number.min(most)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn required_fields_have_values_of_their_types() {
        let schema = json!({
            "type": "object",
            "properties": {
                "city": {"type": "string", "minLength": 20},
                "unit": {"enum": ["c", "f"]},
                "days": {"type": "integer", "minimum": 3, "maximum": 4},
                "tags": {"type": "array", "items": {"type": "boolean"}, "minItems": 2},
                "place": {"$ref": "#/$defs/place"},
                "note": {"type": ["string", "null"]}
            },
            "$defs": {"place": {"type": "object", "properties": {"lat": {"type": "number"}}}}
        });
        let made = instance(&schema, &mut Dice::new(1));
        assert!(made["city"].as_str().unwrap().len() >= 20);
        assert_eq!(made["unit"], "c");
        assert!((3..=4).contains(&made["days"].as_i64().unwrap()));
        assert_eq!(made["tags"].as_array().unwrap().len(), 2);
        assert!(made["place"]["lat"].is_number());
        assert!(made["note"].is_string());
    }

    #[test]
    fn a_schema_that_contains_itself_comes_to_an_end() {
        let schema = json!({"type": "object", "properties": {"next": {"$ref": "#"}}});
        assert!(instance(&schema, &mut Dice::new(1))["next"].is_object());
    }
}
