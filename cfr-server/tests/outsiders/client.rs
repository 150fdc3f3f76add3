//! A client that a generator makes of the document, used as its reader would: typed things in, typed things out.

use tokio::process::Command;

use super::support::site::ADMIN_KEY;
use super::world::{Database, World, tool};

/// The one thing that the generator has no types for: a page that programs of another kind read.
const LEFT_OUT: &str = "parsing GET /metrics within operation";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_generated_client_manages_tenants_people_and_keys() {
    let world = World::on(Database::Sqlite).await;
    let python = tool("CFR_TEST_API_CLIENT", "api_client/bin/python", "Python with openapi-python-client");
    let generated = world.folder().join("cfr_client");
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");
    let mut generate = Command::new(&python);
    generate.args(["-m", "openapi_python_client", "generate", "--meta", "none", "--path", golden, "--output-path"]);
    let told = run(generate.arg(&generated)).await;
    let warnings: Vec<_> = told.lines().filter(|line| line.starts_with("WARNING")).collect();
    assert!(warnings.iter().all(|warning| warning.contains(LEFT_OUT)), "{told}");

    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/outsiders/client.py");
    let mut client = Command::new(&python);
    client.arg(script).env("PYTHONPATH", world.folder()).env("CFR_BASE_URL", world.base());
    let told = run(client.env("CFR_ADMIN_KEY", ADMIN_KEY)).await;
    assert!(told.ends_with("all good\n"), "{told}");
}

/// What a program says; it must succeed.
async fn run(command: &mut Command) -> String {
    let output = command.output().await.expect("the interpreter starts");
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stderr));
    told
}
