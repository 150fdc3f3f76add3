//! Usage: what Cohere charges, which is less than the tokens that its models saw (providers.md §11, §12).

use cfr_core::chat::Usage;
use serde_json::{Number, Value};

/// More than any call can use.
const QUANTITY_MAX: u64 = 1_000_000_000;

/// What a usage object says; `None` where it does not say what is charged, which is not the same as nothing.
pub(super) fn read(usage: &Value) -> Option<Usage> {
    let billed = usage.get("billed_units")?;
    Some(Usage::text(units(billed, "input_tokens")?, units(billed, "output_tokens")?))
}

/// Charged units of one kind. Cohere writes whole numbers with a decimal point: `12.0`.
pub(super) fn units(billed: &Value, name: &str) -> Option<u64> {
    let Value::Number(number) = billed.get(name)? else { return None };
    whole(number).filter(|units| *units <= QUANTITY_MAX)
}

/// A number that is not negative, as a whole one.
fn whole(number: &Number) -> Option<u64> {
    number.as_u64().or_else(|| {
        let text = number.to_string();
        let (whole, fraction) = text.split_once('.')?;
        let is_whole = fraction.bytes().all(|digit| digit == b'0');
        let is_decimal = fraction.bytes().all(|digit| digit.is_ascii_digit());
        // Up: never below what is charged.
        is_decimal.then(|| whole.parse::<u64>().ok()?.checked_add(u64::from(!is_whole))).flatten()
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_with_a_decimal_point_are_whole_and_parts_of_a_unit_round_up() {
        let billed = |input: Value| read(&json!({"billed_units": {"input_tokens": input, "output_tokens": 3.0}}));
        assert_eq!(billed(json!(12)), Some(Usage::text(12, 3)));
        assert_eq!(billed(json!(12.0)), Some(Usage::text(12, 3)));
        assert_eq!(billed(json!(12.25)), Some(Usage::text(13, 3)));
        assert_eq!(billed(json!(0.0)), Some(Usage::text(0, 3)));
    }

    #[test]
    fn nothing_readable_is_not_zero() {
        for number in [json!(null), json!(-1), json!(-1.0), json!("12"), json!(1e30), json!(1.5e-9), json!(u64::MAX)] {
            let usage = json!({"billed_units": {"input_tokens": number, "output_tokens": 3}});
            assert_eq!(read(&usage), None, "{usage}");
        }
        for usage in [json!(null), json!({}), json!({"tokens": {"input_tokens": 507, "output_tokens": 5}})] {
            assert_eq!(read(&usage), None, "{usage}");
        }
        assert_eq!(read(&json!({"billed_units": {"input_tokens": 1}})), None);
    }
}
