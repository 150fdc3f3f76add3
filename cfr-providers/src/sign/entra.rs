//! Microsoft's access tokens: of an application in Entra, or of the machine that we run on (providers.md §5).

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use cfr_core::secret::Secret;
use cfr_core::upstream::UpstreamError;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use super::token::{Token, TokenSource, fetch, form};
use crate::transport::{BadAddress, Endpoint, Transport, WireRequest, path_segment};

/// What the tokens are for when nobody says: the models of Azure.
pub const SCOPE: &str = "https://cognitiveservices.azure.com/.default";
/// Who gives tokens when nobody says; sovereign clouds have their own.
pub const AUTHORITY: &str = "https://login.microsoftonline.com";
/// The server that machines of Azure's ask.
const METADATA: &str = "http://169.254.169.254";
const METADATA_PATH: &str = "/metadata/identity/oauth2/token?api-version=2018-02-01";
/// How a scope ends that is a whole resource.
const WHOLE_RESOURCE: &str = "/.default";

/// Who we are to Microsoft where no key is sent.
#[derive(Debug, Clone)]
pub struct Entra {
    /// Who.
    pub identity: Identity,
    /// What the tokens are for; [`SCOPE`] when absent.
    pub scope: Option<Box<str>>,
    /// Who gives them: [`AUTHORITY`] for an application and Azure's metadata service for a machine when absent.
    pub authority: Option<Box<str>>,
}

/// Whose tokens.
#[derive(Debug, Clone)]
pub enum Identity {
    /// An application's.
    Application {
        /// The tenant: an id or a domain.
        tenant: Box<str>,
        /// The application.
        client_id: Box<str>,
        /// What proves that it is us.
        proof: Proof,
    },
    /// The machine's that we run on: its managed identity, or the one of several that has this id.
    Machine {
        /// The identity, where the machine has several.
        client_id: Option<Box<str>>,
    },
}

/// What proves that an application is ours.
#[derive(Debug, Clone)]
pub enum Proof {
    /// A secret of the application's.
    Secret(Secret),
    /// A token of another identity that the application trusts, as clusters put it into a file. It is read at each
    /// question: it is replaced from time to time.
    File(PathBuf),
}

impl Entra {
    /// An identity with the usual scope and authority.
    #[must_use]
    pub const fn new(identity: Identity) -> Self {
        Self { identity, scope: None, authority: None }
    }

    /// What Azure's own SDKs find in the environment: an application with a secret, or with a token in a file. A machine
    /// is asked only when the operator says so.
    #[must_use]
    pub fn of_environment(variable: &dyn Fn(&str) -> Option<String>) -> Option<Self> {
        let secret = || Some(Proof::Secret(Secret::new(variable("AZURE_CLIENT_SECRET")?)));
        let file = || Some(Proof::File(variable("AZURE_FEDERATED_TOKEN_FILE")?.into()));
        let identity = Identity::Application {
            tenant: variable("AZURE_TENANT_ID")?.into(),
            client_id: variable("AZURE_CLIENT_ID")?.into(),
            proof: secret().or_else(file)?,
        };
        let authority = variable("AZURE_AUTHORITY_HOST").map(Into::into);
        Some(Self { authority, ..Self::new(identity) })
    }

    /// Where the tokens of this identity come from.
    ///
    /// # Errors
    /// When the authority is no address.
    pub fn tokens(&self, transport: &Arc<dyn Transport>) -> Result<Arc<dyn TokenSource>, BadAddress> {
        let (scope, transport) = (self.scope.as_deref().unwrap_or(SCOPE).into(), Arc::clone(transport));
        let base = |usual| self.authority.as_deref().unwrap_or(usual);
        Ok(match &self.identity {
            Identity::Application { tenant, client_id, proof } => {
                let endpoint = Endpoint::below(base(AUTHORITY), "")?;
                let endpoint = endpoint.join(&format!("/{}/oauth2/v2.0/token", path_segment(tenant)))?;
                let (endpoint, client_id, proof) = (Arc::new(endpoint), client_id.clone(), proof.clone());
                Arc::new(Application { endpoint, client_id, proof, scope, transport })
            }
            Identity::Machine { client_id } => {
                Arc::new(Machine::new(base(METADATA), client_id.as_deref(), &scope, transport)?)
            }
        })
    }
}

/// Tokens of an application.
#[derive(Debug)]
struct Application {
    endpoint: Arc<Endpoint>,
    client_id: Box<str>,
    proof: Proof,
    scope: Box<str>,
    transport: Arc<dyn Transport>,
}

impl Application {
    fn form(&self) -> Result<String, UpstreamError> {
        let proof = match &self.proof {
            Proof::Secret(secret) => format!("client_secret={}", path_segment(secret.expose())),
            Proof::File(file) => {
                let token = std::fs::read_to_string(file).map_err(|cause| UpstreamError::Account {
                    status: StatusCode::UNAUTHORIZED,
                    message: format!("no access token: {}: {cause}", file.display()).into(),
                })?;
                let kind = "client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer";
                format!("{kind}&client_assertion={}", path_segment(token.trim()))
            }
        };
        let [client_id, scope] = [&self.client_id, &self.scope].map(|text| path_segment(text));
        Ok(format!("grant_type=client_credentials&client_id={client_id}&scope={scope}&{proof}"))
    }
}

#[async_trait]
impl TokenSource for Application {
    async fn token(&self) -> Result<Token, UpstreamError> {
        fetch(self.transport.as_ref(), form(&self.endpoint, self.form()?)).await
    }
}

/// Tokens of the machine that we run on, if it is Azure's.
#[derive(Debug)]
struct Machine {
    endpoint: Arc<Endpoint>,
    transport: Arc<dyn Transport>,
}

impl Machine {
    fn new(
        base_url: &str,
        client_id: Option<&str>,
        scope: &str,
        transport: Arc<dyn Transport>,
    ) -> Result<Self, BadAddress> {
        let resource = path_segment(scope.strip_suffix(WHOLE_RESOURCE).unwrap_or(scope));
        let client = client_id.map(|id| format!("&client_id={}", path_segment(id))).unwrap_or_default();
        let endpoint = Endpoint::below(base_url, "")?.join(&format!("{METADATA_PATH}&resource={resource}{client}"))?;
        Ok(Self { endpoint: Arc::new(endpoint.with_method(Method::GET)), transport })
    }
}

#[async_trait]
impl TokenSource for Machine {
    async fn token(&self) -> Result<Token, UpstreamError> {
        let metadata = (HeaderName::from_static("metadata"), HeaderValue::from_static("true"));
        let (endpoint, headers) = (Arc::clone(&self.endpoint), HeaderMap::from_iter([metadata]));
        fetch(self.transport.as_ref(), WireRequest { endpoint, headers, body: Bytes::new(), dropped: Vec::new() }).await
    }
}

#[cfg(test)]
mod tests;
