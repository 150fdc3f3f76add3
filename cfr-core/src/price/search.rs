//! Reranks: charged by searches or by tokens, whichever the table has a price for.

use super::{Mode, PriceEntry};
use crate::chat::envelope::{SearchUnits, Searches};
use crate::chat::{Meter, Usage};

impl PriceEntry {
    /// Whether searches are what is charged.
    pub(super) fn is_charged_by_search(&self) -> bool {
        self.mode == Mode::Rerank && self.rates.has_meter(Meter::RerankQueries)
    }

    /// The searches of a rerank. Cohere, also on Bedrock, cuts documents; nobody else says so.
    pub(crate) fn searches(&self, units: &SearchUnits) -> Searches {
        let cuts = self.provider() == "cohere" || self.model.contains("cohere.");
        if cuts { units.cut } else { units.whole }
    }

    /// Whether a meter counts. Where searches and tokens of a rerank are both known, only those that have a price are
    /// charged; where only the other is known, it counts, and has none.
    pub(super) fn is_charged(&self, meter: Meter, usage: &Usage) -> bool {
        if self.mode != Mode::Rerank {
            return true;
        }
        match meter {
            Meter::RerankQueries => self.is_charged_by_search() || usage.input_total() == 0,
            _ => !(self.is_charged_by_search() && usage.get(Meter::RerankQueries) > 0),
        }
    }
}
