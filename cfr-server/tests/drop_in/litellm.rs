//! LiteLLM's management, as its clients use it.

use serde_json::{Value, json};

use crate::support::chat;
use crate::world::World;

#[tokio::test]
async fn a_team_a_user_and_a_key_are_made_used_changed_and_taken_away() {
    let world = World::with_ada().await;
    let team = world.post("/team/new", json!({"team_alias": "Research", "team_id": "t-1", "max_budget": 5})).await;
    assert_eq!(team.status, 200, "{}", team.body);
    assert_eq!((&team.json()["team_id"], team.json()["max_budget"].to_string()), (&json!("t-1"), "5".to_owned()));
    let user = json!({"user_id": "u-1", "user_email": "u1@example.org", "teams": ["t-1"], "max_budget": 2,
        "budget_duration": "30d", "auto_create_key": false, "metadata": {"cost_center": 7}});
    let user = world.post("/user/new", user).await;
    assert_eq!(user.status, 200, "{}", user.body);
    assert_eq!((&user.json()["metadata"]["cost_center"], &user.json()["teams"]), (&json!(7), &json!(["t-1"])));
    let wish = json!({"user_id": "u-1", "key_alias": "laptop", "max_budget": 1.5, "duration": "30d", "rpm_limit": 100});
    let key = world.post("/key/generate", wish).await;
    assert_eq!(key.status, 200, "{}", key.body);
    let secret = text(&key.json()["key"]).to_owned();
    let called = world.site.chat(&secret, &chat("Hello")).await;
    assert_eq!(called.status, 200, "{}", called.body);
    for name in [secret.as_str(), text(&key.json()["token"]), "laptop"] {
        let info = world.get(&format!("/key/info?key={name}")).await.json();
        assert_eq!(
            (&info["info"]["key_alias"], info["info"]["max_budget"].to_string()),
            (&json!("laptop"), "1.5".to_owned())
        );
        assert!(info["info"]["spend"] != json!(0) && info["info"]["user_id"] == json!("u-1"), "{info}");
    }
    let listed = world.get("/key/list?user_id=u-1").await.json();
    assert_eq!((&listed["total_count"], &listed["keys"][0]), (&json!(1), &key.json()["token"]));
    world.post("/key/block", json!({"key": secret})).await;
    assert_eq!(world.site.chat(&secret, &chat("Hello")).await.status, 401);
    world.post("/key/unblock", json!({"key": secret})).await;
    let changed = world.post("/key/update", json!({"key": secret, "max_budget": 3, "rpm_limit": null})).await.json();
    assert_eq!((changed["max_budget"].to_string(), &changed["rpm_limit"]), ("3".to_owned(), &Value::Null), "{changed}");
    let fresh = world.post(&format!("/key/{secret}/regenerate"), json!({})).await.json();
    assert_eq!(world.site.chat(&secret, &chat("Hello")).await.status, 401, "the old secret ended");
    let secret = text(&fresh["key"]).to_owned();
    assert_eq!(world.site.chat(&secret, &chat("Hello")).await.status, 200);
    let info = world.get("/user/info?user_id=u-1").await.json();
    assert_eq!(
        (&info["user_info"]["user_email"], &info["teams"][0]["team_id"]),
        (&json!("u1@example.org"), &json!("t-1"))
    );
    let logs = world.get("/spend/logs?user_id=u-1").await.json();
    assert_eq!(logs.as_array().map(Vec::len), Some(2), "{logs}");
    let days = world.get("/user/daily/activity?user_id=u-1").await.json();
    assert_eq!(days["metadata"]["total_api_requests"], json!(2), "{days}");
    assert_eq!(world.post("/key/delete", json!({"keys": [secret]})).await.status, 200);
    assert_eq!(world.site.chat(&secret, &chat("Hello")).await.status, 401);
    assert_eq!(world.post("/user/delete", json!({"user_ids": ["u-1"]})).await.json(), json!(1));
    let gone = world.post("/team/delete", json!({"team_ids": ["t-1"]})).await.json();
    assert_eq!(gone, json!({"deleted_teams": ["t-1"]}));
    world.site.stop().await;
}

#[tokio::test]
async fn what_limits_and_is_not_enforced_is_refused_by_name() {
    let world = World::with_ada().await;
    for (path, field) in [
        ("/key/generate", json!({"team_id": "acme", "tpm_limit": 10})),
        ("/key/generate", json!({"team_id": "acme", "model_max_budget": {"gpt-4o": 1}})),
        ("/user/new", json!({"user_id": "u", "models": ["gpt-4o"]})),
        ("/team/new", json!({"team_alias": "x", "rpm_limit": 3})),
    ] {
        let error = world.post(path, field.clone()).await.is_error(400, "unsupported_limit");
        let named = text(&error["param"]);
        assert!(field.get(named).is_some(), "{path} {field}: {error}");
    }
    let short = json!({"team_id": "acme", "max_budget": 1, "budget_duration": "1h"});
    world.post("/key/generate", short).await.is_error(400, "invalid_field");
    world.get("/key/info?key=sk-nobody-has-this-key").await.is_error(404, "key_not_found");
    world.site.stop().await;
}

#[tokio::test]
async fn models_and_health_are_shown_as_there() {
    let world = World::with_ada().await;
    let models = world.get("/model/info").await.json();
    let mini = models["data"].as_array().expect("models").iter().find(|model| model["model_name"] == "gpt-4o-mini");
    let info = &mini.expect("it is offered")["model_info"];
    assert_eq!((info["input_cost_per_token"].to_string(), &info["mode"]), ("1.5e-7".to_owned(), &json!("chat")));
    assert_eq!(world.get("/health/liveliness").await.status, 200);
    assert_eq!(world.get("/health/readiness").await.json()["status"], json!("healthy"));
    world.site.stop().await;
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("text is expected: {value}"))
}
