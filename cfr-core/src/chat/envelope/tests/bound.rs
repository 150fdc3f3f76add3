//! No conversation has more tokens than its bound, whatever its dialect: counted by a tokenizer that makes a token of each
//! byte, before or after it normalises, with the framing of providers.md §17.2.

use unicode_normalization::UnicodeNormalization;

use super::*;

const CASES: u32 = 100;
const MESSAGE_TOKENS: usize = 8;
const CALL_TOKENS: usize = 16;
const TOOL_TOKENS: usize = 64;
const TOOLS_TOKENS: usize = 1_024;
const SCHEMA_TOKENS: usize = 128;

#[derive(Debug, Clone)]
struct Talk {
    system: Option<String>,
    said: Vec<Said>,
    tools: Vec<Function>,
    schema: Option<Value>,
}

#[derive(Debug, Clone)]
enum Said {
    Text(String),
    Image(String),
    Call { name: String, arguments: Value },
    Result(String),
}

#[derive(Debug, Clone)]
struct Function {
    name: String,
    description: String,
    schema: Value,
}

fn tokens(text: &str) -> usize {
    let nfkc: String = text.nfkc().collect();
    let nfkd: String = text.nfkd().collect();
    text.len().max(nfkc.len()).max(nfkd.len())
}

impl Said {
    fn tokens(&self) -> usize {
        let said = match self {
            Self::Text(text) => tokens(text),
            Self::Image(_) => 0,
            Self::Call { name, arguments } => CALL_TOKENS + tokens(name) + tokens(&arguments.to_string()),
            Self::Result(text) => CALL_TOKENS + tokens(text),
        };
        MESSAGE_TOKENS + said
    }
}

impl Talk {
    fn tokens(&self) -> usize {
        let system = self.system.as_ref().map_or(0, |system| MESSAGE_TOKENS + tokens(system));
        let schema = self.schema.as_ref().map_or(0, |schema| 2 * tokens(&schema.to_string()) + SCHEMA_TOKENS);
        let tool = |tool: &Function| {
            2 * (tokens(&tool.name) + tokens(&tool.description) + tokens(&tool.schema.to_string())) + TOOL_TOKENS
        };
        let tools: usize = self.tools.iter().map(tool).sum();
        let hidden = if self.tools.is_empty() { 0 } else { TOOLS_TOKENS };
        system + schema + tools + hidden + self.said.iter().map(Said::tokens).sum::<usize>()
    }

    fn images(&self) -> u32 {
        self.said.iter().filter(|said| matches!(said, Said::Image(_))).count().try_into().unwrap()
    }

    fn chat(&self) -> Value {
        let said = self.said.iter().map(|said| match said {
            Said::Text(text) => json!({"role": "user", "content": text}),
            Said::Image(data) => {
                json!({"role": "user", "content": [{"type": "image_url", "image_url": {"url": image_url(data)}}]})
            }
            Said::Call { name, arguments } => json!({"role": "assistant", "tool_calls":
                [{"id": "c", "type": "function", "function": {"name": name, "arguments": arguments.to_string()}}]}),
            Said::Result(text) => json!({"role": "tool", "tool_call_id": "c", "content": text}),
        });
        let system = self.system.iter().map(|system| json!({"role": "system", "content": system}));
        let mut body = json!({"model": "m", "messages": system.chain(said).collect::<Vec<_>>()});
        let tools = self.tools.iter().map(|Function { name, description, schema }| {
            json!({"type": "function", "function": {"name": name, "description": description, "parameters": schema}})
        });
        set(&mut body, "tools", tools.collect());
        if let Some(schema) = &self.schema {
            body["response_format"] = json!({"type": "json_schema", "json_schema": {"name": "s", "schema": schema}});
        }
        body
    }

    fn messages(&self) -> Value {
        let block = |said: &Said| match said {
            Said::Text(text) => json!({"type": "text", "text": text}),
            Said::Image(data) => {
                json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}})
            }
            Said::Call { name, arguments } => json!({"type": "tool_use", "id": "c", "name": name, "input": arguments}),
            Said::Result(text) => json!({"type": "tool_result", "tool_use_id": "c", "content": text}),
        };
        let said = self.said.iter().map(|said| json!({"role": "user", "content": [block(said)]}));
        let mut body = json!({"model": "m", "max_tokens": 9, "messages": said.collect::<Vec<_>>()});
        let tools = self.tools.iter().map(|Function { name, description, schema }| {
            json!({"name": name, "description": description, "input_schema": schema})
        });
        set(&mut body, "tools", tools.collect());
        if let Some(system) = &self.system {
            body["system"] = json!(system);
        }
        if let Some(schema) = &self.schema {
            body["output_config"] = json!({"format": {"type": "json_schema", "schema": schema}});
        }
        body
    }

    fn responses(&self) -> Value {
        let items = self.said.iter().map(|said| match said {
            Said::Text(text) => json!({"role": "user", "content": text}),
            Said::Image(data) => {
                json!({"role": "user", "content": [{"type": "input_image", "image_url": image_url(data)}]})
            }
            Said::Call { name, arguments } => {
                json!({"type": "function_call", "call_id": "c", "name": name, "arguments": arguments.to_string()})
            }
            Said::Result(text) => json!({"type": "function_call_output", "call_id": "c", "output": text}),
        });
        let mut body = json!({"model": "m", "input": items.collect::<Vec<_>>()});
        let tools = self.tools.iter().map(|Function { name, description, schema }| {
            json!({"type": "function", "name": name, "description": description, "parameters": schema})
        });
        set(&mut body, "tools", tools.collect());
        if let Some(system) = &self.system {
            body["instructions"] = json!(system);
        }
        if let Some(schema) = &self.schema {
            body["text"] = json!({"format": {"type": "json_schema", "name": "s", "schema": schema}});
        }
        body
    }

    fn gemini(&self) -> Value {
        let part = |said: &Said| match said {
            Said::Text(text) => json!({"text": text}),
            Said::Image(data) => json!({"inlineData": {"mimeType": "image/png", "data": data}}),
            Said::Call { name, arguments } => json!({"functionCall": {"name": name, "args": arguments}}),
            Said::Result(text) => json!({"functionResponse": {"name": "f", "response": {"result": text}}}),
        };
        let contents = self.said.iter().map(|said| json!({"parts": [part(said)]}));
        let mut body = json!({"contents": contents.collect::<Vec<_>>()});
        let functions: Vec<_> = self.tools.iter().map(|Function { name, description, schema }| {
            json!({"name": name, "description": description, "parametersJsonSchema": schema})
        }).collect();
        if !functions.is_empty() {
            body["tools"] = json!([{"functionDeclarations": functions}]);
        }
        if let Some(system) = &self.system {
            body["systemInstruction"] = json!({"parts": [{"text": system}]});
        }
        if let Some(schema) = &self.schema {
            body["generationConfig"] = json!({"responseJsonSchema": schema});
        }
        body
    }

    /// The conversation in every dialect that has one.
    fn bodies(&self) -> [(Operation, Value); 4] {
        [
            (CHAT, self.chat()),
            (Operation::Messages, self.messages()),
            (Operation::Responses, self.responses()),
            (Operation::GenerateContent, self.gemini()),
        ]
    }
}

fn image_url(data: &str) -> String {
    format!("data:image/png;base64,{data}")
}

fn set(body: &mut Value, field: &str, values: Vec<Value>) {
    if !values.is_empty() {
        body[field] = values.into();
    }
}

/// The same JSON as Python writes it: everything beyond ASCII as escapes.
fn escaped(json: &str) -> String {
    let escape = |unit: u16| format!("\\u{unit:04x}");
    let mut units = [0; 2];
    json.chars()
        .map(|character| match character.is_ascii() {
            true => character.to_string(),
            false => character.encode_utf16(&mut units).iter().copied().map(escape).collect(),
        })
        .collect()
}

/// Texts of all scripts, and of those characters that grow when they are normalised.
fn text() -> impl Strategy<Value = String> {
    prop_oneof!["\\PC{0,40}", "[\u{fdfa}\u{fdfb}\u{1e9b}\u{390}각ﬃ㍿ü\"\\\\\n]{0,20}", "[ -~]{0,80}"]
}

fn schema() -> impl Strategy<Value = Value> {
    (text(), text()).prop_map(|(name, description)| {
        json!({"type": "object", "properties": {name: {"type": "string", "description": description}}})
    })
}

fn said() -> impl Strategy<Value = Said> {
    prop_oneof![
        text().prop_map(Said::Text),
        "[A-Za-z0-9+/]{0,200}".prop_map(Said::Image),
        ("[a-z]{1,9}", text(), text())
            .prop_map(|(name, key, value)| Said::Call { name, arguments: json!({key: value}) }),
        text().prop_map(Said::Result),
    ]
}

fn function() -> impl Strategy<Value = Function> {
    ("[a-z]{1,9}", text(), schema()).prop_map(|(name, description, schema)| Function { name, description, schema })
}

fn talk() -> impl Strategy<Value = Talk> {
    use proptest::collection::vec;
    use proptest::option::of;
    (of(text()), vec(said(), 0..8), vec(function(), 0..4), of(schema()))
        .prop_map(|(system, said, tools, schema)| Talk { system, said, tools, schema })
}

fn read(operation: Operation, body: &str) -> InputBound {
    Envelope::parse_named(operation, "m", false, &Bytes::copy_from_slice(body.as_bytes())).unwrap().input
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    #[test]
    fn no_conversation_has_more_tokens_than_its_bound(talk in talk()) {
        for (operation, body) in talk.bodies() {
            for body in [body.to_string(), escaped(&body.to_string()), format!("{body:#}")] {
                let input = read(operation, &body);
                prop_assert!(input.text_tokens >= talk.tokens() as u64, "{operation:?} {input:?} {body}");
                prop_assert_eq!((input.images, input.unbounded), (talk.images(), false), "{:?} {}", operation, body);
            }
        }
    }

    #[test]
    fn no_text_to_complete_or_embed_has_more_tokens_than_its_bound(texts in proptest::collection::vec(text(), 0..6)) {
        let most: usize = texts.iter().map(|text| tokens(text)).sum();
        for (operation, field) in [(Operation::Completions, "prompt"), (Operation::Embeddings, "input")] {
            let mut body = json!({"model": "m"});
            body[field] = json!(texts);
            for body in [body.to_string(), escaped(&body.to_string())] {
                prop_assert!(read(operation, &body).text_tokens >= most as u64, "{body}");
            }
        }
    }

    #[test]
    fn no_body_of_any_dialect_makes_the_reader_fail_otherwise_than_by_an_error(
        talk in talk(), at in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        for (operation, body) in talk.bodies() {
            let mut damaged = body.to_string().into_bytes();
            let at = at.index(damaged.len());
            damaged[at] = byte;
            let damaged = Bytes::from(damaged);
            let read = Envelope::parse_named(operation, "m", false, &damaged).is_ok();
            prop_assert!(!read || serde_json::from_slice::<Value>(&damaged).is_ok());
        }
    }
}
