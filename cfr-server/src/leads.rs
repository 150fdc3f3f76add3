//! `POST /leads`: whoever wants to be told more writes so, from a form that anybody can fill in.
//!
//! The answer is the same for a person, for a robot that filled in the field which people do not see, and for who wrote
//! before. What comes is kept for those who answer, under [`/api/v1/leads`](crate::api), until its time is over.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::extract::{DefaultBodyLimit, FromRequest as _, Request, State};
use axum::http::StatusCode;
use axum::routing::post;
use cfr_billing::audit_log::{Act, Actor, ActorKind};
use cfr_billing::identity::Language;
use cfr_billing::lead::{Lead, LeadStatus};
use cfr_billing::store::Store;
use cfr_core::id::{LeadId, RequestId};
use cfr_core::time::Clock;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use crate::api;
use crate::api::input::Checks;
use crate::api::problem::Problem;
use crate::api::schema;
use crate::mail::{Letters, Template};
use crate::serve;
use crate::turns::{Quota, Turns};

/// Where the form goes.
pub const PATH: &str = "/leads";
/// A message and who wrote it.
const BODY_BYTES_MAX: usize = 16 * 1024;
const HOUR: Duration = Duration::from_hours(1);
/// Forms in an hour from one network.
const PER_NETWORK: Quota = Quota { what: "leads of a network", most: 10, window: HOUR, step: 1 };
/// Forms in an hour in all: nobody reads more.
const IN_ALL: Quota = Quota { what: "leads in all", most: 600, window: HOUR, step: 10 };

/// What somebody writes who wants to be told more.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Form {
    /// Who asks.
    #[schema(example = "Anna Berg", min_length = 1, max_length = 200)]
    name: String,
    /// For whom.
    #[schema(example = "Acme GmbH", max_length = 200)]
    company: Option<String>,
    /// Where they are answered.
    #[schema(example = "anna@acme.example")]
    email: String,
    /// What they want to know.
    #[schema(min_length = 1, max_length = 2000)]
    message: String,
    /// The language in which they are answered; English when absent.
    #[schema(value_type = Option<schema::Language>)]
    locale: Option<Language>,
    /// Whether they agree that this is kept to answer them: without it nothing is.
    consent: bool,
    /// A field that the form hides: who fills it in is a robot, and nothing is kept.
    website: Option<String>,
}

/// What every form is answered.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Thanks {
    /// Always true.
    received: bool,
}

/// Takes forms.
#[derive(Debug)]
pub(crate) struct Desk {
    store: Arc<dyn Store>,
    letters: Letters,
    clock: Arc<dyn Clock>,
    turns: Turns,
}

/// The route that takes forms.
pub fn router(store: Arc<dyn Store>, letters: Letters, clock: Arc<dyn Clock>) -> Router {
    let turns = Turns::new(Arc::clone(&store) as _, Arc::clone(&clock));
    let desk = Arc::new(Desk { store, letters, clock, turns });
    Router::new().route(PATH, post(receive)).layer(DefaultBodyLimit::max(BODY_BYTES_MAX)).with_state(desk)
}

/// Ask to be told more. Whoever runs the platform reads it, and answers.
#[utoipa::path(post, path = "/leads", operation_id = "create_lead", tag = "leads", security(()), request_body = Form,
    responses((status = 202, description = "Received, whoever wrote it", body = Thanks),
        (status = "default", description = "What went wrong", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn receive(
    State(desk): State<Arc<Desk>>,
    request: Request,
) -> Result<(StatusCode, Json<Thanks>), Problem> {
    let address = serve::address(request.extensions());
    desk.admit(address).await?;
    let id = request.extensions().get().copied();
    let api::Json(form) = api::Json::<Form>::from_request(request, &()).await?;
    form.check()?;
    if form.website.as_deref().unwrap_or_default().is_empty() {
        desk.keep(form, id).await?;
    }
    Ok((StatusCode::ACCEPTED, Json(Thanks { received: true })))
}

impl Form {
    fn check(&self) -> Result<(), Problem> {
        let mut checks = Checks::default();
        checks.name("name", &self.name);
        if let Some(company) = &self.company {
            checks.name("company", company);
        }
        checks.email("email", &self.email);
        checks.text("message", &self.message);
        checks.require(self.consent, "consent", "nothing is kept without it");
        checks.finish()
    }
}

impl Desk {
    async fn admit(&self, address: Option<IpAddr>) -> Result<(), Problem> {
        for (quota, subject) in [(&PER_NETWORK, address.map_or(0, serve::network)), (&IN_ALL, 0)] {
            if let Some(after) = self.turns.take(quota, subject).await? {
                return Err(Problem::too_many(after));
            }
        }
        Ok(())
    }

    /// From where it came is not kept: nobody who answers needs it.
    async fn keep(&self, form: Form, request: Option<RequestId>) -> Result<(), Problem> {
        let now = self.clock.now();
        let lead = Lead {
            id: LeadId::generate(now),
            name: form.name.into(),
            company: form.company.map(Into::into),
            email: form.email.into(),
            message: form.message.into(),
            locale: form.locale.unwrap_or_default(),
            consent_at: now,
            status: LeadStatus::New,
            note: None,
            version: 1,
            created_at: now,
            updated_at: now,
        };
        let letter = match self.letters.sales() {
            Some(sales) => {
                let values = json!({ "name": lead.name, "email": lead.email });
                let letter = self.letters.write(sales, Language::default(), Template::LeadReceived, &values, now);
                Some(letter.await.map_err(Problem::internal)?)
            }
            None => None,
        };
        let by = Arc::new(Actor { request, ..Actor::of_kind(ActorKind::System) });
        Ok(self.store.add_lead(&lead, letter.as_ref(), &Act { by, at: now }).await?)
    }
}
