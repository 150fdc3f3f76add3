//! Forms with files: read into fields, which become an object as if they had come in JSON, and files.

use bytes::Bytes;
use cfr_core::chat::FormFile;
use http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyDataStream, Full};
use multer::{Field, Multipart};
use serde_json::{Map, Value};

use crate::error::ApiError;

/// Fields and files of one form.
const PARTS_MAX: usize = 256;
/// Bytes of a field's name, and of a file's.
const NAME_BYTES_MAX: usize = 256;
/// Bytes of a field that is no file: voices of speakers come as texts.
const FIELD_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Fields that are numbers or yes and no where they come in JSON.
const LITERALS: [&str; 4] = ["n", "partial_images", "output_compression", "stream"];

/// A form, read.
#[derive(Debug)]
pub(super) struct Form {
    /// The fields as a JSON object: `name[]` is a list, `name[member]` an object.
    pub(super) body: Bytes,
    /// The files, in their order.
    pub(super) files: Vec<FormFile>,
}

/// Whether the headers say that the body is a form.
pub(super) fn is_form(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    kind.trim_start().to_ascii_lowercase().starts_with("multipart/form-data")
}

/// Reads a form. A name that comes twice is refused, for servers differ in which of the two they take.
pub(super) async fn read(headers: &HeaderMap, body: Bytes) -> Result<Form, ApiError> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let boundary = multer::parse_boundary(kind).map_err(|error| malformed(&error))?;
    let mut parts = Multipart::new(BodyDataStream::new(Full::new(body)), boundary);
    let (mut fields, mut files) = (Map::new(), Vec::new());
    for count in 0.. {
        let Some(part) = parts.next_field().await.map_err(|error| malformed(&error))? else { break };
        if count == PARTS_MAX {
            return Err(too_large(format!("the form has more than {PARTS_MAX} parts")));
        }
        let name = name_of(&part)?;
        if part.file_name().is_some() {
            files.push(file(&name, part).await?);
        } else {
            add(&mut fields, &name, text(&name, part).await?)?;
        }
    }
    Ok(Form { body: Value::Object(fields).to_string().into(), files })
}

fn name_of(part: &Field<'_>) -> Result<String, ApiError> {
    let name = part.name().unwrap_or_default();
    let names = [name, part.file_name().unwrap_or_default()];
    if names.iter().any(|name| name.len() > NAME_BYTES_MAX) {
        return Err(too_large(format!("a name in the form has more than {NAME_BYTES_MAX} bytes")));
    }
    if name.is_empty() { Err(invalid("a part of the form has no name")) } else { Ok(name.to_owned()) }
}

async fn file(field: &str, part: Field<'_>) -> Result<FormFile, ApiError> {
    let (name, content_type) = (part.file_name().map(Box::from), part.content_type().map(|kind| kind.as_ref().into()));
    let bytes = part.bytes().await.map_err(|error| malformed(&error))?;
    Ok(FormFile { field: field.into(), name, content_type, bytes })
}

async fn text(name: &str, mut part: Field<'_>) -> Result<String, ApiError> {
    let mut text = Vec::new();
    while let Some(piece) = part.chunk().await.map_err(|error| malformed(&error))? {
        text.extend_from_slice(&piece);
        if text.len() as u64 > FIELD_BYTES_MAX {
            return Err(too_large(format!("it has more than {FIELD_BYTES_MAX} bytes")).param(name.to_owned()));
        }
    }
    String::from_utf8(text).map_err(|_| invalid("it is not UTF-8").param(name.to_owned()))
}

/// Puts a field where it would stand in JSON.
fn add(fields: &mut Map<String, Value>, name: &str, text: String) -> Result<(), ApiError> {
    let twice = || invalid(format!("`{name}` is given twice")).param(name.to_owned());
    let Some((outer, inner)) = name.strip_suffix(']').and_then(|name| name.split_once('[')) else {
        return match fields.insert(name.to_owned(), literal(name, text)) {
            None => Ok(()),
            Some(_) => Err(twice()),
        };
    };
    let place = fields.entry(outer).or_insert_with(|| match inner {
        "" => Value::Array(Vec::new()),
        _ => Value::Object(Map::new()),
    });
    match place {
        Value::Array(list) if inner.is_empty() => list.push(text.into()),
        Value::Object(members) if !inner.is_empty() && !members.contains_key(inner) => {
            members.insert(inner.to_owned(), text.into());
        }
        _ => return Err(twice()),
    }
    Ok(())
}

/// A number, `true` or `false` where the field is one; whoever reads it refuses anything else.
fn literal(name: &str, text: String) -> Value {
    let parsed = || serde_json::from_str::<Value>(&text).ok().filter(|value| value.is_number() || value.is_boolean());
    if LITERALS.contains(&name) { parsed().unwrap_or_else(|| text.clone().into()) } else { text.into() }
}

fn malformed(error: &multer::Error) -> ApiError {
    invalid(format!("the form cannot be read: {error}"))
}

fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::bad_request("invalid_form", message.into())
}

fn too_large(message: String) -> ApiError {
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "invalid_request_error", "request_too_large", message)
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse;
    use http::HeaderValue;

    use super::*;

    fn part(disposition: &str, body: &str) -> String {
        format!("--x\r\nContent-Disposition: form-data; {disposition}\r\n\r\n{body}\r\n")
    }

    async fn form(parts: &[String]) -> Result<Form, ApiError> {
        let kind = HeaderValue::from_static("multipart/form-data; boundary=x");
        let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, kind)]);
        assert!(is_form(&headers));
        read(&headers, format!("{}--x--\r\n", parts.concat()).into()).await
    }

    async fn refused(parts: &[String]) -> StatusCode {
        form(parts).await.expect_err("a bad form").into_response().status()
    }

    #[tokio::test]
    async fn fields_become_an_object_and_files_stay_bytes() {
        let parts = [
            part("name=\"model\"", "m \"1\""),
            part("name=\"n\"", "2"),
            part("name=\"stream\"", "true"),
            part("name=\"prompt\"", "2"),
            part("name=\"include[]\"", "a"),
            part("name=\"include[]\"", "b"),
            part("name=\"chunking_strategy[type]\"", "server_vad"),
            part("name=\"image[]\"; filename=\"a.png\"\r\nContent-Type: image/png", "\0--"),
        ];
        let Form { body, files } = form(&parts).await.expect("a form");
        let expected = r#"{"model":"m \"1\"","n":2,"stream":true,"prompt":"2","include":["a","b"],"chunking_strategy":{"type":"server_vad"}}"#;
        assert_eq!(body, expected);
        let file = FormFile {
            field: "image[]".into(),
            name: Some("a.png".into()),
            content_type: Some("image/png".into()),
            bytes: Bytes::from_static(b"\0--"),
        };
        assert_eq!(files, [file]);
    }

    #[tokio::test]
    async fn a_name_that_comes_twice_is_refused() {
        for (one, other) in [("a", "a"), ("a", "a[]"), ("a[]", "a"), ("a[b]", "a[b]"), ("a[]", "a[b]")] {
            let parts = [one, other].map(|name| part(&format!("name=\"{name}\""), "x"));
            assert_eq!(refused(&parts).await, StatusCode::BAD_REQUEST, "{one} {other}");
        }
    }

    #[tokio::test]
    async fn what_is_no_form_or_beyond_a_limit_is_refused() {
        assert_eq!(refused(&[part("filename=\"a\"", "x")]).await, StatusCode::BAD_REQUEST);
        assert_eq!(refused(&["--x\r\nbroken".to_owned()]).await, StatusCode::BAD_REQUEST);
        let long = part(&format!("name=\"{}\"", "n".repeat(NAME_BYTES_MAX + 1)), "x");
        assert_eq!(refused(&[long]).await, StatusCode::PAYLOAD_TOO_LARGE);
        let large = "x".repeat(usize::try_from(FIELD_BYTES_MAX).expect("small") + 1);
        assert_eq!(refused(&[part("name=\"a\"", &large)]).await, StatusCode::PAYLOAD_TOO_LARGE);
        let many: Vec<_> = (0..=PARTS_MAX).map(|number| part(&format!("name=\"f{number}\""), "x")).collect();
        assert_eq!(refused(&many).await, StatusCode::PAYLOAD_TOO_LARGE);
    }
}
