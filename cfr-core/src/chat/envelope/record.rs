//! An object inside the body: the fields of it that we read, and whether two parsers may read it differently.

use std::fmt;

use super::EnvelopeError;
use super::json::{Flaw, Json, Value};

/// The values of an object's known fields; `null` counts as absent.
pub(super) struct Record<'a, const N: usize> {
    pub(super) values: [Option<Value<'a>>; N],
    /// Whether it has a field that is not known.
    pub(super) more: bool,
    pub(super) wrong: Option<Wrong>,
}

impl<'a, const N: usize> Record<'a, N> {
    /// Walks over an object; `walk` walks over the value of each of the fields `known`.
    #[inline]
    pub(super) fn walk(
        json: &mut Json<'a>,
        known: [&'static str; N],
        walk: impl FnMut(&mut Json<'a>, &'static str) -> Result<(), Flaw>,
    ) -> Result<Self, Flaw> {
        Self::walk_by(json, known, |known, said| known.as_bytes() == said, walk)
    }

    /// The same for Google's objects, whose fields have two names each: `known` is the one in camel case.
    pub(super) fn walk_google(
        json: &mut Json<'a>,
        known: [&'static str; N],
        walk: impl FnMut(&mut Json<'a>, &'static str) -> Result<(), Flaw>,
    ) -> Result<Self, Flaw> {
        Self::walk_by(json, known, is_name_of_google, walk)
    }

    #[inline]
    fn walk_by(
        json: &mut Json<'a>,
        known: [&'static str; N],
        is_name: impl Fn(&str, &[u8]) -> bool,
        mut walk: impl FnMut(&mut Json<'a>, &'static str) -> Result<(), Flaw>,
    ) -> Result<Self, Flaw> {
        let mut record = Self { values: [None; N], more: false, wrong: None };
        let mut seen = [false; N];
        json.object(|json, name| {
            let said = name.string().ok_or_else(|| json.expected("a name in Unicode before this"))?;
            let mut fields = known.iter().zip(record.values.iter_mut().zip(&mut seen));
            let Some((known, (slot, seen))) = fields.find(|(known, _)| is_name(known, &said)) else {
                record.more = true;
                return json.skip();
            };
            *slot = Some(json.measured(|json| walk(json, known))?).filter(|value| !value.is_null());
            if std::mem::replace(seen, true) {
                record.wrong = Some(Wrong::twice(json));
            }
            Ok(())
        })?;
        Ok(record)
    }
}

/// Whether `said` is the name in camel case, or the same in snake case.
fn is_name_of_google(camel: &str, said: &[u8]) -> bool {
    camel.as_bytes() == said || (said.contains(&b'_') && is_snake_case_of(camel, said))
}

fn is_snake_case_of(camel: &str, said: &[u8]) -> bool {
    let mut said = said.iter();
    let matches = camel.bytes().all(|letter| match said.next() {
        Some(b'_') => letter.is_ascii_uppercase() && said.next() == Some(&letter.to_ascii_lowercase()),
        Some(byte) => *byte == letter && !letter.is_ascii_uppercase(),
        None => false,
    });
    matches && said.next().is_none()
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
    /// The error about the field that holds it.
    pub(super) fn of(self, field: &'static str) -> EnvelopeError {
        EnvelopeError::field(field, self.to_string())
    }

    pub(super) const fn because(reason: &'static str, at: usize) -> Self {
        Self { reason, at }
    }

    pub(super) const fn shape(json: &Json<'_>) -> Self {
        Self { reason: "must be an array of well-formed objects", at: json.at() }
    }

    pub(super) const fn twice(json: &Json<'_>) -> Self {
        Self { reason: "names a field twice in one object", at: json.at() }
    }

    /// What costs more than anything in the body could say.
    pub(super) const fn priceless(json: &Json<'_>) -> Self {
        Self { reason: "asks for a hosted tool whose cost nothing bounds", at: json.at() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn google_knows_a_name_in_camel_case_and_in_snake_case() {
        for said in ["inlineData", "inline_data"] {
            assert!(is_name_of_google("inlineData", said.as_bytes()), "{said}");
        }
        for said in ["inline_Data", "inlinedata", "inline__data", "inline_dat", "inline_data_", "inline_", "_", ""] {
            assert!(!is_name_of_google("inlineData", said.as_bytes()), "{said}");
        }
        assert!(!is_name_of_google("inlineDataURI", b"inline_dataURI"));
    }
}
