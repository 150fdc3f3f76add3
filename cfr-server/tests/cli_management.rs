//! The management commands of the real binary: over a data folder, and over the server that owns it.
#![allow(clippy::expect_used, clippy::panic, reason = "a test that cannot be set up fails")]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// A data folder, made by `migrate`.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().expect("a folder"));
        let made = folder.run(&["migrate"]);
        assert!(made.status.success(), "{}", text(&made.stderr));
        folder
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let data = self.path().to_str().expect("UTF-8");
        command().args(arguments).args(["--data", data]).output().expect("the binary runs")
    }

    /// What a command that succeeds prints.
    #[track_caller]
    fn says(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    #[track_caller]
    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.says(&[arguments, &["--json"]].concat())).expect("JSON")
    }

    /// What a command that fails says: one line.
    #[track_caller]
    fn refuses(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {}", text(&output.stdout));
        let said = text(&output.stderr);
        assert_eq!(said.trim_end().lines().count(), 1, "{said}");
        said
    }

    fn seed(&self) {
        self.says(&["tenant", "create", "acme", "--name", "Acme GmbH"]);
        self.says(&["product", "create", "basic", "--name", "Basic", "--price", "20", "--budget", "10"]);
        self.says(&["user", "create", "anna@acme.example", "--tenant", "acme", "--product", "basic"]);
    }
}

/// The binary with nothing of our own environment that it reads.
fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cfr-server"));
    for name in ["CFR_SERVER_URL", "CFR_ADMIN_KEY", "CFR_DATA", "CFR_CONFIG", "CFR_KEY_PEPPER"] {
        command.env_remove(name);
    }
    command.current_dir(std::env::temp_dir());
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The value behind a name in a table of details.
#[track_caller]
fn field<'a>(table: &'a str, name: &str) -> &'a str {
    let line = table.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix("  "));
    line.unwrap_or_else(|| panic!("no `{name}` in\n{table}")).trim()
}

#[test]
fn from_a_tenant_to_a_balance_as_tables_and_as_json() {
    let folder = Folder::new();
    folder.seed();
    let tenants = folder.says(&["tenant", "list"]);
    let mut lines = tenants.lines();
    assert!(lines.next().is_some_and(|heading| heading.starts_with("SLUG")), "{tenants}");
    assert!(lines.next().is_some_and(|row| row.starts_with("acme") && row.contains("Acme GmbH")), "{tenants}");

    let made = folder.says(&["key", "create", "laptop", "--user", "anna@acme.example"]);
    let secret = field(&made, "secret");
    assert!(secret.starts_with("cfr_live_") && secret.ends_with(field(&made, "ends with")), "{made}");
    let key = folder.json(&["key", "show", field(&made, "id")]);
    assert!(key.get("secret").is_none());

    let granted = folder.says(&["budget", "grant", "anna@acme.example", "2.50", "--reason", "welcome"]);
    assert_eq!((field(&granted, "amount"), field(&granted, "actor")), ("2.5 EUR", "operator"));
    let budget = folder.says(&["budget", "show", "anna@acme.example"]);
    assert_eq!((field(&budget, "granted"), field(&budget, "available")), ("12.5 EUR", "12.5 EUR"));
    let taken = folder.json(&["budget", "grant", "anna@acme.example", "-1", "--reason", "typing error"]);
    assert_eq!(taken["kind"], "adjustment");
    let budget = folder.json(&["budget", "show", "anna@acme.example"]);
    assert_eq!(budget["balance"]["available"], serde_json::json!({"amount": "11.5", "currency": "EUR"}));

    let limited =
        folder.says(&["budget", "limit", field(&folder.says(&["budget", "show", "anna@acme.example"]), "id"), "20"]);
    assert_eq!((field(&limited, "limit"), field(&limited, "available")), ("20 EUR", "21.5 EUR"));
    let reset = folder.says(&["budget", "reset", "anna@acme.example", "--reason", "a new trial"]);
    assert_eq!(field(&reset, "available"), "21.5 EUR", "nothing was spent, so nothing is granted again");
}

#[test]
fn a_repeated_grant_with_its_key_is_booked_once() {
    let folder = Folder::new();
    folder.seed();
    let grant = ["budget", "grant", "anna@acme.example", "5", "--reason", "May", "--idempotency-key", "may"];
    assert_eq!(folder.json(&grant), folder.json(&grant));
    assert_eq!(field(&folder.says(&["budget", "show", "anna@acme.example"]), "granted"), "15 EUR");
    assert_eq!(folder.says(&["budget", "grants", "anna@acme.example"]).matches("top_up").count(), 1);
}

#[test]
fn every_noun_lists_shows_and_changes() {
    let folder = Folder::new();
    folder.seed();
    assert_eq!(field(&folder.says(&["tenant", "set", "acme", "--status", "suspended"]), "status"), "suspended");
    assert_eq!(field(&folder.says(&["tenant", "show", "acme"]), "status"), "suspended");
    assert_eq!(field(&folder.says(&["user", "set", "anna@acme.example", "--name", "Anna"]), "name"), "Anna");
    assert!(folder.says(&["user", "list", "--tenant", "acme"]).contains("anna@acme.example"));
    assert_eq!(field(&folder.says(&["product", "deactivate", "basic"]), "active"), "no");
    let next = folder.says(&["product", "publish", "basic", "--name", "Basic", "--price", "21", "--budget", "10"]);
    assert_eq!((field(&next, "version"), field(&next, "price")), ("2", "21 EUR"));
    assert_eq!(folder.says(&["product", "versions", "basic"]).lines().count(), 3);
    assert!(folder.says(&["budget", "list", "--user", "anna@acme.example"]).contains("10 EUR"));
    assert_eq!(folder.says(&["usage", "list"]).lines().count(), 1, "only the heading");
    assert_eq!(folder.json(&["usage", "summary"])["items"], serde_json::json!([]));
    let key = folder.json(&["key", "create", "robot", "--kind", "service", "--tenant", "acme", "--never-expires"]);
    assert_eq!(key["expires_at"], Value::Null);
    let id = key["id"].as_str().expect("an id");
    assert_eq!(field(&folder.says(&["key", "revoke", id]), "status"), "revoked");
}

#[test]
fn an_operator_without_a_portal_runs_keys_people_and_sign_up() {
    let folder = Folder::new();
    folder.seed();
    let made = folder.says(&["key", "create", "laptop", "--user", "anna@acme.example"]);
    let id = field(&made, "id");
    assert_eq!(field(&folder.says(&["key", "disable", id]), "status"), "disabled");
    assert_eq!(field(&folder.says(&["key", "enable", id]), "status"), "active");
    let rotated = folder.says(&["key", "rotate", id, "--grace-seconds", "0"]);
    assert_eq!((field(&rotated, "id"), field(&rotated, "status")), (id, "active"));
    assert!(field(&rotated, "secret").starts_with("cfr_live_") && field(&rotated, "secret") != field(&made, "secret"));
    assert!(folder.refuses(&["key", "rotate", id, "--grace-seconds", "99999999"]).contains("grace_seconds"));

    assert_eq!(field(&folder.says(&["user", "suspend", "anna@acme.example"]), "status"), "suspended");
    assert!(folder.refuses(&["user", "activate", "anna@acme.example"]).contains("pending"));
    assert!(folder.refuses(&["user", "reject", "anna@acme.example"]).contains("pending"));

    let settings = folder.says(&["tenant", "sign-up", "acme", "--mode", "closed", "--product", "basic"]);
    assert_eq!((field(&settings, "sign-up"), field(&settings, "active at once")), ("closed", "no"));
    let open = ["tenant", "sign-up", "acme", "--mode", "open", "--domains", "acme.example", "--activate", "true"];
    assert!(folder.refuses(&open).contains("signup: "), "nobody brings letters");
    let told = folder.says(&["audit", "list"]);
    for action in ["key.rotated", "key.changed", "user.changed", "tenant.changed"] {
        assert!(told.lines().any(|line| line.contains(action) && line.contains("operator")), "{action}: {told}");
    }
}

#[test]
fn a_long_list_says_how_to_go_on() {
    let folder = Folder::new();
    for slug in ["a", "b", "c"] {
        folder.says(&["tenant", "create", slug]);
    }
    let first = folder.run(&["tenant", "list", "--limit", "2"]);
    let said = text(&first.stderr);
    let cursor = said.trim_end().rsplit(' ').next().expect("a cursor");
    let rest = folder.says(&["tenant", "list", "--cursor", cursor]);
    assert_eq!(rest.lines().count(), 2, "{rest}");
    assert!(rest.lines().nth(1).is_some_and(|row| row.starts_with('c')), "{rest}");
}

#[test]
fn prices_are_shown_compared_and_imported_only_with_yes() {
    let folder = Folder::new();
    assert!(folder.says(&["prices", "list", "--provider", "openai", "--model", "gpt-4o-mini"]).contains("gpt-4o-mini"));
    let shown = folder.says(&["prices", "show", "openai/gpt-4o"]);
    let rate = shown.lines().find(|line| line.starts_with("output_tokens") && line.contains("standard"));
    assert_eq!(
        rate.map(|rate| rate.split_whitespace().collect::<Vec<_>>()),
        Some(vec!["output_tokens", "standard", "0", "0.00001", "10"])
    );
    let bundled = include_str!("../../cfr-core/data/prices.json");
    let file = folder.path().join("prices.json");
    std::fs::write(&file, bundled.replacen("2026-11-21", "2026-12-01", 1)).expect("written");
    let name = file.to_str().expect("UTF-8");
    assert_eq!(folder.says(&["prices", "diff", name]), "No price differs.\n");
    assert!(folder.refuses(&["prices", "import", name]).contains("--yes"));
    assert_eq!(field(&folder.says(&["prices", "table"]), "as of"), "2026-11-21");
    folder.says(&["prices", "import", name, "--yes"]);
    assert_eq!(field(&folder.says(&["prices", "table"]), "as of"), "2026-12-01");
    std::fs::write(&file, "{}").expect("written");
    folder.refuses(&["prices", "import", name, "--yes"]);
}

#[test]
fn mistakes_are_one_line_with_the_next_step() {
    let folder = Folder::new();
    folder.seed();
    assert!(folder.refuses(&["tenant", "create", "acme"]).contains("taken"));
    assert!(folder.refuses(&["tenant", "show", "nobody"]).contains("no such tenant; `cfr-server tenant list` shows"));
    assert!(folder.refuses(&["tenant", "create", "A B"]).contains("slug: "));
    let loss = ["product", "create", "loss", "--name", "Loss", "--price", "1", "--budget", "100"];
    assert!(folder.refuses(&loss).contains("--confirm-loss"));
    folder.says(&[&loss[..], &["--confirm-loss"]].concat());
    assert!(folder.refuses(&["budget", "show", "nobody@acme.example"]).contains("no such user"));
    assert!(folder.refuses(&["prices", "show", "gpt-4o"]).contains("provider/model"));
    assert!(folder.refuses(&["tenant", "list", "--server", "http://127.0.0.1:9"]).contains("--admin-key"));
    let nowhere = ["tenant", "list", "--server", "http://127.0.0.1:9", "--admin-key", "cfr_adm_x"];
    assert!(folder.refuses(&nowhere).contains("no answer from"));
    let empty = command().args(["tenant", "list", "--data", "/nonexistent/cfr"]).output().expect("the binary runs");
    assert_eq!(empty.status.code(), Some(1));
    assert!(text(&empty.stderr).contains("--data"), "{}", text(&empty.stderr));
}

#[test]
fn the_configuration_says_where_the_data_is_and_needs_no_key_of_a_provider() {
    let folder = Folder::new();
    folder.says(&["tenant", "create", "acme"]);
    let config = folder.path().join("cfr.toml");
    let upstream = "[[upstream]]\nname = \"a\"\nkind = \"openai\"\napi_key_env = \"CFR_TEST_NO_SUCH_KEY\"\n";
    std::fs::write(&config, format!("data = {:?}\n{upstream}", folder.path())).expect("written");
    let listed = command().args(["tenant", "list", "--config"]).arg(&config).output().expect("the binary runs");
    assert!(text(&listed.stdout).contains("acme"), "{}", text(&listed.stderr));
}

#[test]
fn a_command_line_that_makes_no_sense_exits_with_two() {
    for arguments in [
        &["tenant"][..],
        &["tenant", "create"],
        &["key", "create", "k", "--kind", "gold"],
        &["tenant", "list", "--limit", "0"],
    ] {
        let output = command().args(arguments).output().expect("the binary runs");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
}

#[cfg(unix)]
#[test]
fn a_reader_that_stops_early_is_no_failure() {
    let folder = Folder::new();
    let mut child = command()
        .args(["prices", "list", "--limit", "1000", "--json", "--data"])
        .arg(folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stderr), "");
}

/// A demo that owns a folder.
struct Demo(Child);

impl Demo {
    /// Waits until the demo has said where it is.
    fn start(folder: &Path) -> Self {
        let mut child = command()
            .args(["demo", "--listen", "127.0.0.1:0", "--data"])
            .arg(folder)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary runs");
        let mut said = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let ready = said.any(|line| line.is_ok_and(|line| line.contains("127.0.0.1:")));
        assert!(ready, "the demo ended before it listened");
        Self(child)
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn while_the_demo_owns_the_folder_its_api_is_asked() {
    let folder = Folder(tempfile::tempdir().expect("a folder"));
    let _demo = Demo::start(folder.path());
    let users = folder.says(&["user", "list", "--tenant", "demo"]);
    assert!(users.contains("starter@demo.example"), "{users}");
    let budget = folder.says(&["budget", "show", "starter@demo.example"]);
    assert_eq!(field(&budget, "available"), "25 EUR");
    let card: Value =
        serde_json::from_slice(&std::fs::read(folder.path().join("demo.json")).expect("demo.json")).expect("JSON");
    let server = card["base_url"].as_str().expect("a URL");
    let refused = folder.refuses(&["user", "list", "--server", server, "--admin-key", "cfr_adm_wrong"]);
    assert!(refused.contains("--admin-key"), "{refused}");
    std::fs::remove_file(folder.path().join("demo.json")).expect("removed");
    assert!(folder.refuses(&["user", "list"]).contains("--server"));
}
