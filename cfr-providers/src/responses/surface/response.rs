//! The response around the items.

use cfr_core::chat::{Call, Meter, Usage};
use cfr_core::upstream::FinishReason;
use serde_json::{Map, Value, json};

use crate::openai::created_at;

/// What a response repeats of its request, with what holds where the request says nothing.
fn echoes() -> [(&'static str, Value); 16] {
    [
        ("background", false.into()),
        ("instructions", Value::Null),
        ("max_output_tokens", Value::Null),
        ("max_tool_calls", Value::Null),
        ("metadata", json!({})),
        ("parallel_tool_calls", true.into()),
        ("previous_response_id", Value::Null),
        ("prompt_cache_key", Value::Null),
        ("reasoning", json!({"effort": null, "summary": null})),
        ("temperature", 1.into()),
        ("text", json!({"format": {"type": "text"}})),
        ("tool_choice", "auto".into()),
        ("tools", json!([])),
        ("top_p", 1.into()),
        ("truncation", "disabled".into()),
        ("user", Value::Null),
    ]
}

/// Everything that is the same from the beginning of a response to its end.
pub(super) struct Head {
    members: Map<String, Value>,
    pub(super) hex: String,
}

impl Head {
    pub(super) fn new(call: &Call) -> Self {
        let hex = format!("{:032x}", call.id.as_u128());
        let mut request: Map<String, Value> = serde_json::from_slice(&call.body).unwrap_or_default();
        let mut members = Map::from_iter([
            ("id".to_owned(), format!("resp_{hex}").into()),
            ("object".to_owned(), "response".into()),
            ("created_at".to_owned(), created_at(call).into()),
            ("model".to_owned(), (*call.envelope.model).into()),
            ("store".to_owned(), false.into()),
        ]);
        for (name, usual) in echoes() {
            let said = request.remove(name).filter(|value| !value.is_null());
            members.insert(name.to_owned(), said.unwrap_or(usual));
        }
        Self { members, hex }
    }

    /// The model by its own word.
    pub(super) fn set_model(&mut self, model: String) {
        self.members.insert("model".to_owned(), model.into());
    }

    pub(super) fn set_service_tier(&mut self, tier: String) {
        self.members.insert("service_tier".to_owned(), tier.into());
    }

    /// The response that has begun.
    pub(super) fn begun(&self) -> Value {
        self.response("in_progress", Vec::new(), None, None)
    }

    /// The response that has ended so (providers.md §15).
    pub(super) fn ended(&self, finish: &FinishReason, output: Vec<Value>, usage: Option<&Usage>) -> Value {
        let reason = match finish {
            FinishReason::Length => Some("max_output_tokens"),
            FinishReason::ContentFilter => Some("content_filter"),
            _ => None,
        };
        let status = status(finish);
        self.response(status, output, reason, usage)
    }

    fn response(&self, status: &str, output: Vec<Value>, incomplete: Option<&str>, usage: Option<&Usage>) -> Value {
        let mut response = self.members.clone();
        let failed = status == "failed";
        let error = failed.then(|| json!({"code": "server_error", "message": "the provider failed"}));
        response.insert("status".to_owned(), status.into());
        response.insert("error".to_owned(), error.into());
        response.insert("incomplete_details".to_owned(), incomplete.map(|reason| json!({"reason": reason})).into());
        response.insert("output".to_owned(), output.into());
        response.insert("usage".to_owned(), usage.map(usage_object).into());
        response.into()
    }
}

/// The status of a response that ended so; also the name of its last event.
pub(super) fn status(finish: &FinishReason) -> &'static str {
    match finish {
        FinishReason::Length | FinishReason::ContentFilter => "incomplete",
        FinishReason::Error => "failed",
        _ => "completed",
    }
}

/// Usage in this dialect's words: totals, and of them what is cached, written and thought (providers.md §12).
fn usage_object(usage: &Usage) -> Value {
    let (input, output) = (usage.input_total(), usage.output_total());
    let sum = |meters: &[Meter]| meters.iter().fold(0_u64, |sum, &meter| sum.saturating_add(usage.get(meter)));
    json!({
        "input_tokens": input,
        "input_tokens_details": {
            "cached_tokens": sum(&[Meter::CacheReadTokens, Meter::CacheReadAudioTokens, Meter::CacheReadImageTokens]),
            "cache_write_tokens": sum(&[Meter::CacheWriteTokens, Meter::CacheWrite1hTokens, Meter::CacheWrite12hTokens]),
        },
        "output_tokens": output,
        "output_tokens_details": {"reasoning_tokens": usage.get(Meter::ReasoningTokens)},
        "total_tokens": input.saturating_add(output),
    })
}
