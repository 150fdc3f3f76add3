//! Calls to models, in whatever dialect: in through the key, the body and the gateway, and out again as they came.
//!
//! What a dialect calls its paths is in [`openai`](crate::openai), [`anthropic`](crate::anthropic) and
//! [`gemini`](crate::gemini); how it words errors is in the module `dialect`.

mod answer;
mod body;
mod count;
pub(crate) mod dialect;
mod error;
mod form;
mod stream;

pub(crate) use answer::describe_rate;
pub use answer::{Asked, answer, read};
pub(crate) use body::read_json;
pub use count::count;
pub use error::api_error;
