//! The management API over grown books: how long lists, filters, searches, reports and exports take.
//!
//! [`site`] runs the server in this process on loopback, [`fill`] puts people and their usage into its database behind its
//! back, [`questions`] are what is asked, and [`ask`] measures the answers.

pub mod ask;
pub mod fill;
pub mod questions;
pub mod site;
