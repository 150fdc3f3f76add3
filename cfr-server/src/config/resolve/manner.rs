//! What an operator wants of every call to one upstream: headers, patience, what may be left out.

use std::collections::BTreeMap;
use std::time::Duration;

use cfr_core::secret::Secret;
use cfr_providers::upstream::Manner;
use http::{HeaderMap, HeaderName, HeaderValue};
use toml::Spanned;

use super::super::file;
use super::{Reader, TIMEOUT_SECONDS_RANGE};

/// Headers that say how the bytes of a request are to be read, which nobody else knows.
const OURS: [HeaderName; 8] = [
    http::header::HOST,
    http::header::CONTENT_LENGTH,
    http::header::CONTENT_TYPE,
    http::header::TRANSFER_ENCODING,
    http::header::CONNECTION,
    http::header::UPGRADE,
    http::header::EXPECT,
    http::header::ACCEPT_ENCODING,
];

impl Reader<'_> {
    pub(super) fn manner(&mut self, section: &file::Upstream) -> Manner {
        Manner {
            headers: self.headers(&section.headers),
            header_timeout: self.patience("upstream.header_seconds", section.header_seconds.as_ref()),
            idle_timeout: self.patience("upstream.idle_seconds", section.idle_seconds.as_ref()),
            drop_params: section.drop_params,
        }
    }

    fn patience(&mut self, key: &str, seconds: Option<&Spanned<u64>>) -> Option<Duration> {
        seconds.map(|seconds| self.within(TIMEOUT_SECONDS_RANGE, key, Some(seconds), Duration::ZERO))
    }

    fn headers(&mut self, said: &BTreeMap<Spanned<String>, Secret>) -> HeaderMap {
        said.iter().filter_map(|(name, value)| self.header(name, value)).collect()
    }

    fn header(&mut self, place: &Spanned<String>, value: &Secret) -> Option<(HeaderName, HeaderValue)> {
        let mut refused = |what: &str| {
            let what = format!("`{}`: {what}", place.get_ref());
            self.problem(self.line(place), "upstream.headers", what);
        };
        let Ok(name) = place.get_ref().parse::<HeaderName>() else {
            refused("no name of a header");
            return None;
        };
        if OURS.contains(&name) {
            refused("the router sets it itself");
        }
        let Ok(mut value) = HeaderValue::from_str(value.expose()) else {
            refused("a value that no header can carry");
            return None;
        };
        value.set_sensitive(true);
        Some((name, value))
    }
}
