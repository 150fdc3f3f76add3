//! Rates that no source publishes, of tiers that are dearer than the standard one: derived, so that what falls back to
//! the standard rate is never charged too little.

use crate::price::{Rate, Tier, UnitPrice};

const DEARER: [Tier; 3] = [Tier::Priority, Tier::Fast, Tier::Ultrafast];

/// The rates that each dearer tier lacks: the standard rate times the tier's largest known ratio, rounded up.
pub(super) fn derived(rates: &[Rate]) -> Vec<Rate> {
    DEARER.into_iter().flat_map(|tier| derived_of(tier, rates)).collect()
}

fn derived_of(tier: Tier, rates: &[Rate]) -> Vec<Rate> {
    let known = |rate: &Rate, tier| find(rates, &Rate { tier, ..*rate });
    let ratios = rates.iter().filter(|rate| rate.tier == tier);
    let ratios = ratios.filter_map(|rate| Some((rate.price.pico_usd(), known(rate, Tier::Standard)?.pico_usd())));
    let largest = ratios.filter(|(dearer, standard)| *standard > 0 && dearer > standard).max_by(|a, b| {
        (i128::from(a.0) * i128::from(b.1)).cmp(&(i128::from(b.0) * i128::from(a.1))) // a.0 / a.1 against b.0 / b.1
    });
    let Some(ratio) = largest else { return Vec::new() };
    let standard = rates.iter().filter(|rate| rate.tier == Tier::Standard && rate.meter.is_token());
    let lacking = standard.filter(|rate| known(rate, tier).is_none());
    lacking.filter_map(|rate| Some(Rate { tier, price: scaled(rate.price, ratio)?, ..*rate })).collect()
}

fn find(rates: &[Rate], wanted: &Rate) -> Option<UnitPrice> {
    let place = |rate: &Rate| (rate.meter, rate.tier, rate.above);
    rates.iter().find(|rate| place(rate) == place(wanted)).map(|rate| rate.price)
}

/// Rounds up: an assumed price is never below what the ratio says.
fn scaled(price: UnitPrice, (numerator, denominator): (i64, i64)) -> Option<UnitPrice> {
    let product = i128::from(price.pico_usd()).checked_mul(i128::from(numerator))?;
    let (quotient, rest) = (product / i128::from(denominator), product % i128::from(denominator));
    UnitPrice::from_pico_usd(i64::try_from(quotient + i128::from(rest > 0)).ok()?) // up
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::Meter;

    fn rate(meter: Meter, tier: Tier, above: u64, pico_usd: i64) -> Rate {
        Rate { meter, tier, above, price: UnitPrice::from_pico_usd(pico_usd).expect("a price") }
    }

    #[test]
    fn a_dearer_tier_gets_what_it_lacks_by_its_largest_ratio_rounded_up() {
        let (input, output, cached) = (Meter::InputTokens, Meter::OutputTokens, Meter::CacheReadTokens);
        let rates = [
            rate(input, Tier::Standard, 0, 100),
            rate(input, Tier::Priority, 0, 150),
            rate(output, Tier::Standard, 0, 300),
            rate(output, Tier::Priority, 0, 500),
            rate(cached, Tier::Standard, 0, 10),
            rate(input, Tier::Batch, 0, 50),
        ];
        assert_eq!(derived(&rates), [rate(cached, Tier::Priority, 0, 17)]);
    }

    #[test]
    fn nothing_is_derived_for_a_tier_that_is_unknown_or_not_dearer() {
        let input = Meter::InputTokens;
        let rates = [rate(input, Tier::Standard, 0, 100), rate(Meter::OutputTokens, Tier::Standard, 0, 100)];
        assert_eq!(derived(&rates), []);
        assert_eq!(derived(&[rates[0], rates[1], rate(input, Tier::Priority, 0, 100)]), []);
    }
}
