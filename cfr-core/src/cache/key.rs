//! The key of a call: two bodies that mean the same have the same one.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::{CacheKey, REQUEST_BYTES_MAX};
use crate::chat::Call;
use crate::id::TenantId;
use crate::route::Model;

/// Changes whenever keys are made in another way: old ones are then never found.
const SCHEME: &[u8] = b"cfr-cache-1";
/// Fields of the outer object that no answer depends on: how it is sent, and the caller's own names for it.
const LEFT_OUT: [&str; 4] = ["stream", "stream_options", "user", "metadata"];

impl CacheKey {
    /// The key of a call to a model. None for a body that, with the files of a form, is too large to be looked up.
    ///
    /// Fields of objects count in any order, white space and escapes do not count, numbers count as they are written. Who
    /// answers for the model counts, so that a change of the configuration finds no answers of others.
    #[must_use]
    pub fn of(tenant: TenantId, model: &Model, call: &Call) -> Option<Self> {
        let bytes = call.files.iter().fold(call.body.len(), |sum, file| sum.saturating_add(file.bytes.len()));
        if bytes > REQUEST_BYTES_MAX {
            return None;
        }
        let body: &RawValue = serde_json::from_slice(&call.body).ok()?;
        let mut hash = Hash(Sha256::new_with_prefix(SCHEME));
        hash.add(b't', &tenant.to_bytes());
        hash.add(b'o', call.operation.name().as_bytes());
        hash.add(b'm', model.name.as_bytes());
        for target in &model.targets {
            hash.add(b'p', target.provider.as_bytes());
            hash.add(b'p', target.model.as_bytes());
        }
        if let Some(betas) = &call.betas {
            hash.add(b'f', betas.as_bytes());
        }
        if let Some(version) = &call.dialect_version {
            hash.add(b'v', version.as_bytes());
        }
        for file in &call.files {
            hash.add(b'n', file.field.as_bytes());
            hash.add(b'c', file.content_type.as_deref().unwrap_or_default().as_bytes());
            hash.add(b'b', &file.bytes);
        }
        let fields = serde_json::from_str::<Fields<'_>>(body.get()).ok()?;
        hash.fields(fields, |name| !LEFT_OUT.contains(&name))?;
        Some(Self { tenant, digest: hash.0.finalize().into() })
    }
}

/// Hashes values one after another, each behind its kind and length: no two sequences look alike.
struct Hash(Sha256);

impl Hash {
    fn add(&mut self, kind: u8, bytes: &[u8]) {
        self.0.update([kind]);
        self.0.update((bytes.len() as u64).to_be_bytes());
        self.0.update(bytes);
    }

    fn open(&mut self, kind: u8, length: usize) {
        self.0.update([kind]);
        self.0.update((length as u64).to_be_bytes());
    }

    fn value(&mut self, raw: &RawValue) -> Option<()> {
        let text = raw.get();
        match text.as_bytes().first()? {
            b'{' => self.fields(serde_json::from_str(text).ok()?, |_| true)?,
            b'[' => {
                let items: Vec<&RawValue> = serde_json::from_str(text).ok()?;
                self.open(b'[', items.len());
                items.into_iter().try_for_each(|item| self.value(item))?;
            }
            b'"' => self.add(b'"', serde_json::from_str::<String>(text).ok()?.as_bytes()),
            _ => self.add(b'#', text.as_bytes()),
        }
        Some(())
    }

    fn fields(&mut self, fields: Fields<'_>, counts: impl Fn(&str) -> bool) -> Option<()> {
        let mut fields: Vec<_> = fields.0.into_iter().filter(|(name, _)| counts(name)).collect();
        fields.sort_by(|(left, _), (right, _)| left.cmp(right)); // stable: a field that comes twice keeps its order
        self.open(b'{', fields.len());
        fields.into_iter().try_for_each(|(name, value)| {
            self.add(b'"', name.as_bytes());
            self.value(value)
        })
    }
}

/// The fields of an object as they stand, also those that come twice.
struct Fields<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Fields<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::chat::Operation;
    use crate::route::Target;
    use crate::time::Timestamp;

    fn model(name: &str) -> Model {
        Model { name: name.into(), targets: vec![Arc::new(Target::new("up", "openai", name))] }
    }

    fn key(body: &str) -> CacheKey {
        let call = Call::parse(Operation::ChatCompletions, body.to_owned().into(), Timestamp::UNIX_EPOCH);
        CacheKey::of(TenantId::from_u128(1), &model("m"), &call.expect("a good body")).expect("small")
    }

    const PLAIN: &str = r#"{"model":"m","messages":[{"role":"user","content":"é"}],"temperature":0.5}"#;

    #[test]
    fn bodies_that_mean_the_same_have_one_key() {
        for same in [
            r#"{"temperature":0.5, "messages":[ {"content":"é","role":"user"} ] ,"model":"m"}"#,
            r#"{"model":"m","messages":[{"role":"user","content":"\u00e9"}],"temperature":0.5,"stream":false}"#,
            r#"{"model":"m","user":"u","messages":[{"role":"user","content":"é"}],"temperature":0.5,"metadata":{"a":"b"}}"#,
        ] {
            assert_eq!(key(same), key(PLAIN), "{same}");
        }
    }

    #[test]
    fn a_change_that_means_something_changes_the_key() {
        let others = [
            r#"{"model":"m","messages":[{"role":"user","content":"e"}],"temperature":0.5}"#,
            r#"{"model":"m","messages":[{"role":"user","content":"é"}],"temperature":0.6}"#,
            r#"{"model":"m","messages":[{"role":"user","content":"é"}]}"#,
            r#"{"model":"m","messages":[{"role":"user","content":"é"},{}],"temperature":0.5}"#,
            r#"{"model":"m","messages":[{"role":"user","content":"é","user":"x"}],"temperature":0.5}"#,
            r#"{"model":"m","messages":[{"role":"user","content":"é"}],"temperature":0.5,"seed":18446744073709551617}"#,
            r#"{"model":"m","messages":[{"role":"user","content":"é"}],"temperature":0.5,"seed":18446744073709551618}"#,
            r#"{"model":"m","messages":[{"role":"user","content":"é"}],"temperature":0.5,"x":1,"x":2}"#,
            r#"{"model":"m","messages":[{"role":"user","content":"é"}],"temperature":0.5,"x":2,"x":1}"#,
        ];
        let keys: std::collections::HashSet<_> = others.iter().map(|body| key(body)).chain([key(PLAIN)]).collect();
        assert_eq!(keys.len(), others.len() + 1);
    }

    #[test]
    fn tenant_operation_and_model_are_part_of_the_key() {
        let call = |operation, body: &'static str| {
            Call::parse(operation, body.into(), Timestamp::UNIX_EPOCH).expect("a good body")
        };
        let body = r#"{"model":"m","prompt":"p","messages":[],"input":"i"}"#;
        let chat = call(Operation::ChatCompletions, body);
        let of = |tenant, model: &Model, call: &Call| CacheKey::of(TenantId::from_u128(tenant), model, call);
        let plain = of(1, &model("m"), &chat);
        assert_eq!(plain, of(1, &model("m"), &chat));
        assert_ne!(plain, of(2, &model("m"), &chat));
        assert_ne!(plain, of(1, &model("m"), &call(Operation::Embeddings, body)));
        let moved = Model { name: "m".into(), targets: model("another").targets };
        assert_ne!(plain, of(1, &moved, &chat));
        let in_trial = Call { betas: Some("b".into()), ..chat };
        assert_ne!(plain, of(1, &model("m"), &in_trial));
    }

    #[test]
    fn the_files_of_a_form_are_part_of_the_key_and_of_its_size() {
        let of = |field: &str, bytes: &[u8]| {
            let bytes = bytes::Bytes::copy_from_slice(bytes);
            let file = crate::chat::FormFile { field: field.into(), name: None, content_type: None, bytes };
            let body = bytes::Bytes::from_static(br#"{"model":"m","prompt":"p"}"#);
            let envelope = crate::chat::Envelope::parse_form(Operation::ImageEdits, &body, std::slice::from_ref(&file));
            let call = Call::parse(Operation::ImageGenerations, body, Timestamp::UNIX_EPOCH).expect("a good body");
            let call = Call { envelope: envelope.expect("a good form"), files: vec![file], ..call };
            CacheKey::of(TenantId::from_u128(1), &model("m"), &call)
        };
        assert_eq!(of("image", b"a"), of("image", b"a"));
        assert_ne!(of("image", b"a"), of("image", b"b"));
        assert_ne!(of("image", b"a"), of("mask", b"a"));
        assert_eq!(of("image", &vec![0; REQUEST_BYTES_MAX]), None);
    }

    #[test]
    fn a_body_that_is_too_large_has_no_key() {
        let text = "x".repeat(REQUEST_BYTES_MAX);
        let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{text}"}}]}}"#);
        let call = Call::parse(Operation::ChatCompletions, body.into(), Timestamp::UNIX_EPOCH).expect("a good body");
        assert_eq!(CacheKey::of(TenantId::from_u128(1), &model("m"), &call), None);
    }
}
