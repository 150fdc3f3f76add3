//! A model check of the lease protocol (money.md §3.3): random schedules of everything that can happen to a few nodes and
//! one store, with an oracle that knows what was really served.
//!
//! The protocol must survive every schedule; each mutant, a version of it with one rule left out, must be caught. A
//! protocol that passes under an oracle that lets mutants pass would prove nothing.
//!
//! `CFR_SIM_SEEDS` and `CFR_SIM_STEPS` set how many schedules are played and how long they are. A failure names its seed;
//! `CFR_SEED` plays that one alone.

mod simulator;

use simulator::{Config, Mutant, Tally, play};

/// Schedules per configuration.
const SEEDS: u64 = 12;
/// Steps per schedule.
const STEPS: u64 = 4_000;

/// Partitions that outlast the grace after which leases are reclaimed.
const LONG_PARTITION_MS: u64 = 80_000;

#[test]
fn leases_in_chunks_keep_every_invariant() {
    survives(Config::default());
}

#[test]
fn leases_of_exactly_what_is_needed_keep_every_invariant() {
    survives(Config { chunk: 0, ..Config::default() });
}

#[test]
fn prices_above_their_holds_keep_every_invariant() {
    let tally = survives(Config { overrun_permille: 100, ..Config::default() });
    assert!(tally.absorbed > 0, "some prices exceeded what could be charged");
}

#[test]
fn budgets_that_are_rarely_exhausted_keep_every_invariant() {
    survives(Config { limit_scale: 40, ..Config::default() });
}

#[test]
fn eight_nodes_with_large_leases_keep_every_invariant() {
    survives(Config { limit_scale: 3, chunk: 8_000, nodes: 8, ..Config::default() });
}

#[test]
fn a_partition_longer_than_the_grace_overshoots_by_no_more_than_was_reclaimed() {
    let tally = survives(Config { partition_ms_max: LONG_PARTITION_MS, late_allowed: true, ..Config::default() });
    assert!(tally.late > 0, "some settlements came after their lease was reclaimed");
}

#[test]
fn a_partition_longer_than_the_grace_is_noticed() {
    catches(Config { partition_ms_max: LONG_PARTITION_MS, ..Config::default() });
}

#[test]
fn the_oracle_catches_a_store_that_settles_twice() {
    catches(Config { mutant: Some(Mutant::SettlesTwice), ..Config::default() });
}

#[test]
fn the_oracle_catches_a_node_that_ignores_its_deadline() {
    let partitioned = Config { partition_ms_max: LONG_PARTITION_MS, late_allowed: true, ..Config::default() };
    catches(Config { mutant: Some(Mutant::IgnoresDeadline), limit_scale: 40, ..partitioned });
}

#[test]
fn the_oracle_catches_a_settlement_under_another_epoch() {
    let partitioned = Config { partition_ms_max: LONG_PARTITION_MS, late_allowed: true, ..Config::default() };
    catches(Config { mutant: Some(Mutant::SettlesUnderCurrentEpoch), ..partitioned });
}

#[test]
fn the_oracle_catches_an_overrun_charged_beyond_the_lease() {
    let overrun = Config { overrun_permille: 100, ..Config::default() };
    catches(Config { mutant: Some(Mutant::ChargesBeyondLease), ..overrun });
}

#[test]
fn the_oracle_catches_a_reclaim_that_does_not_wait_for_the_longest_request() {
    catches(Config { mutant: Some(Mutant::ReclaimsAtExpiry), grace_ms: 0, ..Config::default() });
}

#[test]
fn the_oracle_catches_a_node_that_keeps_its_epoch_after_losing_a_lease() {
    let partitioned = Config { partition_ms_max: LONG_PARTITION_MS, late_allowed: true, ..Config::default() };
    catches(Config { mutant: Some(Mutant::KeepsEpochAfterLoss), ..partitioned });
}

/// Plays every schedule and adds up what happened.
#[track_caller]
fn survives(config: Config) -> Tally {
    let mut total = Tally::default();
    for seed in seeds() {
        match play(&config, seed, steps()) {
            Ok(tally) => total.add(&tally),
            Err(broken) => panic!("CFR_SEED={seed}, {config:?}: {broken}"),
        }
    }
    assert!(total.admitted > 0 && total.denied > 0, "a schedule without both proves little: {total:?}");
    total
}

/// Plays schedules until one fails.
#[track_caller]
fn catches(config: Config) {
    let caught = seeds().any(|seed| play(&config, seed, steps()).is_err());
    assert!(caught, "no schedule of {} steps notices: {config:?}", steps());
}

fn seeds() -> std::ops::RangeInclusive<u64> {
    match number_from_env("CFR_SEED") {
        Some(seed) => seed..=seed,
        None => 1..=number_from_env("CFR_SIM_SEEDS").unwrap_or(SEEDS),
    }
}

fn steps() -> u64 {
    number_from_env("CFR_SIM_STEPS").unwrap_or(STEPS)
}

fn number_from_env(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} must be a number, not `{text}`")))
}
