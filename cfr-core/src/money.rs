//! Money: integers, one rounding per amount, and the only place that converts currencies.
//!
//! A price list counts in pico-USD per unit, so that the cost of a request is exact ([`PicoUsd`]). A charge counts in
//! nano-units of the customer's currency ([`Money`]). [`FxRate`] turns the first into the second with exactly one
//! division per amount: a hold rounds up, so that it covers the charge of the same usage; a charge rounds half to even,
//! so that many requests neither gain nor lose.

use std::fmt::{self, Display};
use std::str::FromStr;

use rust_decimal::Decimal;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[cfg(test)]
mod tests;

/// Nano-units in one unit of a currency.
pub const NANOS_PER_UNIT: i64 = 1_000_000_000;
/// Pico-units in one unit of a currency.
pub const PICOS_PER_UNIT: i128 = 1_000_000_000_000;
/// Basis points in one.
pub const BPS_PER_ONE: u32 = 10_000;
/// A rate above a million dollars for one unit is a typing error; it also keeps every product inside `i128`.
pub const FX_RATE_E6_MAX: i64 = 1_000_000_000_000;
/// A margin above 1000 % is a typing error.
pub const MARGIN_BPS_MAX: u32 = 100_000;

/// Why an amount cannot be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MoneyError {
    /// Two amounts of different currencies met without a rate.
    #[error("cannot combine {left} with {right}")]
    CurrencyMismatch {
        /// The currency of the first amount.
        left: Currency,
        /// The currency of the second amount.
        right: Currency,
    },
    /// The amount is beyond ±9.2 billion units.
    #[error("amount out of range")]
    OutOfRange,
    /// The text is not an amount with at most nine decimal places.
    #[error("not an amount with at most 9 decimal places")]
    Malformed,
    /// The text is not a currency code of three capital letters.
    #[error("a currency is three capital letters, as in EUR")]
    UnknownCurrency,
    /// A rate must be positive and at most [`FX_RATE_E6_MAX`].
    #[error("an exchange rate must be positive and at most a million dollars for one unit")]
    BadRate,
    /// A margin is at most 100 000 basis points.
    #[error("a margin is at most {MARGIN_BPS_MAX} basis points")]
    BadMargin,
}

/// A currency by its ISO 4217 code.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Currency([u8; 3]);

impl Currency {
    /// Euro.
    pub const EUR: Self = Self(*b"EUR");
    /// United States dollar, the currency of price lists.
    pub const USD: Self = Self(*b"USD");

    /// The code, three capital letters.
    #[must_use]
    pub fn code(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("XXX")
    }
}

impl FromStr for Currency {
    type Err = MoneyError;
    fn from_str(text: &str) -> Result<Self, MoneyError> {
        match text.as_bytes() {
            &[a, b, c] if [a, b, c].iter().all(u8::is_ascii_uppercase) => Ok(Self([a, b, c])),
            _ => Err(MoneyError::UnknownCurrency),
        }
    }
}

impl Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl Serialize for Currency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code())
    }
}

impl<'de> Deserialize<'de> for Currency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        std::borrow::Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// An amount in nano-units of one currency: 1 EUR is 1 000 000 000.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Money {
    nanos: i64,
    currency: Currency,
}

impl Money {
    /// `nanos` billionths of one unit of `currency`.
    #[must_use]
    pub const fn from_nanos(nanos: i64, currency: Currency) -> Self {
        Self { nanos, currency }
    }

    /// Nothing of `currency`.
    #[must_use]
    pub const fn zero(currency: Currency) -> Self {
        Self { nanos: 0, currency }
    }

    /// The amount in nano-units.
    #[must_use]
    pub const fn nanos(self) -> i64 {
        self.nanos
    }

    /// The currency.
    #[must_use]
    pub const fn currency(self) -> Currency {
        self.currency
    }

    /// So many hundredths of the amount, at most all of it: half to even.
    #[must_use]
    pub fn share(self, percent: u8) -> Self {
        let scaled = i128::from(self.nanos) * i128::from(percent.min(100));
        let nanos = i64::try_from(divide(scaled, 100, Rounding::HalfEven)).unwrap_or(self.nanos);
        Self { nanos, ..self }
    }

    /// The sum.
    ///
    /// # Errors
    /// When the currencies differ or the sum is out of range.
    pub fn checked_add(self, other: Self) -> Result<Self, MoneyError> {
        self.same_currency(other)?;
        let nanos = self.nanos.checked_add(other.nanos).ok_or(MoneyError::OutOfRange)?;
        Ok(Self { nanos, ..self })
    }

    /// The difference.
    ///
    /// # Errors
    /// When the currencies differ or the difference is out of range.
    pub fn checked_sub(self, other: Self) -> Result<Self, MoneyError> {
        self.same_currency(other)?;
        let nanos = self.nanos.checked_sub(other.nanos).ok_or(MoneyError::OutOfRange)?;
        Ok(Self { nanos, ..self })
    }

    /// An amount from a decimal number of whole units, as people and files write it.
    ///
    /// # Errors
    /// When it has more than nine decimal places or is out of range: nothing is rounded here.
    pub fn from_decimal(units: Decimal, currency: Currency) -> Result<Self, MoneyError> {
        let units = units.normalize();
        if units.scale() > 9 {
            return Err(MoneyError::Malformed);
        }
        let factor = 10_i128.pow(9 - units.scale());
        let nanos = units.mantissa().checked_mul(factor).ok_or(MoneyError::OutOfRange)?;
        let nanos = i64::try_from(nanos).map_err(|_| MoneyError::OutOfRange)?;
        Ok(Self { nanos, currency })
    }

    /// The exact decimal number of whole units.
    #[must_use]
    pub fn to_decimal(self) -> Decimal {
        Decimal::new(self.nanos, 9).normalize()
    }

    fn same_currency(self, other: Self) -> Result<(), MoneyError> {
        if self.currency == other.currency {
            return Ok(());
        }
        Err(MoneyError::CurrencyMismatch { left: self.currency, right: other.currency })
    }
}

/// As `12.34 EUR`, exact.
impl Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.to_decimal(), self.currency)
    }
}

impl fmt::Debug for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(self, f)
    }
}

/// What a provider charges, exact, in pico-USD. The sum over meters of quantity times unit price.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct PicoUsd(pub i128);

/// What is added to the provider's cost, in basis points: 2 000 is 20 %.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Margin(u32);

impl Margin {
    /// No margin: price equals cost.
    pub const NONE: Self = Self(0);
    /// 20 %, the default of DESIGN §1.
    pub const DEFAULT: Self = Self(2_000);

    /// A margin of `bps` basis points.
    ///
    /// # Errors
    /// Above [`MARGIN_BPS_MAX`].
    pub const fn from_bps(bps: u32) -> Result<Self, MoneyError> {
        if bps > MARGIN_BPS_MAX { Err(MoneyError::BadMargin) } else { Ok(Self(bps)) }
    }

    /// The margin in basis points.
    #[must_use]
    pub const fn bps(self) -> u32 {
        self.0
    }
}

/// How many USD one unit of a currency buys, in millionths. It is frozen on a hold and used again to settle it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct FxRate {
    currency: Currency,
    usd_per_unit_e6: i64,
}

/// A settled request: `price = cost + margin`, always.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Charge {
    /// What the provider charges us.
    pub cost: Money,
    /// What we add; defined as `price - cost`, so that the three always add up.
    pub margin: Money,
    /// What the customer pays.
    pub price: Money,
}

/// Which way a division goes.
#[derive(Clone, Copy)]
enum Rounding {
    Up,
    HalfEven,
}

impl FxRate {
    /// The rate of the dollar to itself.
    pub const USD: Self = Self { currency: Currency::USD, usd_per_unit_e6: 1_000_000 };

    /// One unit of `currency` buys `usd_per_unit_e6` millionths of a dollar (1.16 USD per EUR is 1 160 000).
    ///
    /// # Errors
    /// When the rate is not positive or above [`FX_RATE_E6_MAX`].
    pub const fn new(currency: Currency, usd_per_unit_e6: i64) -> Result<Self, MoneyError> {
        if usd_per_unit_e6 <= 0 || usd_per_unit_e6 > FX_RATE_E6_MAX {
            return Err(MoneyError::BadRate);
        }
        Ok(Self { currency, usd_per_unit_e6 })
    }

    /// The currency that amounts are converted into.
    #[must_use]
    pub const fn currency(self) -> Currency {
        self.currency
    }

    /// Millionths of a dollar for one unit.
    #[must_use]
    pub const fn usd_per_unit_e6(self) -> i64 {
        self.usd_per_unit_e6
    }

    /// The price to hold for a worst case: rounds up, so that it is never below the charge of the same cost.
    ///
    /// # Errors
    /// When the amount is out of range.
    pub fn hold(self, worst_case: PicoUsd, margin: Margin) -> Result<Money, MoneyError> {
        self.price(worst_case, margin, Rounding::Up)
    }

    /// Cost, margin and price of what was used: each rounded once, half to even.
    ///
    /// # Errors
    /// When an amount is out of range.
    pub fn charge(self, cost: PicoUsd, margin: Margin) -> Result<Charge, MoneyError> {
        let price = self.price(cost, margin, Rounding::HalfEven)?;
        let cost = self.price(cost, Margin::NONE, Rounding::HalfEven)?;
        Ok(Charge { cost, margin: price.checked_sub(cost)?, price })
    }

    /// The largest cost whose hold fits into `budget`: rounds down.
    #[must_use]
    pub fn affordable(self, budget: Money, margin: Margin) -> PicoUsd {
        let scaled =
            i128::from(budget.nanos.max(0)) * i128::from(self.usd_per_unit_e6) * 1_000 * i128::from(BPS_PER_ONE);
        PicoUsd(scaled / (1_000_000 * i128::from(BPS_PER_ONE + margin.0))) // down: what is affordable never exceeds the budget
    }

    /// `nano = pico · 1e6 · (10000 + bps) / (rate_e6 · 1e3 · 10000)`, one division (money.md §2.1).
    fn price(self, cost: PicoUsd, margin: Margin, rounding: Rounding) -> Result<Money, MoneyError> {
        let factor = 1_000_000 * i128::from(BPS_PER_ONE + margin.0);
        let scaled = cost.0.checked_mul(factor).ok_or(MoneyError::OutOfRange)?;
        let divisor = i128::from(self.usd_per_unit_e6) * 1_000 * i128::from(BPS_PER_ONE);
        let nanos = divide(scaled, divisor, rounding);
        let nanos = i64::try_from(nanos).map_err(|_| MoneyError::OutOfRange)?;
        Ok(Money { nanos, currency: self.currency })
    }
}

fn divide(value: i128, divisor: i128, rounding: Rounding) -> i128 {
    let floor = value.div_euclid(divisor);
    let rest = value.rem_euclid(divisor);
    let up = match rounding {
        Rounding::Up => rest > 0,
        Rounding::HalfEven => match (rest * 2).cmp(&divisor) {
            std::cmp::Ordering::Less => false,
            std::cmp::Ordering::Equal => floor % 2 != 0,
            std::cmp::Ordering::Greater => true,
        },
    };
    floor + i128::from(up)
}
