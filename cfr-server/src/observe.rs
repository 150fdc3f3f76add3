//! What operators see: logs and metrics. Neither ever holds a body or a key.

mod logs;
mod metrics;

pub use logs::start_logs;
pub(crate) use metrics::cache_word;
pub use metrics::{Metrics, RedisMetrics};
