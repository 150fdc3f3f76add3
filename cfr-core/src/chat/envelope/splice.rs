//! Changing a few bytes of a body and leaving all others as they came.

use std::borrow::Cow;

use bytes::Bytes;

use super::Span;

/// One change of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit<'a> {
    /// Puts `json` where a value stood.
    Replace {
        /// Where.
        span: Span,
        /// The new value, as JSON.
        json: Cow<'a, [u8]>,
    },
    /// Adds a field to the outer object, before all others.
    Insert {
        /// Its name, which needs no escaping.
        field: &'a str,
        /// Its value, as JSON.
        json: Cow<'a, [u8]>,
    },
    /// Adds a field to an object inside, before all others.
    InsertInto {
        /// Where the object's brace opens.
        opening: usize,
        /// Its name, which needs no escaping.
        field: &'a str,
        /// Its value, as JSON.
        json: Cow<'a, [u8]>,
    },
}

/// The body with the edits made and every other byte as it was. No edits: the same bytes, not copied.
///
/// The body must be the one that the spans were read from; spans must not overlap. A span outside the body is left out.
#[must_use]
pub fn splice(body: &Bytes, edits: &[Edit<'_>]) -> Bytes {
    if edits.is_empty() {
        return body.clone();
    }
    let mut sorted = edits.iter().collect::<smallvec::SmallVec<[_; 8]>>();
    let opening = memchr::memchr(b'{', body).map_or(0, |brace| brace + 1);
    sorted.sort_by_key(|edit| (edit.start(opening), !edit.is_insert())); // new fields stand before a renamed first one
    let mut out = Vec::with_capacity(body.len() + edits.iter().map(Edit::bytes_max).sum::<usize>());
    let mut copied = 0;
    for (index, edit) in sorted.iter().enumerate() {
        let start = edit.start(opening);
        let Some(untouched) = body.get(copied..start) else { continue };
        out.extend_from_slice(untouched);
        copied = start;
        match edit {
            Edit::Replace { span, json } => {
                out.extend_from_slice(json);
                copied = span.end;
            }
            Edit::Insert { field, json } | Edit::InsertInto { field, json, .. } => {
                let next = sorted.get(index + 1);
                let last = !next.is_some_and(|next| next.is_insert() && next.start(opening) == start);
                let comma = !last || has_fields(body.get(start..).unwrap_or_default());
                push_field(&mut out, field, json, comma);
            }
        }
    }
    out.extend_from_slice(body.get(copied..).unwrap_or_default());
    out.into()
}

impl Edit<'_> {
    fn start(&self, opening: usize) -> usize {
        match self {
            Self::Replace { span, .. } => span.start,
            Self::Insert { .. } => opening,
            Self::InsertInto { opening, .. } => opening + 1,
        }
    }

    const fn is_insert(&self) -> bool {
        matches!(self, Self::Insert { .. } | Self::InsertInto { .. })
    }

    fn bytes_max(&self) -> usize {
        const PUNCTUATION: usize = r#""":,"#.len();
        match self {
            Self::Replace { json, .. } => json.len(),
            Self::Insert { field, json } | Self::InsertInto { field, json, .. } => {
                field.len() + json.len() + PUNCTUATION
            }
        }
    }
}

fn push_field(out: &mut Vec<u8>, field: &str, json: &[u8], comma: bool) {
    out.push(b'"');
    out.extend_from_slice(field.as_bytes());
    out.extend_from_slice(br#"":"#);
    out.extend_from_slice(json);
    if comma {
        out.push(b',');
    }
}

fn has_fields(after_opening: &[u8]) -> bool {
    after_opening.iter().find(|byte| !byte.is_ascii_whitespace()).is_some_and(|byte| *byte != b'}')
}
