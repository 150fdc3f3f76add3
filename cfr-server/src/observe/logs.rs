//! Logs on standard error: lines for people on a terminal, JSON for machines.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// What is logged when `CFR_LOG` does not say.
const DEFAULT_FILTER: &str = "info";

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LogFormat {
    /// For people.
    Text,
    /// One object per line, for machines.
    Json,
}

impl LogFormat {
    /// The format by its name in `CFR_LOG_FORMAT`; text when it is not known.
    fn from_name(name: Option<&str>) -> Self {
        if name == Some("json") { Self::Json } else { Self::Text }
    }
}

/// Starts logging by `CFR_LOG` (levels, as in `info,cfr_server=debug`) and `CFR_LOG_FORMAT` (`text` or `json`). A second
/// start changes nothing.
pub fn start_logs(read: impl Fn(&str) -> Option<String>) {
    let filter = read("CFR_LOG").unwrap_or_else(|| DEFAULT_FILTER.into());
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match LogFormat::from_name(read("CFR_LOG_FORMAT").as_deref()) {
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).with_target(false).try_init(),
    };
    drop(started); // an embedder's own subscriber stays
}
