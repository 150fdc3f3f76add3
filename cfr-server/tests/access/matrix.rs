//! Every operation of the API document as everybody: what is expected stands in the table of permissions, nowhere else.

use axum::http::Method;
use cfr_server::api::ACCESS_FIELD;
use cfr_server::auth::access::Permission;
use cfr_server::openapi::description;
use serde_json::{Value, json};

use super::people::{Proof, Somebody, Things, World};

/// One operation of the document.
struct Operation {
    method: Method,
    path: String,
    permission: Permission,
    /// Whether its answer does not end by itself.
    streams: bool,
}

fn operations() -> Vec<Operation> {
    let document = serde_json::to_value(description()).expect("JSON");
    let mut all = Vec::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        let Some(path) = path.strip_prefix("/api/v1") else { continue };
        for (method, operation) in item.as_object().expect("operations") {
            let permission =
                operation[ACCESS_FIELD]["permission"].as_str().expect("every operation asks for something");
            all.push(Operation {
                method: method.to_uppercase().parse().expect("a method"),
                path: path.to_owned(),
                permission: Permission::named(permission).expect("a permission of the table"),
                streams: operation["responses"]["200"]["content"].get("text/event-stream").is_some(),
            });
        }
    }
    all
}

impl Operation {
    /// The path with things of one tenant in it. What is nobody's is named after nothing.
    fn target(&self, things: &Things) -> String {
        let path = self.path.replace("{tenant}", &things.tenant).replace("{user}", &things.user);
        let mut path = path.replace("{key}", &things.key).replace("{budget}", &things.budget);
        while let (Some(from), Some(to)) = (path.find('{'), path.find('}')) {
            path.replace_range(from..=to, "nothing");
        }
        path
    }

    fn names_a_thing_of_a_tenant(&self) -> bool {
        ["{tenant}", "{user}", "{key}", "{budget}"].iter().any(|name| self.path.contains(name))
    }

    /// A body that changes nothing, where one may be sent.
    fn body(&self) -> Option<Value> {
        matches!(self.method, Method::POST | Method::PATCH | Method::PUT).then(|| json!({}))
    }

    async fn ask(&self, world: &World, somebody: &Somebody, things: &Things) -> u16 {
        let answer = world.ask(&somebody.proof, self.method.clone(), &self.target(things), &[], self.body()).await;
        answer.status.as_u16()
    }
}

#[tokio::test]
async fn everybody_gets_what_the_table_says_and_no_more() {
    let world = World::new().await;
    let (everybody, operations) = (world.everybody().await, operations());
    assert!(operations.len() > 30, "{} operations", operations.len());
    // What revokes and ends comes last: it takes away what the others ask with.
    for operation in &operations {
        for somebody in &everybody {
            if operation.streams && somebody.permissions.has(operation.permission) {
                continue;
            }
            let status = operation.ask(&world, somebody, &world.foreign).await;
            let told = format!("{} {} as {}: {status}", operation.method, operation.path, somebody.name);
            match somebody.proof {
                Proof::Nothing => assert_eq!(status, 401, "{told}"),
                _ if !somebody.permissions.has(operation.permission) => assert_eq!(status, 403, "{told}"),
                _ if !somebody.reaches_all && operation.names_a_thing_of_a_tenant() => {
                    let refused = matches!(status, 400 | 404 | 422);
                    assert!(refused && (status == 404 || operation.method != Method::GET), "{told}");
                }
                _ => assert!(status != 401 && status != 403 && status < 500, "{told}"),
            }
        }
    }
}

#[tokio::test]
async fn what_is_ones_own_is_shown() {
    let world = World::new().await;
    let everybody = world.everybody().await;
    for operation in operations().iter().filter(|operation| operation.method == Method::GET) {
        let by_tenant = ["tenant admin", "service key", "platform admin", "admin key"];
        for somebody in everybody.iter().filter(|somebody| by_tenant.contains(&somebody.name)) {
            let shown = somebody.permissions.has(operation.permission) && !operation.streams;
            if !shown || operation.target(&world.own).contains("nothing") {
                continue;
            }
            let status = operation.ask(&world, somebody, &world.own).await;
            let no_key = operation.path == "/keys/self" && matches!(somebody.proof, Proof::Session(_));
            let told = format!("{} as {}: {status}", operation.path, somebody.name);
            assert!(status == 200 || no_key || operation.path.contains("{product}"), "{told}");
        }
    }
}

#[tokio::test]
async fn lists_show_nothing_of_others() {
    let world = World::new().await;
    for somebody in world.everybody().await {
        if somebody.reaches_all || matches!(somebody.proof, Proof::Nothing) {
            continue;
        }
        for operation in operations() {
            let list = operation.method == Method::GET && !operation.path.contains('{') && !operation.streams;
            if !list || !somebody.permissions.has(operation.permission) {
                continue;
            }
            let answer = world.ask(&somebody.proof, Method::GET, &operation.path, &[], None).await;
            let told = answer.body.to_string();
            for foreign in [&world.foreign.tenant, &world.foreign.user, &world.foreign.key, &world.foreign.budget] {
                assert!(!told.contains(&**foreign), "{} as {}: {told}", operation.path, somebody.name);
            }
        }
    }
}
