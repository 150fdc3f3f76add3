//! `cfr-server prices update` and `prices audit`, with the real binary over a data folder.
#![allow(clippy::expect_used, clippy::panic, reason = "a test that cannot be set up fails")]

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::thread;

use serde_json::{Value, json};
use tempfile::TempDir;

/// Asks the command at a terminal of its own, and answers what comes on the standard input.
const AT_A_TERMINAL: &str = "import os, pty, sys\nsys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))";

/// A data folder whose OpenAI models are offered.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().expect("a folder"));
        std::fs::write(folder.file("cfr.toml"), "[[upstream]]\nname = \"openai\"\nkind = \"fake\"\n").expect("written");
        assert!(folder.run(&["migrate"]).status.success());
        folder
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, json: &Value) -> String {
        let path = self.file(name);
        std::fs::write(&path, json.to_string()).expect("written");
        path.display().to_string()
    }

    fn arguments(&self, arguments: &[&str]) -> Vec<String> {
        let place = |name: &str, path: PathBuf| [name.to_owned(), path.display().to_string()];
        let own = arguments.iter().map(|argument| (*argument).to_owned());
        own.chain(place("--data", self.file("data"))).chain(place("--config", self.file("cfr.toml"))).collect()
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cfr-server"));
        command.args(self.arguments(arguments)).stdin(Stdio::null()).output().expect("the binary runs")
    }

    /// The same with somebody at the terminal, who types `answer`.
    fn asked(&self, arguments: &[&str], answer: &str) -> Output {
        let mut command = Command::new("python3");
        command.args(["-c", AT_A_TERMINAL, env!("CARGO_BIN_EXE_cfr-server")]).args(self.arguments(arguments));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("python3 gives a terminal");
        child.stdin.take().expect("piped").write_all(answer.as_bytes()).expect("typed");
        child.wait_with_output().expect("ends")
    }

    #[track_caller]
    fn says(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// The price of an answer token in force.
    fn output_price(&self, model: &str) -> String {
        let shown: Value = serde_json::from_str(&self.says(&["prices", "show", model, "--json"])).expect("JSON");
        let rates = shown["items"][0]["rates"].as_array().expect("rates").iter();
        let standard = { rates }.find(|rate| rate["meter"] == "output_tokens" && rate["tier"] == "standard");
        standard.expect("a rate")["price"].as_str().expect("a price").to_owned()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// LiteLLM's file with a dearer gpt-4o, a new model, and one that looks free.
fn litellm() -> Value {
    let model = |output: f64| json!({"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 2.5e-06, "output_cost_per_token": output});
    json!({"gpt-4o": model(1.2e-05), "gpt-new": model(1e-06), "gpt-free": model(0.0)})
}

#[test]
fn an_update_shows_the_difference_and_changes_nothing_unless_it_is_told_to() {
    let folder = Folder::new();
    let file = folder.write("file.json", &litellm());
    let update = ["prices", "update", "--from", &file];
    let shown = folder.says(&[&update[..], &["--dry-run"]].concat());
    assert!(shown.starts_with("1 models new, 0 gone, 1 prices dearer, 0 cheaper, 0 other changes\n"), "{shown}");
    assert!(shown.contains("+20 %") && shown.contains("gpt-new") && shown.contains("gpt-free"), "{shown}");
    let refused = folder.run(&update);
    assert_eq!(refused.status.code(), Some(1), "nobody is there to be asked");
    assert!(text(&refused.stderr).contains("--yes") && text(&refused.stdout) == shown, "{}", text(&refused.stderr));
    assert_eq!(folder.output_price("openai/gpt-4o"), "0.00001");
    folder.says(&[&update[..], &["--yes"]].concat());
    assert_eq!(folder.output_price("openai/gpt-4o"), "0.000012");
    assert_eq!(folder.output_price("openai/gpt-new"), "0.000001");
    assert_eq!(folder.output_price("anthropic/claude-haiku-5-5"), "0.0000005", "all others stay");
    let free = folder.run(&["prices", "show", "openai/gpt-free"]);
    assert_eq!(free.status.code(), Some(1), "what looks free there has no price");
    assert!(folder.says(&update).starts_with("No price differs.\n"));
}

#[test]
fn somebody_at_the_terminal_is_asked() {
    let folder = Folder::new();
    let file = folder.write("file.json", &litellm());
    let update = ["prices", "update", "--from", &file];
    let no = folder.asked(&update, "n\n");
    assert_eq!(no.status.code(), Some(1), "{}", text(&no.stdout));
    assert!(text(&no.stdout).contains("[y/N]"), "{}", text(&no.stdout));
    assert_eq!(folder.output_price("openai/gpt-4o"), "0.00001");
    let yes = folder.asked(&update, "y\n");
    assert_eq!(yes.status.code(), Some(0), "{}", text(&yes.stdout));
    assert_eq!(folder.output_price("openai/gpt-4o"), "0.000012");
}

#[test]
fn an_update_comes_from_an_address_as_well() {
    let folder = Folder::new();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let body = litellm().to_string();
    let server = thread::spawn(move || {
        for status in ["200 OK", "404 Not Found"] {
            let (mut stream, _) = listener.accept().expect("a call");
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).expect("a head");
                head.push(byte[0]);
            }
            let answer =
                format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
            stream.write_all(answer.as_bytes()).expect("answered");
        }
    });
    let from = format!("http://{address}/prices.json");
    assert!(folder.says(&["prices", "update", "--dry-run", "--from", &from]).contains("gpt-new"));
    let missing = folder.run(&["prices", "update", "--dry-run", "--from", &from]);
    assert!(missing.status.code() == Some(1) && text(&missing.stderr).contains("404"), "{}", text(&missing.stderr));
    server.join().expect("ends");
    let open = folder.run(&["prices", "update", "--from", "http://prices.example/x.json"]);
    assert!(text(&open.stderr).contains("--allow-http"), "{}", text(&open.stderr));
}

#[test]
fn a_table_of_ours_replaces_the_one_in_force() {
    let folder = Folder::new();
    let mut table: Value =
        serde_json::from_slice(include_bytes!("../../cfr-core/data/prices.json")).expect("the bundled table");
    let entries = table["entries"].as_array_mut().expect("entries");
    entries.retain(|entry| entry["id"] != "openai/gpt-4o");
    let file = folder.write("table.json", &table);
    let shown = folder.says(&["prices", "update", "--from", &file, "--yes"]);
    assert!(shown.contains("1 gone") && shown.contains("Gone: calls are refused"), "{shown}");
    assert_eq!(folder.run(&["prices", "show", "openai/gpt-4o"]).status.code(), Some(1));
}

#[test]
fn an_audit_finds_what_is_wrong_and_says_so_with_its_exit_code() {
    let folder = Folder::new();
    let audit = |folder: &Folder| {
        let output = folder.run(&["prices", "audit", "--json"]);
        (output.status.code(), serde_json::from_slice::<Value>(&output.stdout).expect("JSON"))
    };
    let (code, found) = audit(&folder);
    assert_eq!((code, &found["problems"]), (Some(0), &json!(0)), "{found:#}");
    let model = "[[model]]\nname = \"mine\"\ntargets = [{ upstream = \"openai\", model = \"unheard-of\" }]\n";
    let config = std::fs::read_to_string(folder.file("cfr.toml")).expect("read");
    std::fs::write(folder.file("cfr.toml"), config + model).expect("written");
    let loss = ["product", "create", "loss", "--name", "Loss", "--price", "1", "--budget", "100", "--confirm-loss"];
    folder.says(&loss);
    let (code, found) = audit(&folder);
    assert_eq!((code, &found["problems"]), (Some(1), &json!(1)), "{found:#}");
    let first = &found["findings"][0];
    assert_eq!((&first["kind"], &first["model"]), (&json!("unpriced"), &json!("unheard-of")));
    assert_eq!(first["names"], json!(["mine"]));
    let findings = found["findings"].as_array().expect("findings");
    assert!(findings.iter().any(|finding| finding["product"] == "loss"), "{found:#}");
    let shown = text(&folder.run(&["prices", "audit"]).stdout);
    assert!(shown.contains("openai/unheard-of") && shown.contains("1 problems"), "{shown}");
}
