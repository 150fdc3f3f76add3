//! An answer as bytes, for caches outside of the process: a version, the length of the head, the head, the body.

use std::borrow::Cow;

use bytes::{BufMut, Bytes, BytesMut};
use http::HeaderValue;
use serde::{Deserialize, Serialize};

use super::CachedAnswer;
use crate::chat::Usage;
use crate::price::PicoUsd;
use crate::upstream::FinishReason;

/// The first byte. Answers of another version are not read.
const VERSION: u8 = 1;
/// The version, and the length of the head in four bytes.
const PREFIX_BYTES: usize = 5;

#[derive(Serialize, Deserialize)]
struct Head<'a> {
    #[serde(borrow)]
    content_type: Cow<'a, str>,
    #[serde(borrow)]
    provider: Cow<'a, str>,
    #[serde(borrow)]
    model: Cow<'a, str>,
    usage: Usage,
    cost_pico_usd: i128,
    #[serde(borrow)]
    finish: Option<Cow<'a, str>>,
}

impl CachedAnswer {
    /// The answer as bytes; none when its media type is no text.
    #[must_use]
    pub fn encode(&self) -> Option<Bytes> {
        let head = Head {
            content_type: self.content_type.to_str().ok()?.into(),
            provider: (&*self.provider).into(),
            model: (&*self.model).into(),
            usage: self.usage,
            cost_pico_usd: self.cost.0,
            finish: self.finish.as_ref().map(|finish| finish.name().into()),
        };
        let head = serde_json::to_vec(&head).ok()?;
        let mut bytes = BytesMut::with_capacity(PREFIX_BYTES + head.len() + self.body.len());
        bytes.put_u8(VERSION);
        bytes.put_u32(u32::try_from(head.len()).ok()?);
        bytes.extend_from_slice(&head);
        bytes.extend_from_slice(&self.body);
        Some(bytes.freeze())
    }

    /// The answer in these bytes, whose body is a part of them; none when they are of another version or damaged.
    #[must_use]
    pub fn decode(bytes: &Bytes) -> Option<Self> {
        let (version, rest) = bytes.split_first()?;
        let (length, _) = rest.split_first_chunk()?;
        let body_at = PREFIX_BYTES.checked_add(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
        if *version != VERSION || body_at > bytes.len() {
            return None;
        }
        let head: Head<'_> = serde_json::from_slice(bytes.get(PREFIX_BYTES..body_at)?).ok()?;
        Some(Self {
            content_type: HeaderValue::from_str(&head.content_type).ok()?,
            body: bytes.slice(body_at..),
            provider: head.provider.into(),
            model: head.model.into(),
            usage: head.usage,
            cost: PicoUsd(head.cost_pico_usd),
            finish: head.finish.map(|word| FinishReason::from_name(&word)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::tests::answer;

    #[test]
    fn an_answer_survives_the_way_through_bytes_and_its_body_is_not_copied() {
        let bytes = answer("the body").encode().expect("encoded");
        let decoded = CachedAnswer::decode(&bytes).expect("decoded");
        assert_eq!(decoded, answer("the body"));
        assert!(bytes.as_ptr_range().contains(&decoded.body.as_ptr()));
    }

    #[test]
    fn what_is_damaged_or_of_another_version_is_no_answer() {
        let good = answer("the body").encode().expect("encoded");
        let (of_prefix, version) = (good.slice(..3), good[0]);
        let mut newer = BytesMut::from(&good[..]);
        newer[0] = version + 1;
        let mut long = BytesMut::from(&good[..]);
        long[1] = u8::MAX;
        for bytes in [Bytes::new(), of_prefix, newer.freeze(), long.freeze(), Bytes::from_static(&[1, 0, 0, 0, 0])] {
            assert_eq!(CachedAnswer::decode(&bytes), None, "{bytes:?}");
        }
    }
}
