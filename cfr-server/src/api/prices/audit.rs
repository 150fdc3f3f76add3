//! `/price-table/audit`: what is wrong with the prices of what is offered, and what will change soon.

use axum::Json as Answer;
use cfr_billing::store::{PAGE_ROWS_MAX, PageRequest};
use cfr_core::price::{AUDIT_AHEAD, Change, PriceFinding as CoreFinding, PriceFindingKind, Severity};
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::desk::Desk;
use crate::api::problem::{Problem, Problems};
use crate::api::products::worst_case_contribution;
use crate::api::schema;

/// What an audit of prices found.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PriceAudit {
    /// Findings that refuse calls or make them fail.
    pub(crate) problems: usize,
    /// Findings to be known.
    pub(crate) notices: usize,
    /// Every finding, problems first.
    pub(crate) findings: Vec<PriceFinding>,
}

/// Something that an operator should know.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PriceFinding {
    /// How much it matters.
    #[schema(value_type = schema::Severity)]
    pub(crate) severity: Severity,
    /// What it is.
    #[schema(value_type = schema::PriceFindingKind)]
    pub(crate) kind: &'static str,
    /// The provider, where it is about a model.
    pub(crate) provider: Option<String>,
    /// The model by the provider's name, where it is about one.
    pub(crate) model: Option<String>,
    /// The product, where it is about one.
    pub(crate) product: Option<String>,
    /// The names under which the model is offered.
    pub(crate) names: Vec<String>,
    /// In words.
    pub(crate) what: String,
}

/// Look at the price of every model that is offered and at every active product: what has no price, what the provider
/// ends, what changes within 30 days, what is sold below cost.
#[utoipa::path(get, path = "/price-table/audit", operation_id = "audit_prices", tag = "prices",
    responses((status = 200, description = "What was found", body = PriceAudit), Problems))]
pub(crate) async fn audit(desk: Desk) -> Result<Answer<PriceAudit>, Problem> {
    let found = desk.prices().current().audit(&desk.prices().offered(), desk.now());
    let mut findings: Vec<_> = found.into_iter().map(PriceFinding::from).collect();
    findings.extend(products_at_a_loss(&desk).await?);
    findings.sort_by_key(|finding| finding.severity != Severity::Problem);
    let problems = findings.iter().filter(|finding| finding.severity == Severity::Problem).count();
    Ok(Answer(PriceAudit { problems, notices: findings.len() - problems, findings }))
}

async fn products_at_a_loss(desk: &Desk) -> Result<Vec<PriceFinding>, Problem> {
    let mut found = Vec::new();
    let mut request = PageRequest { after: None, limit: PAGE_ROWS_MAX };
    loop {
        let page = desk.store.products(request).await?;
        for product in page.items.into_iter().filter(|product| product.active) {
            let left = worst_case_contribution(&product.current.terms);
            if left.nanos() < 0 {
                found.push(at_a_loss(&product.code, &left));
            }
        }
        match page.next {
            Some(next) => request.after = Some(next),
            None => return Ok(found),
        }
    }
}

fn at_a_loss(code: &str, left: &impl std::fmt::Display) -> PriceFinding {
    PriceFinding {
        severity: Severity::Notice,
        kind: "product_at_a_loss",
        provider: None,
        model: None,
        product: Some(code.to_owned()),
        names: Vec::new(),
        what: format!("a customer who uses the whole budget leaves {left}"),
    }
}

impl From<CoreFinding> for PriceFinding {
    fn from(core: CoreFinding) -> Self {
        Self {
            severity: core.kind.severity(),
            kind: core.kind.name(),
            what: in_words(&core.kind),
            provider: Some(core.provider.into()),
            model: Some(core.model.into()),
            product: None,
            names: core.names.into_iter().map(Into::into).collect(),
        }
    }
}

fn in_words(kind: &PriceFindingKind) -> String {
    match kind {
        PriceFindingKind::Unpriced => "has no price, so calls are refused: import one, or declare your own".into(),
        PriceFindingKind::Unusable(error) => format!("calls are refused: {error}"),
        PriceFindingKind::SearchUnpriced => "web searches have no price, so calls with them are refused".into(),
        PriceFindingKind::ShutsDown { day, is_over: true } => format!("the provider ended it on {day}"),
        PriceFindingKind::ShutsDown { day, is_over: false } => format!("the provider ends it on {day}"),
        PriceFindingKind::Ends { at } => format!("its price ends at {at} and none follows"),
        PriceFindingKind::Changes { at, changes } => format!("its price changes at {at}: {}", summary(changes)),
        _ => format!("changes within {AUDIT_AHEAD:#}"),
    }
}

/// The changes of standard input and output, which people know a model by; else how many there are.
fn summary(changes: &[Change]) -> String {
    let known = changes.iter().filter_map(|change| match change {
        Change::Rate { meter: meter @ ("input_tokens" | "output_tokens"), tier, above: 0, old, new }
            if tier.name() == "standard" =>
        {
            let price =
                |price: &Option<cfr_core::price::UnitPrice>| price.map_or("none".into(), |price| price.to_string());
            Some(format!("{meter} {} to {}", price(old), price(new)))
        }
        _ => None,
    });
    let known: Vec<_> = known.collect();
    if known.is_empty() { format!("{} differences", changes.len()) } else { known.join(", ") }
}
