//! What the file says of one model, in our words.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::Omissions;
use super::field::{is_redundant, place};
use crate::chat::Meter;
use crate::price::{CHAT_TOKEN_PICO_USD_MAX, Factor, Mode, Rate, Tier, UnitPrice};

/// A field that prices something and that we do not understand.
const UNKNOWN_FIELD: &str = "fields without a meaning here: they price nothing";
const NOT_A_PRICE: &str = "fields that hold no price";

/// The fields of one model, each as its text.
#[derive(Debug, Deserialize)]
pub(super) struct Fields<'a>(#[serde(borrow)] BTreeMap<String, &'a RawValue>);

/// What the file says of one model.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Facts {
    /// The model by the file's name for it.
    pub(super) key: Box<str>,
    pub(super) mode: Mode,
    pub(super) rates: Vec<Rate>,
    pub(super) fees: Vec<(Meter, UnitPrice)>,
    /// Each as the wire of our table has it.
    pub(super) multipliers: Vec<Value>,
    /// As the wire of our table has it.
    pub(super) off_peak: Option<Value>,
    pub(super) max_input_tokens: Option<u64>,
    pub(super) max_output_tokens: Option<u64>,
    pub(super) shutdown_date: Option<String>,
    pub(super) flags: Vec<&'static str>,
    pub(super) capabilities: Vec<String>,
}

impl Fields<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|raw| raw.get())
    }

    fn read<'a, T: Deserialize<'a>>(&'a self, name: &str) -> Option<T> {
        serde_json::from_str(self.get(name)?).ok()
    }

    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.read(name)
    }

    fn is_true(&self, name: &str) -> bool {
        self.get(name) == Some("true")
    }

    fn numbers(&self) -> impl Iterator<Item = (&str, &str)> {
        let is_number = |text: &&str| text.starts_with(|first: char| first.is_ascii_digit() || first == '-');
        self.0.iter().map(|(name, raw)| (name.as_str(), raw.get())).filter(move |(_, text)| is_number(text))
    }
}

impl Facts {
    /// The error says why the model is left out.
    pub(super) fn read(
        key: &str,
        provider: &str,
        fields: &Fields<'_>,
        today: &str,
        omissions: &mut Omissions,
    ) -> Result<Self, &'static str> {
        let word = fields.text("mode").unwrap_or_default();
        let mode = mode(&word).ok_or("of a kind that we do not price")?;
        let shutdown_date = fields.text("deprecation_date").filter(|day| is_day(day));
        if shutdown_date.as_deref().is_some_and(|day| day <= today) {
            return Err("already shut down");
        }
        if fields
            .get("input_cost_per_request")
            .is_some_and(|price| UnitPrice::from_number(price, 0) != Some(UnitPrice::FREE))
        {
            return Err("priced by the request, which nothing counts");
        }
        let mut facts = Self {
            key: key.into(),
            mode,
            rates: rates(key, fields, omissions),
            fees: fees(provider, fields),
            multipliers: multipliers(provider, fields),
            off_peak: off_peak(key, fields, omissions),
            max_input_tokens: fields.read("max_input_tokens"),
            max_output_tokens: fields.read("max_output_tokens").or_else(|| fields.read("max_tokens")),
            shutdown_date,
            flags: flags(&word, fields),
            capabilities: capabilities(fields),
        };
        facts.tidy(provider);
        facts.check()?;
        Ok(facts)
    }

    /// Takes out what says nothing, and second prices of the same usage.
    fn tidy(&mut self, provider: &str) {
        use Meter::{CacheWriteTokens, InputImages, InputTokens, OutputImages, OutputTokens};
        let rates = &mut self.rates;
        rates.retain(|rate| {
            rate.price > UnitPrice::FREE || matches!(rate.meter, InputTokens | OutputTokens | CacheWriteTokens)
        });
        let all = rates.clone();
        let has = |meter| all.iter().any(|rate: &Rate| rate.meter == meter);
        let same = |rate: &Rate, meter| all.contains(&Rate { meter, ..*rate });
        rates.retain(|rate| rate.meter != Meter::ReasoningTokens || !same(rate, OutputTokens));
        let is_gemini = matches!(provider, "gemini" | "vertex") && self.key.contains("gemini"); // it counts no cache writes
        rates.retain(|rate| !is_gemini || !matches!(rate.meter, CacheWriteTokens | Meter::CacheWrite1hTokens));
        match self.mode {
            Mode::Tts if has(Meter::OutputAudioTokens) => {
                rates.retain(|rate| !matches!(rate.meter, OutputTokens | Meter::InputCharacters));
            }
            Mode::Image if has(Meter::OutputImageTokens) || has(OutputTokens) => {
                rates.retain(|rate| !matches!(rate.meter, OutputImages | InputImages));
            }
            Mode::Rerank | Mode::Embedding => rates.retain(|rate| rate.price > UnitPrice::FREE),
            _ => {}
        }
    }

    /// Whether these are prices that one can charge by.
    fn check(&self) -> Result<(), &'static str> {
        let price = |meter: Meter| {
            let mut rates = self.rates.iter();
            let rate = rates.find(|rate| (rate.meter, rate.tier, rate.above) == (meter, Tier::Standard, 0));
            rate.map_or(UnitPrice::FREE, |rate| rate.price)
        };
        let unpriced = match self.mode {
            Mode::Chat | Mode::Realtime => {
                price(Meter::InputTokens) == UnitPrice::FREE || price(Meter::OutputTokens) == UnitPrice::FREE
            }
            Mode::Moderation => self.rates.is_empty(),
            _ => !self.rates.iter().any(|rate| rate.price > UnitPrice::FREE),
        };
        if unpriced {
            return Err("without a price, or with a price of 0: free and unknown look alike there");
        }
        let absurd = |rate: &Rate| rate.meter.is_token() && rate.price.pico_usd() > CHAT_TOKEN_PICO_USD_MAX;
        if self.mode == Mode::Chat && self.rates.iter().any(absurd) {
            return Err("dearer than a dollar per thousand tokens");
        }
        Ok(())
    }
}

fn mode(word: &str) -> Option<Mode> {
    Some(match word {
        "chat" | "responses" => Mode::Chat,
        "embedding" => Mode::Embedding,
        "image_generation" | "image_edit" => Mode::Image,
        "audio_transcription" => Mode::Stt,
        "audio_speech" => Mode::Tts,
        "moderation" => Mode::Moderation,
        "rerank" => Mode::Rerank,
        "realtime" => Mode::Realtime,
        _ => return None,
    })
}

fn is_day(text: &str) -> bool {
    text.parse::<jiff::civil::Date>().is_ok_and(|day| day.to_string() == *text)
}

fn rates(key: &str, fields: &Fields<'_>, omissions: &mut Omissions) -> Vec<Rate> {
    let mut rates = BTreeMap::new();
    for (name, text) in fields.numbers().filter(|(name, _)| name.contains("cost") && !is_redundant(name)) {
        match rate(name, text) {
            Ok(rate) => drop(rates.insert((rate.meter, rate.tier, rate.above), rate)),
            Err(reason) => omissions.add(reason, format!("{key}: {name}")),
        }
    }
    for step in fields.read::<Vec<BTreeMap<String, &RawValue>>>("tiered_pricing").into_iter().flatten() {
        let range = step.get("range").and_then(|range| serde_json::from_str::<Vec<u64>>(range.get()).ok());
        let Some(above) = range.and_then(|range| range.first().copied()) else {
            omissions.add(UNKNOWN_FIELD, format!("{key}: tiered_pricing"));
            continue;
        };
        let known = step.iter().filter_map(|(name, text)| rate(name, text.get()).ok());
        rates.extend(known.map(|rate| ((rate.meter, rate.tier, above), Rate { above, ..rate })));
    }
    rates.into_values().collect()
}

fn rate(name: &str, text: &str) -> Result<Rate, &'static str> {
    let place = place(name).ok_or(UNKNOWN_FIELD)?;
    let price = UnitPrice::from_number(text, place.per_power_of_ten).ok_or(NOT_A_PRICE)?;
    Ok(Rate { meter: place.meter, tier: place.tier, above: place.above, price })
}

/// Searches of three sizes. Only Perplexity charges one for each request; elsewhere the dearest counts for any.
fn fees(provider: &str, fields: &Fields<'_>) -> Vec<(Meter, UnitPrice)> {
    const SIZES: [(&str, Meter); 3] = [
        ("search_context_size_low", Meter::WebSearchCallsLow),
        ("search_context_size_medium", Meter::WebSearchCallsMedium),
        ("search_context_size_high", Meter::WebSearchCallsHigh),
    ];
    let sizes = fields.read::<BTreeMap<String, &RawValue>>("search_context_cost_per_query").unwrap_or_default();
    let price = |name: &str| UnitPrice::from_number(sizes.get(name)?.get(), 0).filter(|price| *price > UnitPrice::FREE);
    let fees: Vec<_> = SIZES.into_iter().filter_map(|(name, meter)| Some((meter, price(name)?))).collect();
    match fees.iter().map(|(_, price)| *price).max() {
        Some(dearest) if provider != "perplexity" => vec![(Meter::WebSearchCalls, dearest)],
        _ => fees,
    }
}

fn multipliers(provider: &str, fields: &Fields<'_>) -> Vec<Value> {
    const REGIONS: [(&str, &str, &str); 3] = [
        ("regional_processing_uplift_multiplier_eu", "region", "eu"),
        ("regional_processing_uplift_multiplier_us", "region", "us"),
        ("regional_endpoint_uplift_multiplier", "location_not", "global"),
    ];
    let regions = REGIONS.into_iter().filter_map(|(field, condition, value)| {
        let factor = fields.get(field)?;
        Some((condition, value.to_owned(), factor.to_owned()))
    });
    let named = fields.read::<BTreeMap<String, &RawValue>>("provider_specific_entry").unwrap_or_default();
    let named = named.into_iter().filter(|_| provider == "anthropic").map(|(word, factor)| {
        let condition = if word == "fast" { "speed" } else { "inference_geo" };
        (condition, word, factor.get().to_owned())
    });
    let factors = regions.chain(named).filter(|(.., factor)| Factor::parse(factor).is_some());
    let wire = |(condition, value, factor): (&str, String, String)| json!({"when": {condition: value}, "factor": factor.trim_end_matches(".0"), "applies_to": "all_token_meters"});
    factors.map(wire).collect()
}

/// Hours at another price, when we understand all of them; without them the ordinary price holds.
fn off_peak(key: &str, fields: &Fields<'_>, omissions: &mut Omissions) -> Option<Value> {
    let off_peak = fields.get("off_peak_pricing")?;
    let understood = serde_json::from_str::<BTreeMap<String, &RawValue>>(off_peak).ok().and_then(|off_peak| {
        let (windows, prices) = off_peak.iter().partition::<Vec<_>, _>(|(name, _)| *name == "windows");
        let rates = prices.into_iter().map(|(name, text)| rate(name, text.get()).ok()).collect::<Option<Vec<_>>>()?;
        let windows: Vec<Window> = serde_json::from_str(windows.first()?.1.get()).ok()?;
        let windows: Vec<_> = windows.into_iter().map(Window::wire).collect();
        Some(json!({"windows": windows, "rates": rates}))
    });
    if understood.is_none() {
        omissions.add("hours at another price that are not understood: the ordinary price holds", key);
    }
    understood
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Window {
    hours_utc: Hours,
    #[serde(default = "every_day")]
    weekdays: Vec<i8>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Hours {
    One(String),
    Many(Vec<String>),
}

fn every_day() -> Vec<i8> {
    (1..=7).collect()
}

impl Window {
    fn wire(self) -> Value {
        let hours = match self.hours_utc {
            Hours::One(range) => vec![range],
            Hours::Many(ranges) => ranges,
        };
        json!({"utc_hours": hours, "weekdays": self.weekdays})
    }
}

fn flags(mode: &str, fields: &Fields<'_>) -> Vec<&'static str> {
    let flags = [
        ("prefer_responses_api", fields.is_true("use_openai_responses_path")),
        ("reasoning", fields.is_true("supports_reasoning")),
        ("responses_api_only", mode == "responses"),
        ("thinking_always_on", fields.is_true("thinking_always_on")),
    ];
    flags.into_iter().filter(|(_, holds)| *holds).map(|(flag, _)| flag).collect()
}

fn capabilities(fields: &Fields<'_>) -> Vec<String> {
    let supported = fields.0.keys().filter(|name| fields.is_true(name));
    supported.filter_map(|name| name.strip_prefix("supports_").map(ToOwned::to_owned)).collect()
}
