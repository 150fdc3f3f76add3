//! What is wrong with the prices of the models that are offered, and what will change soon.

use std::collections::{BTreeMap, BTreeSet};

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::{Change, Mode, PriceEntry, PriceError, PriceTable, PriceTerms};
use crate::chat::Meter;
use crate::chat::envelope::InputBound;
use crate::route::Routes;

/// How far an audit looks ahead.
pub const AUDIT_AHEAD: SignedDuration = SignedDuration::from_hours(30 * 24);

/// Something that an operator should know of a model that is offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PriceFinding {
    /// The provider.
    pub provider: Box<str>,
    /// The model by the provider's name.
    pub model: Box<str>,
    /// The names under which it is offered, in order.
    pub names: Vec<Box<str>>,
    /// What it is.
    pub kind: PriceFindingKind,
}

/// What an audit finds.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PriceFindingKind {
    /// The model has no price: every call is refused.
    Unpriced,
    /// Its price lacks what an ordinary call needs: every such call is refused.
    Unusable(PriceError),
    /// Web searches, which it can do, have no price: calls with them are refused.
    SearchUnpriced,
    /// The provider ends the model on this day, or has ended it.
    ShutsDown {
        /// The day, as `2026-12-31`.
        day: Box<str>,
        /// Whether the day has come.
        is_over: bool,
    },
    /// Its prices end, and none follow.
    Ends {
        /// When.
        at: Timestamp,
    },
    /// Its prices change.
    Changes {
        /// When.
        at: Timestamp,
        /// How.
        changes: Vec<Change>,
    },
}

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Calls are refused, or fail at the provider.
    Problem,
    /// To be known.
    Notice,
}

impl PriceFindingKind {
    /// How much it matters.
    #[must_use]
    pub const fn severity(&self) -> Severity {
        match self {
            Self::Unpriced | Self::Unusable(_) | Self::Ends { .. } | Self::ShutsDown { is_over: true, .. } => {
                Severity::Problem
            }
            Self::SearchUnpriced | Self::ShutsDown { .. } | Self::Changes { .. } => Severity::Notice,
        }
    }

    /// A stable word.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Unpriced => "unpriced",
            Self::Unusable(_) => "unusable",
            Self::SearchUnpriced => "search_unpriced",
            Self::ShutsDown { .. } => "shuts_down",
            Self::Ends { .. } => "ends",
            Self::Changes { .. } => "changes",
        }
    }
}

impl PriceTable {
    /// Looks at every model that is offered, now and [`AUDIT_AHEAD`]; by provider and model.
    #[must_use]
    pub fn audit(&self, offered: &Routes, at: Timestamp) -> Vec<PriceFinding> {
        let mut found = Vec::new();
        for ((provider, model), Offered { entry, names }) in self.offered_models(offered, at) {
            let kinds = entry.map_or_else(|| vec![PriceFindingKind::Unpriced], |entry| entry.audit(at));
            let names: Vec<Box<str>> = names.into_iter().map(Box::from).collect();
            found.extend(kinds.into_iter().map(|kind| PriceFinding {
                provider: provider.into(),
                model: model.into(),
                names: names.clone(),
                kind,
            }));
        }
        found
    }

    /// Each model with its price and its names. An alias is its model.
    fn offered_models<'a>(&'a self, offered: &'a Routes, at: Timestamp) -> BTreeMap<(&'a str, &'a str), Offered<'a>> {
        let mut models = BTreeMap::<_, Offered<'a>>::new();
        for public in offered.models() {
            for target in &public.targets {
                let entry = target.entry(self, at);
                let model = entry.map_or(&*target.model, PriceEntry::model);
                let offered = models.entry((&*target.provider, model)).or_default();
                offered.entry = entry;
                offered.names.insert(&*public.name);
            }
        }
        models
    }
}

#[derive(Default)]
struct Offered<'a> {
    entry: Option<&'a PriceEntry>,
    names: BTreeSet<&'a str>,
}

impl PriceEntry {
    fn audit(&self, at: Timestamp) -> Vec<PriceFindingKind> {
        let found = [self.unusable(at), self.unpriced_search(at), self.shutdown(at), self.change(at)];
        found.into_iter().flatten().collect()
    }

    /// Tries what an ordinary call needs. A model without a known output limit can be called with a cap.
    fn unusable(&self, at: Timestamp) -> Option<PriceFindingKind> {
        let terms = PriceTerms { at: Some(at), ..PriceTerms::default() };
        let text = InputBound { text_tokens: 1, ..InputBound::default() };
        let error = match self.mode {
            Mode::Chat | Mode::Embedding => self.upper_bound(&text, 1, &terms).err(),
            Mode::Realtime => self.upper_bound(&InputBound { unbounded: true, ..text }, 1, &terms).err(),
            _ if self.rates().next().is_none() => Some(PriceError::UnknownModel { model: self.model.clone() }),
            _ => None,
        };
        error.map(PriceFindingKind::Unusable)
    }

    fn unpriced_search(&self, at: Timestamp) -> Option<PriceFindingKind> {
        let can_search = self.capabilities().any(|capability| capability == "web_search");
        let terms = PriceTerms { at: Some(at), ..PriceTerms::default() };
        let search = crate::chat::Usage::default().with(Meter::WebSearchCalls, 1);
        (can_search && self.cost(&search, &terms).is_err()).then_some(PriceFindingKind::SearchUnpriced)
    }

    fn shutdown(&self, at: Timestamp) -> Option<PriceFindingKind> {
        let day = self.shutdown_date.clone()?;
        let date = |at: Timestamp| at.to_zoned(TimeZone::UTC).date().to_string();
        let is_over = *day <= *date(at);
        let is_near = *day <= *date(at.checked_add(AUDIT_AHEAD).ok()?);
        is_near.then_some(PriceFindingKind::ShutsDown { day, is_over })
    }

    fn change(&self, now: Timestamp) -> Option<PriceFindingKind> {
        let at = self.effective_to.filter(|end| end.duration_since(now) <= AUDIT_AHEAD)?;
        let next = self.successor.as_deref().filter(|next| next.effective_from == Some(at));
        Some(match next {
            Some(next) => PriceFindingKind::Changes { at, changes: self.changes_to(next) },
            None => PriceFindingKind::Ends { at },
        })
    }
}
