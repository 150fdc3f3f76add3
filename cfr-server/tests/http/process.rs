//! The binary as a process: signals, restarts, locks, exit codes.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Output, Stdio};

use cfr_server::demo::Card;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};
use tokio::task::JoinSet;

use super::support::{chat, client, see, write};

/// The binary with these arguments, in a folder and with no environment of ours.
fn binary(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cfr-server"));
    command.args(arguments).current_dir(folder).env_clear().kill_on_drop(true);
    command
}

async fn run(folder: &Path, arguments: &[&str]) -> Output {
    binary(folder, arguments).output().await.expect("it runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A running demo.
struct Demo {
    process: Child,
    address: SocketAddr,
    /// Reads the log to its end, so that the process never waits for us.
    log: JoinSet<String>,
}

impl Demo {
    async fn start(folder: &Path) -> Self {
        let mut command = binary(folder, &["demo", "--listen", "127.0.0.1:0"]);
        let mut process = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().expect("it starts");
        let mut lines = BufReader::new(process.stderr.take().expect("piped")).lines();
        loop {
            let line = lines.next_line().await.expect("a log").expect("it listens before it ends");
            if let Some((_, address)) = line.split_once("listening address=") {
                let address = address.trim().parse().expect("an address");
                let mut log = JoinSet::new();
                log.spawn(rest(lines));
                return Self { process, address, log };
            }
        }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn terminate(&self) {
        let id = self.process.id().expect("it runs").to_string();
        let sent = std::process::Command::new("kill").args(["-TERM", &id]).status().expect("kill");
        assert!(sent.success());
    }

    /// Waits for its end and returns its log.
    async fn ends_well(mut self) -> String {
        assert_eq!(self.process.wait().await.expect("it ends").code(), Some(0));
        self.log.join_next().await.expect("a reader").expect("a log")
    }
}

async fn rest(mut lines: Lines<BufReader<ChildStderr>>) -> String {
    let mut log = String::new();
    while let Ok(Some(line)) = lines.next_line().await {
        log.push_str(&line);
        log.push('\n');
    }
    log
}

fn card(folder: &Path) -> Card {
    let json = std::fs::read(folder.join("cfr-data/demo.json")).expect("a card");
    serde_json::from_slice(&json).expect("JSON")
}

async fn balance(demo: &Demo, card: &Card) -> String {
    let request = client().get(demo.url("/api/v1/budgets")).bearer_auth(&card.admin_key);
    let list = see(request).await.json();
    let id = list["items"][0]["id"].as_str().expect("a budget").to_owned();
    let shown = see(client().get(demo.url(&format!("/api/v1/budgets/{id}"))).bearer_auth(&card.admin_key)).await;
    shown.json()["balance"]["available"]["amount"].as_str().unwrap_or_else(|| panic!("{}", shown.body)).to_owned()
}

#[tokio::test]
async fn the_demo_answers_drains_and_goes_on_with_the_same_money_and_keys() {
    let folder = tempfile::tempdir().expect("a folder");
    let demo = Demo::start(folder.path()).await;
    let before = card(folder.path());
    assert_eq!(before.base_url, demo.url(""));
    let call = |demo: &Demo, body: String| {
        client().post(demo.url("/v1/chat/completions")).bearer_auth(&before.keys.starter).body(body)
    };
    assert_eq!(see(call(&demo, chat("hello").to_string())).await.status, 200);

    let mut slow = chat("fake:tokens:40 hello");
    slow["stream"] = json!(true);
    let mut running = call(&demo, slow.to_string()).send().await.expect("a head");
    let first = running.chunk().await.expect("read").expect("a frame");
    demo.terminate();
    let mut body = first.to_vec();
    while let Some(piece) = running.chunk().await.expect("the call is finished although the server drains") {
        body.extend_from_slice(&piece);
    }
    assert!(text(&body).ends_with("data: [DONE]\n\n"));
    demo.ends_well().await;

    let again = Demo::start(folder.path()).await;
    let after = card(folder.path());
    assert_eq!((&after.keys.starter, &after.admin_key), (&before.keys.starter, &before.admin_key));
    let left = balance(&again, &after).await;
    assert!(left.starts_with("24.99"), "the two calls of the first run are still paid for: {left}");
    again.terminate();
    again.ends_well().await;
}

#[tokio::test]
async fn a_demo_whose_words_nobody_reads_runs_all_the_same() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = binary(folder.path(), &["demo", "--listen", "127.0.0.1:0"]);
    let mut process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    drop(process.stdout.take());
    let mut log = BufReader::new(process.stderr.take().expect("piped")).lines();
    while let Some(line) = log.next_line().await.expect("a log") {
        if line.contains("listening address=") {
            return process.kill().await.expect("killed");
        }
    }
    panic!("it ended before it listened");
}

#[tokio::test]
async fn a_second_process_on_the_same_folder_is_refused_in_one_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let demo = Demo::start(folder.path()).await;
    let second = run(folder.path(), &["demo", "--listen", "127.0.0.1:0"]).await;
    let errors = text(&second.stderr);
    assert_eq!((second.status.code(), errors.lines().count()), (Some(1), 1), "{errors}");
    assert!(errors.contains("is in use by process"), "{errors}");
    demo.terminate();
    demo.ends_well().await;
}

#[tokio::test]
async fn a_port_that_is_taken_is_one_clear_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let refused = run(folder.path(), &["demo", "--listen", &address]).await;
    let errors = text(&refused.stderr);
    assert_eq!((refused.status.code(), errors.lines().count()), (Some(1), 1), "{errors}");
    assert!(errors.contains(&address) && errors.contains("taken by another process"), "{errors}");

    let nonsense = run(folder.path(), &["demo", "--listen", "4000"]).await;
    assert!(text(&nonsense.stderr).contains("as in 127.0.0.1:4000"), "{}", text(&nonsense.stderr));
}

#[cfg(unix)]
#[tokio::test]
async fn files_with_keys_are_the_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("a folder");
    let demo = Demo::start(folder.path()).await;
    for (name, expected) in [("demo.json", 0o600), ("key.pepper", 0o600), ("", 0o700)] {
        let found = std::fs::metadata(folder.path().join("cfr-data").join(name)).expect("it exists");
        assert_eq!(found.permissions().mode() & 0o777, expected, "{name}");
    }
    demo.terminate();
    demo.ends_well().await;
}

#[tokio::test]
async fn check_config_says_what_would_run_or_what_is_wrong() {
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), "good.toml", "[[upstream]]\nname = \"mine\"\nkind = \"fake\"\nprovider = \"openai\"\n");
    let good = run(folder.path(), &["check-config", "--config", "good.toml"]).await;
    let shown = text(&good.stdout);
    assert_eq!(good.status.code(), Some(0), "{}", text(&good.stderr));
    assert!(shown.contains("mine (fake") && shown.contains("gpt-4o-mini"), "{shown}");

    write(folder.path(), "bad.toml", "listen = \"a\"\n[money]\ncurrency = \"e\"\n");
    let bad = run(folder.path(), &["check-config", "--config", "bad.toml"]).await;
    assert_eq!(bad.status.code(), Some(1));
    assert!(text(&bad.stderr).contains("bad.toml:3: money.currency"), "{}", text(&bad.stderr));
}

#[tokio::test]
async fn migrate_brings_a_folder_up_to_date_and_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let check = run(folder.path(), &["migrate", "--check"]).await;
    assert_eq!(check.status.code(), Some(1));
    assert!(text(&check.stdout).contains("missing: "), "{}", text(&check.stdout));
    let migrated = run(folder.path(), &["migrate"]).await;
    assert_eq!(migrated.status.code(), Some(0), "{}", text(&migrated.stderr));
    assert_eq!(run(folder.path(), &["migrate", "--check"]).await.status.code(), Some(0));
}

#[tokio::test]
async fn serve_makes_a_first_admin_key_that_opens_the_management_api() {
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), "cfr.toml", "[[upstream]]\nname = \"mine\"\nkind = \"fake\"\nprovider = \"openai\"\n");
    let mut command = binary(folder.path(), &["serve", "--listen", "127.0.0.1:0"]);
    let mut process = command.stderr(Stdio::piped()).spawn().expect("it starts");
    let mut lines = BufReader::new(process.stderr.take().expect("piped")).lines();
    let address = loop {
        let line = lines.next_line().await.expect("a log").expect("it listens");
        assert!(!line.contains("cfr_adm_"), "the log never shows a key");
        if let Some((_, address)) = line.split_once("listening address=") {
            break address.trim().to_owned();
        }
    };
    let key = std::fs::read_to_string(folder.path().join("cfr-data/admin.key")).expect("a key");
    let request = client().get(format!("http://{address}/api/v1/tenants")).bearer_auth(key.trim());
    assert_eq!(see(request).await.status, 200);

    write(folder.path(), "cfr.toml", &format!("listen = \"{address}\"\n"));
    let created = run(folder.path(), &["tenant", "create", "acme"]).await;
    assert_eq!(created.status.code(), Some(0), "the commands find the server: {}", text(&created.stderr));
    process.kill().await.expect("killed");
    let listed = run(folder.path(), &["tenant", "list"]).await;
    assert!(text(&listed.stdout).contains("acme"), "and the folder without it: {}", text(&listed.stderr));
}

#[tokio::test]
async fn the_log_names_failed_requests_and_never_bodies_or_keys() {
    let folder = tempfile::tempdir().expect("a folder");
    let demo = Demo::start(folder.path()).await;
    let keys = card(folder.path()).keys;
    let call = client().post(demo.url("/v1/chat/completions")).bearer_auth(&keys.starter);
    let failed = see(call.body(chat("fake:error:401 my-private-words").to_string())).await;
    failed.is_error(502, "upstream_auth");
    demo.terminate();
    let log = demo.ends_well().await;
    let line = log.lines().find(|line| line.contains(failed.header("x-request-id"))).expect("a line with the id");
    assert!(line.contains("ERROR") && line.contains("the operator must act"), "{line}");
    assert!(!log.contains("my-private-words") && !log.contains(&keys.starter), "{log}");
}
