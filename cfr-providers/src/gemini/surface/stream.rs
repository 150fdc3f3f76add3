//! From pieces of an answer to Google's chunks (providers.md §7.4): calls go out whole, and the last chunk has every
//! finish reason and the usage.

use bytes::{BufMut, BytesMut};
use cfr_core::chat::{Call, Usage};
use cfr_core::upstream::FinishReason;
use serde_json::{Map, Value, json};

use super::whole::{finish_reason, head, picture, signed, source, tool_call, usage_metadata};
use crate::dialog::{Piece, Seal, StreamWriter, ToolCall};
use crate::gemini::logprobs;

/// Writes one answer.
pub(super) struct ChunkWriter {
    call: Call,
    head: Map<String, Value>,
    /// Calls that may still grow, in the order in which they began.
    calls: Vec<Growing>,
    /// The kind of the words that a signature would belong to.
    in_thought: bool,
    finished: Vec<(u32, FinishReason)>,
    sources: Vec<(u32, Value)>,
    usage: Option<Usage>,
}

struct Growing {
    choice: u32,
    number: u32,
    call: ToolCall,
}

impl ChunkWriter {
    pub(super) fn new(call: &Call) -> Self {
        Self {
            head: head(call, "", ""),
            call: call.clone(),
            calls: Vec::new(),
            in_thought: false,
            finished: Vec::new(),
            sources: Vec::new(),
            usage: None,
        }
    }

    /// Something else begins: the calls before it are complete.
    fn part(&mut self, choice: u32, part: Value, out: &mut BytesMut) {
        self.flush(choice, out);
        self.candidate(json!({"content": {"parts": [part], "role": "model"}, "index": choice}), out);
    }

    fn flush(&mut self, choice: u32, out: &mut BytesMut) {
        let (done, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.calls).into_iter().partition(|growing| growing.choice == choice);
        self.calls = rest;
        if !done.is_empty() {
            let parts: Value = done.iter().map(|growing| tool_call(&growing.call)).collect();
            self.candidate(json!({"content": {"parts": parts, "role": "model"}, "index": choice}), out);
        }
    }

    fn candidate(&self, candidate: Value, out: &mut BytesMut) {
        self.chunk(json!([candidate]), out);
    }

    fn chunk(&self, candidates: Value, out: &mut BytesMut) {
        let mut chunk = Map::from_iter([("candidates".to_owned(), candidates)]);
        if let Some(usage) = &self.usage {
            chunk.insert("usageMetadata".into(), usage_metadata(usage));
        }
        chunk.extend(self.head.clone());
        out.put_slice(b"data: ");
        out.put_slice(Value::Object(chunk).to_string().as_bytes());
        out.put_slice(b"\r\n\r\n");
    }

    fn words(&mut self, choice: u32, text: String, thought: bool, out: &mut BytesMut) {
        self.in_thought = thought;
        if !text.is_empty() {
            let part = if thought { json!({"text": text, "thought": true}) } else { json!({ "text": text }) };
            self.part(choice, part, out);
        }
    }

    /// A signature belongs to the call that grew last, or else to the words before it.
    fn seal(&mut self, choice: u32, seal: &Seal, out: &mut BytesMut) {
        if let Some(growing) = self.calls.iter_mut().rev().find(|growing| growing.choice == choice) {
            growing.call.seal = Some(seal.clone());
            return;
        }
        let part = if self.in_thought { json!({"text": "", "thought": true}) } else { json!({"text": ""}) };
        self.part(choice, signed(part, Some(seal)), out);
    }

    fn grow(&mut self, choice: u32, number: u32, fragment: &str) {
        let growing = self.calls.iter_mut().find(|growing| (growing.choice, growing.number) == (choice, number));
        if let Some(growing) = growing {
            growing.call.arguments.push_str(fragment);
        }
    }

    fn last_candidate(&self, choice: u32, finish: &FinishReason) -> Value {
        let content = json!({"parts": [{"text": ""}], "role": "model"});
        let mut candidate = json!({"content": content, "finishReason": finish_reason(finish), "index": choice});
        let sources: Vec<&Value> =
            self.sources.iter().filter(|(of, _)| *of == choice).map(|(_, source)| source).collect();
        if !sources.is_empty() {
            candidate["groundingMetadata"] = json!({ "groundingChunks": sources });
        }
        candidate
    }
}

impl StreamWriter for ChunkWriter {
    fn write(&mut self, piece: Piece, out: &mut BytesMut) {
        match piece {
            Piece::Start { id, model } => self.head = head(&self.call, &id, &model),
            Piece::Text { choice, text } | Piece::Refusal { choice, text } => self.words(choice, text, false, out),
            Piece::Thought { choice, text } => self.words(choice, text, true, out),
            Piece::Seal { choice, seal } => self.seal(choice, &seal, out),
            Piece::ToolCall { choice, call: number, id, name, custom } => {
                let call = ToolCall { id, name, arguments: String::new(), custom, seal: None, cache: None };
                self.calls.push(Growing { choice, number, call });
            }
            Piece::Arguments { choice, call, fragment } => self.grow(choice, call, &fragment),
            Piece::Citation { choice, citation } => self.sources.push((choice, source(&citation))),
            Piece::Image { choice, image } => self.part(choice, picture(image), out),
            Piece::Logprobs { choice, logprobs: known } => {
                let candidate = json!({"index": choice, "logprobsResult": logprobs::written(&known)});
                self.candidate(candidate, out);
            }
            Piece::Finish { choice, finish, .. } => {
                self.flush(choice, out);
                self.finished.push((choice, finish));
            }
            Piece::Usage(usage) => self.usage = Some(usage),
            Piece::Cost(_) => {}                        // the caller has no use for it
            Piece::ServiceTier(_) | Piece::Geo(_) => {} // nor for another provider's word for a tier or a place
        }
    }

    fn end(&mut self, out: &mut BytesMut) {
        let candidates = self.finished.iter().map(|(choice, finish)| self.last_candidate(*choice, finish));
        self.chunk(candidates.collect(), out);
    }
}
