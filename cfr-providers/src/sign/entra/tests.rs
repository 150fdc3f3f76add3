//! Tokens of Microsoft's, against a server that keeps what it is asked.

use std::time::Duration;

use super::*;
use crate::testing::KeyServer;

/// The machine's server writes the seconds as a text.
const TOKEN: &str = r#"{"token_type":"Bearer","expires_in":"3599","access_token":"eyJ0"}"#;

fn application(proof: Proof) -> Entra {
    let (tenant, client_id) = ("contoso.example".into(), "app 1".into());
    Entra::new(Identity::Application { tenant, client_id, proof })
}

async fn asked_for(entra: &Entra, server: &Arc<KeyServer>) -> Token {
    let transport: Arc<dyn Transport> = server.clone();
    entra.tokens(&transport).expect("an address").token().await.expect("a token")
}

#[tokio::test]
async fn an_application_shows_its_secret_and_gets_a_token() {
    let server = KeyServer::new(&[("/oauth2/v2.0/token", TOKEN)]);
    let token = asked_for(&application(Proof::Secret(Secret::new("s&=+~1"))), &server).await;
    assert_eq!((token.secret.expose(), token.valid_for), ("eyJ0", Duration::from_secs(3_599)));
    let form = "grant_type=client_credentials&client_id=app%201\
        &scope=https%3A%2F%2Fcognitiveservices.azure.com%2F.default&client_secret=s%26%3D%2B~1";
    let line = "POST https://login.microsoftonline.com/contoso.example/oauth2/v2.0/token";
    assert_eq!(server.asked(), [(line.to_owned(), form.to_owned())]);
    assert_eq!(server.header(0, "content-type").as_deref(), Some("application/x-www-form-urlencoded"));
}

#[tokio::test]
async fn an_application_in_a_cluster_shows_the_token_as_it_is_at_that_moment() {
    let server = KeyServer::new(&[("/token", TOKEN)]);
    let file = std::env::temp_dir().join(format!("cfr-entra-{}", std::process::id()));
    let entra = application(Proof::File(file.clone()));
    for token in ["first", "second"] {
        std::fs::write(&file, format!("{token}\n")).expect("a file");
        asked_for(&entra, &server).await;
    }
    std::fs::remove_file(&file).expect("the file");
    for (question, token) in ["first", "second"].into_iter().enumerate() {
        let form = &server.asked()[question].1;
        assert!(form.contains("client-assertion-type%3Ajwt-bearer"), "{form}");
        assert!(form.ends_with(&format!("&client_assertion={token}")), "{form}");
    }
    let tokens = entra.tokens(&(server as Arc<dyn Transport>)).expect("an address");
    assert_eq!(tokens.token().await.expect_err("no file").name(), "account");
}

#[tokio::test]
async fn sovereign_clouds_and_other_scopes_are_asked_for() {
    let server = KeyServer::new(&[("/token", TOKEN)]);
    let usual = application(Proof::Secret(Secret::new("s")));
    let authority = Some("https://login.microsoftonline.us/".into());
    asked_for(&Entra { authority, scope: Some("https://ai.azure.com/.default".into()), ..usual }, &server).await;
    let (line, form) = server.asked().remove(0);
    assert_eq!(line, "POST https://login.microsoftonline.us/contoso.example/oauth2/v2.0/token");
    assert!(form.contains("&scope=https%3A%2F%2Fai.azure.com%2F.default&"), "{form}");
}

#[tokio::test]
async fn a_machine_asks_its_metadata_service_for_a_resource() {
    let server = KeyServer::new(&[("/metadata/identity/oauth2/token", TOKEN)]);
    for client_id in [None, Some("id 2".into())] {
        asked_for(&Entra::new(Identity::Machine { client_id }), &server).await;
    }
    let line = "GET http://169.254.169.254/metadata/identity/oauth2/token?api-version=2018-02-01\
        &resource=https%3A%2F%2Fcognitiveservices.azure.com";
    let asked: Vec<String> = server.asked().into_iter().map(|(line, _)| line).collect();
    assert_eq!(asked, [line.to_owned(), format!("{line}&client_id=id%202")]);
    assert_eq!(server.header(0, "metadata").as_deref(), Some("true"));
}

#[tokio::test]
async fn a_refused_application_is_our_accounts_trouble() {
    let server: Arc<dyn Transport> = KeyServer::new(&[]);
    let tokens = application(Proof::Secret(Secret::new("s"))).tokens(&server).expect("an address");
    assert_eq!(tokens.token().await.expect_err("a refusal").name(), "account");
}

#[test]
fn no_tenant_leads_elsewhere() {
    let server: Arc<dyn Transport> = KeyServer::new(&[]);
    for tenant in ["..", "."] {
        let identity = Identity::Application {
            tenant: tenant.into(),
            client_id: "c".into(),
            proof: Proof::Secret(Secret::new("s")),
        };
        Entra::new(identity).tokens(&server).expect_err(tenant);
    }
}

#[test]
fn the_environment_names_an_application_with_a_secret_or_a_file() {
    let of = |known: &[(&str, &str)]| {
        let known: Vec<(String, String)> =
            known.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        Entra::of_environment(&move |name| {
            known.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
        })
    };
    let who = [("AZURE_TENANT_ID", "t"), ("AZURE_CLIENT_ID", "c")];
    assert!(of(&who).is_none(), "nothing proves it");
    let file = of(&[who[0], who[1], ("AZURE_FEDERATED_TOKEN_FILE", "/f")]).expect("an identity");
    assert!(matches!(file.identity, Identity::Application { proof: Proof::File(_), .. }));
    let secret = of(&[who[0], who[1], ("AZURE_CLIENT_SECRET", "hush"), ("AZURE_AUTHORITY_HOST", "https://a.example")]);
    let secret = secret.expect("an identity");
    assert_eq!(secret.authority.as_deref(), Some("https://a.example"));
    assert!(!format!("{secret:?}").contains("hush"), "the secret prints");
}
