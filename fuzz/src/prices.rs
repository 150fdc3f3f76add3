//! Price tables of strangers: refused, or a table in which the bound of a conversation is never below its price.

use cfr_core::chat::envelope::InputBound;
use cfr_core::chat::{Meter, Usage};
use cfr_core::price::{Mode, PriceEntry, PriceTable, PriceTerms};

use crate::input::Input;

/// Choices: tokens of a prompt and of its answer, each in thousands. The body is a price table.
///
/// # Panics
/// When an entry's bound is below what the call then costs.
pub fn check(data: &[u8]) {
    let mut input = Input::new(data);
    let [prompt, answer] = [input.byte(), input.byte()].map(|thousands| u64::from(thousands) * 1_000);
    let Ok(table) = PriceTable::from_json(input.body()) else { return };
    for entry in table.entries().iter().filter(|entry| entry.mode() == Mode::Chat) {
        check_entry(entry, prompt, answer);
    }
}

fn check_entry(entry: &PriceEntry, prompt: u64, answer: u64) {
    let (terms, limits) = (PriceTerms::default(), entry.limits());
    let prompt = limits.max_input_tokens.map_or(prompt, |most| prompt.min(most)); // a longer one is refused by the provider
    let input = InputBound { text_tokens: prompt, ..InputBound::default() };
    let Ok(bound) = entry.upper_bound(&input, 1, &terms) else { return };
    let usages = [
        Usage::text(prompt, answer),
        Usage::default().with(Meter::CacheReadTokens, prompt).with(Meter::ReasoningTokens, answer),
        Usage::default().with(Meter::InputTokens, prompt / 2).with(Meter::CacheReadTokens, prompt - prompt / 2),
    ];
    for usage in usages {
        if let Ok(cost) = entry.cost(&usage, &terms) {
            assert!(cost <= bound.total(answer), "{usage:?} of {} costs {cost:?} above {bound:?}", entry.model());
        }
    }
}
