//! Prices of one unit and exact factors, read from plain decimal text without floats.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Decimal places of a price: one pico-USD.
const DECIMALS: usize = 12;
/// Digits before the point: a price of a million dollars for one unit is a typing error.
const WHOLE_DIGITS_MAX: usize = 6;
/// That million dollars.
const PICO_USD_END: i64 = 1_000_000_000_000_000_000;
/// Decimal places of a price per million units.
const DECIMALS_PER_MILLION: usize = 6;

/// The price of one unit (token, second, image, call) in pico-USD. Never negative.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnitPrice(i64);

impl UnitPrice {
    /// Nothing, said explicitly.
    pub const FREE: Self = Self(0);

    /// A price in pico-USD; none below 0 or from a million dollars for one unit on.
    pub(super) fn from_pico_usd(pico_usd: i64) -> Option<Self> {
        (0..PICO_USD_END).contains(&pico_usd).then_some(Self(pico_usd))
    }

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

/// Decimal digits that a binary floating point number of 64 bits keeps; what follows them is an artefact of one.
const DIGITS_KEPT: usize = 15;
/// Digits of a JSON number that are read.
const NUMBER_DIGITS_MAX: usize = 36;

impl UnitPrice {
    /// A price from a JSON number as programs print their floats, `7.5e-08`, read as text. The number is that of
    /// ten to the power of `per_power_of_ten` units. A fraction of a pico-USD rounds up. `None` when it is no price.
    pub(super) fn from_number(text: &str, per_power_of_ten: u32) -> Option<Self> {
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits = format!("{whole}{fraction}");
        let plain = !whole.is_empty() && digits.len() <= NUMBER_DIGITS_MAX;
        if !plain || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let digits = digits.trim_start_matches('0');
        let (kept, cut) = digits.split_at_checked(DIGITS_KEPT).unwrap_or((digits, ""));
        let rounds_up = cut.as_bytes().first().is_some_and(|digit| *digit >= b'5');
        let kept = if kept.is_empty() { 0 } else { kept.parse::<i128>().ok()? } + i128::from(rounds_up);
        let cut_digits = i32::try_from(cut.len()).ok()?;
        let power = exponent.parse::<i32>().ok()?.checked_add(cut_digits)?;
        let power =
            power.checked_sub(i32::try_from(fraction.len()).ok()?)?.checked_add(i32::try_from(DECIMALS).ok()?)?;
        Self::from_pico_usd(shifted(kept, power.checked_sub(i32::try_from(per_power_of_ten).ok()?)?)?)
    }
}

/// A number times a power of ten; a fraction rounds up.
fn shifted(number: i128, power: i32) -> Option<i64> {
    let factor = 10_i128.checked_pow(power.unsigned_abs());
    let shifted = match (factor, power >= 0) {
        (Some(factor), true) => number.checked_mul(factor)?,
        (Some(factor), false) => number / factor + i128::from(number % factor > 0), // up: never below the price
        (None, false) => i128::from(number > 0),
        (None, true) => (number == 0).then_some(0)?,
    };
    i64::try_from(shifted).ok()
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

/// A text that is not a factor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a factor is a plain decimal number above 0 and at most {}, of at most 6 decimal places", Factor::WHOLE_MAX)]
pub struct FactorError;

/// Once.
impl Default for Factor {
    fn default() -> Self {
        Self::ONE
    }
}

impl FromStr for Factor {
    type Err = FactorError;
    fn from_str(text: &str) -> Result<Self, FactorError> {
        Self::parse(text).filter(|factor| factor.numerator <= Self::WHOLE_MAX * factor.denominator).ok_or(FactorError)
    }
}

/// Both numbers, as they are kept.
impl Serialize for Factor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.numerator, self.denominator).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Factor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (numerator, denominator) = <(i64, i64)>::deserialize(deserializer)?;
        let kept = (denominator > 0).then_some(Self { numerator, denominator });
        kept.and_then(Self::shortened).ok_or_else(|| serde::de::Error::custom(FactorError))
    }
}

impl Factor {
    /// Once.
    pub const ONE: Self = Self { numerator: 1, denominator: 1 };
    /// What an operator can say: a price a thousand times as high is a typing error.
    const WHOLE_MAX: i64 = 1_000;
    const DECIMALS_MAX: usize = 6;
    const NUMERATOR_MAX: i64 = 1_000_000_000;

    pub(super) fn parse(text: &str) -> Option<Self> {
        let denominator = 10_i64.pow(u32::try_from(Self::DECIMALS_MAX).ok()?);
        let numerator = digits_scaled(text, Self::DECIMALS_MAX)?;
        Self { numerator, denominator }.shortened()
    }

    /// Itself, or one where it makes a price lower.
    pub(super) const fn at_least_one(self) -> Self {
        if self.numerator < self.denominator { Self::ONE } else { self }
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

    #[track_caller]
    fn check_number(text: &str, pico_usd: Option<i64>) {
        assert_eq!(UnitPrice::from_number(text, 0).map(UnitPrice::pico_usd), pico_usd, "{text}");
    }

    #[test]
    fn numbers_of_other_tables_are_read_without_floats() {
        check_number("7.5e-08", Some(75_000));
        check_number("2.5E-6", Some(2_500_000));
        check_number("0.0", Some(0));
        check_number("0e-99", Some(0));
        check_number("0.035", Some(35_000_000_000));
        check_number("1e2", Some(100_000_000_000_000));
        assert_eq!(UnitPrice::from_number("2.5", 3).map(UnitPrice::pico_usd), Some(2_500_000_000));
    }

    #[test]
    fn artefacts_of_floats_are_mended_and_true_fractions_round_up() {
        check_number("2.9999999999999997e-07", Some(300_000));
        check_number("1.0000000000000001e-07", Some(100_000));
        check_number("1.25e-12", Some(2));
        check_number("1e-40", Some(1));
    }

    #[test]
    fn what_is_no_price_is_none() {
        for text in ["-1e-6", "1e6", "1e99", "e-6", ".5", "", "NaN", "null", "1e", "1e-6x", "\"1\"", "1e9999999999"] {
            check_number(text, None);
        }
        check_number(&"9".repeat(NUMBER_DIGITS_MAX + 1), None);
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
