//! Where Google's models are: addresses and headers (providers.md §7.1).

use std::sync::Arc;

use bytes::Bytes;
use cfr_core::upstream::UpstreamError;
use http::HeaderMap;

use crate::transport::{BadAddress, Endpoint, WireRequest, event_headers, path_segment};

pub(crate) const STUDIO: &str = "https://generativelanguage.googleapis.com/v1beta";

/// One of Google's hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Site {
    /// The Gemini API.
    Studio,
    /// Vertex.
    Vertex,
}

impl Site {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Studio => "gemini",
            Self::Vertex => "vertex",
        }
    }
}

/// An address with all headers but the signature.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) site: Site,
    base: Endpoint,
    headers: HeaderMap,
}

impl Place {
    pub(super) fn studio(base_url: Option<&str>) -> Result<Self, BadAddress> {
        Ok(Self {
            site: Site::Studio,
            base: Endpoint::below(base_url.unwrap_or(STUDIO), "")?,
            headers: event_headers(),
        })
    }

    pub(super) fn vertex(project: &str, location: &str, base_url: Option<&str>) -> Result<Self, BadAddress> {
        let base = publisher(project, location, base_url, ("v1beta1", "google"))?;
        Ok(Self { site: Site::Vertex, base, headers: event_headers() })
    }

    /// The request for an answer of a model.
    pub(super) fn generate(&self, model: &str, stream: bool, body: Bytes) -> Result<WireRequest, UpstreamError> {
        self.request(model, if stream { "streamGenerateContent?alt=sse" } else { "generateContent" }, body)
    }

    /// The request for a method of a model.
    pub(super) fn request(&self, model: &str, method: &str, body: Bytes) -> Result<WireRequest, UpstreamError> {
        let path = format!("/models/{}:{method}", path_segment(bare(model)));
        let endpoint = self.base.join(&path).map_err(|_| UpstreamError::Unsupported {
            message: format!("model: `{model}` can be in no address").into(),
        })?;
        Ok(WireRequest { endpoint: Arc::new(endpoint), headers: self.headers.clone(), body, dropped: Vec::new() })
    }
}

/// The address of a maker's models on Vertex, in a version of its API, for a project in a location. Another address ends
/// with the version itself.
///
/// # Errors
/// When the project or the location is not a name, or the address is not one.
pub(crate) fn publisher(
    project: &str,
    location: &str,
    base_url: Option<&str>,
    (version, maker): (&str, &str),
) -> Result<Endpoint, BadAddress> {
    if project.is_empty() || !is_location(location) {
        return Err(BadAddress { address: format!("projects/{project}/locations/{location}").into() });
    }
    let usual = || format!("https://{}/{version}", vertex_host(location));
    let base = Endpoint::below(&base_url.map_or_else(usual, str::to_owned), "")?;
    base.join(&format!("/projects/{}/locations/{location}/publishers/{maker}", path_segment(project)))
}

/// A model's name as Google lists it has its collection before it.
pub(super) fn bare(model: &str) -> &str {
    model.strip_prefix("publishers/google/").unwrap_or(model).strip_prefix("models/").unwrap_or(model)
}

/// A location becomes a part of a host's name.
fn is_location(location: &str) -> bool {
    !location.is_empty()
        && location.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

fn vertex_host(location: &str) -> String {
    match location {
        "global" => "aiplatform.googleapis.com".to_owned(),
        "eu" | "us" => format!("aiplatform.{location}.rep.googleapis.com"),
        region => format!("{region}-aiplatform.googleapis.com"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(place: &Place, model: &str) -> String {
        place.generate(model, true, Bytes::new()).expect("an address").endpoint.uri().to_string()
    }

    #[test]
    fn both_hosts_have_the_model_in_the_path() {
        let studio = Place::studio(None).expect("an address");
        let models = "https://generativelanguage.googleapis.com/v1beta/models";
        for name in ["gemini-3.8-flash", "models/gemini-3.8-flash"] {
            assert_eq!(address(&studio, name), format!("{models}/gemini-3.8-flash:streamGenerateContent?alt=sse"));
        }
        for (location, host) in [
            ("europe-west4", "europe-west4-aiplatform.googleapis.com"),
            ("global", "aiplatform.googleapis.com"),
            ("eu", "aiplatform.eu.rep.googleapis.com"),
        ] {
            let vertex = Place::vertex("p", location, None).expect("an address");
            let path = format!("v1beta1/projects/p/locations/{location}/publishers/google/models");
            assert_eq!(address(&vertex, "m"), format!("https://{host}/{path}/m:streamGenerateContent?alt=sse"));
        }
    }

    #[test]
    fn no_name_leads_elsewhere() {
        let studio = Place::studio(Some("https://host.example/v1")).expect("an address");
        let expected = "https://host.example/v1/models/..%2F..%2Fx%3Fy%23z%40w%3Ag:streamGenerateContent?alt=sse";
        assert_eq!(address(&studio, "../../x?y#z@w:g"), expected);
        for location in ["", "evil.example/", "a@b", "A"] {
            assert!(Place::vertex("p", location, None).is_err(), "{location}");
        }
        let vertex = Place::vertex("../p", "global", None).expect("an address");
        assert!(address(&vertex, "m").contains("/projects/..%2Fp/locations/"));
    }
}
