//! The usage of a response, in disjoint buckets. Where details do not add up to the total, what is left is taken for sound,
//! which is the dearest; cached tokens of unknown kind are taken for text, which they make cheaper the least.

use cfr_core::chat::{Meter, Usage};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::openai::usage::{Count, count, plausible};

#[derive(Deserialize)]
struct WireUsage {
    input_tokens: Count,
    output_tokens: Count,
    input_token_details: Option<InputDetails>,
    output_token_details: Option<Kinds>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct InputDetails {
    text_tokens: Option<Count>,
    audio_tokens: Option<Count>,
    image_tokens: Option<Count>,
    cached_tokens: Option<Count>,
    cached_tokens_details: Option<Kinds>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Kinds {
    text_tokens: Option<Count>,
    audio_tokens: Option<Count>,
    image_tokens: Option<Count>,
    reasoning_tokens: Option<Count>,
}

/// Tokens of text, of images and of sound.
type Split = [u64; 3];

const WHOLE: [Meter; 3] = [Meter::InputTokens, Meter::InputImageTokens, Meter::InputAudioTokens];
const CACHED: [Meter; 3] = [Meter::CacheReadTokens, Meter::CacheReadImageTokens, Meter::CacheReadAudioTokens];
const MADE: [Meter; 3] = [Meter::OutputTokens, Meter::OutputImageTokens, Meter::OutputAudioTokens];

/// What a usage object says; `None` where it cannot be read or is absurd: that is not the same as zero.
pub(super) fn read(raw: &RawValue) -> Option<Usage> {
    let wire: WireUsage = serde_json::from_str(Some(raw.get()).filter(|raw| raw.starts_with('{'))?).ok()?;
    let details = wire.input_token_details.unwrap_or_default();
    let said = [&details.text_tokens, &details.image_tokens, &details.audio_tokens].map(|kind| count(*kind));
    let read = filled(said, wire.input_tokens.0, Fill::Sound);
    let named = details.cached_tokens_details.unwrap_or_default().split();
    let cached = filled(within(named, read), count(details.cached_tokens).min(total(read)), Fill::Free(read));
    let answer = wire.output_token_details.unwrap_or_default();
    let beside = wire.output_tokens.0.saturating_sub(total(answer.split()));
    let thought = count(answer.reasoning_tokens).min(beside); // where they are not part of the text
    let made = filled(answer.split(), wire.output_tokens.0 - thought, Fill::Sound);
    let mut usage = Usage::default().with(Meter::ReasoningTokens, thought);
    for kind in 0..WHOLE.len() {
        usage.set(WHOLE[kind], read[kind].saturating_sub(cached[kind]));
        usage.set(CACHED[kind], cached[kind]);
        usage.set(MADE[kind], made[kind]);
    }
    plausible(usage)
}

impl Kinds {
    fn split(&self) -> Split {
        [&self.text_tokens, &self.image_tokens, &self.audio_tokens].map(|kind| count(*kind))
    }
}

/// Where tokens go that belong to no kind.
enum Fill {
    /// To sound.
    Sound,
    /// To text, then images, then sound, as far as there is room.
    Free(Split),
}

fn filled(mut split: Split, whole: u64, fill: Fill) -> Split {
    let mut rest = whole.saturating_sub(total(split));
    match fill {
        Fill::Sound => split[2] = split[2].saturating_add(rest),
        Fill::Free(room) => {
            for (kind, room) in split.iter_mut().zip(room) {
                let more = rest.min(room.saturating_sub(*kind));
                *kind = kind.saturating_add(more);
                rest -= more;
            }
        }
    }
    split
}

fn within(split: Split, most: Split) -> Split {
    std::array::from_fn(|kind| split[kind].min(most[kind]))
}

fn total(split: Split) -> u64 {
    split.into_iter().fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[track_caller]
    fn check(wire: Value, expected: Option<&[(Meter, u64)]>) {
        let raw = serde_json::value::to_raw_value(&wire).expect("JSON");
        let expected =
            expected.map(|buckets| buckets.iter().fold(Usage::default(), |all, (meter, n)| all.with(*meter, *n)));
        assert_eq!(read(&raw), expected, "{wire}");
    }

    #[test]
    fn every_token_is_counted_once() {
        check(
            json!({
                "total_tokens": 821, "input_tokens": 789, "output_tokens": 32,
                "input_token_details": {
                    "text_tokens": 313, "audio_tokens": 476, "cached_tokens": 640,
                    "cached_tokens_details": {"text_tokens": 256, "audio_tokens": 384},
                },
                "output_token_details": {"text_tokens": 9, "audio_tokens": 23},
            }),
            Some(&[
                (Meter::InputTokens, 57),
                (Meter::CacheReadTokens, 256),
                (Meter::InputAudioTokens, 92),
                (Meter::CacheReadAudioTokens, 384),
                (Meter::OutputTokens, 9),
                (Meter::OutputAudioTokens, 23),
            ]),
        );
    }

    #[test]
    fn what_belongs_to_no_kind_is_the_dearest_and_no_cache_makes_it_cheaper_than_it_must() {
        check(
            json!({"input_tokens": 10, "output_tokens": 5}),
            Some(&[(Meter::InputAudioTokens, 10), (Meter::OutputAudioTokens, 5)]),
        );
        check(
            json!({
                "input_tokens": 30, "output_tokens": 0,
                "input_token_details": {"text_tokens": 10, "image_tokens": 5, "audio_tokens": 15, "cached_tokens": 18},
            }),
            Some(&[
                (Meter::CacheReadTokens, 10),
                (Meter::CacheReadImageTokens, 5),
                (Meter::CacheReadAudioTokens, 3),
                (Meter::InputAudioTokens, 12),
            ]),
        );
    }

    #[test]
    fn reasoning_is_counted_once_whether_it_is_part_of_the_text_or_not() {
        let answer = |text: u64| {
            let details = json!({"text_tokens": text, "reasoning_tokens": 7});
            json!({"input_tokens": 0, "output_tokens": 10, "output_token_details": details})
        };
        check(answer(3), Some(&[(Meter::OutputTokens, 3), (Meter::ReasoningTokens, 7)]));
        check(answer(10), Some(&[(Meter::OutputTokens, 10)]));
    }

    #[test]
    fn more_cached_than_read_is_not_believed() {
        let details = json!({"text_tokens": 4, "cached_tokens": 99, "cached_tokens_details": {"audio_tokens": 99}});
        check(
            json!({"input_tokens": 4, "output_tokens": 0, "input_token_details": details}),
            Some(&[(Meter::CacheReadTokens, 4)]),
        );
    }

    #[test]
    fn what_is_no_usage_is_not_zero() {
        for wire in [json!(null), json!([]), json!({}), json!({"input_tokens": -1, "output_tokens": 0})] {
            check(wire, None);
        }
        check(json!({"input_tokens": u64::MAX, "output_tokens": 0}), None);
        check(json!({"input_tokens": 0, "output_tokens": 0}), Some(&[]));
    }
}
