//! Who asks: API keys, what they open, and what a request of theirs may do.

pub mod access;
mod asker;
mod caller;
mod callers;
mod error;
mod keys;
mod pepper;
mod seal;
mod text;

pub use asker::Asker;
pub(crate) use caller::user_caller;
pub use callers::Callers;
pub use error::AuthError;
pub use keys::{KeyWish, Keys, Principal};
pub use pepper::{Pepper, PepperError, Sha256Digest};
pub use seal::OwnedIds;
pub use text::{KeyText, kind_word, presented};
