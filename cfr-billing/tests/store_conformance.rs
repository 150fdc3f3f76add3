//! The store in memory does all that a store must do: it is the reference.

use std::sync::Arc;

use cfr_billing::store::MemoryStore;

mod exclusive {
    use super::*;
    cfr_billing::store_conformance!(Arc::new(MemoryStore::exclusive()));
}

mod shared {
    use super::*;
    cfr_billing::store_conformance!(Arc::new(MemoryStore::shared()));
}
