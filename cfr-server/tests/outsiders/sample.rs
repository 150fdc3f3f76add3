//! Bodies that the document allows, and where in them text may stand.

use serde_json::{Map, Value, json};

/// How deep bodies are looked into: schemas may contain themselves.
const DEPTH_MAX: usize = 6;

/// Makes bodies, each with other names than the one before.
pub(crate) struct Sampler<'a> {
    document: &'a Value,
    made: usize,
}

impl<'a> Sampler<'a> {
    pub(crate) fn new(document: &'a Value) -> Self {
        Self { document, made: 0 }
    }

    /// A body with what is required and nothing else.
    pub(crate) fn sample(&mut self, schema: &Value) -> Value {
        self.made += 1;
        self.value("", schema, 0)
    }

    fn value(&self, name: &str, schema: &Value, depth: usize) -> Value {
        let schema = resolve(self.document, schema);
        if let Some(known) = self.known(name) {
            return known;
        }
        let choices = ["oneOf", "anyOf"].iter().find_map(|word| schema[*word].as_array());
        if let Some(choice) = choices.and_then(|choices| choices.iter().find(|choice| choice["type"] != "null")) {
            return self.value(name, choice, depth);
        }
        let example = [&schema["example"], &schema["examples"][0], &schema["enum"][0]];
        if let Some(example) = example.into_iter().find(|example| !example.is_null() && !example.is_object()) {
            return example.clone();
        }
        match kind(schema) {
            "object" => self.object(schema, depth),
            "array" => json!([]),
            "integer" | "number" => json!(schema["minimum"].as_i64().unwrap_or(1)),
            "boolean" => json!(false),
            _ => json!("text"),
        }
    }

    fn object(&self, schema: &Value, depth: usize) -> Value {
        let required = schema["required"].as_array().map_or(&[][..], Vec::as_slice);
        let mut object = Map::new();
        for name in required.iter().filter_map(Value::as_str).filter(|_| depth < DEPTH_MAX) {
            object.insert(name.to_owned(), self.value(name, &schema["properties"][name], depth + 1));
        }
        Value::Object(object)
    }

    /// What stands for things of the world, and what must be new each time.
    fn known(&self, name: &str) -> Option<Value> {
        Some(match name {
            "tenant" => json!("acme"),
            "user" => json!("anna@acme.example"),
            "subject" => json!("rival"),
            "scope" => json!("tenant"),
            "product" => json!("basic"),
            "currency" => json!("EUR"),
            "email" => json!(format!("new-{}@acme.example", self.made)),
            "slug" | "code" => json!(format!("new-{}", self.made)),
            _ => return None,
        })
    }
}

/// Where text may stand in bodies of a schema, as JSON pointers; a list stands for its only element.
pub(crate) fn text_places(document: &Value, schema: &Value) -> Vec<String> {
    let mut places = Vec::new();
    find(document, schema, "", 0, &mut places);
    places.sort();
    places.dedup();
    places
}

fn find(document: &Value, schema: &Value, place: &str, depth: usize, places: &mut Vec<String>) {
    let schema = resolve(document, schema);
    if depth > DEPTH_MAX {
        return;
    }
    for word in ["oneOf", "anyOf", "allOf"] {
        for choice in schema[word].as_array().into_iter().flatten() {
            find(document, choice, place, depth + 1, places);
        }
    }
    match kind(schema) {
        "object" => {
            for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
                find(document, schema, &format!("{place}/{name}"), depth + 1, places);
            }
        }
        "array" => find(document, &schema["items"], &format!("{place}/0"), depth + 1, places),
        "string" if !place.is_empty() => places.push(place.to_owned()),
        _ => {}
    }
}

fn resolve<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    let reference = schema["$ref"].as_str().and_then(|reference| reference.strip_prefix('#'));
    reference.map_or(schema, |pointer| document.pointer(pointer).expect("a reference leads somewhere"))
}

/// The type that is not null.
fn kind(schema: &Value) -> &str {
    let types = schema["type"].as_array().map_or(std::slice::from_ref(&schema["type"]), Vec::as_slice);
    types.iter().filter_map(Value::as_str).find(|kind| *kind != "null").unwrap_or_default()
}
