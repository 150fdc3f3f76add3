//! How the first administrator comes to be, and how one is helped who lost the second factor.

use std::path::Path;
use std::process::{Output, Stdio};

use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::support::{OTHER, PASSWORD, Site};

#[tokio::test]
async fn a_token_makes_the_first_administrator_and_nobody_else() {
    let site = Site::start().await;
    let token = site.people().offer_setup().await.expect("a store").expect("nobody is there yet");
    let new = |token: &str, password: &str| json!({ "token": token, "email": "root@example.org", "name": "Root", "password": password });
    let browser = site.browser();
    browser.post("/auth/setup", new(&"a".repeat(43), PASSWORD)).await.is_problem(410, "token_not_valid");
    browser.post("/auth/setup", new(token.expose(), "short")).await.is_problem(422, "invalid");
    browser.post("/auth/setup", new(token.expose(), PASSWORD)).await.is(204);
    browser.post("/auth/setup", new(token.expose(), OTHER)).await.is_problem(410, "token_not_valid");
    assert!(site.people().offer_setup().await.expect("a store").is_none(), "there is one now");
    let seen = browser.sign_in("root@example.org", PASSWORD).await;
    assert_eq!(seen.is(200).json()["second_factor_needed"], true);
    browser.enrol(&site).await;
    let tenants = browser.get("/api/v1/tenants").await.is(200).json();
    assert_eq!(tenants["items"][0]["kind"], "internal", "{tenants}");
}

async fn command(folder: &Path, arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cfr-server"));
    command.args(arguments).current_dir(folder).env_clear().kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = command.spawn().expect("it starts");
    let mut stdin = process.stdin.take().expect("piped");
    stdin.write_all(input.as_bytes()).await.expect("it reads");
    drop(stdin);
    process.wait_with_output().await.expect("it ends")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test]
async fn the_command_line_makes_administrators_and_removes_lost_factors() {
    let folder = tempfile::tempdir().expect("a folder");
    let made = command(folder.path(), &["migrate"], "").await;
    assert!(made.status.success(), "{}", text(&made.stderr));
    let create = ["admin", "create", "--email", "root@example.org", "--name", "Root"];
    let refused = command(folder.path(), &create, "short\n").await;
    assert!(!refused.status.success() && text(&refused.stderr).contains("at least 15 characters"), "{refused:?}");
    let created = command(folder.path(), &create, &format!("{PASSWORD}\n")).await;
    assert!(text(&created.stdout).contains("root@example.org is an administrator"), "{created:?}");
    assert!(!format!("{created:?}").contains(PASSWORD));
    let again = command(folder.path(), &create, &format!("{PASSWORD}\n")).await;
    assert!(!again.status.success(), "{again:?}");
    let reset = command(folder.path(), &["admin", "reset-mfa", "--email", "root@example.org"], "").await;
    assert!(reset.status.success(), "{reset:?}");
    let unknown = command(folder.path(), &["admin", "reset-mfa", "--email", "nobody@example.org"], "").await;
    assert!(text(&unknown.stderr).contains("no such user"), "{unknown:?}");
}
