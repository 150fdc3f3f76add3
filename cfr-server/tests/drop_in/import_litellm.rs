//! LiteLLM's database, taken over.

use cfr_testbed::Postgres;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::process::Command;

use crate::support::chat;
use crate::world::World;

const KEY: &str = "sk-1234567890abcdefghijkl";
const LIMITED: &str = "sk-limited0000000000000";

/// The columns that matter, in the types of LiteLLM's schema.
const TABLES: &str = r#"
CREATE TABLE "LiteLLM_TeamTable" (team_id text PRIMARY KEY, team_alias text, max_budget double precision,
  spend double precision NOT NULL DEFAULT 0, models text[], tpm_limit bigint, rpm_limit bigint, budget_duration text,
  budget_reset_at timestamp(3), blocked boolean NOT NULL DEFAULT false, metadata jsonb NOT NULL DEFAULT '{}');
CREATE TABLE "LiteLLM_UserTable" (user_id text PRIMARY KEY, user_alias text, user_email text, user_role text, teams text[],
  max_budget double precision, spend double precision NOT NULL DEFAULT 0, models text[], tpm_limit bigint,
  budget_duration text, budget_reset_at timestamp(3));
CREATE TABLE "LiteLLM_VerificationToken" (token text PRIMARY KEY, key_name text, key_alias text,
  spend double precision NOT NULL DEFAULT 0, expires timestamp(3), models text[], aliases jsonb NOT NULL DEFAULT '{}',
  user_id text, team_id text, permissions jsonb NOT NULL DEFAULT '{}', max_parallel_requests integer, tpm_limit bigint,
  rpm_limit bigint, max_budget double precision, budget_duration text, budget_reset_at timestamp(3), blocked boolean,
  model_max_budget jsonb NOT NULL DEFAULT '{}');
INSERT INTO "LiteLLM_TeamTable" (team_id, team_alias, max_budget, spend, models)
  VALUES ('team-1', 'Research', 100, 1.25, '{}');
INSERT INTO "LiteLLM_UserTable" (user_id, user_email, user_role, teams, max_budget, spend, models, budget_duration, budget_reset_at)
  VALUES ('user-1', 'ada@example.org', 'internal_user', '{team-1}', 10, 0.1, '{}', '30d', '2099-01-01 00:00:00');
"#;

fn sha256(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn import(url: &str, data: &std::path::Path, more: &[&str]) -> Vec<String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cfr-server"));
    command.args(["import", "litellm-db", url, "--json", "--data"]).arg(data).args(more);
    let output = command.output().await.expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let items = report["items"].as_array().expect("rows").iter();
    items.map(|line| format!("{} {} {}", word(&line["kind"]), word(&line["outcome"]), word(&line["note"]))).collect()
}

#[tokio::test]
async fn keys_go_on_working_with_what_is_left_of_their_budgets() {
    let postgres = Postgres::shared().await;
    let url = postgres.database().await;
    postgres.execute(&url, TABLES).await;
    let keys = format!(
        "INSERT INTO \"LiteLLM_VerificationToken\" (token, key_name, key_alias, models, user_id, team_id, max_budget, \
         spend, tpm_limit) VALUES ('{}', 'sk-...ijkl', 'laptop', '{{}}', 'user-1', 'team-1', 5, 4.5, NULL), \
         ('{}', 'sk-...0000', 'limited', '{{}}', 'user-1', 'team-1', NULL, 0, 1000)",
        sha256(KEY),
        sha256(LIMITED)
    );
    postgres.execute(&url, &keys).await;
    let world = World::in_folder(tempfile::tempdir().expect("a folder")).await;
    let admin = world.admin.clone();
    let folder = world.site.stop().await;
    let data = folder.path().join("data");
    for more in [&[][..], &["--apply"]] {
        let report = import(&url, &data, more).await;
        let taken = report.iter().filter(|line| line.contains(" taken ")).count();
        assert_eq!(taken, 3, "team, user and key: {report:?}");
        assert!(report.iter().any(|line| line.contains("left_out") && line.contains("tpm_limit")), "{report:?}");
    }
    let again = import(&url, &data, &["--apply"]).await;
    assert!(again.iter().all(|line| !line.contains(" taken ")), "a second time changes nothing: {again:?}");

    let world = World { admin, ..World::in_folder(folder).await };
    assert_eq!(world.site.chat(KEY, &chat("Hello")).await.status, 200, "the old key works on");
    assert_eq!(world.site.chat(LIMITED, &chat("Hello")).await.status, 401);
    let stolen = world.site.chat(&sha256(KEY), &chat("Hello")).await;
    assert_eq!(stolen.status, 401, "who knows the hash does not have the key");
    let info = world.get(&format!("/key/info?key={}", sha256(KEY))).await.json();
    assert_eq!(
        (info["info"]["max_budget"].to_string(), &info["info"]["user_id"]),
        ("5".to_owned(), &"user-1".into()),
        "{info}"
    );
    let user = world.get("/user/info?user_id=user-1").await.json();
    assert!(user["user_info"]["spend"].to_string().starts_with("0.1"), "{user}");
    assert_eq!(user["user_info"]["budget_duration"], "30d", "{user}");
    world.site.stop().await;
}
