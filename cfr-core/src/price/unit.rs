//! Prices of one unit and exact factors, read from plain decimal text without floats.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Decimal places of a price: one pico-USD.
const DECIMALS: usize = 12;
/// Digits before the point: a price of a million dollars for one unit is a typing error.
const WHOLE_DIGITS_MAX: usize = 6;
/// Decimal places of a price per million units.
const DECIMALS_PER_MILLION: usize = 6;

/// The price of one unit (token, second, image, call) in pico-USD. Never negative.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnitPrice(i64);

impl UnitPrice {
    /// Nothing, said explicitly.
    pub const FREE: Self = Self(0);

    /// The price in pico-USD.
    #[must_use]
    pub const fn pico_usd(self) -> i64 {
        self.0
    }

    /// A price in USD per million units, as price lists for people show it: `2.5`.
    ///
    /// # Errors
    /// When the text is not a plain decimal number with at most six decimal places.
    pub fn from_usd_per_million(text: &str) -> Result<Self, UnitPriceError> {
        digits_scaled(text, DECIMALS_PER_MILLION).map(Self).ok_or(UnitPriceError)
    }
}

/// A text that is not a price.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a price is a plain decimal number of USD, at least 0, without exponent, of at most 12 decimal places")]
pub struct UnitPriceError;

/// From USD per unit: `0.0000025` is 2.5 USD per million.
impl FromStr for UnitPrice {
    type Err = UnitPriceError;
    fn from_str(text: &str) -> Result<Self, UnitPriceError> {
        digits_scaled(text, DECIMALS).map(Self).ok_or(UnitPriceError)
    }
}

/// As USD per unit, exact.
impl fmt::Display for UnitPrice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = rust_decimal::Decimal::try_from_i128_with_scale(i128::from(self.0), 12).map_err(|_| fmt::Error)?;
        fmt::Display::fmt(&units.normalize(), f)
    }
}

impl Serialize for UnitPrice {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for UnitPrice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        std::borrow::Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// An exact factor: `1.1` is 11 tenths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Factor {
    numerator: i64,
    denominator: i64,
}

impl Factor {
    pub(super) const ONE: Self = Self { numerator: 1, denominator: 1 };
    const DECIMALS_MAX: usize = 6;
    const NUMERATOR_MAX: i64 = 1_000_000_000;

    pub(super) fn parse(text: &str) -> Option<Self> {
        let denominator = 10_i64.pow(u32::try_from(Self::DECIMALS_MAX).ok()?);
        let numerator = digits_scaled(text, Self::DECIMALS_MAX)?;
        Self { numerator, denominator }.shortened()
    }

    pub(super) fn times(self, other: Self) -> Option<Self> {
        let numerator = self.numerator.checked_mul(other.numerator)?;
        let denominator = self.denominator.checked_mul(other.denominator)?;
        Self { numerator, denominator }.shortened()
    }

    /// A factor stays small, so that products of many cannot overflow.
    fn shortened(self) -> Option<Self> {
        let divisor = greatest_common_divisor(self.numerator, self.denominator);
        let short = Self { numerator: self.numerator / divisor, denominator: self.denominator / divisor };
        (short.numerator > 0 && short.numerator <= Self::NUMERATOR_MAX).then_some(short)
    }

    /// The product; a fraction of a pico-USD rounds up, so that a price is never below its cost.
    pub(super) fn of(self, amount: i128) -> Option<i128> {
        let scaled = amount.checked_mul(i128::from(self.numerator))?;
        let denominator = i128::from(self.denominator);
        let floor = scaled.div_euclid(denominator);
        Some(floor + i128::from(scaled.rem_euclid(denominator) > 0)) // up
    }
}

fn greatest_common_divisor(a: i64, b: i64) -> i64 {
    if b == 0 { a.max(1) } else { greatest_common_divisor(b, a % b) }
}

/// Plain digits, at most one point with digits on both sides, times ten to the power of `decimals`.
fn digits_scaled(text: &str, decimals: usize) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let plain = |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if !plain(whole) || !plain(fraction) || whole.len() > WHOLE_DIGITS_MAX || fraction.len() > decimals {
        return None;
    }
    let zeros = decimals - fraction.len();
    let digits = whole.bytes().chain(fraction.bytes()).chain(std::iter::repeat_n(b'0', zeros));
    digits.map(|digit| i64::from(digit - b'0')).try_fold(0_i64, |sum, digit| sum.checked_mul(10)?.checked_add(digit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, pico_usd: Option<i64>) {
        assert_eq!(text.parse::<UnitPrice>().ok().map(UnitPrice::pico_usd), pico_usd, "{text}");
    }

    #[test]
    fn plain_decimals_are_read_exactly() {
        check("0", Some(0));
        check("0.0000025", Some(2_500_000));
        check("0.000000000001", Some(1));
        check("999999.999999999999", Some(999_999_999_999_999_999));
        check("0.10", Some(100_000_000_000));
    }

    #[test]
    fn everything_else_is_refused() {
        for text in
            ["", ".5", "5.", "-1", "+1", "1e-6", "1E6", "0.0000000000001", "1000000", "1,5", " 1", "NaN", "inf", "٣"]
        {
            check(text, None);
        }
    }

    #[test]
    fn a_price_prints_as_it_is_written() {
        for text in ["0", "0.0000025", "1.5", "0.000000000001"] {
            assert_eq!(text.parse::<UnitPrice>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn prices_per_million_are_what_people_write() {
        assert_eq!(UnitPrice::from_usd_per_million("2.5").unwrap(), "0.0000025".parse().unwrap());
        assert_eq!(UnitPrice::from_usd_per_million("0").unwrap(), UnitPrice::FREE);
        assert!(UnitPrice::from_usd_per_million("0.0000001").is_err());
    }

    #[test]
    fn factors_are_exact_and_round_up() {
        let factor = Factor::parse("1.1").unwrap();
        assert_eq!(factor.of(10), Some(11));
        assert_eq!(factor.of(1), Some(2));
        assert_eq!(factor.times(factor).unwrap().of(100), Some(121));
        assert_eq!(factor.of(i128::MAX), None);
        assert!(Factor::parse("0").is_none() && Factor::parse("-1").is_none());
    }
}
