//! Upstreams and models: who answers, with which key, at which own prices.

use std::collections::HashSet;

use cfr_core::price::{Limits, Mode, OwnPrice, UnitPrice};
use cfr_core::secret::Secret;
use cfr_providers::registry::{Account, Kind};
use cfr_providers::sign::aws::AwsKeys;
use toml::Spanned;

use super::super::{ModelConfig, TargetConfig, UpstreamConfig, UpstreamKind, file};
use super::Reader;

impl Reader<'_> {
    /// Those of the file; without any, the providers whose keys are in the environment.
    pub(super) fn upstreams(&mut self, sections: Vec<Spanned<file::Upstream>>) -> Vec<UpstreamConfig> {
        if sections.is_empty() {
            return self.upstreams_from_environment();
        }
        let mut names = HashSet::new();
        let mut upstreams = Vec::new();
        for section in sections {
            let line = self.line(&section);
            let section = section.into_inner();
            if section.name.is_empty() || !names.insert(section.name.clone()) {
                self.problem(line, "upstream.name", format!("`{}`: a name of its own is needed", section.name));
            }
            upstreams.extend(self.upstream(line, section));
        }
        upstreams
    }

    fn upstreams_from_environment(&self) -> Vec<UpstreamConfig> {
        let with_key = |kind: Kind| {
            let key = self.variable(kind.key_variable()?)?;
            Some(UpstreamConfig {
                name: kind.name().into(),
                kind: UpstreamKind::Provider(kind),
                account: self.account(kind, Some(Secret::new(key.trim()))),
                provider: kind.price_provider().unwrap_or(kind.name()).into(),
                expose: true,
                prices: Vec::new(),
                line: None,
            })
        };
        Kind::all().filter_map(with_key).collect()
    }

    fn upstream(&mut self, line: Option<usize>, section: file::Upstream) -> Option<UpstreamConfig> {
        let kind = self.kind(&section.kind)?;
        let account = self.section_account(line, &section, kind);
        let provider = section.provider.clone().unwrap_or_else(|| match kind {
            UpstreamKind::Provider(kind) => kind.price_provider().unwrap_or(&section.name).to_owned(),
            UpstreamKind::Fake => section.name.clone(),
        });
        if matches!(kind, UpstreamKind::Provider(kind) if kind.needs_address()) && section.base_url.is_none() {
            self.problem(line, "upstream.base_url", format!("`{}` needs one", section.name));
        }
        Some(UpstreamConfig {
            prices: section.price.into_iter().filter_map(|price| self.price(&provider, price)).collect(),
            name: section.name,
            kind,
            account,
            provider,
            expose: section.expose.unwrap_or(true),
            line,
        })
    }

    fn kind(&mut self, kind: &Spanned<String>) -> Option<UpstreamKind> {
        match kind.get_ref().as_str() {
            "fake" => return Some(UpstreamKind::Fake),
            "openai-compatible" => return Kind::by_name("custom").map(UpstreamKind::Provider),
            _ => {}
        }
        let found = Kind::by_name(kind.get_ref()).map(UpstreamKind::Provider);
        if found.is_none() {
            let known: Vec<_> = Kind::all().map(Kind::name).filter(|name| *name != "custom").collect();
            let what = format!("unknown kind; use fake, openai-compatible, {}", known.join(", "));
            self.problem(self.line(kind), "upstream.kind", what);
        }
        found
    }

    /// What the environment knows of an account.
    fn account(&self, kind: Kind, key: Option<Secret>) -> Account {
        if kind != Kind::Bedrock {
            return Account { key, ..Account::default() };
        }
        let region = ["AWS_REGION", "AWS_DEFAULT_REGION"].iter().find_map(|name| self.variable(name));
        Account { key, region, aws_keys: self.aws_keys(), ..Account::default() }
    }

    fn aws_keys(&self) -> Option<AwsKeys> {
        Some(AwsKeys {
            access_key_id: self.variable("AWS_ACCESS_KEY_ID")?.trim().into(),
            secret_access_key: Secret::new(self.variable("AWS_SECRET_ACCESS_KEY")?.trim()),
            session_token: self.variable("AWS_SESSION_TOKEN").map(|token| Secret::new(token.trim())),
        })
    }

    /// What a section says of an account comes before what the environment knows.
    fn section_account(&mut self, line: Option<usize>, section: &file::Upstream, kind: UpstreamKind) -> Account {
        let UpstreamKind::Provider(provider) = kind else { return Account::default() };
        let own_keys = self.section_aws_keys(line, section);
        let key = self.upstream_key(line, section, provider, own_keys.is_some());
        let usual = self.account(provider, key);
        Account {
            base_url: section.base_url.clone(),
            project: section.project.clone(),
            service_account: self.service_account(section),
            region: section.region.clone().or(usual.region),
            aws_keys: own_keys.or(usual.aws_keys),
            ..usual
        }
    }

    fn service_account(&mut self, section: &file::Upstream) -> Option<Secret> {
        let path = section.service_account_file.as_ref()?;
        match std::fs::read_to_string(path.get_ref()) {
            Ok(text) => Some(Secret::new(&text)),
            Err(error) => {
                let what = format!("{}: {error}", path.get_ref());
                self.missing_key(self.line(path), "upstream.service_account_file", what);
                None
            }
        }
    }

    fn section_aws_keys(&mut self, line: Option<usize>, section: &file::Upstream) -> Option<AwsKeys> {
        let (id, secret) = (section.access_key_id.as_deref(), section.secret_access_key.clone());
        if id.is_some() != secret.is_some() {
            self.problem(line, "upstream.access_key_id", "access_key_id and secret_access_key belong together");
        }
        let session_token = section.session_token.clone();
        Some(AwsKeys { access_key_id: id?.trim().into(), secret_access_key: secret?, session_token })
    }

    /// The key that the section names, else the one that is usual for the kind.
    fn upstream_key(
        &mut self,
        line: Option<usize>,
        section: &file::Upstream,
        kind: Kind,
        signs: bool,
    ) -> Option<Secret> {
        if let Some(key) = &section.api_key {
            return Some(key.clone());
        }
        if let Some(name) = &section.api_key_env {
            let key = self.variable(name.get_ref());
            if key.is_none() {
                self.missing_key(self.line(name), "upstream.api_key_env", format!("{} is not set", name.get_ref()));
            }
            return key.map(|key| Secret::new(key.trim()));
        }
        if let Some(path) = &section.api_key_file {
            return match std::fs::read_to_string(path.get_ref()) {
                Ok(key) => Some(Secret::new(key.trim())),
                Err(error) => {
                    let what = format!("{}: {error}", path.get_ref());
                    self.missing_key(self.line(path), "upstream.api_key_file", what);
                    None
                }
            };
        }
        let usual = kind.key_variable()?;
        let key = self.variable(usual);
        let signs = signs || kind == Kind::Bedrock && self.aws_keys().is_some();
        if key.is_none() && !signs && section.base_url.is_none() {
            let what = format!("`{}` needs a key, and {usual} is not set", section.name);
            self.missing_key(line, "upstream.api_key_env", what);
        }
        key.map(|key| Secret::new(key.trim()))
    }

    fn price(&mut self, provider: &str, price: Spanned<file::Price>) -> Option<OwnPrice> {
        let line = self.line(&price);
        let price = price.into_inner();
        let free = if price.free { Some(UnitPrice::FREE) } else { None };
        let none_needed = if price.embedding { Some(UnitPrice::FREE) } else { None };
        let input = self.unit_price(line, "input_per_million", price.input_per_million.as_deref());
        let output = self.unit_price(line, "output_per_million", price.output_per_million.as_deref());
        let cache_read = self.unit_price(line, "cache_read_per_million", price.cache_read_per_million.as_deref());
        let (Some(input), Some(output)) = (input.or(free), output.or(free).or(none_needed)) else {
            let what = format!("`{}` needs input_per_million and output_per_million, or `free = true`", price.model);
            self.problem(line, "upstream.price", what);
            return None;
        };
        Some(OwnPrice {
            provider: provider.into(),
            model: price.model.into(),
            mode: if price.embedding { Mode::Embedding } else { Mode::Chat },
            input,
            output,
            cache_read,
            limits: Limits { max_input_tokens: price.input_tokens_max, max_output_tokens: price.output_tokens_max },
        })
    }

    fn unit_price(&mut self, line: Option<usize>, key: &str, text: Option<&str>) -> Option<UnitPrice> {
        let price = UnitPrice::from_usd_per_million(text?.trim());
        if price.is_err() {
            let what = "dollars for a million tokens as a decimal number in quotes, as in \"0.15\"";
            self.problem(line, format!("upstream.price.{key}"), what);
        }
        price.ok()
    }

    pub(super) fn models(&mut self, sections: Vec<Spanned<file::Model>>) -> Vec<ModelConfig> {
        let mut names = HashSet::new();
        let mut models = Vec::new();
        for section in sections {
            let line = self.line(&section);
            let section = section.into_inner();
            if section.name.is_empty() || !names.insert(section.name.clone()) {
                self.problem(line, "model.name", format!("`{}`: a name of its own is needed", section.name));
            }
            if section.targets.is_empty() {
                self.problem(line, "model.targets", format!("`{}` needs at least one", section.name));
            }
            models.push(ModelConfig {
                name: section.name,
                targets: section.targets.into_iter().map(target).collect(),
                line,
            });
        }
        models
    }
}

fn target(section: file::Target) -> TargetConfig {
    TargetConfig {
        upstream: section.upstream,
        model: section.model,
        weight: section.weight.unwrap_or(1),
        order: section.order.unwrap_or(0),
    }
}
