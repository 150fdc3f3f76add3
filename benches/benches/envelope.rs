//! Reading a request: the gateway's envelope beside a tree and beside the least that a proxy can read.
#![expect(clippy::expect_used, reason = "a bench whose input is wrong has nothing to measure")]

use std::borrow::Cow;

use bytes::Bytes;
use cfr_benches::body::{MODEL, OUTPUT_TOKENS_MAX, Wish, chat};
use cfr_core::chat::{Envelope, Operation};
use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    divan::main();
}

/// A short question, a longer one, a long conversation; German text has bytes beyond ASCII, which Python's `json` writes as
/// escapes, and Chinese has little else.
const BODIES: [Text; 6] =
    [Text::Short, Text::Longer, Text::Long, Text::LongGerman, Text::LongEscaped, Text::LongChinese];

#[derive(Debug, Clone, Copy)]
enum Text {
    Short,
    Longer,
    Long,
    LongGerman,
    LongEscaped,
    LongChinese,
}

impl std::fmt::Display for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Short => "1 KB",
            Self::Longer => "4 KB",
            Self::Long => "100 KB",
            Self::LongGerman => "100 KB, German",
            Self::LongEscaped => "100 KB, German with escapes",
            Self::LongChinese => "100 KB, Chinese",
        })
    }
}

impl Text {
    fn body(self) -> Bytes {
        let of = |bytes| chat(bytes, Wish::default()).expect("JSON");
        Bytes::from(match self {
            Self::Short => of(1_000),
            Self::Longer => of(4_000),
            Self::Long => of(100_000),
            Self::LongGerman => of(94_000).replace("customer", "Käufer für Übergröße").replace("total", "Erlös"),
            Self::LongEscaped => {
                let german = of(64_000).replace("customer", "Käufer für Übergröße").replace("total", "Erlös");
                german.chars().map(escaped).collect()
            }
            Self::LongChinese => of(94_000).replace("customer", "漢字漢字").replace("asked for the", "請求了這個"),
        })
    }
}

fn escaped(character: char) -> String {
    match character.is_ascii() {
        true => character.to_string(),
        false => format!("\\u{:04x}", u32::from(character)),
    }
}

#[derive(Deserialize)]
struct Peek<'a> {
    #[serde(borrow)]
    model: Cow<'a, str>,
    #[serde(default)]
    stream: bool,
    max_tokens: Option<u64>,
    #[serde(borrow)]
    messages: &'a RawValue,
}

#[divan::bench(args = BODIES)]
fn cfr_envelope(bencher: Bencher<'_, '_>, text: Text) {
    let body = text.body();
    Envelope::parse(Operation::ChatCompletions, &body).expect("a chat");
    bencher
        .counter(BytesCount::of_slice(&body))
        .bench(|| Envelope::parse(Operation::ChatCompletions, black_box(&body)));
}

/// The long conversation in the other dialects.
const DIALECTS: [Operation; 3] = [Operation::Messages, Operation::Responses, Operation::GenerateContent];

#[divan::bench(args = DIALECTS)]
fn cfr_envelope_of(bencher: Bencher<'_, '_>, operation: Operation) {
    let body = in_dialect(operation);
    let read = |body: &Bytes| Envelope::parse_named(operation, MODEL, false, body);
    read(&body).expect("a conversation");
    bencher.counter(BytesCount::of_slice(&body)).bench(|| read(black_box(&body)));
}

fn in_dialect(operation: Operation) -> Bytes {
    let chat: Value = serde_json::from_slice(&Text::Long.body()).expect("JSON");
    let messages = chat["messages"].as_array().expect("messages");
    let body = match operation {
        Operation::Messages => json!({"model": MODEL, "max_tokens": OUTPUT_TOKENS_MAX, "messages": messages}),
        Operation::Responses => json!({"model": MODEL, "max_output_tokens": OUTPUT_TOKENS_MAX, "input": messages}),
        _ => {
            let content = |message: &Value| json!({"role": "user", "parts": [{"text": message["content"]}]});
            let contents: Vec<_> = messages.iter().map(content).collect();
            json!({"contents": contents, "generationConfig": {"maxOutputTokens": OUTPUT_TOKENS_MAX}})
        }
    };
    body.to_string().into()
}

#[divan::bench(args = BODIES)]
fn bare_peek(bencher: Bencher<'_, '_>, text: Text) {
    let body = text.body();
    bencher.counter(BytesCount::of_slice(&body)).bench(|| {
        let peek: Peek<'_> = serde_json::from_slice(black_box(&body)).expect("a chat");
        black_box((peek.model.len(), peek.stream, peek.max_tokens, peek.messages.get().len()))
    });
}

#[divan::bench(args = BODIES)]
fn value_tree(bencher: Bencher<'_, '_>, text: Text) {
    let body = text.body();
    bencher.counter(BytesCount::of_slice(&body)).bench(|| serde_json::from_slice::<Value>(black_box(&body)));
}

#[divan::bench(args = BODIES)]
fn value_tree_and_back(bencher: Bencher<'_, '_>, text: Text) {
    let body = text.body();
    bencher.counter(BytesCount::of_slice(&body)).bench(|| {
        let tree: Value = serde_json::from_slice(black_box(&body)).expect("a chat");
        serde_json::to_vec(&tree)
    });
}
