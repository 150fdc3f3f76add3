//! What a walk over messages and tools finds that is not text. What is not as it must be is noted and walked over, so that
//! the rest of the body is still proved to be JSON.

use super::json::{Flaw, Json, Value};
use super::record::Wrong;
use super::text::as_u64;
use super::{HostedCap, TOOL_CALLS_MAX};

/// What the messages hold apart from text.
#[derive(Debug, Default)]
pub(super) struct Media {
    pub(super) images: u32,
    /// Bytes of images inside the body: they are no text.
    pub(super) image_bytes: u64,
    pub(super) unbounded: bool,
    pub(super) cache_markers: bool,
    /// Tokens of ids that are made for calls of functions which have none, where the provider wants one.
    pub(super) made_id_tokens: u64,
    pub(super) wrong: Option<Wrong>,
}

impl Media {
    /// An image by its URL, quotes included.
    pub(super) fn add_image(&mut self, url: Option<Value<'_>>) {
        let url = url.map(|url| url.json).unwrap_or_default();
        if url.starts_with(br#""data:image/"#) || url.starts_with(br#""data:image\/"#) {
            self.add_image_inside(url);
        } else if is_remote(url) {
            self.add_image_elsewhere();
        } else {
            self.images = self.images.saturating_add(1);
            self.unbounded = true; // a document behind an image's name
        }
    }

    /// An image whose bytes stand in the body as `json`.
    pub(super) fn add_image_inside(&mut self, json: &[u8]) {
        self.add_image_elsewhere();
        self.image_bytes = self.image_bytes.saturating_add(as_u64(json.len()));
    }

    /// An image that the provider has or fetches.
    pub(super) fn add_image_elsewhere(&mut self) {
        self.images = self.images.saturating_add(1);
    }

    pub(super) fn note(&mut self, wrong: Option<Wrong>) {
        self.wrong = self.wrong.or(wrong);
    }

    pub(super) fn refuse(&mut self, json: &mut Json<'_>) -> Result<(), Flaw> {
        self.note(Some(Wrong::shape(json)));
        json.skip()
    }
}

fn is_remote(url: &[u8]) -> bool {
    url.starts_with(br#""https:"#) || url.starts_with(br#""http:"#)
}

/// Hosted tools and how many tools there are.
#[derive(Debug, Default)]
pub(super) struct Tools {
    pub(super) count: u64,
    /// Tools that the provider describes to the model by itself and that the caller runs.
    pub(super) known_to_model: u64,
    /// Whether one of them runs at the provider, who adds what it finds to the input.
    pub(super) hosted: bool,
    /// Calls of hosted tools at the most.
    pub(super) hosted_calls: u32,
    pub(super) web_searches: u32,
    pub(super) file_searches: u32,
    pub(super) maps_queries: u32,
    pub(super) code_sessions: u32,
    pub(super) cache_markers: bool,
    /// Caps on hosted tools that must be set.
    pub(super) open_caps: Vec<HostedCap>,
    pub(super) wrong: Option<Wrong>,
}

impl Tools {
    /// A tool that runs at the provider at most so often.
    pub(super) fn add_hosted(&mut self, calls: u32) {
        self.hosted = true;
        self.hosted_calls = self.hosted_calls.saturating_add(calls);
    }

    pub(super) fn add_web_search(&mut self, calls: u32) {
        self.add_hosted(calls);
        self.web_searches = self.web_searches.saturating_add(calls);
    }

    /// How often a hosted tool may be called: as the caller says, else as we shall say in the gap.
    pub(super) fn capped(&mut self, json: &Json<'_>, said: Option<Value<'_>>, open: HostedCap) -> u32 {
        match said.map(|said| said.number()) {
            Some(Some(calls)) => return calls,
            Some(None) => self.note(Some(Wrong::shape(json))),
            None => self.open_caps.push(open),
        }
        TOOL_CALLS_MAX
    }

    pub(super) fn note(&mut self, wrong: Option<Wrong>) {
        self.wrong = self.wrong.or(wrong);
    }

    pub(super) fn refuse(&mut self, json: &mut Json<'_>) -> Result<(), Flaw> {
        self.note(Some(Wrong::shape(json)));
        json.skip()
    }
}
