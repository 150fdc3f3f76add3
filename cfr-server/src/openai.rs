//! The surface that OpenAI's clients speak: `/v1/chat/completions`, `/v1/completions`, `/v1/embeddings`, `/v1/models`.

mod body;
mod calls;
mod error;
mod models;
mod stream;

pub use calls::{chat_completions, completions, embeddings};
pub use error::api_error;
pub use models::{ModelCard, ModelList, list_models, show_model};
