//! Pictures and documents that a caller gives by their addresses, for providers that want the bytes.
//!
//! An adapter says which ones it wants ([`Adapter::wanted`](crate::adapter::Adapter::wanted)), a [`FetchMedia`] brings
//! them, and the adapter writes the request with what was brought. An address comes from anybody who has a key, and the
//! machine that fetches stands inside the operator's network: the bundled [`MediaClient`] reaches public addresses only.

use std::collections::HashMap;
use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cfr_core::upstream::UpstreamError;
use futures_util::{StreamExt, TryStreamExt, stream};

use crate::dialog::Source;

#[cfg(feature = "reqwest")]
mod client;
mod guard;
mod kind;

#[cfg(feature = "reqwest")]
pub use client::{FETCH_TIMEOUT, MEDIA_BYTES_MAX, MediaClient, MediaRules, REDIRECTS_MAX};
pub use guard::is_public;
pub use kind::MediaKind;

/// Addresses in one call.
pub const PER_CALL_MAX: usize = 16;
/// Bytes of all that is fetched for one call.
pub const CALL_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Addresses that are fetched from at the same time, for one call.
const AT_ONCE: usize = 4;
/// Bytes of an address that an error repeats.
const SHOWN_BYTES_MAX: usize = 200;

/// Something at an address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Wanted {
    /// What must be there.
    pub kind: MediaKind,
    /// Where it is, as the caller says.
    pub address: String,
}

/// What was there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Media {
    /// Its media type, by its first bytes.
    pub media_type: &'static str,
    /// All of it.
    pub bytes: Bytes,
}

/// Brings what is at an address.
#[async_trait]
pub trait FetchMedia: Debug + Send + Sync + 'static {
    /// Fetches once.
    ///
    /// # Errors
    /// When there is nothing of that kind to be had. The caller hears of it, so that it must not tell what lies in the
    /// operator's network.
    ///
    /// # Cancel safety
    /// Dropping the future aborts the exchange.
    async fn fetch(&self, wanted: &Wanted) -> Result<Media, FetchError>;
}

const _: fn(&dyn FetchMedia) = |_| {};

/// Why there is nothing to be had at an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// Not an address from which is fetched.
    #[error("only {0} without a user is fetched from")]
    Scheme(&'static str),
    /// The operator names the hosts, and this is none of them.
    #[error("the host is not one that is fetched from here")]
    Host,
    /// The host does not exist, or is not in the public network; which of the two is nobody's business.
    #[error("the host has no public address")]
    NotPublic,
    /// The host sends elsewhere again and again, or nowhere.
    #[error("the host redirects without end")]
    Redirects,
    /// The host refuses.
    #[error("the host answers {0}")]
    Status(u16),
    /// The connection failed.
    #[error("the host cannot be reached")]
    Unreachable,
    /// It took too long.
    #[error("nothing complete came within {} s", .0.as_secs())]
    TooSlow(Duration),
    /// It is too large.
    #[error("it is larger than {0} bytes")]
    TooLarge(usize),
    /// It is something else.
    #[error("it is not {}", .0.described())]
    Kind(MediaKind),
}

/// What was fetched for a call.
#[derive(Debug, Default)]
pub struct Fetched(HashMap<Wanted, Media>);

impl Fetched {
    /// Fetches everything, a few at a time, or says for the first that is not to be had why. Another provider may fetch
    /// by itself.
    ///
    /// # Errors
    /// [`UpstreamError::Unsupported`] with the address and the reason.
    pub(crate) async fn fetch(fetcher: &dyn FetchMedia, mut wanted: Vec<Wanted>) -> Result<Self, UpstreamError> {
        wanted.sort_by(|left, right| left.address.cmp(&right.address));
        wanted.dedup();
        if let Some(beyond) = wanted.get(PER_CALL_MAX) {
            let field = beyond.kind.field();
            return Err(unsupported(format!("{field}: more than {PER_CALL_MAX} addresses in one call")));
        }
        let one = |wanted: Wanted| async move {
            let media = fetcher.fetch(&wanted).await.map_err(|error| refused(&wanted, &error))?;
            Ok::<_, UpstreamError>((wanted, media))
        };
        let mut coming = stream::iter(wanted).map(one).buffer_unordered(AT_ONCE);
        let (mut fetched, mut bytes) = (HashMap::new(), 0);
        while let Some((wanted, media)) = coming.try_next().await? {
            bytes += media.bytes.len();
            if bytes > CALL_BYTES_MAX {
                return Err(refused(&wanted, &FetchError::TooLarge(CALL_BYTES_MAX)));
            }
            fetched.insert(wanted, media);
        }
        Ok(Self(fetched))
    }

    /// The bytes in place of the address, where they were fetched.
    pub(crate) fn put_into(&self, kind: MediaKind, source: &mut Source) {
        use base64::Engine as _;
        let Source::Url(address) = source else { return };
        let wanted = Wanted { kind, address: std::mem::take(address) };
        *source = match self.0.get(&wanted) {
            Some(Media { media_type, bytes }) => Source::Inline {
                media_type: (*media_type).to_owned(),
                data: base64::engine::general_purpose::STANDARD.encode(bytes),
            },
            None => Source::Url(wanted.address),
        };
    }
}

fn refused(wanted: &Wanted, error: &FetchError) -> UpstreamError {
    let shown = wanted.address.floor_char_boundary(SHOWN_BYTES_MAX);
    let address = wanted.address.get(..shown).unwrap_or_default();
    unsupported(format!("{}: `{address}`: {error}", wanted.kind.field()))
}

fn unsupported(message: String) -> UpstreamError {
    UpstreamError::Unsupported { message: message.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Has `x` bytes for the address `x`.
    #[derive(Debug)]
    struct Sized;

    #[async_trait]
    impl FetchMedia for Sized {
        async fn fetch(&self, wanted: &Wanted) -> Result<Media, FetchError> {
            let size = wanted.address.parse().map_err(|_| FetchError::NotPublic)?;
            Ok(Media { media_type: "image/png", bytes: Bytes::from(vec![0; size]) })
        }
    }

    async fn fetched(addresses: &[&str]) -> Result<Fetched, String> {
        let wanted = addresses.iter().map(|address| Wanted { kind: MediaKind::Image, address: (*address).to_owned() });
        Fetched::fetch(&Sized, wanted.collect()).await.map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn bytes_take_the_place_of_addresses() {
        let fetched = fetched(&["3", "3", "6"]).await.expect("all of it");
        let mut source = Source::Url("3".into());
        fetched.put_into(MediaKind::Image, &mut source);
        assert_eq!(source, Source::Inline { media_type: "image/png".into(), data: "AAAA".into() });
        for other in [Source::Url("9".into()), Source::Uploaded("3".into())] {
            let mut source = other.clone();
            fetched.put_into(MediaKind::Image, &mut source);
            assert_eq!(source, other);
        }
        let mut document = Source::Url("3".into());
        fetched.put_into(MediaKind::Pdf, &mut document);
        assert_eq!(document, Source::Url("3".into()), "a picture is no document");
    }

    #[tokio::test]
    async fn calls_have_limits_and_errors_name_the_field() {
        let half = (CALL_BYTES_MAX / 2 + 1).to_string();
        let error = fetched(&[&half, &format!("0{half}")]).await.expect_err("too much");
        assert!(error.contains("image_url: ") && error.contains("larger than"), "{error}");
        let many: Vec<String> = (0..=PER_CALL_MAX).map(|size| size.to_string()).collect();
        let error = fetched(&many.iter().map(String::as_str).collect::<Vec<_>>()).await.expect_err("too many");
        assert!(error.contains("more than 16 addresses"), "{error}");
        let error = fetched(&["x"]).await.expect_err("nowhere");
        assert!(error.contains("image_url: `x`: the host has no public address"), "{error}");
    }
}
