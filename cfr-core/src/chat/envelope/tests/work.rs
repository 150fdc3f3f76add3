//! Images, speech and recordings.

use bytes::Bytes;

use super::*;
use crate::chat::FormFile;

fn file(field: &str, bytes: &[u8]) -> FormFile {
    FormFile { field: field.into(), name: None, content_type: None, bytes: Bytes::copy_from_slice(bytes) }
}

fn read(operation: Operation, body: &str, files: &[FormFile]) -> Result<Envelope, EnvelopeError> {
    Envelope::parse_form(operation, &Bytes::copy_from_slice(body.as_bytes()), files)
}

#[track_caller]
fn refused(operation: Operation, body: &str, files: &[FormFile], param: &str) {
    let error = read(operation, body, files).unwrap_err();
    assert!(matches!(&error, EnvelopeError::Field { param: field, .. } if *field == param), "{error}");
}

#[test]
fn an_image_is_as_dear_as_its_size_care_and_number() {
    let body =
        r#"{"model":"m","prompt":"a dot","n":3,"size":"1024x1536","quality":"high","partial_images":2,"stream":true}"#;
    let envelope = read(Operation::ImageGenerations, body, &[]).unwrap();
    let order = ImageOrder { size: Some((1_024, 1_536)), quality: ImageQuality::High, partial_images: 2 };
    assert_eq!((envelope.input.work, envelope.choices, envelope.stream), (Work::Images(order), 3, true));
    assert_eq!(envelope.input.text_tokens, body.len() as u64 + 256);
}

#[test]
fn what_an_image_leaves_open_is_for_the_provider_to_choose() {
    let body = r#"{"model":"m","prompt":"p","size":"auto","quality":"splendid","n":null}"#;
    let envelope = read(Operation::ImageGenerations, body, &[]).unwrap();
    assert_eq!((envelope.input.work, envelope.choices), (Work::Images(ImageOrder::default()), 1));
}

#[test]
fn an_image_that_cannot_be_priced_is_refused() {
    for (body, param) in [
        (r#"{"model":"m"}"#, "prompt"),
        (r#"{"prompt":"p"}"#, "model"),
        (r#"{"model":"m","prompt":"p","n":11}"#, "n"),
        (r#"{"model":"m","prompt":"p","n":"2"}"#, "n"),
        (r#"{"model":"m","prompt":"p","partial_images":4}"#, "partial_images"),
        (r#"{"model":"m","prompt":"p","size":7}"#, "size"),
        (r#"{"model":"m","prompt":"p","output_format":"svg"}"#, "output_format"),
        (r#"{"model":"m","prompt":"p","size":"auto","Size":"3840x2160"}"#, "size"),
    ] {
        refused(Operation::ImageGenerations, body, &[], param);
    }
}

#[test]
fn images_count_as_files_and_as_values_and_are_no_text() {
    let plain = r#"{"model":"m","prompt":"p"}"#;
    let files = [file("image[]", b"1"), file("image[]", b"2"), file("mask", b"3")];
    assert_eq!(read(Operation::ImageEdits, plain, &files).unwrap().input.images, 3);
    let url = format!("data:image/png;base64,{}", "A".repeat(10_000));
    let body =
        format!(r#"{{"model":"m","prompt":"p","images":[{{"image_url":"{url}"}},{{"file_id":"f"}}],"mask":{{}}}}"#);
    let input = read(Operation::ImageEdits, &body, &[]).unwrap().input;
    assert_eq!(input.images, 3);
    assert!(input.text_tokens < 1_200, "{input:?}");
    refused(Operation::ImageEdits, plain, &[], "image");
    refused(Operation::ImageEdits, plain, &vec![file("image[]", b"x"); IMAGES_GIVEN_MAX + 1], "image");
}

#[test]
fn speech_counts_the_characters_of_the_text_and_not_its_escapes() {
    let body = r#"{"model":"m","input":"\u00fc\ud83d\ude00 a","voice":"alloy"}"#;
    let envelope = read(Operation::Speech, body, &[]).unwrap();
    assert_eq!((envelope.input.work, envelope.stream), (Work::Speech(Script { characters: 4 }), false));
    let events = r#"{"model":"m","input":"a","stream_format":"sse"}"#;
    assert!(read(Operation::Speech, events, &[]).unwrap().stream);
    refused(Operation::Speech, r#"{"model":"m"}"#, &[], "input");
    refused(Operation::Speech, r#"{"model":"m","input":["a"]}"#, &[], "input");
}

#[test]
fn a_transcript_needs_one_recording_and_none_that_somebody_else_has() {
    let body = r#"{"model":"m","stream":true}"#;
    let envelope = read(Operation::Transcriptions, body, &[file("file", &[0; 7_500])]).unwrap();
    let recording = Recording { seconds: 11, counted: false, in_pieces: false };
    assert_eq!((envelope.input.work, envelope.stream), (Work::Transcript(recording), true));
    assert!(!read(Operation::Translations, body, &[file("file", b"x")]).unwrap().stream);
    let in_pieces = r#"{"model":"m","chunking_strategy":"auto"}"#;
    let work = read(Operation::Transcriptions, in_pieces, &[file("file", b"x")]).unwrap().input.work;
    assert!(matches!(work, Work::Transcript(Recording { in_pieces: true, .. })));
    for files in [&[][..], &[file("file", b"")], &[file("audio", b"x")], &[file("file", b"x"), file("file", b"y")]] {
        refused(Operation::Transcriptions, body, files, "file");
    }
    for field in ["url", "file_url", "file_id"] {
        let body = format!(r#"{{"model":"m","{field}":"x"}}"#);
        refused(Operation::Transcriptions, &body, &[file("file", b"x")], field);
    }
}
