//! GuardedRoutes with what they ask for. There is no way to add one that asks for nothing.

use std::fmt;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::middleware::{self, Next};
use axum::response::Response;
use cfr_billing::audit_log::Act;
use serde_json::json;
use utoipa::openapi::OpenApi;
use utoipa::openapi::extensions::Extensions;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter};

use super::desk::Shared;
use super::problem::Problem;
use crate::auth::access::{Access, Permission};

/// The field of an operation in the API document that says what it asks for.
pub const ACCESS_FIELD: &str = "x-access";

/// The routes of the management API, each behind a permission.
#[derive(Default)]
pub struct GuardedRoutes(OpenApiRouter<Shared>);

impl fmt::Debug for GuardedRoutes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("GuardedRoutes").finish_non_exhaustive()
    }
}

/// What a route asks for.
#[derive(Debug, Clone, Copy)]
struct Demand {
    permission: Permission,
    proof: bool,
}

impl GuardedRoutes {
    /// Adds what whoever holds `permission` may use.
    #[must_use]
    pub(crate) fn route(self, permission: Permission, routes: UtoipaMethodRouter<Shared>) -> Self {
        self.add(Demand { permission, proof: false }, routes)
    }

    /// Adds what people may use only shortly after they proved who they are.
    #[must_use]
    pub(crate) fn proved(self, permission: Permission, routes: UtoipaMethodRouter<Shared>) -> Self {
        self.add(Demand { permission, proof: true }, routes)
    }

    /// Lets bodies be longer than elsewhere.
    #[must_use]
    pub(crate) fn body_limit(self, bytes_max: usize) -> Self {
        Self(self.0.layer(DefaultBodyLimit::max(bytes_max)))
    }

    /// Both.
    #[must_use]
    pub(crate) fn merge(self, other: Self) -> Self {
        Self(self.0.merge(other.0))
    }

    /// What answers, and its description.
    pub fn split(self) -> (Router<Shared>, OpenApi) {
        self.0.split_for_parts()
    }

    fn add(self, demand: Demand, (schemas, mut paths, methods): UtoipaMethodRouter<Shared>) -> Self {
        paths.paths.values_mut().flat_map(operations).for_each(|operation| describe(operation, demand));
        let check = middleware::from_fn(move |request: Request, next: Next| check(demand, request, next));
        Self(self.0.routes((schemas, paths, methods.route_layer(check))))
    }
}

async fn check(demand: Demand, request: Request, next: Next) -> Result<Response, Problem> {
    let (access, act) = admitted(&request).ok_or_else(|| Problem::internal("nobody asks"))?;
    if !access.may(demand.permission) {
        return Err(Problem::forbidden(format_args!("this needs the permission `{}`", demand.permission)));
    }
    if demand.proof && !access.is_proved(act.at) {
        return Err(Problem::step_up_required());
    }
    Ok(next.run(request).await)
}

/// What the guard found out.
fn admitted(request: &Request) -> Option<(&Access, &Act)> {
    Some((request.extensions().get()?, request.extensions().get()?))
}

/// The operations of a path.
pub(crate) fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let operations = [&mut item.get, &mut item.put, &mut item.post, &mut item.patch, &mut item.delete];
    operations.into_iter().flatten()
}

fn describe(operation: &mut Operation, Demand { permission, proof }: Demand) {
    let access = json!({ "permission": permission.name(), "recent_proof": proof });
    operation.extensions.get_or_insert_default().merge(Extensions::from_iter([(ACCESS_FIELD, access)]));
    let proof = if proof { " People prove shortly before who they are: `POST /auth/step-up`." } else { "" };
    let needs = format!("Needs the permission `{permission}`.{proof}");
    let about = operation.description.take().filter(|about| !about.is_empty());
    operation.description = Some(about.map_or(needs.clone(), |about| format!("{about}\n\n{needs}")));
}
