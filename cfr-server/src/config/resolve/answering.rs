//! Upstreams and models: who answers, with which key, at which own prices.

use std::collections::HashSet;

use cfr_core::price::{Limits, Mode, OwnPrice, UnitPrice};
use cfr_core::secret::Secret;
use cfr_providers::openai::Quirks;
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
        let with_key = |row: &'static Quirks| {
            let key = self.variable(row.key_variable?)?;
            Some(UpstreamConfig {
                name: row.name.into(),
                kind: UpstreamKind::Compatible(row),
                base_url: None,
                key: Some(Secret::new(key.trim())),
                provider: row.price_provider.unwrap_or(row.name).into(),
                expose: true,
                prices: Vec::new(),
                line: None,
            })
        };
        Quirks::all().iter().filter_map(with_key).collect()
    }

    fn upstream(&mut self, line: Option<usize>, section: file::Upstream) -> Option<UpstreamConfig> {
        let kind = self.kind(&section.kind)?;
        let key = self.upstream_key(line, &section, kind);
        let provider = section.provider.clone().unwrap_or_else(|| match kind {
            UpstreamKind::Compatible(row) => row.price_provider.unwrap_or(&section.name).to_owned(),
            UpstreamKind::Fake => section.name.clone(),
        });
        if matches!(kind, UpstreamKind::Compatible(row) if row.base_url.is_empty()) && section.base_url.is_none() {
            self.problem(line, "upstream.base_url", format!("`{}` needs one", section.name));
        }
        Some(UpstreamConfig {
            prices: section.price.into_iter().filter_map(|price| self.price(&provider, price)).collect(),
            name: section.name,
            kind,
            base_url: section.base_url,
            key,
            provider,
            expose: section.expose.unwrap_or(true),
            line,
        })
    }

    fn kind(&mut self, kind: &Spanned<String>) -> Option<UpstreamKind> {
        match kind.get_ref().as_str() {
            "fake" => return Some(UpstreamKind::Fake),
            "openai-compatible" => return Quirks::by_name("custom").map(UpstreamKind::Compatible),
            _ => {}
        }
        let row = Quirks::by_name(kind.get_ref()).map(UpstreamKind::Compatible);
        if row.is_none() {
            let known: Vec<_> = Quirks::names().filter(|name| *name != "custom").collect();
            let what = format!("unknown kind; use fake, openai-compatible, {}", known.join(", "));
            self.problem(self.line(kind), "upstream.kind", what);
        }
        row
    }

    /// The key that the section names, else the one that is usual for the kind.
    fn upstream_key(&mut self, line: Option<usize>, section: &file::Upstream, kind: UpstreamKind) -> Option<Secret> {
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
        let UpstreamKind::Compatible(Quirks { key_variable: Some(usual), .. }) = kind else { return None };
        let key = self.variable(usual);
        if key.is_none() && section.base_url.is_none() {
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
