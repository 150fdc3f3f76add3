//! Amounts as other gateways write them: JSON numbers. They are read and written digit by digit, never as floats.

use std::str::FromStr;

use cfr_core::money::{Currency, Money, MoneyError};
use rust_decimal::Decimal;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

/// Decimal places that count. What calculates with floats sends more, and means none of them.
const PLACES: u32 = 9;

/// An amount without a currency: a JSON number, or the same as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Amount(pub(crate) Decimal);

impl Amount {
    /// The amount of a currency, rounded up to its smallest part: what is held is no less than what was named.
    ///
    /// # Errors
    /// When it is out of range.
    pub(crate) fn money(self, currency: Currency) -> Result<Money, MoneyError> {
        let rounded = self.0.round_dp_with_strategy(PLACES, rust_decimal::RoundingStrategy::AwayFromZero);
        Money::from_decimal(rounded, currency)
    }

    /// So many billionths.
    pub(crate) fn of_nanos(nanos: i64) -> Self {
        Self(Decimal::new(nanos, PLACES).normalize())
    }
}

impl From<Money> for Amount {
    fn from(money: Money) -> Self {
        Self(money.to_decimal())
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        let digits = raw.get().trim().trim_matches('"');
        let parsed = Decimal::from_str(digits).or_else(|_| Decimal::from_scientific(digits));
        parsed.map(Self).map_err(|_| serde::de::Error::custom("a number is expected"))
    }
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let number = RawValue::from_string(self.0.normalize().to_string());
        number.map_err(serde::ser::Error::custom)?.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn reads(json: &str, expected: Option<&str>) {
        let read = serde_json::from_str::<Amount>(json).ok();
        assert_eq!(read, expected.map(|text| Amount(text.parse().expect("a decimal"))), "{json}");
    }

    #[test]
    fn every_way_to_write_a_number_is_read_exactly() {
        for (json, expected) in [
            ("0.1", Some("0.1")),
            ("\"12.34\"", Some("12.34")),
            ("1.5e-05", Some("0.000015")),
            ("-3", Some("-3")),
            ("null", None),
            ("\"much\"", None),
            ("{}", None),
        ] {
            reads(json, expected);
        }
    }

    #[test]
    fn numbers_are_written_as_numbers() {
        assert_eq!(serde_json::to_string(&Amount::of_nanos(1_500_000_000)).expect("JSON"), "1.5");
        assert_eq!(serde_json::to_string(&Amount::of_nanos(0)).expect("JSON"), "0");
    }

    #[test]
    fn what_is_named_too_finely_is_rounded_up() {
        let money = Amount("0.0000000001".parse().expect("a decimal")).money(Currency::EUR);
        assert_eq!(money, Ok(Money::from_nanos(1, Currency::EUR)));
    }
}
