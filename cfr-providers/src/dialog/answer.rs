//! What an answer says: all at once, or piece by piece.

use cfr_core::chat::Usage;
use cfr_core::price::PicoUsd;
use cfr_core::upstream::{FinishReason, Report};
use serde_json::Value;

use super::part::{Citation, Image, Part, Seal};

/// A complete answer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Answer {
    /// The provider's id of it; empty when it gives none.
    pub id: String,
    /// The model that answered, by its own word; empty when it does not say.
    pub model: String,
    /// The answers, as many as were asked for, in order.
    pub choices: Vec<Choice>,
    /// What was used; `None` when the provider does not say, which is not the same as nothing.
    pub usage: Option<Usage>,
    /// What the provider says it charges, where that is authoritative.
    pub cost: Option<PicoUsd>,
    /// The service tier that served, in the provider's word.
    pub service_tier: Option<String>,
    /// The geography in which it was made, in the provider's word.
    pub geo: Option<String>,
}

/// One of the answers.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// What is said: texts, thoughts, calls, refusals, pictures.
    pub parts: Vec<Part>,
    /// Why it ended.
    pub finish: FinishReason,
    /// The caller's text that ended it, where the provider says which.
    pub stop_sequence: Option<String>,
    /// Probabilities, in OpenAI's words.
    pub logprobs: Option<Value>,
}

/// A piece of an answer as it comes. `choice` says of which answer, from 0.
///
/// The pieces of one choice come in the order of its parts. Several tool calls may grow at the same time; everything else
/// ends when something else begins.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Piece {
    /// The first of all.
    Start {
        /// The provider's id of the answer; empty when it gives none.
        id: String,
        /// The model, by its own word; empty when it does not say.
        model: String,
    },
    /// More words.
    Text {
        /// Of which answer.
        choice: u32,
        /// The words.
        text: String,
    },
    /// More of a thought.
    Thought {
        /// Of which answer.
        choice: u32,
        /// The words.
        text: String,
    },
    /// Proof of the thought, or of the words or the call, that came before; ends a thought.
    Seal {
        /// Of which answer.
        choice: u32,
        /// The proof.
        seal: Seal,
    },
    /// More of a refusal.
    Refusal {
        /// Of which answer.
        choice: u32,
        /// The words.
        text: String,
    },
    /// A call begins.
    ToolCall {
        /// Of which answer.
        choice: u32,
        /// Which call of it, from 0 in the order in which they began.
        call: u32,
        /// The call's id. Never empty.
        id: String,
        /// The tool.
        name: String,
        /// Its input is free text rather than JSON.
        custom: bool,
    },
    /// More of the arguments of a call. All fragments together are JSON text, or nothing for a call without arguments.
    Arguments {
        /// Of which answer.
        choice: u32,
        /// Which call of it.
        call: u32,
        /// The fragment.
        fragment: String,
    },
    /// Where words that came before come from.
    Citation {
        /// Of which answer.
        choice: u32,
        /// The source.
        citation: Citation,
    },
    /// A picture.
    Image {
        /// Of which answer.
        choice: u32,
        /// The picture.
        image: Image,
    },
    /// Probabilities of words that came before, in OpenAI's words.
    Logprobs {
        /// Of which answer.
        choice: u32,
        /// The probabilities.
        logprobs: Value,
    },
    /// An answer ends.
    Finish {
        /// Which answer.
        choice: u32,
        /// Why.
        finish: FinishReason,
        /// The caller's text that ended it.
        stop_sequence: Option<String>,
    },
    /// What was used so far; a later one replaces an earlier one. May come after the end.
    Usage(Usage),
    /// What the provider says it charges, where that is authoritative; a later one replaces an earlier one.
    Cost(PicoUsd),
    /// The service tier that served, in the provider's word.
    ServiceTier(String),
    /// The geography in which the answer is made, in the provider's word.
    Geo(String),
}

impl Answer {
    /// What the gateway wants to know of it.
    #[must_use]
    pub fn report(&self) -> Report {
        Report {
            usage: self.usage,
            provider_cost: self.cost,
            output_bytes: self.choices.iter().flat_map(|choice| &choice.parts).map(Part::visible_bytes).sum(),
            output_audio_tokens: 0,
            finish: self.choices.last().map(|choice| choice.finish.clone()),
            model: Some(self.model.as_str()).filter(|model| !model.is_empty()).map(Box::from),
            service_tier: self.service_tier.as_deref().map(Box::from),
            geo: self.geo.as_deref().map(Box::from),
            kept_as: None,
        }
    }

    /// The same answer as pieces, for a client that wants a stream of a provider that gave none.
    #[must_use]
    pub fn into_pieces(self) -> Vec<Piece> {
        let mut pieces = vec![Piece::Start { id: self.id, model: self.model }];
        for (index, choice) in (0..).zip(self.choices) {
            choice.pieces_into(index, &mut pieces);
        }
        pieces.extend(self.service_tier.map(Piece::ServiceTier));
        pieces.extend(self.geo.map(Piece::Geo));
        pieces.extend(self.usage.map(Piece::Usage));
        pieces.extend(self.cost.map(Piece::Cost));
        pieces
    }
}

impl Choice {
    fn pieces_into(self, choice: u32, pieces: &mut Vec<Piece>) {
        let mut calls = 0;
        for part in self.parts {
            let is_call = matches!(part, Part::ToolCall(_));
            part.pieces_into(choice, calls, pieces);
            calls += u32::from(is_call);
        }
        pieces.extend(self.logprobs.map(|logprobs| Piece::Logprobs { choice, logprobs }));
        pieces.push(Piece::Finish { choice, finish: self.finish, stop_sequence: self.stop_sequence });
    }
}

impl Part {
    /// Adds the pieces that say all of this part at once. `call` is the number that it gets if it is a call.
    pub fn pieces_into(self, choice: u32, call: u32, pieces: &mut Vec<Piece>) {
        match self {
            Self::Text(text) => {
                pieces.push(Piece::Text { choice, text: text.text });
                pieces.extend(text.citations.into_iter().map(|citation| Piece::Citation { choice, citation }));
                pieces.extend(text.seal.map(|seal| Piece::Seal { choice, seal }));
            }
            Self::Thought(thought) => {
                pieces.push(Piece::Thought { choice, text: thought.text });
                pieces.extend(thought.seal.map(|seal| Piece::Seal { choice, seal }));
            }
            Self::Refusal(text) => pieces.push(Piece::Refusal { choice, text }),
            Self::ToolCall(tool) => {
                pieces.push(Piece::ToolCall { choice, call, id: tool.id, name: tool.name, custom: tool.custom });
                pieces.push(Piece::Arguments { choice, call, fragment: tool.arguments });
                pieces.extend(tool.seal.map(|seal| Piece::Seal { choice, seal }));
            }
            Self::Image(image) => pieces.push(Piece::Image { choice, image }),
            Self::Audio { .. } | Self::File(_) | Self::ToolResult(_) => {} // no answer has them
        }
    }
}

impl Piece {
    /// Adds to a report what this piece says.
    pub fn tell(&self, report: &mut Report) {
        match self {
            Self::Start { model, .. } if !model.is_empty() => report.model = Some(model.as_str().into()),
            Self::Text { text, .. } | Self::Thought { text, .. } | Self::Refusal { text, .. } => {
                report.output_bytes += text.len() as u64;
            }
            Self::ToolCall { name, .. } => report.output_bytes += name.len() as u64,
            Self::Arguments { fragment, .. } => report.output_bytes += fragment.len() as u64,
            Self::Finish { finish, .. } => report.finish = Some(finish.clone()),
            Self::Usage(usage) => report.usage = Some(*usage),
            Self::Cost(cost) => report.provider_cost = Some(*cost),
            Self::ServiceTier(tier) => report.service_tier = Some(tier.as_str().into()),
            Self::Geo(geo) => report.geo = Some(geo.as_str().into()),
            Self::Start { .. }
            | Self::Seal { .. }
            | Self::Citation { .. }
            | Self::Image { .. }
            | Self::Logprobs { .. } => {}
        }
    }
}
