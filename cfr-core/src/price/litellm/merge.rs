//! From what the file says to entries of our table: known models are renewed, new ones added, all others kept.

use std::collections::HashSet;

use serde_json::{Map, Value, json};

use super::entry::{Entry, holds, names, rates_of};
use super::file::Models;
use super::model::Facts;
use super::{Omissions, entry, malformed};
use crate::price::{PriceTableError, Rate};

/// Hosts of other people's models whose prices nothing else confirms: their new models are not taken.
const UNCONFIRMED: [&str; 4] = ["together", "fireworks", "perplexity", "cerebras"];
/// Providers whose own names of models have no `/`: with one, it is the price of a region or of a size.
const PLAIN_NAMES: [&str; 7] = ["openai", "azure", "anthropic", "gemini", "bedrock", "bedrock-mantle", "xai"];

/// Takes the models into the entries. Returns which known ones the file does not mention.
pub(super) fn merge(
    entries: &mut Vec<Value>,
    mut models: Models,
    today: &str,
    omissions: &mut Omissions,
) -> Result<Vec<Box<str>>, PriceTableError> {
    settle_aliases(entries, &mut models, today)?;
    let (mut known, mut not_mentioned) = (HashSet::new(), Vec::new());
    for entry in entries.iter_mut() {
        let entry = object(entry)?;
        let (provider, model) = names(entry)?;
        match models.get(&*provider).and_then(|models| models.get(&*model)) {
            Some(facts) if holds(entry, today) => entry::renew(entry, facts, omissions)?,
            Some(_) => {} // another one holds now: this one is history, or scheduled by its provider
            None => not_mentioned.push(format!("{provider}/{model}").into()),
        }
        known.insert((provider, model));
    }
    for (provider, models) in models {
        for (model, facts) in models.into_iter().filter(|(model, _)| !known.contains(&(provider.into(), model.clone())))
        {
            match reason_against(provider, &model) {
                Some(reason) => omissions.add(reason, facts.key),
                None => entries.push(Value::Object(entry::new(provider, &model, &facts)?)),
            }
        }
    }
    Ok(not_mentioned)
}

fn object(entry: &mut Value) -> Result<&mut Entry, PriceTableError> {
    entry.as_object_mut().ok_or_else(|| malformed("an entry is no object"))
}

/// Why a model that our table does not have is not taken in.
fn reason_against(provider: &str, model: &str) -> Option<&'static str> {
    let plain = PLAIN_NAMES.contains(&provider);
    if UNCONFIRMED.contains(&provider) {
        return Some("new models of hosts whose prices nothing else confirms: declare a price of your own for them");
    }
    if plain && model.starts_with("ft:") {
        return Some("fine-tuned models");
    }
    (plain && model.contains('/')).then_some("prices of one region, size or quality of a model")
}

/// An alias that the file prices as its model does is that model. One that it prices otherwise is a model of its own
/// from now on.
fn settle_aliases(entries: &mut [Value], models: &mut Models, today: &str) -> Result<(), PriceTableError> {
    let mut own = HashSet::new();
    for entry in entries.iter_mut() {
        let entry = object(entry)?;
        let (provider, model) = names(entry)?;
        let Some(of_provider) = models.get_mut(&*provider).filter(|_| holds(entry, today)) else { continue };
        for alias in aliases(entry) {
            let Some(facts) = of_provider.get(&*alias) else { continue };
            let rates = of_provider.get(&*model).map_or_else(|| rates_of(entry), |owner| Ok(owner.rates.clone()))?;
            if agree(facts, &rates) {
                of_provider.remove(&*alias);
            } else {
                own.insert((provider.clone(), alias));
            }
        }
    }
    for entry in entries.iter_mut().filter_map(Value::as_object_mut) {
        let (provider, _) = names(entry)?;
        let kept: Vec<_> = aliases(entry).filter(|alias| !own.contains(&(provider.clone(), alias.clone()))).collect();
        if kept.len() < aliases(entry).count() {
            entry.insert("aliases".into(), json!(kept));
        }
    }
    Ok(())
}

fn aliases(entry: &Map<String, Value>) -> impl Iterator<Item = Box<str>> + use<> {
    let aliases = entry.get("aliases").and_then(Value::as_array).cloned().unwrap_or_default();
    aliases.into_iter().filter_map(|alias| alias.as_str().map(Box::from))
}

/// Whether every price that both know is the same.
fn agree(facts: &Facts, rates: &[Rate]) -> bool {
    let place = |rate: &Rate| (rate.meter, rate.tier, rate.above);
    let differs = |rate: &Rate| rates.iter().any(|known| place(known) == place(rate) && known.price != rate.price);
    !facts.rates.iter().any(differs)
}
