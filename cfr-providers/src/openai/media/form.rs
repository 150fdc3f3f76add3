//! `multipart/form-data`, written (RFC 7578).

use bytes::{BufMut, Bytes, BytesMut};
use cfr_core::chat::FormFile;
use cfr_core::id::RequestId;
use cfr_core::upstream::UpstreamError;
use http::HeaderValue;
use serde_json::{Map, Value};

/// What a file is when its sender does not say.
const UNKNOWN_TYPE: &str = "application/octet-stream";
/// Bytes of the lines around one part.
const PART_BYTES: usize = 256;

/// A form of fields and files, and its media type. The line between its parts is the request's id, which nobody knows
/// who could write it into a file.
pub(super) fn write(
    id: RequestId,
    fields: &Map<String, Value>,
    files: &[FormFile],
) -> Result<(Bytes, HeaderValue), UpstreamError> {
    let mut form = Form { boundary: format!("cfr-{id}"), out: BytesMut::with_capacity(size_of(fields, files)) };
    for (name, value) in fields {
        form.field(name, value);
    }
    for file in files {
        form.file(file);
    }
    form.out.put_slice(format!("--{}--\r\n", form.boundary).as_bytes());
    let content_type = HeaderValue::try_from(format!("multipart/form-data; boundary={}", form.boundary));
    let content_type = content_type.map_err(|cause| UpstreamError::Malformed { message: cause.to_string().into() })?;
    Ok((form.out.freeze(), content_type))
}

fn size_of(fields: &Map<String, Value>, files: &[FormFile]) -> usize {
    files.iter().map(|file| file.bytes.len() + PART_BYTES).sum::<usize>() + (fields.len() + 1) * PART_BYTES
}

struct Form {
    boundary: String,
    out: BytesMut,
}

impl Form {
    /// A list is one part for each of its elements, as OpenAI's clients write it.
    fn field(&mut self, name: &str, value: &Value) {
        match value {
            Value::Null => {}
            Value::Array(elements) => {
                let name = format!("{name}[]");
                elements.iter().for_each(|element| self.text(&name, element));
            }
            value => self.text(name, value),
        }
    }

    fn text(&mut self, name: &str, value: &Value) {
        self.part(&format!("name=\"{}\"\r\n", quoted(name)));
        match value {
            Value::String(text) => self.out.put_slice(text.as_bytes()),
            other => self.out.put_slice(other.to_string().as_bytes()),
        }
        self.out.put_slice(b"\r\n");
    }

    /// Without a name for it, a file would be read as a text.
    fn file(&mut self, file: &FormFile) {
        let (field, name) = (quoted(&file.field), quoted(file.name.as_deref().unwrap_or("file")));
        let kind = file.content_type.as_deref().filter(|kind| HeaderValue::from_str(kind).is_ok());
        let kind = kind.unwrap_or(UNKNOWN_TYPE);
        self.part(&format!("name=\"{field}\"; filename=\"{name}\"\r\nContent-Type: {kind}\r\n"));
        self.out.put_slice(&file.bytes);
        self.out.put_slice(b"\r\n");
    }

    fn part(&mut self, disposition: &str) {
        let boundary = &self.boundary;
        let head = format!("--{boundary}\r\nContent-Disposition: form-data; {disposition}\r\n");
        self.out.put_slice(head.as_bytes());
    }
}

/// A name between quotes, as browsers write it.
fn quoted(name: &str) -> String {
    name.replace('"', "%22").replace('\r', "%0D").replace('\n', "%0A")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_lists_and_files_are_parts() {
        let fields = json!({"model": "m", "n": 2, "tags": ["a", "b"], "none": null});
        let file = FormFile {
            field: "file".into(),
            name: Some("a\"b\r\n.wav".into()),
            content_type: Some("audio/wav".into()),
            bytes: Bytes::from_static(b"\x00\r\n--"),
        };
        let (body, content_type) = write(RequestId::from_u128(1), fields.as_object().unwrap(), &[file]).unwrap();
        let boundary = format!("cfr-{}", RequestId::from_u128(1));
        let part = |disposition: &str, body: &str| {
            format!("--{boundary}\r\nContent-Disposition: form-data; {disposition}\r\n\r\n{body}\r\n")
        };
        let expected = [
            part("name=\"model\"", "m"),
            part("name=\"n\"", "2"),
            part("name=\"tags[]\"", "a"),
            part("name=\"tags[]\"", "b"),
            part("name=\"file\"; filename=\"a%22b%0D%0A.wav\"\r\nContent-Type: audio/wav", "\0\r\n--"),
            format!("--{boundary}--\r\n"),
        ];
        assert_eq!(String::from_utf8_lossy(&body), expected.concat());
        assert_eq!(content_type, format!("multipart/form-data; boundary={boundary}"));
    }
}
