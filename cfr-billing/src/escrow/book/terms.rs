//! Whether two requests ask for the same.

use cfr_core::ledger::HoldRequest;
use cfr_core::money::Currency;

use crate::escrow::id_hash::{SPREAD, halves};

/// A digest of what a request asks for: the same id with another digest is a mistake of the caller.
pub(super) fn terms(ask: &HoldRequest) -> u64 {
    let mut digest = Digest(0);
    ask.path.iter().for_each(|budget| digest.id(budget.as_u128()));
    digest.word(ask.amount.nanos().cast_unsigned());
    digest.word(ask.amount_min.nanos().cast_unsigned());
    digest.currency(ask.amount.currency());
    digest.id(ask.caller.tenant.as_u128());
    for part in ask.model.as_bytes().chunks(8) {
        let mut word = [0; 8];
        word.iter_mut().zip(part).for_each(|(to, from)| *to = *from);
        digest.word(u64::from_le_bytes(word));
    }
    digest.0
}

struct Digest(u64);

impl Digest {
    fn word(&mut self, word: u64) {
        self.0 = (self.0 ^ word).wrapping_mul(SPREAD).rotate_left(23);
    }

    fn id(&mut self, id: u128) {
        halves(id).into_iter().for_each(|half| self.word(half));
    }

    fn currency(&mut self, currency: Currency) {
        currency.code().bytes().for_each(|byte| self.word(u64::from(byte)));
    }
}
