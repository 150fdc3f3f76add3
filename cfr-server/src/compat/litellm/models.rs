//! `/model/info`: what is offered, with its prices per token in dollars.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use cfr_core::chat::{Meter, Usage};
use cfr_core::price::{Mode, PriceEntry, PriceTerms};
use cfr_core::route::Model;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::super::amount::Amount;
use super::super::body::Params;
use super::super::manager::Manager;
use crate::error::ApiError;
use crate::state::App;

/// A dollar has so many pico-USD.
const PICO_PLACES: u32 = 12;

#[derive(Debug, Deserialize)]
pub(super) struct ModelQuery {
    litellm_model_id: Option<String>,
}

/// Models.
#[derive(Debug, Serialize)]
pub(super) struct ModelList<T> {
    data: Vec<T>,
}

/// A model at one provider.
#[derive(Debug, Serialize)]
pub(super) struct ModelView {
    model_name: Arc<str>,
    litellm_params: ParamsView,
    model_info: InfoView,
}

#[derive(Debug, Serialize)]
struct ParamsView {
    model: String,
    custom_llm_provider: Arc<str>,
}

#[derive(Debug, Serialize)]
struct InfoView {
    id: String,
    db_model: bool,
    mode: &'static str,
    max_tokens: Option<u64>,
    max_input_tokens: Option<u64>,
    max_output_tokens: Option<u64>,
    input_cost_per_token: Option<Amount>,
    output_cost_per_token: Option<Amount>,
    cache_read_input_token_cost: Option<Amount>,
    supports_vision: bool,
    supports_function_calling: bool,
}

/// A model with all who answer for it.
#[derive(Debug, Serialize)]
pub(super) struct GroupView {
    model_group: Arc<str>,
    providers: Vec<Arc<str>>,
    #[serde(flatten)]
    info: Option<InfoView>,
}

/// Show every model that is offered, with each provider that answers for it.
pub(super) async fn info(
    State(app): State<Arc<App>>,
    _: Manager,
    Params(query): Params<ModelQuery>,
) -> Result<Json<ModelList<ModelView>>, ApiError> {
    let views = offered(&app).iter().flat_map(|model| views(&app, model)).collect::<Vec<_>>();
    let wanted = |view: &ModelView| query.litellm_model_id.as_ref().is_none_or(|id| *id == view.model_info.id);
    Ok(Json(ModelList { data: views.into_iter().filter(wanted).collect() }))
}

/// Show every model once.
pub(super) async fn groups(State(app): State<Arc<App>>, _: Manager) -> Result<Json<ModelList<GroupView>>, ApiError> {
    let group = |model: &Arc<Model>| GroupView {
        model_group: Arc::clone(&model.name),
        providers: model.targets.iter().map(|target| Arc::clone(&target.provider)).collect(),
        info: views(&app, model).into_iter().next().map(|view| view.model_info),
    };
    Ok(Json(ModelList { data: offered(&app).iter().map(group).collect() }))
}

fn offered(app: &App) -> Vec<Arc<Model>> {
    let offer = app.gateway.offer();
    let mut models: Vec<Arc<Model>> = offer.routes.models().map(Arc::clone).collect();
    models.sort_by(|one, other| one.name.cmp(&other.name));
    models
}

fn views(app: &App, model: &Model) -> Vec<ModelView> {
    let (offer, now) = (app.gateway.offer(), app.clock.now());
    let priced = model.targets.iter().filter_map(|target| {
        let entry = target.entry(&offer.prices, now)?;
        let terms = PriceTerms {
            region: target.region.as_deref(),
            factor: target.price.factor,
            at: Some(now),
            ..PriceTerms::default()
        };
        Some(ModelView {
            model_name: Arc::clone(&model.name),
            litellm_params: ParamsView {
                model: format!("{}/{}", target.provider, target.model),
                custom_llm_provider: Arc::clone(&target.provider),
            },
            model_info: info_of(&model.name, &target.upstream, entry, &terms),
        })
    });
    priced.collect()
}

fn info_of(name: &str, upstream: &str, entry: &PriceEntry, terms: &PriceTerms<'_>) -> InfoView {
    let price = |meter| {
        let cost = entry.cost(&Usage::default().with(meter, 1), terms).ok()?;
        Some(Amount(Decimal::try_from_i128_with_scale(cost.0, PICO_PLACES).ok()?.normalize()))
    };
    let limits = entry.limits();
    let can = |capability: &str| entry.capabilities().any(|known| known == capability);
    InfoView {
        id: format!("{upstream}/{name}"),
        db_model: false,
        mode: mode(entry.mode()),
        max_tokens: limits.max_output_tokens,
        max_input_tokens: limits.max_input_tokens,
        max_output_tokens: limits.max_output_tokens,
        input_cost_per_token: price(Meter::InputTokens),
        output_cost_per_token: price(Meter::OutputTokens),
        cache_read_input_token_cost: price(Meter::CacheReadTokens),
        supports_vision: can("vision"),
        supports_function_calling: can("tools"),
    }
}

const fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Embedding => "embedding",
        Mode::Image => "image_generation",
        Mode::Stt => "audio_transcription",
        Mode::Tts => "audio_speech",
        Mode::Rerank => "rerank",
        Mode::Moderation => "moderation",
        Mode::Realtime => "realtime",
        _ => "chat",
    }
}
