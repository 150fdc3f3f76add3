//! Images, speech and transcripts: charged by the piece or by tokens. Where the table has prices for both, the dearer
//! one is held; a usage that it has no price for is charged with the whole hold, so that it is never more than this.

use super::bound::{Reach, product};
use super::{Bound, PicoUsd, PriceEntry, PriceError, PriceTerms, Tier};
use crate::chat::Meter;
use crate::chat::envelope::{InputBound, Recording, Work};

mod image;

/// Tokens of sound in one answer, where the table does not say: the limit of GPT-4o mini audio and of Gemini's speech.
const SPEECH_TOKENS_MAX: u64 = 16_384;
/// Seconds of one recording that OpenAI's models of this kind take.
const GPT_4O_SECONDS_MAX: u64 = 1_500;
/// Seconds that Groq charges at the least.
const GROQ_SECONDS_MIN: u64 = 10;
/// A recording that is cut into pieces repeats a little of itself, and the prompt.
const PIECES_FACTOR: u64 = 2;

const TEXT: [Meter; 2] = [Meter::InputTokens, Meter::CacheReadTokens];
const IMAGE: [Meter; 2] = [Meter::InputImageTokens, Meter::CacheReadImageTokens];
const AUDIO: [Meter; 4] =
    [Meter::InputAudioTokens, Meter::CacheReadAudioTokens, Meter::InputTokens, Meter::CacheReadTokens];
const ANSWER: [Meter; 2] = [Meter::OutputTokens, Meter::ReasoningTokens];

/// So much of the dearest of these meters; `None` where nothing bounds it.
type Line = (&'static [Meter], Option<u64>);

impl PriceEntry {
    /// The most that work other than text costs.
    pub(super) fn bound_of_work(
        &self,
        input: &InputBound,
        choices: u64,
        terms: &PriceTerms<'_>,
        tiers: [Tier; 2],
    ) -> Result<Bound, PriceError> {
        let tokens = self.token_lines(input, choices);
        let prompt = tokens.iter().filter(|(meters, _)| meters[0].is_input_token()).filter_map(|(_, tokens)| *tokens);
        let reach = self.reach(prompt.fold(0, u64::saturating_add), terms, tiers)?;
        let by_piece = self.sum_of(&self.piece_lines(input, choices), &reach)?;
        let by_tokens = self.sum_of(&tokens, &reach)?;
        let by_tokens = by_tokens.map(|sum| reach.factor.of(sum).ok_or(PriceError::OutOfRange)).transpose()?;
        let unpriced = || PriceError::UnpricedMeter { model: self.model.clone(), meter: meter_of(input.work) };
        let fixed = by_piece.max(by_tokens).ok_or_else(unpriced)?;
        Ok(Bound {
            fixed: PicoUsd(fixed),
            per_output_token: PicoUsd(0),
            output_tokens_floor: 0,
            output_tokens_model_max: self.limits.max_output_tokens,
        })
    }

    /// How much of a meter is charged for so much of it.
    pub(super) fn charged_quantity(&self, meter: Meter, quantity: u64) -> u64 {
        let has_least = meter == Meter::InputSeconds && self.provider() == "groq";
        if has_least { quantity.max(GROQ_SECONDS_MIN) } else { quantity }
    }

    /// What the lines cost together; `None` when one of them has no price.
    fn sum_of(&self, lines: &[Line], reach: &Reach) -> Result<Option<i128>, PriceError> {
        let mut sum = 0_i128;
        for (meters, quantity) in lines {
            let mut priced = meters.iter().copied().filter(|meter| self.price(*meter, Tier::Standard, 0).is_ok());
            let Some(first) = priced.next() else { return Ok(None) };
            let amount = match (self.worst(reach, std::iter::once(first).chain(priced))?, quantity) {
                (0, _) => 0,
                (rate, Some(quantity)) => product(rate, *quantity)?,
                (_, None) => return Err(PriceError::UnboundedWork { model: self.model.clone() }),
            };
            sum = sum.checked_add(amount).ok_or(PriceError::OutOfRange)?;
        }
        Ok((!lines.is_empty()).then_some(sum))
    }

    /// What is charged where it goes by the piece.
    fn piece_lines(&self, input: &InputBound, choices: u64) -> Vec<Line> {
        match input.work {
            Work::Text | Work::Conversation(_) => Vec::new(),
            Work::Images(_) => {
                let given = u64::from(input.images).saturating_mul(choices);
                let made: Line = (&[Meter::OutputImages], Some(choices));
                if given > 0 { vec![made, (&[Meter::InputImages], Some(given))] } else { vec![made] }
            }
            Work::Speech(script) => vec![(&[Meter::InputCharacters], Some(script.characters))],
            Work::Transcript(recording) => {
                let longest = if self.model.contains("gpt-4o") { GPT_4O_SECONDS_MAX } else { u64::MAX };
                let seconds = self.charged_quantity(Meter::InputSeconds, recording.seconds.min(longest));
                vec![(&[Meter::InputSeconds], Some(seconds))]
            }
        }
    }

    /// What is charged where it goes by tokens.
    fn token_lines(&self, input: &InputBound, choices: u64) -> Vec<Line> {
        let times = |quantity: u64| Some(quantity.saturating_mul(choices));
        let text: Line = (&TEXT, times(input.text_tokens)); // images count the prompt anew for each
        match input.work {
            Work::Text | Work::Conversation(_) => Vec::new(),
            Work::Images(order) => {
                let mut lines = vec![text];
                let given = u64::from(input.images);
                if given > 0 {
                    lines
                        .push((&IMAGE, self.image_tokens_max().and_then(|tokens| times(tokens.saturating_mul(given)))));
                }
                lines.extend(self.made_lines(image::made_tokens_max(self.provider(), self.model(), order), choices));
                lines
            }
            Work::Speech(_) => {
                let tokens =
                    self.limits.max_output_tokens.or_else(|| makes_speech(self.model()).then_some(SPEECH_TOKENS_MAX));
                vec![text, (&[Meter::OutputAudioTokens], tokens)]
            }
            Work::Transcript(recording) => self.transcript_lines(recording),
        }
    }

    /// Image tokens by their family, else whatever the model can answer with.
    fn made_lines(&self, made: Option<image::Made>, choices: u64) -> Vec<Line> {
        let times = |quantity: u64| quantity.saturating_mul(choices);
        match made {
            Some(image::Made { image_tokens, text_tokens: 0 }) => {
                vec![(&[Meter::OutputImageTokens], Some(times(image_tokens)))]
            }
            Some(image::Made { image_tokens, text_tokens }) => {
                vec![(&[Meter::OutputImageTokens], Some(times(image_tokens))), (&ANSWER, Some(times(text_tokens)))]
            }
            None => {
                let tokens = self.limits.max_output_tokens.map(|tokens| times(overshot(tokens)));
                vec![(&[Meter::OutputImageTokens, Meter::OutputTokens, Meter::ReasoningTokens], tokens)]
            }
        }
    }

    /// A model hears no more than its context holds, and says no more than its limit, of each piece.
    fn transcript_lines(&self, recording: Recording) -> Vec<Line> {
        let limits = self.limits;
        let (heard, said) = if recording.in_pieces {
            let heard = limits.max_input_tokens.map(|tokens| tokens.saturating_mul(PIECES_FACTOR));
            (heard, limits.max_output_tokens.max(heard)) // nobody says more than there is to hear
        } else {
            (limits.max_input_tokens, limits.max_output_tokens)
        };
        vec![(&AUDIO, heard), (&ANSWER, said)]
    }
}

/// The meter that is named when there is no price at all.
const fn meter_of(work: Work) -> Meter {
    match work {
        Work::Text | Work::Conversation(_) => Meter::InputTokens,
        Work::Images(_) => Meter::OutputImages,
        Work::Speech(_) => Meter::InputCharacters,
        Work::Transcript(_) => Meter::InputSeconds,
    }
}

fn makes_speech(model: &str) -> bool {
    model.contains("tts")
}

/// One in a hundred more, and 64: Gemini does not stop at the token.
const fn overshot(tokens: u64) -> u64 {
    tokens.saturating_add(tokens.div_ceil(100)).saturating_add(64)
}
