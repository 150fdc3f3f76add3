//! The suites that every implementation of a core contract must pass, for those who write one. Feature `conformance`; not
//! under semver: a new rule may be added in any release.

pub mod ledger;
