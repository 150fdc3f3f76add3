//! The fields of a request's outer object, by place.

use std::fmt;
use std::ops::Range;

use bytes::{Bytes, BytesMut};
use memchr::memmem;
use serde::Deserializer;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;

/// The body without the fields named in `drops`; the same bytes, not copied, when it has none of them.
pub(super) fn without(body: &Bytes, drops: &[&str]) -> Bytes {
    if !drops.iter().any(|name| may_have(body, name)) {
        return body.clone();
    }
    let kept = fields(body).map(|fields| fields.into_iter().partition::<Vec<_>, _>(|f| !drops.contains(&&*f.name)));
    match kept {
        Some((kept, dropped)) if !dropped.is_empty() => join(body, &kept),
        _ => body.clone(),
    }
}

/// Whether the outer object has the field.
pub(super) fn has(body: &[u8], name: &str) -> bool {
    may_have(body, name) && fields(body).is_some_and(|all| all.iter().any(|field| field.name == name))
}

/// Where the name of the field stands whose value begins at `value`, quotes included.
pub(super) fn name_before(body: &[u8], value: usize) -> Option<Range<usize>> {
    let before = body.get(..value)?.trim_ascii_end().strip_suffix(b":")?.trim_ascii_end();
    let inner = before.strip_suffix(b"\"")?;
    let start = memchr::memrchr(b'"', inner)?;
    Some(start..before.len())
}

/// A cheap look: a field is there by its letters, or by letters in disguise.
fn may_have(body: &[u8], name: &str) -> bool {
    memmem::find(body, name.as_bytes()).is_some() || memmem::find(body, b"\\u00").is_some()
}

struct Field {
    name: String,
    value: Range<usize>,
}

fn fields(body: &[u8]) -> Option<Vec<Field>> {
    let text = std::str::from_utf8(body).ok()?;
    serde_json::Deserializer::from_str(text).deserialize_map(Places { base: text.as_ptr() as usize }).ok()
}

fn join(body: &[u8], fields: &[Field]) -> Bytes {
    let mut out = BytesMut::with_capacity(body.len());
    out.extend_from_slice(b"{");
    for field in fields {
        let Some(name) = name_before(body, field.value.start) else { continue };
        if out.len() > 1 {
            out.extend_from_slice(b",");
        }
        out.extend_from_slice(&body[name.start..field.value.end]);
    }
    out.extend_from_slice(b"}");
    out.freeze()
}

struct Places {
    base: usize,
}

impl<'de> Visitor<'de> for Places {
    type Value = Vec<Field>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vec<Field>, A::Error> {
        let mut fields = Vec::new();
        while let Some((name, value)) = map.next_entry::<String, &'de RawValue>()? {
            let start = value.get().as_ptr() as usize - self.base;
            fields.push(Field { name, value: start..start + value.get().len() });
        }
        Ok(fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(body: &'static str, drops: &[&str], expected: &str) {
        assert_eq!(without(&Bytes::from_static(body.as_bytes()), drops), expected);
    }

    #[test]
    fn dropped_fields_leave_every_other_byte_as_it_was() {
        let body = r#"{ "user":"x", "messages" : [ {"role":"user"} ] ,"n" :1.0, "seed": 4 }"#;
        check(body, &["user", "seed"], r#"{"messages" : [ {"role":"user"} ],"n" :1.0}"#);
    }

    #[test]
    fn a_name_inside_a_value_is_no_field() {
        let body = r#"{"messages":[{"role":"user","user":1}],"m":"user"}"#;
        check(body, &["user"], body);
    }

    #[test]
    fn an_escaped_name_is_dropped_too() {
        check(r#"{"us\u0065r":1,"logprobs":true}"#, &["user", "logprobs"], "{}");
    }

    #[test]
    fn the_name_before_a_value_is_found_across_blanks() {
        let body = br#"{"a":1,"max_tokens" : 5}"#;
        let at = body.iter().position(|b| *b == b'5').unwrap();
        assert_eq!(&body[name_before(body, at).unwrap()], br#""max_tokens""#);
    }
}
