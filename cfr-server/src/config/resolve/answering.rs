//! Upstreams and models: who answers, and under which names.

use std::collections::HashSet;

use cfr_core::price::Factor;
use cfr_providers::registry::{Account, Kind};
use cfr_providers::upstream::Manner;
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

    fn upstreams_from_environment(&mut self) -> Vec<UpstreamConfig> {
        let known = Kind::all().filter_map(|kind| Some((kind, self.account_of_environment(kind)?)));
        let upstreams = known.collect::<Vec<_>>().into_iter().map(|(kind, account)| UpstreamConfig {
            name: kind.name().into(),
            kind: UpstreamKind::Provider(kind),
            account,
            manner: Manner::default(),
            provider: kind.price_provider().unwrap_or(kind.name()).into(),
            expose: true,
            price_factor: Factor::ONE,
            prices: Vec::new(),
            deployments: Vec::new(),
            line: None,
        });
        upstreams.collect()
    }

    fn upstream(&mut self, line: Option<usize>, mut section: file::Upstream) -> Option<UpstreamConfig> {
        let kind = self.kind(&section.kind)?;
        let account = match kind {
            UpstreamKind::Provider(provider) => self.account(line, &section, provider),
            UpstreamKind::Fake => Account::default(),
        };
        let provider = section.provider.clone().unwrap_or_else(|| match kind {
            UpstreamKind::Provider(kind) => kind.price_provider().unwrap_or(&section.name).to_owned(),
            UpstreamKind::Fake => section.name.clone(),
        });
        if let UpstreamKind::Provider(kind) = kind
            && kind.needs_address()
            && account.base_url.is_none()
        {
            let or_in = kind.address_variable().map(|name| format!(", there or in {name}")).unwrap_or_default();
            self.problem(line, "upstream.base_url", format!("`{}` needs one{or_in}", section.name));
        }
        let price_factor = self.factor("upstream.price_factor", section.price_factor.as_ref());
        let prices = std::mem::take(&mut section.price).into_iter();
        let (deployments, own): (Vec<_>, Vec<_>) = prices.partition(|price| price.get_ref().like.is_some());
        Some(UpstreamConfig {
            manner: self.manner(&section),
            prices: own.into_iter().filter_map(|price| self.price(&provider, price)).collect(),
            deployments: deployments.into_iter().filter_map(|price| self.deployment(price_factor, price)).collect(),
            name: section.name,
            kind,
            account,
            provider,
            expose: section.expose.unwrap_or(true),
            price_factor,
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
