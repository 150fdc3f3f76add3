//! How many tokens an image that is made can have, by model family, size and quality.
//!
//! For GPT Image 1 OpenAI publishes a table of tokens by size and quality; for GPT Image 2 and 2.5 a calculator, whose
//! formula is that of [`by_area`]: 7,024 tokens for 1024 × 1024 at the dearest quality, as both tables say.

use crate::chat::envelope::{ImageOrder, ImageQuality};

/// Tokens of an unfinished image.
const PARTIAL_IMAGE_TOKENS: u64 = 100;
/// Tokens of text in which GPT Image 1.5 thinks before it draws. No limit is published; measured are some hundreds.
const THOUGHT_TOKENS: u64 = 4_096;
/// The most pixels of an image that GPT Image 2 and its successors make, and the fewest.
const PIXELS_MAX: u64 = 8_294_400;
const PIXELS_MIN: u64 = 655_360;
/// What the formula adds to the pixels, and what it divides by.
const AREA_OFFSET: u64 = 2_000_000;
const AREA_DIVISOR: u128 = 4_000_000;

/// The most tokens of one image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Made {
    pub(super) image_tokens: u64,
    /// Of text, which some models think and charge.
    pub(super) text_tokens: u64,
}

/// The most tokens of one image; `None` for a family that we have no figures of.
pub(super) fn made_tokens_max(provider: &str, model: &str, order: ImageOrder) -> Option<Made> {
    if !matches!(provider, "openai" | "azure") {
        return None;
    }
    let name = model.rsplit('/').next().unwrap_or(model);
    let (tokens, text_tokens) = match name {
        _ if is_of(name, "gpt-image-2.5") => (by_area(order, axis_of_2_5(order.quality)), 0),
        _ if is_of(name, "gpt-image-2") => (by_area(order, axis_of_2(order.quality)), 0),
        _ if is_of(name, "gpt-image-1.5") || is_of(name, "chatgpt-image") => (by_table(order), THOUGHT_TOKENS),
        _ if is_of(name, "gpt-image-1") => (by_table(order), 0),
        _ => return None,
    };
    let partial = PARTIAL_IMAGE_TOKENS.saturating_mul(order.partial_images.into());
    Some(Made { image_tokens: tokens.saturating_add(partial), text_tokens })
}

/// Whether a name is the family's, or a variant or snapshot of it.
fn is_of(name: &str, family: &str) -> bool {
    name.strip_prefix(family).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

/// Tokens along the longer side of GPT Image 2.
const fn axis_of_2(quality: ImageQuality) -> u64 {
    match quality {
        ImageQuality::Low => 16,
        ImageQuality::Medium => 48,
        _ => 96,
    }
}

/// Tokens along the longer side of GPT Image 2.5.
const fn axis_of_2_5(quality: ImageQuality) -> u64 {
    match quality {
        ImageQuality::Low => 16,
        ImageQuality::Medium => 24,
        ImageQuality::High => 48,
        ImageQuality::ExtraHigh => 64,
        ImageQuality::Max | ImageQuality::Auto => 96,
    }
}

/// Tokens of a grid with the shape of the image, times its area; a size that the provider chooses is the largest.
fn by_area(order: ImageOrder, axis: u64) -> u64 {
    let (width, height) = order.size.map_or((1, 1), |(width, height)| (u64::from(width), u64::from(height)));
    let pixels = order.size.map_or(PIXELS_MAX, |_| width.saturating_mul(height).max(PIXELS_MIN));
    let (long, short) = (width.max(height).max(1), width.min(height));
    let across = axis.saturating_mul(short).div_ceil(long).max(1);
    let tokens = u128::from(axis.saturating_mul(across)) * u128::from(pixels.saturating_add(AREA_OFFSET));
    u64::try_from(tokens.div_ceil(AREA_DIVISOR)).unwrap_or(u64::MAX)
}

/// Of its three sizes the square is the cheapest; any other is taken for the dearest.
const fn by_table(order: ImageOrder) -> u64 {
    let square = matches!(order.size, Some((1_024, 1_024)));
    match (order.quality, square) {
        (ImageQuality::Low, true) => 272,
        (ImageQuality::Low, false) => 408,
        (ImageQuality::Medium, true) => 1_056,
        (ImageQuality::Medium, false) => 1_584,
        (_, true) => 4_160,
        (_, false) => 6_240,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(model: &str, size: (u32, u32), quality: ImageQuality, tokens: u64) {
        let order = ImageOrder { size: Some(size), quality, partial_images: 0 };
        assert_eq!(made_tokens_max("openai", model, order).map(|made| made.image_tokens), Some(tokens));
    }

    #[test]
    fn published_figures_are_met() {
        let square = (1_024, 1_024);
        check("gpt-image-1-mini", square, ImageQuality::Low, 272);
        check("gpt-image-1.5-2025-12-16", (1_024, 1_536), ImageQuality::High, 6_240);
        check("gpt-image-2", square, ImageQuality::High, 7_024);
        check("gpt-image-2-2026-04-21", (1_536, 1_024), ImageQuality::High, 5_488);
        for (quality, tokens) in [
            (ImageQuality::Low, 196),
            (ImageQuality::Medium, 439),
            (ImageQuality::High, 1_756),
            (ImageQuality::ExtraHigh, 3_122),
            (ImageQuality::Max, 7_024),
        ] {
            check("gpt-image-2.5-flare", square, quality, tokens);
        }
    }

    #[test]
    fn what_the_provider_chooses_is_the_dearest_and_unfinished_images_count() {
        let made = |order| made_tokens_max("azure", "gpt-image-2.5-sunburst", order).map(|made| made.image_tokens);
        let auto = made(ImageOrder::default()).unwrap();
        for quality in [ImageQuality::Low, ImageQuality::High, ImageQuality::Max] {
            for size in [(1_024, 1_024), (3_840, 2_160), (2_880, 2_880)] {
                let order = ImageOrder { size: Some(size), quality, partial_images: 0 };
                assert!(made(order).unwrap() <= auto, "{order:?}");
            }
        }
        assert_eq!(made(ImageOrder { partial_images: 3, ..ImageOrder::default() }), Some(auto + 300));
    }

    #[test]
    fn families_without_figures_have_none() {
        for (provider, model) in [("openai", "gpt-image-3"), ("openai", "gpt-4o"), ("xai", "gpt-image-2")] {
            assert_eq!(made_tokens_max(provider, model, ImageOrder::default()), None, "{model}");
        }
    }
}
