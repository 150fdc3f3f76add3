//! Images, speech and transcripts: what is held covers whatever a provider may report of them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use cfr_core::chat::envelope::{ImageOrder, ImageQuality, InputBound, Recording, Script, Work};
use cfr_core::chat::{Meter, Usage};
use cfr_core::price::{Mode, OwnPrice, PriceEntry, PriceError, PriceTable, PriceTerms, UnitPrice};
use cfr_core::time::Timestamp;
use proptest::prelude::*;
use proptest::sample::Index;

const CASES: u32 = 3_000;

fn table() -> Arc<PriceTable> {
    PriceTable::bundled().unwrap()
}

fn at_now() -> PriceTerms<'static> {
    let now: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
    PriceTerms { at: Some(now), ..PriceTerms::default() }
}

fn entry<'a>(table: &'a PriceTable, provider: &str, model: &str) -> &'a PriceEntry {
    table.find(provider, model, at_now().at.unwrap()).unwrap()
}

fn of(work: Work) -> InputBound {
    InputBound { text_tokens: 1_000, work, ..InputBound::default() }
}

fn recording(seconds: u64) -> Work {
    Work::Transcript(Recording { seconds, ..Recording::default() })
}

const SIZES: [Option<(u32, u32)>; 5] =
    [None, Some((1_024, 1_024)), Some((1_024, 1_536)), Some((2_880, 2_880)), Some((3_840, 2_160))];
const QUALITIES: [ImageQuality; 6] = [
    ImageQuality::Auto,
    ImageQuality::Low,
    ImageQuality::Medium,
    ImageQuality::High,
    ImageQuality::ExtraHigh,
    ImageQuality::Max,
];

/// What an image has by OpenAI's calculator and tables; where the provider chooses, what is dearest in them.
fn image_tokens(model: &str, order: ImageOrder) -> u64 {
    let axis = match (order.quality, model.contains("image-2.5")) {
        (ImageQuality::Low, _) => 16,
        (ImageQuality::Medium, true) => 24,
        (ImageQuality::Medium, false) | (ImageQuality::High, true) => 48,
        (ImageQuality::ExtraHigh, true) => 64,
        _ => 96,
    };
    let (width, height) = order.size.unwrap_or((2_880, 2_880));
    let (long, short) = (u64::from(width.max(height)), u64::from(width.min(height)));
    let by_area = axis * ((2 * axis * short + long) / (2 * long)) * (2_000_000 + long * short) / 4_000_000;
    let by_table = match order.quality {
        ImageQuality::Low => 272,
        ImageQuality::Medium => 1_056,
        _ => 4_160,
    };
    let made = if model.contains("image-2") { by_area } else { by_table };
    made + 100 * u64::from(order.partial_images)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    #[test]
    fn no_usage_of_other_work_costs_more_than_its_bound(
        which in any::<Index>(), size in proptest::sample::select(&SIZES[..]),
        quality in proptest::sample::select(&QUALITIES[..]), partial_images in 0..4_u32, given in 0..17_u32, made in 1..11_u32,
        seconds in 0..100_000_u64, characters in 0..200_000_u64, text in 0..40_000_u64, used in 0.0..=1.0_f32,
    ) {
        let table = table();
        let works = |entry: &&PriceEntry| matches!(entry.mode(), Mode::Image | Mode::Stt | Mode::Tts);
        let entries: Vec<_> = table.entries().iter().filter(works).collect();
        let entry = which.get(&entries);
        let work = match entry.mode() {
            Mode::Image => Work::Images(ImageOrder { size, quality, partial_images }),
            Mode::Tts => Work::Speech(Script { characters }),
            _ => recording(seconds),
        };
        let input = InputBound { text_tokens: text, images: given, work, ..InputBound::default() };
        let bound = match entry.upper_bound(&input, made, &at_now()) {
            Ok(bound) => bound.total(u64::MAX),
            Err(PriceError::UnboundedWork { .. }) => return Ok(()),
            Err(error) => return Err(TestCaseError::fail(format!("{}: {error}", entry.model()))),
        };
        for usage in usages(entry, &input, made) {
            let usage = shared(&usage, used);
            // What has no price is charged with the whole hold, which is the bound.
            if let Ok(cost) = entry.cost(&usage, &at_now()) {
                prop_assert!(bound >= cost, "{} {usage:?}: {cost:?} > {bound:?}", entry.model());
            }
        }
    }
}

/// What a provider may report at the most: by the piece, and by tokens.
fn usages(entry: &PriceEntry, input: &InputBound, made: u32) -> Vec<Usage> {
    let (limits, made) = (entry.limits(), u64::from(made));
    let given = u64::from(input.images) * made;
    let usage = Usage::default().with(Meter::InputTokens, input.text_tokens);
    match input.work {
        Work::Images(order) => {
            let tokens = limits.max_output_tokens.unwrap_or_else(|| image_tokens(entry.model(), order)) * made;
            let by_tokens = usage
                .with(Meter::InputTokens, input.text_tokens * made)
                .with(Meter::InputImageTokens, given * 1_536)
                .with(Meter::OutputImageTokens, tokens);
            let by_piece = Usage::default().with(Meter::OutputImages, made).with(Meter::InputImages, given);
            vec![by_tokens, by_piece]
        }
        Work::Speech(script) => {
            let by_tokens = usage.with(Meter::OutputAudioTokens, limits.max_output_tokens.unwrap_or(16_384));
            vec![by_tokens, Usage::default().with(Meter::InputCharacters, script.characters)]
        }
        Work::Transcript(recording) => {
            let heard = limits.max_input_tokens.unwrap_or(0);
            let by_tokens = Usage::default()
                .with(Meter::InputTokens, heard / 10)
                .with(Meter::InputAudioTokens, heard - heard / 10)
                .with(Meter::OutputTokens, limits.max_output_tokens.unwrap_or(0));
            let longest = if entry.model().contains("gpt-4o") { 1_500 } else { u64::MAX };
            vec![by_tokens, Usage::default().with(Meter::InputSeconds, recording.seconds.min(longest))]
        }
        _ => Vec::new(),
    }
}

#[expect(
    clippy::float_arithmetic,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a share of a test's range"
)]
fn shared(usage: &Usage, part: f32) -> Usage {
    usage.used().fold(Usage::default(), |shared, (meter, quantity)| {
        shared.with(meter, ((quantity as f64 * f64::from(part)) as u64).min(quantity))
    })
}

#[track_caller]
fn check(provider: &str, model: &str, input: &InputBound, choices: u32, pico_usd: i128) {
    let bound = entry(&table(), provider, model).upper_bound(input, choices, &at_now()).unwrap();
    assert_eq!((bound.fixed.0, bound.per_output_token.0), (pico_usd, 0));
}

#[test]
fn an_image_is_held_for_its_prompt_and_its_dearest_tokens() {
    let order = ImageOrder { size: Some((1_024, 1_024)), quality: ImageQuality::High, partial_images: 0 };
    check("openai", "gpt-image-2", &of(Work::Images(order)), 1, 1_000 * 5_000_000 + 7_024 * 30_000_000);
    check("openai", "gpt-image-2", &of(Work::Images(order)), 2, 2 * (1_000 * 5_000_000 + 7_024 * 30_000_000));
    let edit = InputBound { images: 2, ..of(Work::Images(order)) };
    let given = 2 * (65 + 8 * 129 + 6_240) * 8_000_000;
    check("openai", "gpt-image-2", &edit, 1, 1_000 * 5_000_000 + given + 7_024 * 30_000_000);
}

#[test]
fn an_image_with_a_price_of_its_own_is_held_for_that_price() {
    let images = Work::Images(ImageOrder::default());
    check("xai", "grok-imagine-image", &of(images), 3, 3 * 20_000_000_000);
    let edit = InputBound { images: 1, ..of(images) };
    check("xai", "grok-imagine-image", &edit, 1, 2 * 20_000_000_000);
}

#[test]
fn speech_is_held_by_characters_or_by_the_longest_sound() {
    let speech = of(Work::Speech(Script { characters: 500 }));
    check("openai", "tts-1", &speech, 1, 500 * 15_000_000);
    check("openai", "gpt-4o-mini-tts", &speech, 1, 1_000 * 600_000 + 16_384 * 12_000_000);
}

#[test]
fn a_recording_is_held_by_its_seconds_or_by_what_the_model_can_hear() {
    check("openai", "whisper-1", &of(recording(61)), 1, 61 * 100_000_000);
    check("groq", "whisper-large-v3", &of(recording(3)), 1, 10 * 30_830_000);
    let heard = 16_000 * 6_000_000 + 2_000 * 10_000_000;
    check("openai", "gpt-4o-transcribe", &of(recording(61)), 1, heard);
    check("openai", "gpt-4o-transcribe", &of(recording(60_000)), 1, 1_500 * 100_000_000);
    let in_pieces = Work::Transcript(Recording { seconds: 61, counted: false, in_pieces: true });
    check("openai", "gpt-4o-transcribe-diarize", &of(in_pieces), 1, 32_000 * 6_000_000 + 32_000 * 10_000_000);
}

#[test]
fn groq_charges_ten_seconds_at_the_least() {
    let table = table();
    let cost = |provider, model| {
        entry(&table, provider, model).cost(&Usage::default().with(Meter::InputSeconds, 3), &at_now()).unwrap().0
    };
    assert_eq!(cost("groq", "whisper-large-v3"), 10 * 30_830_000);
    assert_eq!(cost("openai", "whisper-1"), 3 * 100_000_000);
}

#[test]
fn a_model_without_a_price_or_a_limit_for_the_work_is_refused() {
    let table = table();
    let refused =
        |provider, model, work| entry(&table, provider, model).upper_bound(&of(work), 1, &at_now()).unwrap_err();
    let images = Work::Images(ImageOrder::default());
    assert!(matches!(refused("openai", "whisper-1", images), PriceError::UnpricedMeter { .. }));
    let own = own("local", "unknown", "0.000001");
    let table = table.with_own_prices(&[own]).unwrap();
    let entry = entry(&table, "local", "unknown");
    for work in [images, recording(1), Work::Speech(Script { characters: 1 })] {
        assert!(
            matches!(entry.upper_bound(&of(work), 1, &at_now()), Err(PriceError::UnboundedWork { .. })),
            "{work:?}"
        );
    }
}

#[test]
fn what_is_free_by_the_token_is_free_by_the_piece() {
    let table = table().with_own_prices(&[own("local", "whisper", "0")]).unwrap();
    let entry = entry(&table, "local", "whisper");
    for work in [Work::Images(ImageOrder::default()), recording(60), Work::Speech(Script { characters: 1 })] {
        assert_eq!(entry.upper_bound(&of(work), 1, &at_now()).unwrap().fixed.0, 0, "{work:?}");
    }
    let usage = Usage::default().with(Meter::InputSeconds, 60).with(Meter::OutputImages, 1);
    assert_eq!(entry.cost(&usage, &at_now()).unwrap().0, 0);
}

fn own(provider: &str, model: &str, price: &str) -> OwnPrice {
    let price: UnitPrice = price.parse().unwrap();
    OwnPrice {
        provider: provider.into(),
        model: model.into(),
        mode: Mode::Chat,
        input: price,
        output: price,
        cache_read: None,
        piece: None,
        limits: cfr_core::price::Limits::default(),
    }
}

#[test]
fn an_operator_may_charge_by_the_piece() {
    let piece = |model: &str, mode| OwnPrice { mode, piece: Some("0.02".parse().unwrap()), ..own("local", model, "0") };
    let prices = [piece("flux", Mode::Image), piece("whisper", Mode::Stt), piece("bark", Mode::Tts)];
    let table = table().with_own_prices(&prices).unwrap();
    let bound = |model, input: &InputBound, choices| {
        entry(&table, "local", model).upper_bound(input, choices, &at_now()).unwrap().fixed.0 / 20_000_000_000
    };
    let images = InputBound { images: 1, ..of(Work::Images(ImageOrder::default())) };
    assert_eq!(bound("flux", &images, 3), 6);
    assert_eq!(bound("whisper", &of(recording(61)), 1), 61);
    assert_eq!(bound("bark", &of(Work::Speech(Script { characters: 7 })), 1), 7);
    let used = Usage::default().with(Meter::OutputImages, 3);
    assert_eq!(entry(&table, "local", "flux").cost(&used, &at_now()).unwrap().0, 3 * 20_000_000_000);
    assert!(entry(&table, "local", "flux").cost(&Usage::text(1, 1), &at_now()).is_err());
}
