use std::cmp::Ordering;

use proptest::prelude::*;

use super::*;

#[track_caller]
fn check(value: i128, divisor: i128, up: i128, half_even: i128) {
    assert_eq!(divide(value, divisor, Rounding::Up), up, "{value}/{divisor} up");
    assert_eq!(divide(value, divisor, Rounding::HalfEven), half_even, "{value}/{divisor} half to even");
}

#[test]
fn a_division_rounds_the_way_it_says() {
    check(0, 10, 0, 0);
    check(4, 10, 1, 0);
    check(5, 10, 1, 0);
    check(6, 10, 1, 1);
    check(10, 10, 1, 1);
    check(15, 10, 2, 2);
    check(25, 10, 3, 2);
    check(35, 10, 4, 4);
    check(1, 3, 1, 0);
    check(2, 3, 1, 1);
    check(-5, 10, 0, 0);
    check(-15, 10, -1, -2);
    check(-25, 10, -2, -2);
    check(-26, 10, -2, -3);
}

#[test]
fn one_pico_dollar_is_held_and_not_charged() {
    let hold = FxRate::USD.hold(PicoUsd(1), Margin::NONE).unwrap();
    let charge = FxRate::USD.charge(PicoUsd(1), Margin::NONE).unwrap();
    assert_eq!((hold.nanos(), charge.price.nanos()), (1, 0));
}

#[test]
fn a_charge_is_cost_plus_margin_in_the_customers_currency() {
    let fx = FxRate::new(Currency::EUR, 1_160_000).unwrap();
    let charge = fx.charge(PicoUsd(1_160_000_000_000), Margin::DEFAULT).unwrap();
    let eur = |nanos| Money::from_nanos(nanos, Currency::EUR);
    assert_eq!(charge, Charge { cost: eur(1_000_000_000), margin: eur(200_000_000), price: eur(1_200_000_000) });
}

#[test]
fn amounts_beyond_the_range_are_errors() {
    let everything = PicoUsd(i128::MAX);
    assert_eq!(FxRate::USD.hold(everything, Margin::NONE), Err(MoneyError::OutOfRange));
    let most = i128::from(i64::MAX) * 1_000;
    assert_eq!(FxRate::USD.hold(PicoUsd(most), Margin::NONE).unwrap().nanos(), i64::MAX);
    assert_eq!(FxRate::USD.hold(PicoUsd(most + 1), Margin::NONE), Err(MoneyError::OutOfRange));
    let max = Money::from_nanos(i64::MAX, Currency::USD);
    assert_eq!(max.checked_add(Money::from_nanos(1, Currency::USD)), Err(MoneyError::OutOfRange));
    assert_eq!(Money::from_nanos(i64::MIN, Currency::USD).checked_sub(max), Err(MoneyError::OutOfRange));
}

#[test]
fn two_currencies_do_not_mix() {
    let mismatch = Err(MoneyError::CurrencyMismatch { left: Currency::EUR, right: Currency::USD });
    assert_eq!(Money::zero(Currency::EUR).checked_add(Money::zero(Currency::USD)), mismatch);
    assert_eq!(Money::zero(Currency::EUR).checked_sub(Money::zero(Currency::USD)), mismatch);
}

#[test]
fn rates_and_margins_have_limits() {
    for rate in [0, -1, i64::MIN, FX_RATE_E6_MAX + 1] {
        assert_eq!(FxRate::new(Currency::EUR, rate), Err(MoneyError::BadRate));
    }
    assert!(FxRate::new(Currency::EUR, 1).is_ok() && FxRate::new(Currency::EUR, FX_RATE_E6_MAX).is_ok());
    assert_eq!(Margin::from_bps(MARGIN_BPS_MAX + 1), Err(MoneyError::BadMargin));
}

#[test]
fn rates_and_margins_are_read_as_they_were_set() {
    let fx = FxRate::new(Currency::EUR, 1_160_000).unwrap();
    assert_eq!((fx.currency(), fx.usd_per_unit_e6()), (Currency::EUR, 1_160_000));
    assert_eq!(Margin::from_bps(MARGIN_BPS_MAX).map(Margin::bps), Ok(MARGIN_BPS_MAX));
}

#[test]
fn a_currency_is_three_capital_letters() {
    for text in ["", "EU", "EURO", "eur", "E1R", "ÄÖ", "€"] {
        assert_eq!(text.parse::<Currency>(), Err(MoneyError::UnknownCurrency), "{text}");
    }
    assert_eq!("EUR".parse(), Ok(Currency::EUR));
    assert_eq!(serde_json::from_str::<Currency>(r#""CHF""#).unwrap().code(), "CHF");
    assert!(serde_json::from_str::<Currency>(r#""chf""#).is_err());
}

#[track_caller]
fn decimal(text: &str, expected: Result<i64, MoneyError>) {
    let money = Money::from_decimal(text.parse().unwrap(), Currency::EUR);
    assert_eq!(money.map(Money::nanos), expected, "{text}");
}

#[test]
fn decimals_are_taken_exactly_or_not_at_all() {
    decimal("12.34", Ok(12_340_000_000));
    decimal("-0.000000001", Ok(-1));
    decimal("0.1000000000000", Ok(100_000_000));
    decimal("0.0000000001", Err(MoneyError::Malformed));
    decimal("9223372036.854775807", Ok(i64::MAX));
    decimal("9223372036.854775808", Err(MoneyError::OutOfRange));
    decimal("79228162514264337593543950335", Err(MoneyError::OutOfRange));
}

#[test]
fn money_prints_exactly() {
    let print = |nanos| Money::from_nanos(nanos, Currency::EUR).to_string();
    assert_eq!(print(12_340_000_000), "12.34 EUR");
    assert_eq!(print(-1), "-0.000000001 EUR");
    assert_eq!(print(0), "0 EUR");
    assert_eq!(print(i64::MIN), "-9223372036.854775808 EUR");
}

#[test]
fn a_budget_below_zero_affords_nothing() {
    let budget = Money::from_nanos(-5, Currency::USD);
    assert_eq!(FxRate::USD.affordable(budget, Margin::DEFAULT), PicoUsd(0));
}

/// The same amount by decimal arithmetic, for inputs whose decimals are exact.
fn reference(pico: i64, rate_e6: i64, bps: u32) -> Option<Decimal> {
    let dollars = Decimal::from(pico).checked_mul(Decimal::from(BPS_PER_ONE + bps))?;
    dollars.checked_div(Decimal::from(rate_e6))?.checked_div(Decimal::from(10))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_500))]

    #[test]
    fn printing_and_reading_an_amount_gives_it_back(nanos in any::<i64>()) {
        let money = Money::from_nanos(nanos, Currency::EUR);
        prop_assert_eq!(Money::from_decimal(money.to_decimal(), Currency::EUR), Ok(money));
    }

    #[test]
    fn what_is_affordable_can_be_held_and_one_more_pico_cannot(
        nanos in 0..i64::MAX, rate in 1..=FX_RATE_E6_MAX, bps in 0..=MARGIN_BPS_MAX,
    ) {
        let (fx, margin) = (FxRate::new(Currency::EUR, rate).unwrap(), Margin::from_bps(bps).unwrap());
        let cost = fx.affordable(Money::from_nanos(nanos, Currency::EUR), margin);
        prop_assert!(fx.hold(cost, margin).unwrap().nanos() <= nanos);
        let more = fx.hold(PicoUsd(cost.0 + 1), margin);
        prop_assert!(more.is_ok_and(|more| more.nanos() > nanos));
    }

    #[test]
    fn a_hold_covers_the_charge_and_exceeds_it_by_one_nano_at_most(
        cost in 0..i128::from(i64::MAX), rate in 1..=FX_RATE_E6_MAX, bps in 0..=MARGIN_BPS_MAX,
    ) {
        let (fx, margin) = (FxRate::new(Currency::EUR, rate).unwrap(), Margin::from_bps(bps).unwrap());
        let Ok(hold) = fx.hold(PicoUsd(cost), margin) else { return Ok(()) };
        let charge = fx.charge(PicoUsd(cost), margin).unwrap();
        prop_assert!((0..=1).contains(&(hold.nanos() - charge.price.nanos())));
        prop_assert_eq!(charge.price.nanos() - charge.cost.nanos(), charge.margin.nanos());
        prop_assert!(charge.margin.nanos() >= 0);
    }

    #[test]
    fn prices_grow_with_cost_and_margin(cost in 0..1_i64 << 60, more in 0..1_i64 << 40, bps in 0..MARGIN_BPS_MAX) {
        let hold = |cost, bps| FxRate::USD.hold(PicoUsd(i128::from(cost)), Margin::from_bps(bps).unwrap()).unwrap();
        prop_assert!(hold(cost, bps).nanos() <= hold(cost + more, bps).nanos());
        prop_assert!(hold(cost, bps).nanos() <= hold(cost, bps + 1).nanos());
    }

    #[test]
    fn charges_agree_with_decimal_arithmetic(pico in 0..1_i64 << 50, rate in 100_000..10_000_000_i64, bps in 0..=20_000_u32) {
        let fx = FxRate::new(Currency::EUR, rate).unwrap();
        let charge = fx.charge(PicoUsd(i128::from(pico)), Margin::from_bps(bps).unwrap()).unwrap();
        let exact = reference(pico, rate, bps).unwrap();
        let half = Decimal::new(5, 1);
        let distance = (Decimal::from(charge.price.nanos()) - exact).abs();
        prop_assert_ne!(distance.cmp(&half), Ordering::Greater, "{} is not the nearest of {}", charge.price, exact);
    }

    #[test]
    fn no_cost_makes_money_panic(cost in any::<i128>(), nanos in any::<i64>(), rate in 1..=FX_RATE_E6_MAX, bps in 0..=MARGIN_BPS_MAX) {
        let (fx, margin) = (FxRate::new(Currency::EUR, rate).unwrap(), Margin::from_bps(bps).unwrap());
        if let (Ok(hold), Ok(charge)) = (fx.hold(PicoUsd(cost), margin), fx.charge(PicoUsd(cost), margin)) {
            prop_assert!(hold.nanos() >= charge.price.nanos());
        }
        prop_assert!(fx.affordable(Money::from_nanos(nanos, Currency::EUR), margin).0 >= 0);
    }
}
