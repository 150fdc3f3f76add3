//! Inputs to begin with, made from recorded exchanges.

use std::path::{Path, PathBuf};
use std::{fs, io};

use cfr_core::chat::Operation;
use cfr_providers::registry::Kind;
use cfr_providers::transport::replay::Exchange;
use serde_json::{Value, json};

use crate::answer::STATUSES;
use crate::calls::{self, OPERATIONS};
use crate::framing::FRAMINGS;
use crate::input::choice;
use crate::{litellm, providers};

/// Entries of the bundled table in one seed: as many as a mutation can make something of.
const ENTRIES_PER_SEED: usize = 2;
/// Take one entry of the table in so many.
const ENTRIES_STEP: usize = 40;

/// Writes the seeds of every target into a folder of its name below `folder`.
///
/// # Errors
/// When a file cannot be read or written.
///
/// # Panics
/// When a recording is none.
pub fn write(repository: &Path, folder: &Path) -> io::Result<()> {
    let seeds = Seeds { folder };
    for file in recordings(&repository.join("cfr-providers/tests/fixtures"))? {
        let provider = file.parent().and_then(Path::file_name).and_then(|name| name.to_str()).unwrap_or_default();
        if let (Some(kind), Ok(exchange)) = (kind_of(provider), Exchange::read(&file)) {
            seeds.of_exchange(kind, &exchange, &name_of(&file))?;
        }
    }
    seeds.of_forms()?;
    seeds.of_litellm()?;
    seeds.of_prices(&repository.join("cfr-core/data/prices.json"))
}

struct Seeds<'a> {
    folder: &'a Path,
}

impl Seeds<'_> {
    fn of_exchange(&self, kind: Kind, exchange: &Exchange, name: &str) -> io::Result<()> {
        let provider = choice(providers::all(), |(known, _)| *known == kind);
        self.of_request(provider, exchange, name)?;
        let content_type = exchange.headers.get("content-type").and_then(|value| value.to_str().ok()).unwrap_or("");
        let framing = match content_type {
            text if text.contains("eventstream") => Some("aws event stream"),
            text if text.contains("ndjson") => Some("json lines"),
            text if text.contains("event-stream") => Some("sse"),
            _ => None,
        };
        if let Some(framing) = framing {
            let framing = choice(&FRAMINGS, |known| *known == framing);
            self.put("framing", name, &[framing, 7], &exchange.body)?;
        }
        for (number, call) in (0_u8..).zip(calls::all()) {
            let name = format!("{name}-{number}-{}", call.operation.name());
            if framing.is_some() {
                self.put("stream", &name, &[provider, number, 7], &exchange.body)?;
            } else if let Some(status) = STATUSES.iter().position(|known| *known == exchange.status.as_u16()) {
                let status = u8::try_from(status).expect("a short list");
                self.put("answer", &name, &[provider, number, status], &exchange.body)?;
            }
        }
        Ok(())
    }

    /// What was sent to a provider is what a client of its dialect sends.
    fn of_request(&self, provider: u8, exchange: &Exchange, name: &str) -> io::Result<()> {
        let Some(operation) = operation_of(&exchange.path) else { return Ok(()) };
        let at = choice(&OPERATIONS, |known| *known == operation);
        let body = exchange.request_body.to_string();
        self.put("envelope", name, &[at], body.as_bytes())?;
        self.put("request", name, &[provider, at, 0], body.as_bytes())
    }

    /// A file that begins as recordings and pictures do, with a name and a media type.
    fn of_forms(&self) -> io::Result<()> {
        let files: [(&str, &[u8]); 3] =
            [("a.wav", b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0"), ("a.mp3", b"ID3\x04\0"), ("a.png", b"\x89PNG\r\n\x1a\n")];
        for (at, (name, bytes)) in (0_u8..).zip(files) {
            let length = u8::try_from(name.len()).expect("a short name");
            self.put("form", name, &[0, at, length, 0], &[name.as_bytes(), bytes].concat())?;
        }
        Ok(())
    }

    fn of_litellm(&self) -> io::Result<()> {
        let mut files = litellm::SEEDS.iter().enumerate();
        files.try_for_each(|(number, file)| self.put("litellm", &number.to_string(), &[], file.as_bytes()))
    }

    fn of_prices(&self, file: &Path) -> io::Result<()> {
        let table: Value = serde_json::from_slice(&fs::read(file)?)?;
        let entries = table["entries"].as_array().expect("a price table");
        for (number, few) in entries.chunks(ENTRIES_PER_SEED).step_by(ENTRIES_STEP).enumerate() {
            let small = json!({
                "schema": table["schema"], "as_of": table["as_of"], "currency": table["currency"], "entries": few,
            });
            self.put("prices", &number.to_string(), &[200, 4], small.to_string().as_bytes())?;
        }
        Ok(())
    }

    fn put(&self, target: &str, name: &str, choices: &[u8], body: &[u8]) -> io::Result<()> {
        let folder = self.folder.join(target);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(name), [choices, body].concat())
    }
}

fn recordings(fixtures: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for folder in fs::read_dir(fixtures)?.collect::<Result<Vec<_>, _>>()? {
        for file in fs::read_dir(folder.path())?.collect::<Result<Vec<_>, _>>()? {
            files.extend(Some(file.path()).filter(|path| path.extension().is_some_and(|end| end == "json")));
        }
    }
    files.sort();
    Ok(files)
}

fn name_of(file: &Path) -> String {
    let words = file.iter().rev().take(2).map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>();
    words.join("-")
}

/// Recordings of OpenAI's other dialect have a folder of their own.
fn kind_of(provider: &str) -> Option<Kind> {
    Kind::by_name(if provider == "openai_responses" { "openai" } else { provider })
}

fn operation_of(path: &str) -> Option<Operation> {
    let path = path.split('?').next().unwrap_or(path);
    [
        ("/chat/completions", Operation::ChatCompletions),
        ("/completions", Operation::Completions),
        ("/embeddings", Operation::Embeddings),
        ("/responses", Operation::Responses),
        ("/messages", Operation::Messages),
        ("enerateContent", Operation::GenerateContent),
    ]
    .into_iter()
    .find_map(|(end, operation)| path.ends_with(end).then_some(operation))
}
