//! The price of a usage, worked out apart from the gateway: plain integers from the public price list.

/// `gpt-4o-mini`: 0.15 USD for a million prompt tokens.
const INPUT_PICO_USD: i128 = 150_000;
/// `gpt-4o-mini`: 0.60 USD for a million answer tokens.
const OUTPUT_PICO_USD: i128 = 600_000;
/// The margin of the test product: 20 %.
const MARGIN_BPS: i128 = 2_000;
/// The exchange rate of the test configuration: 1.16 USD for a euro, in millionths.
pub const FX_E6: i128 = 1_160_000;

/// What a customer pays for these tokens, in nano-euro: one division, half to even.
pub fn price_nanos(input: u64, output: u64) -> i64 {
    let pico_usd = i128::from(input) * INPUT_PICO_USD + i128::from(output) * OUTPUT_PICO_USD;
    let numerator = pico_usd * 1_000_000 * (10_000 + MARGIN_BPS);
    let denominator = FX_E6 * 1_000 * 10_000;
    let (whole, rest) = (numerator / denominator, numerator % denominator);
    let up = match (rest * 2).cmp(&denominator) {
        std::cmp::Ordering::Less => 0,
        std::cmp::Ordering::Equal => whole % 2,
        std::cmp::Ordering::Greater => 1,
    };
    i64::try_from(whole + up).expect("a small price")
}
