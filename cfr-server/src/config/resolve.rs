//! From the file and the environment to what runs, collecting every problem on the way.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use cfr_core::money::{BPS_PER_ONE, Currency, FxRate, Money};
use cfr_core::secret::Secret;
use http::StatusCode;
use ipnet::IpNet;
use rust_decimal::Decimal;
use sha2::{Digest as _, Sha256};
use toml::Spanned;

use super::database::{FILE_KEY, NODE_CHARS_MAX, VARIABLE, host_name, is_node_name};
use super::file::{self, line_of};
use super::{
    Config, DATA, DRAIN, DatabaseConfig, DatabaseUrl, Environment, LISTEN, LedgerConfig, Problem, ProviderKeys,
    Settings, Timeouts, USD_PER_EUR_E6,
};
use crate::auth::KeyText;
use crate::oidc::Issuer;
use crate::secrets::{MasterKeySource, master};
use crate::serve::Proxies;

mod account;
mod answering;
mod mail;
mod manner;
mod media;
mod pricing;
mod sharing;
mod sign_in;

/// Bodies below this would refuse ordinary chats; above it, one request could fill the memory.
const BODY_BYTES_RANGE: RangeInclusive<usize> = 1_024..=1_073_741_824;
/// From a second to a day: a call that takes longer holds money that nobody can use.
const TIMEOUT_SECONDS_RANGE: RangeInclusive<u64> = 1..=86_400;
/// Nobody needs to know for longer than ten years who once asked.
const LEADS_DAYS_RANGE: RangeInclusive<u64> = 1..=3_660;
const HOURS_PER_DAY: u64 = 24;
/// Zero switches the auditor off.
const AUDIT_SECONDS_RANGE: RangeInclusive<u64> = 0..=86_400;
/// Below a second, a network that hiccups stops all holds; above an hour, a lost process keeps what it had for too long.
const LEASE_SECONDS_RANGE: RangeInclusive<u64> = 1..=3_600;
/// Up to a week.
const GRACE_SECONDS_RANGE: RangeInclusive<u64> = 0..=604_800;
/// More connections than this would be more than Postgres runs well with.
const POOL_RANGE: RangeInclusive<u32> = 2..=500;
/// The statuses that clients of other gateways expect for an exhausted budget.
const BUDGET_STATUSES: [u16; 4] = [402, 403, 422, 429];
/// A buffer above this is a typing error.
const FX_BUFFER_BPS_MAX: u32 = 5_000;

/// Everything that helps to read one configuration.
struct Reader<'a> {
    text: &'a str,
    environment: Environment<'a>,
    keys: ProviderKeys,
    problems: Vec<Problem>,
}

pub(super) fn resolve(
    path: Option<&Path>,
    text: &str,
    file: file::File,
    environment: Environment<'_>,
    keys: ProviderKeys,
) -> Result<Config, Vec<Problem>> {
    let mut reader = Reader { text, environment, keys, problems: Vec::new() };
    let fx_is_set = file.money.fx_usd_per_unit.is_some();
    let fx = reader.fx(&file.money);
    let public_url = reader.public_url(file.server.public_url.as_ref());
    let config = Config {
        source: path.map(Path::to_path_buf),
        digest: Sha256::digest(text).into(),
        listen: reader.variable("CFR_LISTEN").or(file.listen).unwrap_or_else(|| LISTEN.into()),
        data: reader.variable("CFR_DATA").or(file.data).unwrap_or_else(|| DATA.into()).into(),
        prices: file.prices.map(Into::into),
        drain: file.limits.drain_seconds.map_or(DRAIN, Duration::from_secs),
        timeouts: reader.timeouts(&file.limits),
        media: reader.media(file.media),
        account_hosts: reader.hosts(file.accounts.private_hosts, "accounts.private_hosts"),
        database: reader.database(file.database),
        redis: reader.redis(file.redis),
        cache: reader.cache(file.cache),
        mail: reader.mail(file.mail.as_ref(), public_url.is_some()),
        public_url,
        sign_in: reader.sign_in(file.sign_in.oidc),
        sign_in_hosts: reader.hosts(file.sign_in.private_hosts, "sign_in.private_hosts"),
        proxies: reader.proxies(&file.server.trusted_proxies),
        ledger: reader.ledger(&file.ledger),
        settings: reader.settings(&file.limits, &file.money),
        fx: fx.unwrap_or(FxRate::USD),
        fx_is_set,
        upstreams: reader.upstreams(file.upstream),
        models: reader.models(file.model),
        pepper: reader.variable("CFR_KEY_PEPPER").map(Secret::new),
        master_key: reader.master_key(),
        admin_key: reader.admin_key(),
        host: host_name(environment).map(Arc::from),
    };
    reader.check_targets(&config);
    if reader.problems.is_empty() {
        return Ok(config);
    }
    reader.problems.sort_by_key(|problem| problem.line);
    Err(reader.problems)
}

impl Reader<'_> {
    fn variable(&self, name: &str) -> Option<String> {
        (self.environment)(name).filter(|value| !value.trim().is_empty())
    }

    /// The keys themselves win over a file of them.
    fn master_key(&self) -> Option<MasterKeySource> {
        let file = || self.variable(master::FILE_VARIABLE).map(|path| MasterKeySource::File(path.into()));
        let given = self.variable(master::VARIABLE).map(|text| MasterKeySource::Variable(Secret::new(text)));
        given.or_else(file)
    }

    fn problem(&mut self, line: Option<usize>, key: impl Into<String>, what: impl Into<String>) {
        self.problems.push(Problem { line, key: key.into(), what: what.into() });
    }

    fn missing_key(&mut self, line: Option<usize>, key: &str, what: String) {
        if self.keys == ProviderKeys::Needed {
            self.problem(line, key, what);
        }
    }

    fn line<T>(&self, place: &Spanned<T>) -> Option<usize> {
        Some(line_of(self.text, place.span().start))
    }

    fn bytes_max(&mut self, bytes: &Spanned<usize>, key: &str) -> usize {
        if !BODY_BYTES_RANGE.contains(bytes.get_ref()) {
            let what = format!("from {} to {}", BODY_BYTES_RANGE.start(), BODY_BYTES_RANGE.end());
            self.problem(self.line(bytes), key, what);
        }
        *bytes.get_ref()
    }

    fn settings(&mut self, limits: &file::Limits, money: &file::Money) -> Settings {
        let mut settings = Settings { cost_headers: money.cost_headers.unwrap_or(false), ..Settings::default() };
        let (key, said) = ("limits.realtime_session_seconds", limits.realtime_session_seconds.as_ref());
        settings.realtime_session_max = self.seconds(key, said, settings.realtime_session_max);
        if let Some(bytes) = &limits.body_bytes_max {
            settings.body_bytes_max = self.bytes_max(bytes, "limits.body_bytes_max");
        }
        if let Some(bytes) = &limits.form_bytes_max {
            settings.form_bytes_max = self.bytes_max(bytes, "limits.form_bytes_max");
        }
        settings.second_person_above = self.second_person_above(money);
        if let Some(days) = &limits.leads_days {
            settings.leads_kept = self.leads_kept(days);
        }
        if let Some(code) = &money.budget_status_code {
            match StatusCode::from_u16(*code.get_ref()) {
                Ok(status) if BUDGET_STATUSES.contains(code.get_ref()) => settings.budget_status = status,
                _ => self.problem(self.line(code), "money.budget_status_code", "402, 403, 422 or 429"),
            }
        }
        settings
    }

    fn second_person_above(&mut self, money: &file::Money) -> Option<i64> {
        let text = money.second_person_above.as_ref()?;
        let units = Decimal::from_str_exact(text.get_ref().trim()).ok().filter(|units| !units.is_sign_negative());
        let nanos = units.and_then(|units| Money::from_decimal(units, Currency::EUR).ok()).map(Money::nanos);
        if nanos.is_none() {
            let what = "an amount of whatever currency the budget has, as in \"1000\"";
            self.problem(self.line(text), "money.second_person_above", what);
        }
        nanos
    }

    fn leads_kept(&mut self, days: &Spanned<u64>) -> Duration {
        if !LEADS_DAYS_RANGE.contains(days.get_ref()) {
            let what = format!("from {} to {}", LEADS_DAYS_RANGE.start(), LEADS_DAYS_RANGE.end());
            self.problem(self.line(days), "limits.leads_days", what);
        }
        Duration::from_hours(days.get_ref().saturating_mul(HOURS_PER_DAY).min(LEADS_DAYS_RANGE.end() * HOURS_PER_DAY))
    }

    fn database(&mut self, section: file::Database) -> DatabaseConfig {
        let usual = DatabaseConfig::default();
        let pool = section.pool.as_ref().map_or(usual.pool, |pool| *pool.get_ref());
        if !POOL_RANGE.contains(&pool) {
            let line = section.pool.as_ref().and_then(|pool| self.line(pool));
            self.problem(line, "database.pool", format!("from {} to {}", POOL_RANGE.start(), POOL_RANGE.end()));
        }
        let (url, named_by) = match self.variable(VARIABLE) {
            Some(text) => (self.database_url(None, VARIABLE, &Secret::new(text)), VARIABLE),
            None => {
                let url = section.url.and_then(|url| self.database_url(self.line(&url), FILE_KEY, url.get_ref()));
                (url, FILE_KEY)
            }
        };
        let prepared_statements = section.prepared_statements.unwrap_or(usual.prepared_statements);
        DatabaseConfig {
            url,
            named_by,
            pool,
            prepared_statements,
            migration: section.migrate.unwrap_or(usual.migration),
        }
    }

    fn database_url(&mut self, line: Option<usize>, key: &str, text: &Secret) -> Option<DatabaseUrl> {
        DatabaseUrl::parse(text).map_err(|what| self.problem(line, key, what)).ok()
    }

    fn public_url(&mut self, section: Option<&Spanned<String>>) -> Option<Issuer> {
        let (key, line, text) = match (self.variable("CFR_PUBLIC_URL"), section) {
            (Some(text), _) => ("CFR_PUBLIC_URL", None, text),
            (None, Some(text)) => ("server.public_url", self.line(text), text.get_ref().clone()),
            (None, None) => return None,
        };
        Issuer::parse(&text).map_err(|what| self.problem(line, key, what)).ok()
    }

    fn proxies(&mut self, networks: &[Spanned<String>]) -> Proxies {
        let mut trusted = Vec::new();
        for network in networks {
            let text = network.get_ref().trim();
            match text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)) {
                Ok(network) => trusted.push(network.trunc()),
                Err(_) => {
                    let what = format!("`{text}` is no network, as in 10.0.0.0/8, and no address");
                    self.problem(self.line(network), "server.trusted_proxies", what);
                }
            }
        }
        Proxies::new(trusted)
    }

    fn ledger(&mut self, section: &file::Ledger) -> LedgerConfig {
        let usual = LedgerConfig::default();
        LedgerConfig {
            durability: section.durability.map_or(usual.durability, Into::into),
            ack_settle: section.ack_settle.unwrap_or(usual.ack_settle),
            synchronous: section.synchronous.map_or(usual.synchronous, Into::into),
            orphan_policy: section.orphan_policy.unwrap_or(usual.orphan_policy),
            node: self.node(section.node.as_ref()),
            lease: self.within(
                LEASE_SECONDS_RANGE,
                "ledger.lease_seconds",
                section.lease_seconds.as_ref(),
                usual.lease,
            ),
            reclaim_grace: self.within(
                GRACE_SECONDS_RANGE,
                "ledger.reclaim_grace_seconds",
                section.reclaim_grace_seconds.as_ref(),
                usual.reclaim_grace,
            ),
            idle: section
                .idle_seconds
                .as_ref()
                .map(|idle| self.within(TIMEOUT_SECONDS_RANGE, "ledger.idle_seconds", Some(idle), Duration::default())),
            audit: self.within(
                AUDIT_SECONDS_RANGE,
                "ledger.audit_seconds",
                section.audit_seconds.as_ref(),
                usual.audit,
            ),
            halt_on_violation: section.halt_on_violation.unwrap_or(usual.halt_on_violation),
        }
    }

    fn node(&mut self, section: Option<&Spanned<String>>) -> Option<Arc<str>> {
        let (key, line, name) = match (self.variable("CFR_NODE"), section) {
            (Some(name), _) => ("CFR_NODE", None, name),
            (None, Some(name)) => ("ledger.node", self.line(name), name.get_ref().clone()),
            (None, None) => return None,
        };
        if !is_node_name(&name) {
            self.problem(line, key, format!("1 to {NODE_CHARS_MAX} letters, digits, `-`, `_` or `.`"));
        }
        Some(name.into())
    }

    fn timeouts(&mut self, limits: &file::Limits) -> Timeouts {
        let usual = Timeouts::default();
        Timeouts {
            header: self.seconds("limits.header_seconds", limits.header_seconds.as_ref(), usual.header),
            idle: self.seconds("limits.idle_seconds", limits.idle_seconds.as_ref(), usual.idle),
            hold: self.seconds("limits.hold_seconds", limits.hold_seconds.as_ref(), usual.hold),
        }
    }

    fn seconds(&mut self, key: &str, value: Option<&Spanned<u64>>, usual: Duration) -> Duration {
        self.within(TIMEOUT_SECONDS_RANGE, key, value, usual)
    }

    fn within(
        &mut self,
        range: RangeInclusive<u64>,
        key: &str,
        value: Option<&Spanned<u64>>,
        usual: Duration,
    ) -> Duration {
        let Some(value) = value else { return usual };
        if !range.contains(value.get_ref()) {
            let what = format!("from {} to {}", range.start(), range.end());
            self.problem(self.line(value), key, what);
        }
        Duration::from_secs(*value.get_ref())
    }

    /// The rate, made worse for the customer by the buffer: it covers changes between two settings.
    fn fx(&mut self, money: &file::Money) -> Option<FxRate> {
        let currency = match &money.currency {
            None => Currency::EUR,
            Some(code) => match Currency::from_str(code.get_ref()) {
                Ok(currency) => currency,
                Err(error) => {
                    self.problem(self.line(code), "money.currency", error.to_string());
                    return None;
                }
            },
        };
        let rate_e6 = match &money.fx_usd_per_unit {
            Some(text) => match millionths(text.get_ref()) {
                Some(rate_e6) => rate_e6,
                None => {
                    let what = "dollars for one unit as a decimal number with at most 6 places, as in \"1.16\"";
                    self.problem(self.line(text), "money.fx_usd_per_unit", what);
                    return None;
                }
            },
            None if currency == Currency::USD => 1_000_000,
            None if currency == Currency::EUR => USD_PER_EUR_E6,
            None => {
                let line = money.currency.as_ref().and_then(|code| self.line(code));
                self.problem(line, "money.fx_usd_per_unit", format!("needed: dollars for one {currency}"));
                return None;
            }
        };
        self.buffered(currency, rate_e6, money)
    }

    fn buffered(&mut self, currency: Currency, rate_e6: i64, money: &file::Money) -> Option<FxRate> {
        let buffer = money.fx_buffer_bps.as_ref().map_or(0, |bps| *bps.get_ref());
        let line = money.fx_buffer_bps.as_ref().and_then(|bps| self.line(bps));
        if buffer > FX_BUFFER_BPS_MAX {
            self.problem(line, "money.fx_buffer_bps", format!("at most {FX_BUFFER_BPS_MAX}"));
            return None;
        }
        if currency == Currency::USD && (rate_e6 != 1_000_000 || buffer != 0) {
            self.problem(line, "money", "prices are in USD: a dollar needs no rate and no buffer");
            return None;
        }
        let kept = i128::from(BPS_PER_ONE - buffer);
        let worse = i128::from(rate_e6) * kept / i128::from(BPS_PER_ONE); // down: fewer dollars for a unit, never more
        let rate = i64::try_from(worse).ok().and_then(|rate| FxRate::new(currency, rate).ok());
        if rate.is_none() {
            let line = money.fx_usd_per_unit.as_ref().and_then(|rate| self.line(rate));
            self.problem(line, "money.fx_usd_per_unit", "a rate above zero and at most a million");
        }
        rate
    }

    fn admin_key(&mut self) -> Option<KeyText> {
        let text = self.variable("CFR_ADMIN_KEY")?;
        let key = KeyText::parse(text.trim());
        if key.is_none() {
            self.problem(
                None,
                "CFR_ADMIN_KEY",
                "not a key: 16 to 256 visible characters, or one of ours, copied whole",
            );
        }
        key
    }

    fn check_targets(&mut self, config: &Config) {
        for model in &config.models {
            for target in &model.targets {
                if !config.upstreams.iter().any(|upstream| upstream.name == target.upstream) {
                    let what = format!("`{}`: there is no upstream `{}`", model.name, target.upstream);
                    self.problem(model.line, "model.targets", what);
                }
            }
        }
    }
}

/// A decimal number in millionths, when it is a whole number of them.
fn millionths(text: &str) -> Option<i64> {
    let value = Decimal::from_str_exact(text.trim()).ok()?.normalize();
    let factor = 10_i128.checked_pow(6_u32.checked_sub(value.scale())?)?;
    i64::try_from(value.mantissa().checked_mul(factor)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_exact_or_refused() {
        assert_eq!(millionths("1.16"), Some(1_160_000));
        assert_eq!(millionths("1.1234567"), None);
    }
}
