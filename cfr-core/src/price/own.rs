//! Prices that the operator declares: of models on servers of their own, or of models that no table knows yet.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::{Limits, Mode, PriceEntry, PriceTable, PriceTableError, PriceVersion, Rate, Rates, Tier, UnitPrice};
use crate::chat::Meter;

/// The price of a model as the operator declares it. A free model says so: [`UnitPrice::FREE`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnPrice {
    /// The provider, by its name in the configuration.
    pub provider: Box<str>,
    /// The model, by the provider's name for it.
    pub model: Box<str>,
    /// What the model is for.
    pub mode: Mode,
    /// One prompt token.
    pub input: UnitPrice,
    /// One answer token.
    pub output: UnitPrice,
    /// One prompt token from the cache; as `input` when absent.
    pub cache_read: Option<UnitPrice>,
    /// One image, one second of a recording, or one character of speech, by the mode; then tokens have no price.
    pub piece: Option<UnitPrice>,
    /// What the model takes and gives at the most.
    pub limits: Limits,
}

/// What is free by the token is free by the piece.
const PIECES: [Meter; 4] = [Meter::InputSeconds, Meter::InputCharacters, Meter::InputImages, Meter::OutputImages];

impl PriceTable {
    /// The same table with the operator's prices in it; they replace the table's own for the same model, at any time.
    ///
    /// # Errors
    /// When a model is declared twice, or under the name of an alias.
    pub fn with_own_prices(&self, own: &[OwnPrice]) -> Result<Self, PriceTableError> {
        let declared = |entry: &&PriceEntry| {
            own.iter().any(|price| *price.provider == *entry.provider && price.model == entry.model)
        };
        let kept = self.entries.iter().filter(|entry| !declared(entry)).cloned();
        let entries = kept.chain(own.iter().map(PriceEntry::from)).collect();
        Self::assemble(entries, self.as_of.clone(), self.version_with(own))
    }

    /// The version names every price in force, so it follows the operator's as well.
    fn version_with(&self, own: &[OwnPrice]) -> PriceVersion {
        let mut hash = Sha256::new();
        hash.update(self.version.0);
        for price in own {
            hash.update(format!("{price:?}\n"));
        }
        PriceVersion(hash.finalize().into())
    }
}

impl From<&OwnPrice> for PriceEntry {
    fn from(own: &OwnPrice) -> Self {
        Self {
            provider: Arc::from(&*own.provider),
            model: own.model.clone(),
            aliases: Box::default(),
            mode: own.mode,
            limits: own.limits,
            effective_from: None,
            effective_to: None,
            shutdown_date: None,
            flags: Box::default(),
            capabilities: Box::default(),
            rates: Rates::new(own.rates()).unwrap_or_default(),
            reserve: Box::default(),
            off_peak: None,
            fees: Box::default(),
            multipliers: Box::default(),
            bands: Box::default(),
            band_inclusive: false,
            tier_words: Arc::default(),
            tiers_alike: true,
            successor: None,
        }
    }
}

impl OwnPrice {
    fn rates(&self) -> Vec<Rate> {
        let rate = |meter, price| Rate { meter, tier: Tier::Standard, above: 0, price };
        if let Some((meter, price)) = piece_of(self.mode).zip(self.piece) {
            return vec![rate(meter, price)];
        }
        let cache_read = self.cache_read.map(|price| rate(Meter::CacheReadTokens, price));
        let tokens = [rate(Meter::InputTokens, self.input), rate(Meter::OutputTokens, self.output)];
        let is_free = self.input == UnitPrice::FREE && self.output == UnitPrice::FREE;
        let pieces = PIECES.map(|meter| rate(meter, UnitPrice::FREE)).into_iter().filter(|_| is_free);
        tokens.into_iter().chain(cache_read).chain(pieces).collect()
    }
}

/// What models of this mode are charged by that are not charged by tokens.
const fn piece_of(mode: Mode) -> Option<Meter> {
    match mode {
        Mode::Image => Some(Meter::InputImages), // made or given
        Mode::Stt => Some(Meter::InputSeconds),
        Mode::Tts => Some(Meter::InputCharacters),
        _ => None,
    }
}
