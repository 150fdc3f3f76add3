//! The TOML file, word for word. Unknown keys are refused.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;

use super::Problem;
use cfr_core::price::Mode;
use cfr_core::secret::Secret;

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) listen: Option<String>,
    pub(super) data: Option<String>,
    pub(super) prices: Option<String>,
    #[serde(default)]
    pub(super) server: Server,
    pub(super) mail: Option<Spanned<Mail>>,
    #[serde(default)]
    pub(super) sign_in: SignIn,
    #[serde(default)]
    pub(super) database: Database,
    #[serde(default)]
    pub(super) redis: Redis,
    pub(super) cache: Option<Spanned<Cache>>,
    #[serde(default)]
    pub(super) ledger: Ledger,
    #[serde(default)]
    pub(super) limits: Limits,
    #[serde(default)]
    pub(super) media: Media,
    #[serde(default)]
    pub(super) accounts: Accounts,
    #[serde(default)]
    pub(super) money: Money,
    #[serde(default)]
    pub(super) upstream: Vec<Spanned<Upstream>>,
    #[serde(default)]
    pub(super) model: Vec<Spanned<Model>>,
}

/// `[server]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Server {
    pub(super) public_url: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) trusted_proxies: Vec<Spanned<String>>,
}

/// `[mail]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Mail {
    pub(super) smtp_url: Option<Spanned<Secret>>,
    pub(super) from: Option<Spanned<String>>,
    pub(super) reply_to: Option<Spanned<String>>,
    pub(super) sales: Option<Spanned<String>>,
}

/// `[sign_in]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SignIn {
    #[serde(default)]
    pub(super) private_hosts: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) oidc: Vec<Spanned<SignInOidc>>,
}

/// `[[sign_in.oidc]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SignInOidc {
    pub(super) id: String,
    pub(super) name: Option<String>,
    pub(super) issuer: String,
    pub(super) client_id: String,
    pub(super) client_secret_variable: Option<String>,
    pub(super) tenant: String,
    #[serde(default)]
    pub(super) domains: Vec<String>,
    #[serde(default)]
    pub(super) trusts_addresses: bool,
    #[serde(default)]
    pub(super) unknown: crate::federation::Unknown,
}

/// `[database]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Database {
    pub(super) url: Option<Spanned<Secret>>,
    pub(super) pool: Option<Spanned<u32>>,
    pub(super) prepared_statements: Option<bool>,
    pub(super) migrate: Option<super::Migration>,
}

/// `[redis]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Redis {
    pub(super) url: Option<Spanned<Secret>>,
    pub(super) prefix: Option<Spanned<String>>,
    pub(super) timeout_ms: Option<Spanned<u64>>,
}

/// `[cache]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cache {
    #[serde(default)]
    pub(super) tenants: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) models: Vec<String>,
    pub(super) keep_seconds: Option<Spanned<u64>>,
    pub(super) price_percent: Option<Spanned<u8>>,
    pub(super) entry_bytes_max: Option<Spanned<usize>>,
    pub(super) memory_bytes: Option<Spanned<usize>>,
}

/// `[ledger]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ledger {
    pub(super) durability: Option<Durability>,
    pub(super) ack_settle: Option<bool>,
    pub(super) synchronous: Option<Synchronous>,
    pub(super) orphan_policy: Option<cfr_billing::store::OrphanPolicy>,
    pub(super) node: Option<Spanned<String>>,
    pub(super) lease_seconds: Option<Spanned<u64>>,
    pub(super) reclaim_grace_seconds: Option<Spanned<u64>>,
    pub(super) idle_seconds: Option<Spanned<u64>>,
    pub(super) audit_seconds: Option<Spanned<u64>>,
    pub(super) halt_on_violation: Option<bool>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Durability {
    Overlap,
    Strict,
    Relaxed,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Synchronous {
    Full,
    Normal,
}

impl From<Durability> for cfr_core::gateway::Durability {
    fn from(durability: Durability) -> Self {
        match durability {
            Durability::Overlap => Self::Overlap,
            Durability::Strict => Self::Strict,
            Durability::Relaxed => Self::Relaxed,
        }
    }
}

impl From<Synchronous> for cfr_store_sqlite::Synchronous {
    fn from(synchronous: Synchronous) -> Self {
        match synchronous {
            Synchronous::Full => Self::Full,
            Synchronous::Normal => Self::Normal,
        }
    }
}

/// `[limits]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Limits {
    pub(super) body_bytes_max: Option<Spanned<usize>>,
    pub(super) form_bytes_max: Option<Spanned<usize>>,
    pub(super) drain_seconds: Option<u64>,
    pub(super) header_seconds: Option<Spanned<u64>>,
    pub(super) idle_seconds: Option<Spanned<u64>>,
    pub(super) hold_seconds: Option<Spanned<u64>>,
    pub(super) realtime_session_seconds: Option<Spanned<u64>>,
    pub(super) leads_days: Option<Spanned<u64>>,
}

/// `[media]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Media {
    pub(super) fetch: Option<bool>,
    #[serde(default)]
    pub(super) http: bool,
    #[serde(default)]
    pub(super) hosts: Vec<Spanned<String>>,
}

/// `[accounts]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Accounts {
    #[serde(default)]
    pub(super) private_hosts: Vec<Spanned<String>>,
}

/// `[money]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Money {
    pub(super) currency: Option<Spanned<String>>,
    pub(super) fx_usd_per_unit: Option<Spanned<String>>,
    pub(super) fx_buffer_bps: Option<Spanned<u32>>,
    pub(super) budget_status_code: Option<Spanned<u16>>,
    pub(super) cost_headers: Option<bool>,
    pub(super) second_person_above: Option<Spanned<String>>,
}

/// `[[upstream]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Upstream {
    pub(super) name: String,
    pub(super) kind: Spanned<String>,
    pub(super) base_url: Option<String>,
    pub(super) api_key: Option<Secret>,
    pub(super) api_key_env: Option<Spanned<String>>,
    pub(super) api_key_file: Option<Spanned<String>>,
    pub(super) auth: Option<Auth>,
    pub(super) entra: Option<Spanned<Entra>>,
    pub(super) api_version: Option<String>,
    pub(super) anthropic_beta: Option<String>,
    pub(super) organization: Option<String>,
    pub(super) region: Option<String>,
    pub(super) project: Option<String>,
    pub(super) service_account_file: Option<Spanned<String>>,
    pub(super) access_key_id: Option<String>,
    pub(super) secret_access_key: Option<Secret>,
    pub(super) session_token: Option<Secret>,
    pub(super) provider: Option<String>,
    pub(super) expose: Option<bool>,
    #[serde(default)]
    pub(super) headers: BTreeMap<Spanned<String>, Secret>,
    pub(super) header_seconds: Option<Spanned<u64>>,
    pub(super) idle_seconds: Option<Spanned<u64>>,
    #[serde(default)]
    pub(super) drop_params: bool,
    pub(super) price_factor: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) price: Vec<Spanned<Price>>,
}

/// How a key is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Auth {
    /// In the header that the provider has for keys.
    Key,
    /// As a token of OAuth's.
    Bearer,
}

/// `[upstream.entra]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entra {
    pub(super) tenant_id: Option<String>,
    pub(super) client_id: Option<String>,
    pub(super) client_secret: Option<Secret>,
    pub(super) client_secret_env: Option<Spanned<String>>,
    pub(super) client_secret_file: Option<Spanned<String>>,
    pub(super) token_file: Option<String>,
    #[serde(default)]
    pub(super) managed_identity: bool,
    pub(super) scope: Option<String>,
    pub(super) authority: Option<String>,
}

impl Entra {
    /// Whether something is to prove that the application is ours.
    pub(super) const fn has_proof(&self) -> bool {
        self.client_secret.is_some()
            || self.client_secret_env.is_some()
            || self.client_secret_file.is_some()
            || self.token_file.is_some()
    }
}

/// `[[upstream.price]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Price {
    pub(super) model: String,
    pub(super) mode: Option<Mode>,
    pub(super) input_per_million: Option<String>,
    pub(super) output_per_million: Option<String>,
    pub(super) cache_read_per_million: Option<String>,
    pub(super) per_image: Option<String>,
    pub(super) per_second: Option<String>,
    pub(super) per_character: Option<String>,
    pub(super) input_tokens_max: Option<u64>,
    pub(super) output_tokens_max: Option<u64>,
    pub(super) like: Option<String>,
    pub(super) factor: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) free: bool,
}

impl Price {
    /// Whether it has figures, which a price like another one has no use for.
    pub(super) const fn states_figures(&self) -> bool {
        self.free
            || self.mode.is_some()
            || self.input_per_million.is_some()
            || self.output_per_million.is_some()
            || self.cache_read_per_million.is_some()
            || self.per_image.is_some()
            || self.per_second.is_some()
            || self.per_character.is_some()
            || self.input_tokens_max.is_some()
            || self.output_tokens_max.is_some()
    }
}

/// `[[model]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Model {
    pub(super) name: String,
    pub(super) targets: Vec<Target>,
}

/// One element of `targets`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Target {
    pub(super) upstream: String,
    pub(super) model: String,
    pub(super) weight: Option<u32>,
    pub(super) order: Option<u32>,
}

/// Reads the file. The parser's own report quotes the line, which may hold a key, so ours names only its number.
pub(super) fn parse(text: &str) -> Result<File, Problem> {
    toml::from_str(text).map_err(|error| Problem {
        line: error.span().map(|span| line_of(text, span.start)),
        key: String::new(),
        what: error.message().trim().replace('\n', ", "),
    })
}

/// The number of the line that holds a byte, from 1.
pub(super) fn line_of(text: &str, byte: usize) -> usize {
    text.bytes().take(byte).filter(|byte| *byte == b'\n').count() + 1
}
