//! What in the messages is not text: images are counted, everything else is unbounded. Looked at in the one walk over the
//! body: what is not as it must be is noted and walked over, so that the rest of the body is still proved to be JSON.

use std::fmt;

use super::TOOL_SEARCHES_MAX;
use super::json::{Flaw, Json, Value};
use super::text::as_u64;

/// What the messages hold apart from text.
#[derive(Debug, Default)]
pub(super) struct Media {
    pub(super) images: u32,
    /// Bytes of images inside the body: they are no text.
    pub(super) image_bytes: u64,
    pub(super) unbounded: bool,
    pub(super) cache_markers: bool,
    pub(super) wrong: Option<Wrong>,
}

/// Hosted tools and how many tools there are.
#[derive(Debug, Default)]
pub(super) struct Tools {
    pub(super) count: u64,
    /// Whether one of them runs at the provider, who adds what it finds to the input.
    pub(super) hosted: bool,
    pub(super) web_searches: u32,
    pub(super) cache_markers: bool,
    pub(super) wrong: Option<Wrong>,
}

/// Where a structure is wrong, without what the caller wrote there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wrong {
    reason: &'static str,
    at: usize,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (at byte {})", self.reason, self.at)
    }
}

impl Wrong {
    fn shape(json: &Json<'_>) -> Self {
        Self { reason: "must be an array of well-formed objects", at: json.at() }
    }

    fn twice(json: &Json<'_>) -> Self {
        Self { reason: "names a field twice in one object", at: json.at() }
    }
}

impl Media {
    /// Walks over the messages.
    pub(super) fn walk(&mut self, json: &mut Json<'_>) -> Result<(), Flaw> {
        match json.next_byte() {
            Some(b'[') => json.array(|json| self.message(json)),
            _ => self.refuse(json),
        }
    }

    /// `audio` is an earlier spoken answer by its id, `images` is Ollama's own place for images: neither is bounded by
    /// the body.
    fn message(&mut self, json: &mut Json<'_>) -> Result<(), Flaw> {
        if json.next_byte() != Some(b'{') {
            return self.refuse(json);
        }
        let known = ["content", "audio", "images", "cache_control"];
        let message = Record::walk(json, known, |json, name| match name {
            "content" => self.content(json),
            _ => json.skip(),
        })?;
        self.wrong = self.wrong.or(message.wrong);
        let [_, audio, images, cache_control] = message.values;
        self.unbounded |= audio.is_some() || images.is_some();
        self.cache_markers |= cache_control.is_some();
        Ok(())
    }

    fn content(&mut self, json: &mut Json<'_>) -> Result<(), Flaw> {
        match json.next_byte() {
            Some(b'[') => json.array(|json| self.part(json)),
            Some(b'{') => self.part(json),
            _ => json.skip(),
        }
    }

    fn part(&mut self, json: &mut Json<'_>) -> Result<(), Flaw> {
        match json.next_byte() {
            Some(b'{') => {}
            Some(b'"') => return json.skip(), // text, as some servers take it
            _ => return self.refuse(json),
        }
        let known = ["type", "image_url", "cache_control", "prompt_cache_breakpoint"];
        let mut url = None;
        let part = Record::walk(json, known, |json, name| match (name, json.next_byte()) {
            ("image_url", Some(b'{')) => {
                let image = Record::walk(json, ["url"], |json, _| json.skip())?;
                self.wrong = self.wrong.or(image.wrong);
                [url] = image.values;
                Ok(())
            }
            _ => json.skip(),
        })?;
        self.wrong = self.wrong.or(part.wrong);
        let [kind, image, cache_control, cache_breakpoint] = part.values;
        self.cache_markers |= cache_control.is_some() || cache_breakpoint.is_some();
        match kind.map(|kind| kind.string().ok_or(kind)) {
            Some(Err(_)) => self.wrong = self.wrong.or(Some(Wrong::shape(json))),
            Some(Ok(kind)) if is_text(&kind) => {}
            Some(Ok(kind)) if is_image(&kind) => self.add_image(url.or(image)),
            Some(Ok(_)) | None => self.unbounded = true,
        }
        Ok(())
    }

    fn add_image(&mut self, url: Option<Value<'_>>) {
        self.images = self.images.saturating_add(1);
        let url = url.map(|url| url.json).unwrap_or_default();
        if url.starts_with(br#""data:image/"#) || url.starts_with(br#""data:image\/"#) {
            self.image_bytes = self.image_bytes.saturating_add(as_u64(url.len()));
        } else if !is_remote(url) {
            self.unbounded = true; // a document behind an image's name
        }
    }

    fn refuse(&mut self, json: &mut Json<'_>) -> Result<(), Flaw> {
        self.wrong = self.wrong.or(Some(Wrong::shape(json)));
        json.skip()
    }
}

fn is_text(kind: &[u8]) -> bool {
    matches!(kind, b"text" | b"refusal" | b"input_text" | b"output_text" | b"thinking" | b"reasoning")
}

fn is_image(kind: &[u8]) -> bool {
    matches!(kind, b"image_url" | b"input_image")
}

fn is_remote(url: &[u8]) -> bool {
    url.starts_with(br#""https:"#) || url.starts_with(br#""http:"#)
}

impl Tools {
    /// Walks over the tools. Functions are described by their text alone; any other kind runs at the provider.
    pub(super) fn walk(&mut self, json: &mut Json<'_>) -> Result<(), Flaw> {
        match json.next_byte() {
            Some(b'[') => json.array(|json| self.tool(json)),
            _ => self.refuse(json),
        }
    }

    fn tool(&mut self, json: &mut Json<'_>) -> Result<(), Flaw> {
        if json.next_byte() != Some(b'{') {
            return self.refuse(json);
        }
        let tool = Record::walk(json, ["type", "max_uses", "cache_control"], |json, _| json.skip())?;
        self.wrong = self.wrong.or(tool.wrong);
        let [kind, max_uses, cache_control] = tool.values;
        self.count += 1;
        self.cache_markers |= cache_control.is_some();
        match kind.map(|kind| kind.string().ok_or(kind)) {
            Some(Err(_)) => self.wrong = self.wrong.or(Some(Wrong::shape(json))),
            Some(Ok(kind)) if matches!(&*kind, b"function" | b"custom") => {}
            Some(Ok(kind)) if memchr::memmem::find(&kind, b"search").is_none() => self.hosted = true,
            Some(Ok(_)) | None => {
                let uses = max_uses.and_then(|uses| uses.number()).unwrap_or(TOOL_SEARCHES_MAX);
                self.hosted = true;
                self.web_searches = self.web_searches.saturating_add(uses);
            }
        }
        Ok(())
    }

    fn refuse(&mut self, json: &mut Json<'_>) -> Result<(), Flaw> {
        self.wrong = self.wrong.or(Some(Wrong::shape(json)));
        json.skip()
    }
}

/// The values of an object's known fields; `null` counts as absent.
struct Record<'a, const N: usize> {
    values: [Option<Value<'a>>; N],
    wrong: Option<Wrong>,
}

impl<'a, const N: usize> Record<'a, N> {
    /// Walks over an object; `walk` walks over the value of each of the fields `known`.
    fn walk(
        json: &mut Json<'a>,
        known: [&'static str; N],
        mut walk: impl FnMut(&mut Json<'a>, &'static str) -> Result<(), Flaw>,
    ) -> Result<Self, Flaw> {
        let mut record = Self { values: [None; N], wrong: None };
        json.object(|json, name| {
            let said = name.string().ok_or_else(|| json.expected("a name in Unicode before this"))?;
            let field = known.iter().zip(&mut record.values).find(|(known, _)| known.as_bytes() == &*said);
            let Some((known, slot)) = field else { return json.skip() };
            if slot.replace(json.measured(|json| walk(json, known))?).is_some() {
                record.wrong = Some(Wrong::twice(json));
            }
            Ok(())
        })?;
        record.values = record.values.map(|value| value.filter(|value| !value.is_null()));
        Ok(record)
    }
}
