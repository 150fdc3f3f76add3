//! What a provider charges: the price table, the exact cost of a usage, and the most that a call can cost.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, LazyLock};

use jiff::{SignedDuration, Timestamp};
use smallvec::SmallVec;

use crate::chat::Meter;

mod audit;
mod bound;
mod cost;
mod diff;
mod image;
mod like;
mod litellm;
mod load;
mod off_peak;
mod own;
mod rate;
mod search;
mod tier;
mod unit;
mod work;

pub use crate::money::PicoUsd;
pub use audit::{AUDIT_AHEAD, PriceFinding, PriceFindingKind, Severity};
pub use cost::CostLine;
pub use diff::{Change, PriceChange};
pub use like::PricedAs;
pub use litellm::{LITELLM_MODELS_MAX, LeftOut, PriceUpdate};
pub use load::{PRICE_TABLE_BYTES_MAX, Sanity};
pub use own::OwnPrice;
pub use rate::Rate;
pub use tier::Tier;
pub use unit::{Factor, FactorError, UnitPrice, UnitPriceError};

use load::CHAT_TOKEN_PICO_USD_MAX;
use off_peak::OffPeak;
use rate::Rates;

/// Every price that we know, with when it holds. Immutable; a change is another table with another version.
#[derive(Debug, Clone)]
pub struct PriceTable {
    version: PriceVersion,
    as_of: Box<str>,
    entries: Vec<PriceEntry>,
    /// Positions of entries by provider, then by model or alias.
    index: Index,
}

type Index = HashMap<Box<str>, HashMap<Box<str>, SmallVec<[u32; 2]>>>;

/// A provider's words for tiers, with ours.
type TierWords = Arc<[(Box<str>, Tier)]>;

/// The SHA-256 of a price table's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PriceVersion(pub [u8; 32]);

impl PriceVersion {
    /// Its first eight bytes, as usage records keep it.
    #[must_use]
    pub fn short(self) -> u64 {
        let mut first = [0; 8];
        first.copy_from_slice(&self.0[..8]);
        u64::from_be_bytes(first)
    }
}

/// Why a table cannot be loaded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PriceTableError {
    /// Not the JSON of schema `cfr.prices/1`.
    #[error("not a price table: {reason}")]
    Malformed {
        /// What is wrong, with the place.
        reason: Box<str>,
    },
    /// The file is larger than any price table.
    #[error("a price table has at most {PRICE_TABLE_BYTES_MAX} bytes")]
    TooLarge,
    /// One entry contradicts itself, another entry or common sense.
    #[error("price of `{entry}`: {reason}")]
    Entry {
        /// The entry, as provider/model.
        entry: Box<str>,
        /// What is wrong with it.
        reason: Box<str>,
    },
}

/// Why something has no price. Unknown is never free.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PriceError {
    /// The table does not have the model.
    #[error("`{model}` has no price")]
    UnknownModel {
        /// The model.
        model: Box<str>,
    },
    /// The meter was used and has no rate.
    #[error("{} of `{}` has no price", .meter.name(), .model)]
    UnpricedMeter {
        /// The model.
        model: Box<str>,
        /// The meter.
        meter: Meter,
    },
    /// The tier is dearer than standard and has no rate.
    #[error("service tier `{tier}` of `{model}` has no price")]
    UnpricedTier {
        /// The model.
        model: Box<str>,
        /// The tier.
        tier: Box<str>,
    },
    /// Answers made in this geography may be dearer, and the table does not say by how much.
    #[error("`{model}` has no price for answers made in `{geo}`")]
    UnpricedGeo {
        /// The model.
        model: Box<str>,
        /// The geography.
        geo: Box<str>,
    },
    /// The model needs a cap on answer tokens: the table has none.
    #[error("`{model}` has no known output limit: send max_tokens")]
    UnboundedOutput {
        /// The model.
        model: Box<str>,
    },
    /// The call can read without limit (documents, hosted tools) and the table does not know the model's context.
    #[error("`{model}` has no known input limit, which documents and hosted tools need")]
    UnboundedInput {
        /// The model.
        model: Box<str>,
    },
    /// Nothing bounds the tokens of an image, of speech or of a transcript: the table has no limit of the model, and no
    /// figures of its family are known.
    #[error("`{model}` has no known limit of tokens for an image, a speech or a transcript")]
    UnboundedWork {
        /// The model.
        model: Box<str>,
    },
    /// The amount is beyond what money can be.
    #[error("price out of range")]
    OutOfRange,
}

/// What a model is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Mode {
    /// Answers to messages.
    Chat,
    /// Vectors of texts.
    Embedding,
    /// Images made.
    Image,
    /// Speech to text.
    Stt,
    /// Text to speech.
    Tts,
    /// Order of documents.
    Rerank,
    /// Judgement of texts.
    Moderation,
    /// Conversations over an open connection, in text and sound.
    Realtime,
}

/// What a model takes and gives at the most; absent where the table does not know.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Limits {
    /// Prompt tokens of one request; for embeddings, of one text.
    pub max_input_tokens: Option<u64>,
    /// Answer tokens of one answer.
    pub max_output_tokens: Option<u64>,
}

/// One model of one provider with its rates, for as long as they hold.
#[derive(Debug, Clone)]
pub struct PriceEntry {
    provider: Arc<str>,
    model: Box<str>,
    aliases: Box<[Box<str>]>,
    mode: Mode,
    limits: Limits,
    effective_from: Option<Timestamp>,
    effective_to: Option<Timestamp>,
    shutdown_date: Option<Box<str>>,
    flags: Box<[Box<str>]>,
    capabilities: Box<[Box<str>]>,
    rates: Rates,
    /// Higher figures of other sources: they raise the bound and not the cost.
    reserve: Box<[Rate]>,
    off_peak: Option<OffPeak>,
    fees: Box<[(Meter, UnitPrice)]>,
    multipliers: Box<[Multiplier]>,
    /// Where bands begin, apart from 0, ascending.
    bands: Box<[u64]>,
    /// Whether a prompt of exactly `above` tokens is already in the band.
    band_inclusive: bool,
    tier_words: TierWords,
    /// Whether every tier costs the same, as on a server of our own.
    tiers_alike: bool,
    /// The entry that holds when this one ends.
    successor: Option<Arc<PriceEntry>>,
}

/// A factor on all token meters, under a condition.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Multiplier {
    when: Condition,
    factor: Factor,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Condition {
    /// The region is this one.
    Region(Box<str>),
    /// The answer is made in this geography, which the caller asks for, or the provider's settings where no caller does.
    Geo(Box<str>),
    /// The region is another one than this.
    RegionNot(Box<str>),
    /// The speed, which callers ask for as they ask for a tier.
    Speed(Box<str>),
}

/// Under which terms a usage is priced.
#[derive(Debug, Clone, Copy, Default)]
pub struct PriceTerms<'a> {
    /// The service tier, by the provider's word: the one that served, else the one asked for.
    pub tier: Option<&'a str>,
    /// The region of the endpoint, for multipliers.
    pub region: Option<&'a str>,
    /// The geography of the answer: the one that the provider reports, else the one asked for.
    pub geo: Option<&'a str>,
    /// When the request began: decides off-peak windows.
    pub at: Option<Timestamp>,
    /// What the operator says that all token meters cost more or less, as for regional deployments.
    pub factor: Factor,
}

impl PriceTerms<'_> {
    fn is_in(&self, region: &str) -> bool {
        [self.region, self.geo].contains(&Some(region))
    }
}

/// The most that a call can cost: a fixed part and a part per answer token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    /// Input and fees.
    pub fixed: PicoUsd,
    /// One answer token, times the number of answers.
    pub per_output_token: PicoUsd,
    /// Answer tokens that may be charged whatever cap is set: of providers who do not count reasoning into the cap.
    pub output_tokens_floor: u64,
    /// The model's own limit of answer tokens, when the table knows it.
    pub output_tokens_model_max: Option<u64>,
}

impl Bound {
    /// The most that the call costs with this cap on answer tokens.
    #[must_use]
    pub fn total(&self, output_tokens: u64) -> PicoUsd {
        let tokens = output_tokens.max(self.output_tokens_floor);
        PicoUsd(self.fixed.0.saturating_add(self.per_output_token.0.saturating_mul(i128::from(tokens))))
    }

    /// The largest cap that costs at most `cost`; `None` when even the input, or the floor, costs more. Rounds down.
    #[must_use]
    pub fn output_tokens_within(&self, cost: PicoUsd) -> Option<u64> {
        let rest = cost.0.checked_sub(self.fixed.0).filter(|rest| *rest >= 0)?;
        if self.per_output_token.0 == 0 {
            return Some(u64::MAX);
        }
        let tokens = u64::try_from(rest / self.per_output_token.0).unwrap_or(u64::MAX); // down: never above `cost`
        (tokens >= self.output_tokens_floor).then_some(tokens)
    }
}

/// The JSON of the table that this version ships with.
pub const BUNDLED_JSON: &[u8] = include_bytes!("../data/prices.json");

static BUNDLED: LazyLock<Result<Arc<PriceTable>, PriceTableError>> =
    LazyLock::new(|| PriceTable::from_json(BUNDLED_JSON).map(Arc::new));

impl PriceTable {
    /// The table that this version ships with, parsed once.
    ///
    /// # Errors
    /// Never for a released version: a test loads it.
    pub fn bundled() -> Result<Arc<Self>, PriceTableError> {
        BUNDLED.clone()
    }

    /// Loads a table of schema `cfr.prices/1` whose prices pass the sanity limit.
    ///
    /// # Errors
    /// For anything that is not exactly such a table.
    pub fn from_json(json: &[u8]) -> Result<Self, PriceTableError> {
        load::load(json, Sanity::Enforced)
    }

    /// Loads a table of schema `cfr.prices/1` with prices of any height.
    ///
    /// # Errors
    /// For anything that is not exactly such a table.
    pub fn from_json_waived(json: &[u8]) -> Result<Self, PriceTableError> {
        load::load(json, Sanity::Waived)
    }

    /// Its version.
    #[must_use]
    pub fn version(&self) -> PriceVersion {
        self.version
    }

    /// The day that its prices are from.
    #[must_use]
    pub fn as_of(&self) -> &str {
        &self.as_of
    }

    /// Every entry, in the table's order.
    #[must_use]
    pub fn entries(&self) -> &[PriceEntry] {
        &self.entries
    }

    /// The entry of a provider's model, by name or alias, that holds at a moment.
    #[must_use]
    pub fn find(&self, provider: &str, model: &str, at: Timestamp) -> Option<&PriceEntry> {
        let positions = self.index.get(provider)?.get(model)?;
        positions.iter().filter_map(|position| self.entry(*position)).find(|entry| entry.holds_at(at))
    }

    /// The providers that have a price for a model, by name or alias, at any time; in alphabetical order.
    pub fn providers_of<'a>(&'a self, model: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        let priced = self.index.iter().filter(|(_, models)| models.contains_key(model));
        priced.map(|(provider, _)| &**provider).collect::<BTreeSet<_>>().into_iter()
    }

    fn entry(&self, position: u32) -> Option<&PriceEntry> {
        self.entries.get(usize::try_from(position).ok()?)
    }
}

impl PriceEntry {
    /// The provider, by the table's name for it.
    #[must_use]
    pub fn provider(&self) -> &str {
        &self.provider
    }

    /// The model, by the provider's name for it.
    #[must_use]
    pub fn model(&self) -> &str {
        &self.model
    }

    /// Other names of the same model.
    pub fn aliases(&self) -> impl Iterator<Item = &str> {
        self.aliases.iter().map(|alias| &**alias)
    }

    /// What the model is for.
    #[must_use]
    pub const fn mode(&self) -> Mode {
        self.mode
    }

    /// What the model takes and gives at the most.
    #[must_use]
    pub const fn limits(&self) -> Limits {
        self.limits
    }

    /// Remarks of the table: `reasoning`, `responses_api_only`, `review`.
    pub fn flags(&self) -> impl Iterator<Item = &str> {
        self.flags.iter().map(|flag| &**flag)
    }

    /// Whether the table makes this remark.
    #[must_use]
    pub fn has_flag(&self, flag: &str) -> bool {
        self.flags().any(|known| known == flag)
    }

    /// What the model can do: `vision`, `function_calling`.
    pub fn capabilities(&self) -> impl Iterator<Item = &str> {
        self.capabilities.iter().map(|capability| &**capability)
    }

    /// The first moment that the prices hold; none when they always did.
    #[must_use]
    pub const fn effective_from(&self) -> Option<Timestamp> {
        self.effective_from
    }

    /// The first moment that they no longer hold; none when no end is known.
    #[must_use]
    pub const fn effective_to(&self) -> Option<Timestamp> {
        self.effective_to
    }

    /// The day that the provider ends the model, as `2026-12-31`.
    #[must_use]
    pub fn shutdown_date(&self) -> Option<&str> {
        self.shutdown_date.as_deref()
    }

    /// The rates of token and other meters, in the order of meter, tier and band.
    pub fn rates(&self) -> impl Iterator<Item = &Rate> {
        self.rates.as_slice().iter()
    }

    /// The fees per call: web searches and their kin.
    pub fn fees(&self) -> impl Iterator<Item = (Meter, UnitPrice)> + '_ {
        self.fees.iter().copied()
    }

    /// Whether the prices hold at a moment.
    #[must_use]
    pub fn holds_at(&self, at: Timestamp) -> bool {
        self.effective_from.is_none_or(|from| from <= at) && self.effective_to.is_none_or(|to| at < to)
    }

    /// The entry that takes over within `soon`.
    fn successor_within(&self, at: Timestamp, soon: SignedDuration) -> Option<&Self> {
        let end = self.effective_to.filter(|end| end.duration_since(at) <= soon);
        end.and(self.successor.as_deref())
    }
}
