//! Servers start empty, survive what they should survive, and end with the process that started them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use cfr_testbed::{NEEDS_PASSWORD, PgBouncer, PoolMode, Postgres, Proxy, Redis};

#[tokio::test]
async fn each_database_is_fresh() {
    let server = Postgres::shared().await;
    let (one, two) = (server.database().await, server.database().await);
    server.execute(&one, "CREATE TABLE things (id int); INSERT INTO things VALUES (1), (2)").await;
    assert_eq!(server.execute(&one, "SELECT id, id * 2 FROM things ORDER BY id").await, "1|2\n2|4");
    let refused = server.try_execute(&two, "SELECT * FROM things").await.unwrap_err();
    assert!(refused.contains("does not exist"), "{refused}");
}

#[tokio::test]
async fn postgres_keeps_what_was_committed_through_a_crash() {
    let server = Postgres::start().await;
    let database = server.database().await;
    server.execute(&database, "CREATE TABLE things (id int); INSERT INTO things VALUES (7)").await;
    let before = server.pids();
    server.restart_immediate().await;
    assert_ne!(before[0], server.pids()[0]);
    assert_eq!(server.execute(&database, "SELECT id FROM things").await, "7");
    assert_eq!(server.execute(&database, "SHOW fsync").await, "on");
    server.stop().await;
    assert_eq!(server.pids(), []);
    server.try_execute(&database, "SELECT 1").await.expect_err("nobody listens");
    server.start_again().await;
    assert_eq!(server.execute(&database, "SELECT id FROM things").await, "7");
}

#[tokio::test]
async fn a_role_can_be_asked_for_its_password() {
    let server = Postgres::shared().await;
    let database = server.database().await;
    let roles =
        format!("CREATE ROLE {NEEDS_PASSWORD}; CREATE ROLE ada LOGIN PASSWORD 'right' IN ROLE {NEEDS_PASSWORD}");
    server.execute(&database, &roles).await;
    let url = |login: &str| database.replace("postgres@", login);
    assert_eq!(server.execute(&url("ada:right@"), "SELECT current_user").await, "ada");
    let refused = server.try_execute(&url("ada:wrong@"), "SELECT 1").await.unwrap_err();
    assert!(refused.contains("password authentication failed"), "{refused}");
}

#[tokio::test]
async fn redis_forgets_everything_when_it_stops() {
    let server = Redis::start().await;
    assert_eq!(server.command(&["SET", "word", "hello there"]).await, "OK");
    assert_eq!(server.command(&["GET", "word"]).await, "hello there");
    server.stop().await;
    server.start_again().await;
    assert_eq!(server.command(&["EXISTS", "word"]).await, "0");
    assert!(server.url().ends_with(&server.port().to_string()));
}

#[tokio::test]
async fn a_pool_reaches_every_database_and_role_and_shares_connections() {
    let server = Postgres::shared().await;
    let database = server.database().await;
    server.execute(&database, "CREATE ROLE bob LOGIN").await;
    let pool = PgBouncer::start(server, PoolMode::Transaction).await;
    let url = pool.url(database.rsplit('/').next().unwrap());
    let backend = "SELECT pg_backend_pid()";
    let first = server.execute(&url, backend).await;
    assert_eq!(server.execute(&url, backend).await, first, "the connection stays when its client left");
    assert_eq!(server.execute(&url.replace("postgres@", "bob@"), "SELECT current_user").await, "bob");
}

#[tokio::test]
async fn postgres_can_be_reached_through_a_broken_network() {
    let server = Postgres::shared().await;
    let proxy = Proxy::start(([127, 0, 0, 1], server.port()).into()).await;
    let database = server.database().await;
    let through = database.replace(&server.port().to_string(), &proxy.port().to_string());
    server.execute(&through, "CREATE TABLE things (id int)").await;
    proxy.lose_answer_to(b"INSERT");
    server.try_execute(&through, "INSERT INTO things VALUES (1)").await.expect_err("the answer is lost");
    assert_eq!(server.execute(&through, "SELECT count(*) FROM things").await, "1");
}

/// Set for the copy of this program that is killed.
const VICTIM: &str = "TESTBED_VICTIM";

/// Runs in a process of its own, started by the test below. Prints where its servers are, and waits to be killed.
#[tokio::test]
async fn servers_of_a_victim() {
    if std::env::var_os(VICTIM).is_none() {
        return; // the test below is the one that runs this
    }
    let (postgres, redis) = (Postgres::start().await, Redis::start().await);
    println!("\nserver {} {} {}", postgres.socket_folder().display(), postgres.pids()[0], redis.port());
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn no_server_outlives_a_process_that_is_killed() {
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "servers_of_a_victim", "--nocapture"])
        .env(VICTIM, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = std::io::BufReader::new(victim.stdout.take().unwrap());
    let line = std::io::BufRead::lines(output).map_while(Result::ok).find(|line| line.starts_with("server "));
    let line = line.expect("the victim tells where its servers are");
    let [_, folder, pid, redis] = line.split(' ').collect::<Vec<_>>().try_into().unwrap();
    assert!(Path::new(folder).exists() && Path::new("/proc").join(pid).exists());
    victim.kill().unwrap();
    victim.wait().unwrap();
    let gone = async {
        while Path::new(folder).exists()
            || Path::new("/proc").join(pid).exists()
            || std::net::TcpStream::connect(format!("127.0.0.1:{redis}")).is_ok()
        {
            tokio::time::sleep(Duration::from_millis(10)).await; // strangers: there is nothing to await
        }
    };
    tokio::time::timeout(Duration::from_secs(30), gone).await.expect("the servers end by themselves");
}
