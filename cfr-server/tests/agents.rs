//! Claude Code and Codex, unmodified, against `cfr-server demo`, over models of several providers: each reads a file with a
//! tool of its own because the model says so, and the model is told what is in it. `scripts/test` installs them.
#![allow(clippy::expect_used, clippy::panic, reason = "a test that cannot be set up fails")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use cfr_server::demo::{CARD_FILE, Card};
use tempfile::TempDir;
use tokio::process::Command;

use support::server::Server;

mod support;

/// One of each provider of the demo.
const MODELS: [&str; 3] = ["claude-sonnet-4-6", "gpt-5.4", "gemini-2.5-flash"];
/// What is in the file. The fake model repeats it when it comes back as the result of a tool.
const NOTE: &str = "fake:echo The code is 4711.";
const CODE: &str = "The code is 4711.";
/// An agent that has not answered after this long is stuck.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);
/// Nobody listens here: what an agent wants of anybody but us goes nowhere.
const NO_PROXY_LISTENS: &str = "http://127.0.0.1:9";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claude_code_works_over_every_provider() {
    let place = Place::start().await;
    let order = format!(r#"Please fake:call:Read:{{"file_path":"{}"}}"#, place.note().display());
    for model in MODELS {
        let mut agent = place.agent("claude");
        agent
            .args(["--print", &order, "--model", model, "--allowedTools", "Read"])
            .env("ANTHROPIC_BASE_URL", &place.card.base_url)
            .env("ANTHROPIC_AUTH_TOKEN", &place.card.keys.enterprise)
            .env("ANTHROPIC_SMALL_FAST_MODEL", model)
            .env("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1");
        check_answer("Claude Code", model, agent).await;
    }
    place.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn codex_works_over_every_provider() {
    let place = Place::start().await;
    let order = r#"Please fake:call:exec_command:{"cmd":"cat\u0020note.txt"}"#;
    for model in MODELS {
        place.configure_codex(model);
        let mut agent = place.agent("codex");
        agent
            .args(["exec", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox", order])
            .env("CFR_KEY", &place.card.keys.enterprise);
        check_answer("Codex", model, agent).await;
    }
    place.server.stop().await;
}

async fn check_answer(name: &str, model: &str, mut agent: Command) {
    let output = tokio::time::timeout(ANSWER_TIMEOUT, agent.output()).await;
    let output = output.unwrap_or_else(|_| panic!("{name} over {model} is stuck")).expect("the agent starts");
    let told = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && told.contains(CODE), "{name} over {model}:\n{told}\n{errors}");
    eprintln!("{name} works over {model}");
}

/// A demo, and a home for agents with a note in it.
struct Place {
    server: Server,
    card: Card,
    folder: TempDir,
}

impl Place {
    async fn start() -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let data = folder.path().join("data");
        let arguments = ["demo", "--listen", "127.0.0.1:0", "--data", data.to_str().expect("UTF-8")];
        let server = Server::start(&arguments, &[]).await;
        let card = serde_json::from_slice(&std::fs::read(data.join(CARD_FILE)).expect("a card")).expect("a card");
        let place = Self { server, card, folder };
        std::fs::create_dir(place.codex_home()).expect("a folder");
        std::fs::write(place.note(), NOTE).expect("a file");
        place
    }

    fn note(&self) -> PathBuf {
        self.folder.path().join("note.txt")
    }

    fn codex_home(&self) -> PathBuf {
        self.folder.path().join("codex")
    }

    /// An agent that knows nothing of this machine and reaches nobody but us.
    fn agent(&self, name: &str) -> Command {
        let mut command = Command::new(installed(name));
        command
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .env("HOME", self.folder.path())
            .env("CODEX_HOME", self.codex_home())
            .envs([("HTTP_PROXY", NO_PROXY_LISTENS), ("HTTPS_PROXY", NO_PROXY_LISTENS), ("NO_PROXY", "127.0.0.1")])
            .current_dir(self.folder.path())
            .stdin(std::process::Stdio::null())
            .kill_on_drop(true);
        command
    }

    /// As docs/agents.md shows it, and without what Codex would like to fetch from elsewhere.
    fn configure_codex(&self, model: &str) {
        let config = format!(
            r#"model = "{model}"
model_provider = "cfr"
web_search = "disabled"
check_for_update_on_startup = false

[agents]
enabled = false

[features]
plugins = false

[analytics]
enabled = false

[model_providers.cfr]
name = "cfr"
base_url = "{}/v1"
env_key = "CFR_KEY"
wire_api = "responses"
"#,
            self.card.base_url
        );
        std::fs::write(self.codex_home().join("config.toml"), config).expect("a file");
    }
}

/// An agent's program, from the environment or from where `scripts/test` puts it.
fn installed(name: &str) -> PathBuf {
    let usual = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/test-tools/node_modules");
    let modules = std::env::var_os("CFR_TEST_NODE_MODULES").map_or_else(usual, PathBuf::from);
    let program = modules.join(".bin").join(name);
    assert!(program.exists(), "{name} is missing: run scripts/test, which installs it, or set CFR_TEST_NODE_MODULES");
    program
}
