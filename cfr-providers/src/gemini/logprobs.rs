//! Probabilities, between Google's words and OpenAI's.

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Number, Value, json};

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct LogprobsResult {
    chosen_candidates: Vec<Candidate>,
    top_candidates: Vec<TopCandidates>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct TopCandidates {
    candidates: Vec<Candidate>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Candidate {
    token: String,
    log_probability: Option<Number>,
}

/// `logprobsResult` in OpenAI's words; none where it cannot be read.
pub(super) fn read(raw: &RawValue) -> Option<Value> {
    let result: LogprobsResult = serde_json::from_str(raw.get()).ok()?;
    let mut top = result.top_candidates.into_iter();
    let content = result.chosen_candidates.into_iter().map(|chosen| {
        let others = top.next().unwrap_or_default().candidates.into_iter().map(token);
        let mut object = token(chosen);
        object["top_logprobs"] = others.collect();
        object
    });
    Some(json!({"content": content.collect::<Value>(), "refusal": null}))
}

fn token(candidate: Candidate) -> Value {
    let bytes = candidate.token.as_bytes();
    json!({"token": candidate.token, "logprob": candidate.log_probability.unwrap_or_else(|| 0.into()), "bytes": bytes})
}

/// OpenAI's words as `logprobsResult`.
pub(super) fn written(logprobs: &Value) -> Value {
    let tokens = || logprobs.get("content").and_then(Value::as_array).into_iter().flatten();
    let candidate = |token: &Value| {
        let (text, probability) = (token.get("token"), token.get("logprob"));
        json!({"token": text.cloned().unwrap_or_default(), "logProbability": probability.cloned().unwrap_or_default()})
    };
    let top = |token: &Value| {
        let others = token.get("top_logprobs").and_then(Value::as_array).into_iter().flatten();
        json!({"candidates": others.map(candidate).collect::<Value>()})
    };
    let (chosen, top): (Value, Value) = (tokens().map(candidate).collect(), tokens().map(top).collect());
    json!({"chosenCandidates": chosen, "topCandidates": top})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_survive_the_way_to_openais_words_and_back() {
        let google = json!({
            "chosenCandidates": [{"token": "Hi", "logProbability": -0.25}],
            "topCandidates": [{"candidates": [{"token": "Hi", "logProbability": -0.25}, {"token": "Ho", "logProbability": -2}]}],
        });
        let raw = RawValue::from_string(google.to_string()).expect("JSON");
        let openai = read(&raw).expect("probabilities");
        assert_eq!(openai["content"][0]["logprob"], json!(-0.25));
        assert_eq!(openai["content"][0]["bytes"], json!([72, 105]));
        assert_eq!(openai["content"][0]["top_logprobs"][1]["token"], "Ho");
        assert_eq!(written(&openai), google);
    }
}
