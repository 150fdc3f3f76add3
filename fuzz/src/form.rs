//! Forms of clients in the words of every provider: refused, or a form in which the file is what it was, and its name and media
//! type stay inside of their line.

use bytes::Bytes;
use cfr_core::chat::{Call, Envelope, FormFile, Operation};
use jiff::Timestamp;

use crate::calls::order;
use crate::input::Input;
use crate::promises::check_error;
use crate::providers;

/// What clients send as a form, with the least that it says and the field of its file.
pub const FORMS: [(Operation, &str, &str); 3] = [
    (Operation::Transcriptions, r#"{"model":"m"}"#, "file"),
    (Operation::Translations, r#"{"model":"m"}"#, "file"),
    (Operation::ImageEdits, r#"{"model":"m","prompt":"a hat"}"#, "image"),
];

/// Choices: provider, form, bytes of the file's name, bytes of its media type. The body is both and then the file.
///
/// # Panics
/// When the form that is sent has other parts than the fields and the file.
pub fn check(data: &[u8]) {
    let mut input = Input::new(data);
    let at = usize::from(input.byte()) % providers::all().len();
    let (operation, body, field) = input.choose(&FORMS);
    let lengths = [input.byte(), input.byte()].map(usize::from);
    let (name, rest) = text(input.body(), lengths[0]);
    let (content_type, file) = text(rest, lengths[1]);
    let file = FormFile {
        field: field.into(),
        name: Some(name.into()),
        content_type: Some(content_type.into()),
        bytes: Bytes::copy_from_slice(file),
    };
    let Some(call) = read(operation, body, &file) else { return };
    let (_, adapter) = &providers::all()[at];
    if !adapter.capabilities().serves(operation) {
        return;
    }
    match adapter.encode(&order(&call, None)) {
        Err(error) => check_error(&error),
        Ok(request) => {
            let kind = request.headers.get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
            match kind.strip_prefix("multipart/form-data; boundary=") {
                Some(boundary) => check_form(&request.body, boundary, &file.bytes),
                None => crate::promises::check_json(&request.body),
            }
        }
    }
}

fn text(bytes: &[u8], length: usize) -> (String, &[u8]) {
    let (text, rest) = bytes.split_at(length.min(bytes.len()));
    (String::from_utf8_lossy(text).into_owned(), rest)
}

fn read(operation: Operation, body: &'static str, file: &FormFile) -> Option<Call> {
    let (body, files) = (Bytes::from_static(body.as_bytes()), vec![file.clone()]);
    let envelope = Envelope::parse_form(operation, &body, &files).ok()?;
    let any = Bytes::from_static(br#"{"model":"m","input":"x"}"#);
    let call = Call::parse(Operation::Embeddings, any, Timestamp::UNIX_EPOCH).ok()?;
    Some(Call { operation, envelope, body, files, ..call })
}

fn check_form(form: &[u8], boundary: &str, file: &[u8]) {
    let (begin, end) = (format!("--{boundary}\r\n"), format!("--{boundary}--\r\n"));
    let inner = form.strip_prefix(begin.as_bytes()).and_then(|form| form.strip_suffix(end.as_bytes()));
    let mut rest = inner.expect("a form has a beginning and an end");
    let mut files = 0;
    while !rest.is_empty() {
        let head_end = find(rest, b"\r\n\r\n").expect("a part has a head");
        let (head, body) = (&rest[..head_end], &rest[head_end + 4..]);
        let lines: Vec<&[u8]> = head.split(|byte| *byte == b'\n').collect();
        assert!(lines.len() <= 2 && lines.iter().all(|line| line.starts_with(b"Content-")), "a line of somebody's own");
        let next = find(body, format!("\r\n{begin}").as_bytes());
        let value = &body[..next.unwrap_or(body.len() - 2)];
        if lines.len() == 2 {
            assert_eq!(value, file, "the file is another one");
            files += 1;
        }
        rest = next.map_or(&[], |next| &body[next + 2 + begin.len()..]);
    }
    assert_eq!(files, 1, "one file");
}

fn find(text: &[u8], word: &[u8]) -> Option<usize> {
    text.windows(word.len()).position(|window| window == word)
}
