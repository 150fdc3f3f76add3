//! What in the messages is not text: images are counted, everything else is unbounded.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::text::as_u64;

/// What the messages hold apart from text.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Media {
    pub(super) images: u32,
    /// Bytes of images inside the body: they are no text.
    pub(super) image_bytes: u64,
    pub(super) unbounded: bool,
    pub(super) cache_markers: bool,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    /// An earlier spoken answer, by its id: its tokens are not in the body.
    #[serde(borrow)]
    audio: Option<&'a RawValue>,
    /// Ollama's own place for images.
    #[serde(borrow)]
    images: Option<&'a RawValue>,
    #[serde(borrow)]
    cache_control: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Part<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow)]
    image_url: Option<&'a RawValue>,
    #[serde(borrow)]
    cache_control: Option<&'a RawValue>,
    #[serde(borrow)]
    prompt_cache_breakpoint: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct ImageUrl<'a> {
    #[serde(borrow)]
    url: Option<&'a RawValue>,
}

/// Looks through the messages.
///
/// # Errors
/// When they are not an array of objects, or an object names a field twice.
pub(super) fn of_messages(messages: &str) -> Result<Media, serde_json::Error> {
    let mut media = Media::default();
    for_each(messages, |message: Message<'_>| {
        media.unbounded |= message.audio.is_some() || message.images.is_some();
        media.cache_markers |= message.cache_control.is_some();
        match message.content.map(RawValue::get) {
            Some(content) if content.starts_with('[') => media.add_parts(content),
            Some(content) if content.starts_with('{') => media.add_part(content),
            _ => Ok(()),
        }
    })?;
    Ok(media)
}

impl Media {
    fn add_parts(&mut self, parts: &str) -> Result<(), serde_json::Error> {
        for_each(parts, |part: &RawValue| self.add_part(part.get()))
    }

    fn add_part(&mut self, part: &str) -> Result<(), serde_json::Error> {
        if part.starts_with('"') {
            return Ok(()); // text, as some servers take it
        }
        let part = serde_json::from_str::<Part<'_>>(part)?;
        self.cache_markers |= part.cache_control.is_some() || part.prompt_cache_breakpoint.is_some();
        match part.kind.as_deref() {
            Some("text" | "refusal" | "input_text" | "output_text" | "thinking" | "reasoning") => Ok(()),
            Some("image_url" | "input_image") => self.add_image(part.image_url),
            _ => {
                self.unbounded = true;
                Ok(())
            }
        }
    }

    fn add_image(&mut self, image: Option<&RawValue>) -> Result<(), serde_json::Error> {
        self.images = self.images.saturating_add(1);
        let url = match image.map(RawValue::get) {
            Some(raw) if raw.starts_with('{') => serde_json::from_str::<ImageUrl<'_>>(raw)?.url.map(RawValue::get),
            other => other,
        };
        let url = url.unwrap_or_default();
        if url.starts_with(r#""data:image/"#) || url.starts_with(r#""data:image\/"#) {
            self.image_bytes = self.image_bytes.saturating_add(as_u64(url.len()));
        } else if !is_remote(url) {
            self.unbounded = true; // a document behind an image's name
        }
        Ok(())
    }
}

fn is_remote(url: &str) -> bool {
    url.starts_with(r#""https:"#) || url.starts_with(r#""http:"#)
}

/// Hosted tools and how many tools there are.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tools {
    pub(super) count: u64,
    /// Whether one of them runs at the provider, who adds what it finds to the input.
    pub(super) hosted: bool,
    pub(super) web_searches: u32,
    pub(super) cache_markers: bool,
}

#[derive(Deserialize)]
struct Tool<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow)]
    max_uses: Option<&'a RawValue>,
    #[serde(borrow)]
    cache_control: Option<&'a RawValue>,
}

/// Looks through the tools. Functions are described by their text alone; any other kind runs at the provider.
///
/// # Errors
/// When they are not an array of objects, or an object names a field twice.
pub(super) fn of_tools(tools: &str) -> Result<Tools, serde_json::Error> {
    let mut found = Tools::default();
    for_each(tools, |tool: Tool<'_>| {
        found.count += 1;
        found.cache_markers |= tool.cache_control.is_some();
        match tool.kind.as_deref() {
            Some("function" | "custom") => return Ok(()),
            Some(kind) if !kind.contains("search") => found.hosted = true,
            _ => {
                let uses = tool.max_uses.and_then(|raw| raw.get().parse().ok()).unwrap_or(super::TOOL_SEARCHES_MAX);
                found.hosted = true;
                found.web_searches = found.web_searches.saturating_add(uses);
            }
        }
        Ok(())
    })?;
    Ok(found)
}

/// The number of elements of an array.
///
/// # Errors
/// When it is not an array.
pub(super) fn length(array: &str) -> Result<u64, serde_json::Error> {
    let mut count = 0;
    for_each(array, |_: serde::de::IgnoredAny| {
        count += 1;
        Ok(())
    })?;
    Ok(count)
}

/// Hands each element of an array to `take` without collecting them.
fn for_each<'de, T: Deserialize<'de>>(
    array: &'de str,
    take: impl FnMut(T) -> Result<(), serde_json::Error>,
) -> Result<(), serde_json::Error> {
    let mut parser = serde_json::Deserializer::from_str(array);
    parser.deserialize_seq(Each { take, element: std::marker::PhantomData })
}

struct Each<T, F> {
    take: F,
    element: std::marker::PhantomData<T>,
}

impl<'de, T: Deserialize<'de>, F: FnMut(T) -> Result<(), serde_json::Error>> Visitor<'de> for Each<T, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut elements: A) -> Result<(), A::Error> {
        while let Some(element) = elements.next_element::<T>()? {
            (self.take)(element).map_err(serde::de::Error::custom)?;
        }
        Ok(())
    }
}
