//! Who asks: API keys, what they open, and what a request of theirs may do.

mod caller;
mod error;
mod keys;
mod pepper;
mod seal;
mod text;

pub use error::AuthError;
pub use keys::{KeyWish, Keys, Principal};
pub use pepper::{Pepper, PepperError};
pub use seal::OwnedIds;
pub use text::{KeyText, kind_word, presented};
