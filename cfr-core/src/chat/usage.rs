//! What a call used, in disjoint buckets: each token is counted once.

use serde::de::{MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

macro_rules! meters {
    ($($(#[$doc:meta])* $variant:ident => $name:literal,)*) => {
        /// A thing that providers count and charge for. The names are those of the price table.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        #[non_exhaustive]
        pub enum Meter { $($(#[$doc])* $variant,)* }

        impl Meter {
            /// Every meter, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The name in the price table and in stored records.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The meter with this name.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

meters! {
    /// Prompt tokens that were not in a cache, text.
    InputTokens => "input_tokens",
    /// Prompt tokens, audio.
    InputAudioTokens => "input_audio_tokens",
    /// Prompt tokens, images.
    InputImageTokens => "input_image_tokens",
    /// Prompt tokens, video.
    InputVideoTokens => "input_video_tokens",
    /// Prompt tokens read from the provider's cache.
    CacheReadTokens => "cache_read_tokens",
    /// Cached prompt tokens, audio.
    CacheReadAudioTokens => "cache_read_audio_tokens",
    /// Cached prompt tokens, images.
    CacheReadImageTokens => "cache_read_image_tokens",
    /// Prompt tokens written to the cache for the provider's shortest time.
    CacheWriteTokens => "cache_write_tokens",
    /// Prompt tokens written to the cache for one hour.
    CacheWrite1hTokens => "cache_write_1h_tokens",
    /// Prompt tokens written to the cache for twelve hours.
    CacheWrite12hTokens => "cache_write_12h_tokens",
    /// Answer tokens that are not counted in another bucket.
    OutputTokens => "output_tokens",
    /// Answer tokens of hidden or shown reasoning.
    ReasoningTokens => "reasoning_tokens",
    /// Answer tokens, audio.
    OutputAudioTokens => "output_audio_tokens",
    /// Answer tokens, images.
    OutputImageTokens => "output_image_tokens",
    /// Answer tokens, video.
    OutputVideoTokens => "output_video_tokens",
    /// Tokens of cited documents, charged apart by some search models.
    CitationTokens => "citation_tokens",
    /// Seconds of input.
    InputSeconds => "input_seconds",
    /// Seconds of audio input.
    InputAudioSeconds => "input_audio_seconds",
    /// Seconds of video input.
    InputVideoSeconds => "input_video_seconds",
    /// Characters of input.
    InputCharacters => "input_characters",
    /// Images of input.
    InputImages => "input_images",
    /// Images made.
    OutputImages => "output_images",
    /// Rerank search units.
    RerankQueries => "rerank_queries",
    /// Grounding queries to a map service.
    MapsGroundingQueries => "maps_grounding_queries",
    /// Web searches.
    WebSearchCalls => "web_search_calls",
    /// Web searches with little context.
    WebSearchCallsLow => "web_search_calls.low",
    /// Web searches with some context.
    WebSearchCallsMedium => "web_search_calls.medium",
    /// Web searches with much context.
    WebSearchCallsHigh => "web_search_calls.high",
    /// File searches.
    FileSearchCalls => "file_search_calls",
    /// Code interpreter sessions.
    CodeInterpreterSessions => "code_interpreter_sessions",
    /// Gigabyte-days of file search storage.
    FileSearchGbDays => "file_search_gb_days",
}

/// How many meters there are.
pub const METERS: usize = Meter::ALL.len();

impl Meter {
    /// Prompt side tokens: they count towards long-context thresholds.
    #[must_use]
    pub const fn is_input_token(self) -> bool {
        (self as u8) <= (Self::CacheWrite12hTokens as u8)
    }

    /// Answer side tokens.
    #[must_use]
    pub const fn is_output_token(self) -> bool {
        (self as u8) >= (Self::OutputTokens as u8) && (self as u8) <= (Self::OutputVideoTokens as u8)
    }

    /// Any token meter, citations included.
    #[must_use]
    pub const fn is_token(self) -> bool {
        (self as u8) <= (Self::CitationTokens as u8)
    }
}

/// Quantities per meter. Every token is in exactly one bucket, so that pricing is one loop.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    quantities: [u64; METERS],
}

impl Default for Usage {
    fn default() -> Self {
        Self { quantities: [0; METERS] }
    }
}

impl Usage {
    /// Usage of plain text: `input` prompt tokens and `output` answer tokens.
    #[must_use]
    pub fn text(input: u64, output: u64) -> Self {
        Self::default().with(Meter::InputTokens, input).with(Meter::OutputTokens, output)
    }

    /// The same usage with `meter` set to `quantity`.
    #[must_use]
    pub const fn with(mut self, meter: Meter, quantity: u64) -> Self {
        self.quantities[meter as usize] = quantity;
        self
    }

    /// Sets one meter.
    pub const fn set(&mut self, meter: Meter, quantity: u64) {
        self.quantities[meter as usize] = quantity;
    }

    /// The quantity of one meter.
    #[must_use]
    pub const fn get(&self, meter: Meter) -> u64 {
        self.quantities[meter as usize]
    }

    /// The meters that were used, with their quantities.
    pub fn used(&self) -> impl Iterator<Item = (Meter, u64)> + '_ {
        Meter::ALL.iter().map(|&meter| (meter, self.get(meter))).filter(|&(_, quantity)| quantity > 0)
    }

    /// All prompt tokens, cached ones included.
    #[must_use]
    pub fn input_total(&self) -> u64 {
        self.sum(Meter::is_input_token)
    }

    /// All answer tokens, reasoning included.
    #[must_use]
    pub fn output_total(&self) -> u64 {
        self.sum(Meter::is_output_token)
    }

    /// Whether nothing was used at all.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.quantities.iter().all(|&quantity| quantity == 0)
    }

    fn sum(&self, counts: fn(Meter) -> bool) -> u64 {
        self.used().filter(|&(meter, _)| counts(meter)).fold(0, |sum, (_, quantity)| sum.saturating_add(quantity))
    }
}

impl std::fmt::Debug for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.used().map(|(meter, quantity)| (meter.name(), quantity))).finish()
    }
}

/// As a map of the meters that were used.
impl Serialize for Usage {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (meter, quantity) in self.used() {
            map.serialize_entry(meter.name(), &quantity)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Usage {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Quantities;
        impl<'de> Visitor<'de> for Quantities {
            type Value = Usage;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a map of meters to quantities")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Usage, A::Error> {
                let mut usage = Usage::default();
                while let Some((name, quantity)) = map.next_entry::<std::borrow::Cow<'_, str>, u64>()? {
                    let meter = Meter::from_name(&name)
                        .ok_or_else(|| serde::de::Error::custom(format_args!("unknown meter `{name}`")))?;
                    usage.set(meter, quantity);
                }
                Ok(usage)
            }
        }
        deserializer.deserialize_map(Quantities)
    }
}

/// Where the quantities of a usage record come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum UsageSource {
    /// The provider reported them.
    Provider,
    /// The provider reported its own cost, and the charge follows it.
    ProviderCost,
    /// The answer was complete but carried no usage: counted from bytes.
    Estimated,
    /// The answer was cut: counted from what was delivered.
    Partial,
    /// Written by another system.
    External,
    /// Nothing was used: the call failed before any output.
    None,
    /// The cache had the answer: what it used when an upstream gave it. Nothing was used this time.
    Cache,
}

impl UsageSource {
    /// The number that stores keep.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Provider => 0,
            Self::ProviderCost => 1,
            Self::Estimated => 2,
            Self::Partial => 3,
            Self::External => 4,
            Self::None => 5,
            Self::Cache => 6,
        }
    }

    /// The source with this number.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::Provider,
            1 => Self::ProviderCost,
            2 => Self::Estimated,
            3 => Self::Partial,
            4 => Self::External,
            5 => Self::None,
            6 => Self::Cache,
            _ => return None,
        })
    }
}

/// Tokens that `bytes` of text are taken for when a provider reports no usage: two fifths, rounded up. Between the
/// 2.3 to 4.1 bytes per token that German prose and code measure with current tokenizers (providers.md §17.1).
#[must_use]
pub const fn tokens_estimated(bytes: u64) -> u64 {
    (bytes.saturating_mul(2)).div_ceil(5)
}
