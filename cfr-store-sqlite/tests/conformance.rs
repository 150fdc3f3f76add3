//! The rules that every store must keep.

mod support;

cfr_billing::store_conformance!(support::fresh().await);
