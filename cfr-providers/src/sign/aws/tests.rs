//! Sources of keys, each against a server that keeps what it is asked.

use std::sync::Arc;
use std::time::Duration;

use cfr_core::secret::Secret;
use cfr_core::time::{ManualClock, Timestamp};
use cfr_core::upstream::UpstreamError;

use super::*;
use crate::testing::KeyServer;

const KEYS: &str = r#"{"Code":"Success","AccessKeyId":"AKIA1","SecretAccessKey":"s3cret","Token":"t","Expiration":"1970-01-01T01:00:00Z"}"#;

fn expected() -> AwsKeys {
    AwsKeys {
        access_key_id: "AKIA1".into(),
        secret_access_key: Secret::new("s3cret"),
        session_token: Some(Secret::new("t")),
    }
}

#[tokio::test]
async fn a_container_shows_its_token_as_it_is_at_that_moment() {
    let server = KeyServer::new(&[("/keys", KEYS)]);
    let folder = std::env::temp_dir().join(format!("cfr-container-{}", std::process::id()));
    std::fs::write(&folder, "first\n").expect("a file");
    let container = Container::at_url("http://169.254.170.23/v1/keys", server.clone()).expect("an address");
    let container = container.with_token_file(&folder);
    let (keys, end) = container.keys().await.expect("keys");
    assert_eq!((keys, end), (expected(), Timestamp::from_second(3_600).expect("a time")));
    std::fs::write(&folder, "second").expect("a file");
    container.keys().await.expect("keys");
    std::fs::remove_file(&folder).expect("the file");
    let shown = [0, 1].map(|question| server.header(question, "authorization"));
    assert_eq!(shown, [Some("first".to_owned()), Some("second".to_owned())]);
    assert_eq!(server.asked()[0].0, "GET http://169.254.170.23/v1/keys");
    assert_eq!(container.keys().await.expect_err("no file").name(), "account");
}

#[tokio::test]
async fn ecs_gives_a_path_and_perhaps_a_token() {
    let server = KeyServer::new(&[("/v2/credentials/x", KEYS)]);
    let container = Container::at_path("/v2/credentials/x", server.clone()).expect("a path");
    container.with_token(Secret::new("t0")).keys().await.expect("keys");
    assert_eq!(server.asked()[0].0, "GET http://169.254.170.2/v2/credentials/x");
    assert_eq!(server.header(0, "authorization").as_deref(), Some("t0"));
}

#[test]
fn keys_are_not_asked_for_in_the_clear_elsewhere() {
    let server: Arc<KeyServer> = KeyServer::new(&[]);
    for url in ["http://keys.example/x", "http://169.254.170.2.example/", "ftp://127.0.0.1/"] {
        Container::at_url(url, server.clone()).expect_err(url);
    }
    for url in ["https://keys.example/x", "http://127.0.0.1:8080/x", "http://[fd00:ec2::23]/v1/credentials"] {
        Container::at_url(url, server.clone()).expect(url);
    }
    Container::at_path("@keys.example/x", server).expect_err("another host");
}

#[tokio::test]
async fn a_machine_is_asked_in_a_session_for_its_role_and_for_the_keys_of_it() {
    let server =
        KeyServer::new(&[("/api/token", "session0"), ("/security-credentials/", "a role\n"), ("/a%20role", KEYS)]);
    let machine = Machine::new(None, server.clone()).expect("an address");
    assert_eq!(machine.keys().await.expect("keys").0, expected());
    let roles = "http://169.254.169.254/latest/meta-data/iam/security-credentials/";
    let asked: Vec<String> = server.asked().into_iter().map(|(line, _)| line).collect();
    let session = "PUT http://169.254.169.254/latest/api/token".to_owned();
    assert_eq!(asked, [session, format!("GET {roles}"), format!("GET {roles}a%20role")]);
    assert!(server.header(0, "x-aws-ec2-metadata-token-ttl-seconds").is_some());
    let sessions = [1, 2].map(|question| server.header(question, "x-aws-ec2-metadata-token"));
    assert_eq!(sessions, [Some("session0".to_owned()), Some("session0".to_owned())]);
    let bare = KeyServer::new(&[("/api/token", "session0"), ("/security-credentials/", "\n")]);
    let error = Machine::new(None, bare).expect("an address").keys().await.expect_err("no role");
    assert_eq!(error.name(), "account");
}

#[tokio::test]
async fn a_role_is_taken_on_with_the_token_in_a_file() {
    const ANSWER: &str = "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>
        <AccessKeyId>AKIA1</AccessKeyId><SecretAccessKey>s3cret</SecretAccessKey><SessionToken>t</SessionToken>
        <Expiration>1970-01-01T01:00:00Z</Expiration></Credentials></AssumeRoleWithWebIdentityResult>
        </AssumeRoleWithWebIdentityResponse>";
    let server = KeyServer::new(&[("/", ANSWER)]);
    let file = std::env::temp_dir().join(format!("cfr-identity-{}", std::process::id()));
    std::fs::write(&file, "a.b&c\n").expect("a file");
    let url = "https://sts.eu-central-1.amazonaws.com";
    let identity = WebIdentity::new(url, "arn:aws:iam::0:role/r", "cfr", &file, server.clone()).expect("an address");
    let keys = identity.keys().await;
    std::fs::remove_file(&file).expect("the file");
    assert_eq!(keys.expect("keys").0, expected());
    let form = "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleArn=arn%3Aaws%3Aiam%3A%3A0%3Arole%2Fr\
        &RoleSessionName=cfr&WebIdentityToken=a.b%26c";
    assert_eq!(server.asked(), [(format!("POST {url}/"), form.to_owned())]);
}

#[tokio::test]
async fn keys_are_kept_until_five_minutes_before_their_end() {
    let server = KeyServer::new(&[("/keys", KEYS)]);
    let container = Container::at_url("http://127.0.0.1/keys", server.clone()).expect("an address");
    let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
    let keys = TemporaryKeys::new(Arc::new(container), clock.clone());
    for (pass, questions) in [(0, 1), (3_299, 1), (1, 2)] {
        clock.advance(Duration::from_secs(pass));
        assert_eq!(*keys.keys().await.expect("keys"), expected());
        assert_eq!(server.asked().len(), questions, "after {pass} s more");
    }
}

#[tokio::test]
async fn a_server_that_refuses_is_the_accounts_trouble_and_not_asked_at_once_again() {
    let server = KeyServer::new(&[]);
    let container = Container::at_url("http://127.0.0.1/keys", server.clone()).expect("an address");
    let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
    let keys = TemporaryKeys::new(Arc::new(container), clock);
    for _ in 0..3 {
        assert!(matches!(keys.keys().await, Err(UpstreamError::Account { .. })));
    }
    assert_eq!(server.asked().len(), 1);
}

#[test]
fn keys_do_not_print() {
    assert!(!format!("{:?}", expected()).contains("s3cret"));
}
