//! What replicas share through Redis, and whose answers are kept.

use std::ops::RangeInclusive;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use cfr_core::cache::{CachePolicy, CacheTenants, ENTRY_BYTES_MAX, KEEP};
use cfr_core::id::TenantId;
use cfr_core::secret::Secret;
use toml::Spanned;

#[cfg(feature = "redis")]
use super::super::REDIS_ADDRESS;
use super::super::{CACHE_MEMORY_BYTES, CacheConfig, REDIS_PREFIX, REDIS_TIMEOUT, RedisConfig, file};
use super::Reader;

/// The variable that names a Redis server.
const URL_VARIABLE: &str = "CFR_REDIS_URL";
/// Every tenant, as a list of one.
const EVERYBODY: &str = "*";
/// Longer ones waste memory in every key.
const PREFIX_BYTES_MAX: usize = 64;
/// Below a millisecond no network answers; above a second, every loss of Redis would be felt.
const TIMEOUT_MS_RANGE: RangeInclusive<u64> = 1..=1_000;
/// Up to thirty days.
const KEEP_SECONDS_RANGE: RangeInclusive<u64> = 1..=2_592_000;
/// Larger answers are rarely asked for twice.
const ENTRY_BYTES_RANGE: RangeInclusive<usize> = 1..=16 * 1024 * 1024;
/// Room for a few large answers at the least.
const MEMORY_BYTES_RANGE: RangeInclusive<usize> = 1024 * 1024..=1024 * 1024 * 1024 * 1024;

impl Reader<'_> {
    /// The environment's address wins over the file's.
    pub(super) fn redis(&mut self, section: file::Redis) -> Option<RedisConfig> {
        let line = section.url.as_ref().and_then(|url| self.line(url));
        let (url, line, key) = match self.variable(URL_VARIABLE) {
            Some(url) => (Some(Secret::new(url.trim())), None, URL_VARIABLE),
            None => (section.url.map(Spanned::into_inner), line, "redis.url"),
        };
        let prefix = self.prefix(section.prefix);
        let usual_ms = u64::try_from(REDIS_TIMEOUT.as_millis()).unwrap_or(u64::MAX);
        let timeout_ms = self.ranged(TIMEOUT_MS_RANGE, "redis.timeout_ms", section.timeout_ms.as_ref(), usual_ms);
        let url = url?;
        if let Err(what) = check_url(&url) {
            self.problem(line, key, what);
        }
        Some(RedisConfig { url, prefix, answer_timeout: Duration::from_millis(timeout_ms) })
    }

    fn prefix(&mut self, prefix: Option<Spanned<String>>) -> String {
        let Some(prefix) = prefix else { return REDIS_PREFIX.into() };
        let text = prefix.get_ref();
        if text.is_empty() || text.len() > PREFIX_BYTES_MAX || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            let what = format!("1 to {PREFIX_BYTES_MAX} visible characters");
            self.problem(self.line(&prefix), "redis.prefix", what);
        }
        prefix.into_inner()
    }

    pub(super) fn cache(&mut self, section: Option<Spanned<file::Cache>>) -> Option<CacheConfig> {
        let section = section?;
        let line = self.line(&section);
        let section = section.into_inner();
        if section.models.is_empty() {
            self.problem(line, "cache.models", "needed: public models, or the beginning of names followed by `*`");
        }
        let (entry, memory) = (section.entry_bytes_max, section.memory_bytes);
        let policy = CachePolicy {
            keep: self.within(KEEP_SECONDS_RANGE, "cache.keep_seconds", section.keep_seconds.as_ref(), KEEP),
            entry_bytes_max: self.ranged(ENTRY_BYTES_RANGE, "cache.entry_bytes_max", entry.as_ref(), ENTRY_BYTES_MAX),
            price_percent: self.ranged(0..=100, "cache.price_percent", section.price_percent.as_ref(), 0),
            ..CachePolicy::new(
                self.tenants(line, &section.tenants),
                section.models.into_iter().map(Arc::from).collect(),
            )
        };
        let memory_bytes = self.ranged(MEMORY_BYTES_RANGE, "cache.memory_bytes", memory.as_ref(), CACHE_MEMORY_BYTES);
        Some(CacheConfig { policy, memory_bytes })
    }

    /// Nobody's answers are kept by accident: every tenant is named, or all are.
    fn tenants(&mut self, line: Option<usize>, names: &[Spanned<String>]) -> CacheTenants {
        if names.is_empty() {
            let what = "needed: ids of the tenants that want their answers kept, or [\"*\"] for every tenant";
            self.problem(line, "cache.tenants", what);
        }
        if names.iter().any(|name| name.get_ref() == EVERYBODY) {
            return CacheTenants::All;
        }
        let mut tenants = Vec::with_capacity(names.len());
        for name in names {
            match TenantId::from_str(name.get_ref()) {
                Ok(tenant) => tenants.push(tenant),
                Err(error) => self.problem(self.line(name), "cache.tenants", error.to_string()),
            }
        }
        CacheTenants::Listed(tenants)
    }

    fn ranged<T: Copy + PartialOrd + std::fmt::Display>(
        &mut self,
        range: RangeInclusive<T>,
        key: &str,
        value: Option<&Spanned<T>>,
        usual: T,
    ) -> T {
        let Some(value) = value else { return usual };
        if !range.contains(value.get_ref()) {
            self.problem(self.line(value), key, format!("from {} to {}", range.start(), range.end()));
        }
        *value.get_ref()
    }
}

#[cfg(feature = "redis")]
fn check_url(url: &Secret) -> Result<(), String> {
    redis::Client::open(url.expose()).map(|_| ()).map_err(|error| format!("{REDIS_ADDRESS}: {error}"))
}

#[cfg(not(feature = "redis"))]
fn check_url(_: &Secret) -> Result<(), String> {
    Err("this build is without Redis: build it with the feature `redis`".into())
}

#[cfg(test)]
#[cfg(feature = "redis")]
mod tests {
    use crate::config::{Config, Problems};

    use super::*;

    fn parse(text: &str, url: Option<&str>) -> Result<Config, Problems> {
        Config::parse(None, text, &|name| (name == URL_VARIABLE).then(|| url.map(String::from)).flatten())
    }

    /// The sections of the example, which stand there as comments.
    fn example() -> String {
        let text = include_str!("../../../cfr.example.toml");
        let from = text.find("# [redis]").expect("a section");
        let to = text.find("[money]").expect("another");
        text[from..to].lines().map(|line| line.trim_start_matches("# ").to_owned() + "\n").collect()
    }

    #[test]
    fn the_example_means_what_the_defaults_mean() {
        let example = parse(&example(), None).expect("good");
        let short =
            "[redis]\nurl = \"redis://:password@host:6379/0\"\n[cache]\ntenants = [\"*\"]\nmodels = [\"gpt-5.4-*\"]";
        let usual = parse(short, None).expect("good");
        assert_eq!(format!("{:?}", example.redis), format!("{:?}", usual.redis));
        assert_eq!(format!("{:?}", example.cache), format!("{:?}", usual.cache));
        assert!(!format!("{example:?}").contains("password@"));
    }

    #[test]
    fn nothing_is_shared_or_kept_unless_somebody_says_so() {
        let config = parse("", None).expect("good");
        assert!(config.redis.is_none() && config.cache.is_none());
    }

    #[test]
    fn the_environment_names_redis_before_the_file() {
        let config =
            parse("[redis]\nurl = \"redis://file\"\nprefix = \"own\"", Some(" redis://variable ")).expect("good");
        let redis = config.redis.expect("named");
        assert_eq!((redis.url.expose(), redis.prefix.as_str()), ("redis://variable", "own"));
    }

    #[track_caller]
    fn check(text: &str, url: Option<&str>, line: Option<usize>, key: &str, what: &str) {
        let problems = parse(text, url).expect_err(text).list;
        let found = problems.iter().find(|problem| problem.key == key).unwrap_or_else(|| panic!("{key}: {problems:?}"));
        assert!(found.line == line && found.what.contains(what), "{found:?}");
        assert!(!found.what.contains("sesame"), "{found:?}");
    }

    #[test]
    fn every_mistake_has_its_line_and_no_secret() {
        let cache = |rest: &str| format!("[cache]\ntenants = [\"*\"]\nmodels = [\"m\"]\n{rest}");
        check("[redis]\nurl = \"http://:sesame@host\"", None, Some(2), "redis.url", "redis://:password@host:6379/0");
        check("", Some("sesame"), None, "CFR_REDIS_URL", "not an address");
        check("[redis]\ntimeout_ms = 0", None, Some(2), "redis.timeout_ms", "from 1 to 1000");
        check("[redis]\nprefix = \"two words\"", None, Some(2), "redis.prefix", "visible");
        check("[cache]\nmodels = [\"m\"]", None, Some(1), "cache.tenants", "[\"*\"] for every tenant");
        check("[cache]\ntenants = [\"*\"]", None, Some(1), "cache.models", "needed");
        check("[cache]\ntenants = [\"acme\"]\nmodels = [\"m\"]", None, Some(2), "cache.tenants", "ten_");
        check(&cache("price_percent = 101"), None, Some(4), "cache.price_percent", "from 0 to 100");
        check(&cache("keep_seconds = 0"), None, Some(4), "cache.keep_seconds", "from 1 to");
        check(&cache("memory_bytes = 1"), None, Some(4), "cache.memory_bytes", "from 1048576");
    }
}
