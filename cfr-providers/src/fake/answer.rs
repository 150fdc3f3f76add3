//! What the fake provider says: prose, JSON or a call of a tool, token by token.

use cfr_core::upstream::FinishReason;
use serde_json::Value;

use super::prompt::{self, Prompt};
use super::schema;
use super::words::{self, Dice};

/// Tokens of prose when nothing else is ordered: from here …
const TOKENS_MIN: u64 = 16;
/// … and so many more at the most.
const TOKENS_SPREAD: u64 = 32;

/// One choice.
pub(super) struct Answer {
    /// Its tokens; their texts in a row are its text, or the arguments of its tool.
    pub(super) tokens: Vec<String>,
    /// The tool that it calls. The call itself costs one token more, for the name.
    pub(super) tool: Option<String>,
    /// Why it ends.
    pub(super) finish: FinishReason,
}

impl Answer {
    /// What it costs.
    pub(super) fn cost(&self) -> u64 {
        self.tokens.len() as u64 + u64::from(self.tool.is_some())
    }

    pub(super) fn text(&self) -> String {
        self.tokens.concat()
    }
}

/// One answer per choice.
pub(super) fn compose(prompt: &Prompt, model: &str) -> Vec<Answer> {
    (0..prompt.choices).map(|index| compose_one(prompt, model, index)).collect()
}

fn compose_one(prompt: &Prompt, model: &str, index: u32) -> Answer {
    let mut dice = Dice::new(prompt.seed.wrapping_add(u64::from(index)));
    let ordered = ordered_call(prompt);
    if let Some((name, arguments)) = ordered.or_else(|| tool(prompt).map(|tool| made_call(tool, &mut dice))) {
        let answer = Answer { tokens: words::pieces(&arguments), tool: Some(name), finish: FinishReason::ToolCalls };
        return capped(answer, prompt.cap);
    }
    let tokens = match json_schema(prompt) {
        Some(schema) => words::pieces(&schema::instance(&schema, &mut dice).to_string()),
        None => prose(prompt, model, &mut dice),
    };
    let answer = Answer { tokens, tool: None, finish: FinishReason::Stop };
    capped(stopped(answer, &prompt.stops), prompt.cap)
}

fn prose(prompt: &Prompt, model: &str, dice: &mut Dice) -> Vec<String> {
    if prompt.script.echo {
        return prompt.last.split_inclusive(' ').map(str::to_owned).collect();
    }
    let count = prompt.script.tokens.unwrap_or_else(|| TOKENS_MIN + dice.roll() % TOKENS_SPREAD);
    words::tokens(&format!("This is {model}, at your service."), dice, count)
}

/// The call that the last message orders, when its tool is there.
fn ordered_call(prompt: &Prompt) -> Option<(String, String)> {
    let (name, arguments) = prompt.script.call.as_ref()?;
    let offered = prompt.body["tools"].as_array()?.iter().any(|tool| tool["function"]["name"] == **name);
    offered.then(|| (name.to_string(), arguments.to_string()))
}

/// A call with arguments that fit the schema.
fn made_call((name, parameters): (String, Value), dice: &mut Dice) -> (String, String) {
    (name, schema::instance(&parameters, dice).to_string())
}

/// The tool to call, with the schema of its parameters: one that must be called, or one that the last message names.
fn tool(prompt: &Prompt) -> Option<(String, Value)> {
    let body = &prompt.body;
    let tools = body["tools"].as_array()?;
    let choice = &body["tool_choice"];
    let answered = prompt::asked(body).is_some_and(|last| last["role"] == "tool");
    let name = |tool: &Value| tool["function"]["name"].as_str().map(str::to_owned);
    let chosen = match (choice.as_str(), choice["function"]["name"].as_str()) {
        (Some("none"), _) => None,
        (Some("required" | "any"), _) => tools.first(),
        (_, Some(wanted)) => tools.iter().find(|tool| tool["function"]["name"] == wanted),
        _ if answered => None,
        _ => tools.iter().find(|tool| name(tool).is_some_and(|name| !name.is_empty() && prompt.last.contains(&name))),
    }?;
    Some((name(chosen)?, chosen["function"]["parameters"].clone()))
}

/// The schema that the answer must fit, when it must be JSON.
fn json_schema(prompt: &Prompt) -> Option<Value> {
    let format = &prompt.body["response_format"];
    match format["type"].as_str()? {
        "json_schema" => Some(format["json_schema"]["schema"].clone()),
        "json_object" => Some(serde_json::json!({"type": "object", "properties": {"answer": {"type": "string"}}})),
        _ => None,
    }
}

/// The answer up to the first of the texts that end it, without that text.
fn stopped(mut answer: Answer, stops: &[String]) -> Answer {
    let text = answer.text();
    let Some(mut left) = stops.iter().filter_map(|stop| text.find(stop.as_str())).min() else { return answer };
    let mut kept = Vec::new();
    for mut token in answer.tokens {
        if left == 0 {
            break;
        }
        token.truncate(left);
        left -= token.len();
        kept.push(token);
    }
    answer.tokens = kept;
    answer
}

/// The answer up to the cap. A name of a tool that does not fit leaves an empty answer.
fn capped(mut answer: Answer, cap: Option<u64>) -> Answer {
    let Some(cap) = cap.filter(|cap| *cap < answer.cost()) else { return answer };
    answer.finish = FinishReason::Length;
    if answer.tool.is_some() && cap == 0 {
        answer.tool = None;
    }
    let left = cap.saturating_sub(u64::from(answer.tool.is_some()));
    answer.tokens.truncate(usize::try_from(left).unwrap_or(usize::MAX));
    answer
}
