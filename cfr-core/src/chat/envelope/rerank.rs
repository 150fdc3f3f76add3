//! Rerank, as Cohere and Jina have it: a query, and the documents to put in order by it.

use bytes::Bytes;

use super::fields::{FieldsOf, Known as _, fields};
use super::json::{Flaw, Json};
use super::record::{Record, Wrong};
use super::text::as_u64;
use super::{Envelope, EnvelopeError, InputBound, SearchUnits, Searches};
use crate::chat::usage::tokens_estimated;

/// Documents in one call: what Cohere takes at the most.
pub(super) const DOCUMENTS_MAX: usize = 10_000;
/// What a server puts around a query and a document before a model reads the two: special tokens, or the instruction of
/// a model that judges in words, as Qwen's do with some sixty tokens.
const PAIR_TOKENS: u64 = 128;
/// Tokens of a query together with a document above which the document counts as several (providers.md §11). Cohere
/// says 500 and 510, Amazon 512.
const PIECE_TOKENS: u64 = 500;
/// Documents, or pieces of them, that one search unit pays for.
const UNIT_PIECES: u64 = 100;
/// Where Cohere cuts a document when the caller does not say.
pub const DOCUMENT_TOKENS_DEFAULT: u64 = 4_096;

const NOT_DOCUMENTS: &str = "must be an array of strings, or of objects with a `text` and nothing else";

fields! { "":
    Model => "model",
    Query => "query",
    Documents => "documents",
    TopN => "top_n",
    DocumentTokensMax => "max_tokens_per_doc",
    User => "user",
    Metadata => "metadata",
}

pub(super) fn read(body: &Bytes) -> Result<Envelope, EnvelopeError> {
    let mut documents = Documents::default();
    let fields = FieldsOf::document(body, |json, field| match field {
        Field::Documents => documents.walk(json),
        _ => json.skip(),
    })?;
    fields.count(Field::TopN, u32::MAX)?;
    check_query(&fields)?;
    let count = documents.count(&fields)?;
    let cut_at = fields.integer(Field::DocumentTokensMax, 1, u64::MAX)?.unwrap_or(DOCUMENT_TOKENS_DEFAULT);
    let query_tokens = fields.tokens_max_of(Field::Query);
    let input = InputBound {
        text_tokens: fields.tokens_max + as_u64(documents.0.len()) * (query_tokens + PAIR_TOKENS),
        search_units: documents.search_units(query_tokens, cut_at),
        ..InputBound::default()
    };
    let (model, span) = (fields.model(Field::Model)?, fields.span(Field::Model));
    let envelope = Envelope::of_input(model, span, input);
    Ok(Envelope {
        choices: count, // each document is read by itself
        user: fields.tag(Field::User)?,
        metadata: fields.metadata(Field::Metadata)?,
        ..envelope
    })
}

fn check_query(fields: &Fields<'_>) -> Result<(), EnvelopeError> {
    let reason = match fields.get(Field::Query).map(|query| query.json.first()) {
        Some(Some(b'"')) => return Ok(()),
        Some(_) => "must be a string",
        None => "is missing",
    };
    Err(EnvelopeError::field(Field::Query.name(), reason))
}

/// The most tokens of each document; no more of them are kept than a call may have.
#[derive(Debug, Default)]
struct Documents(Vec<u64>, Option<Wrong>);

impl Documents {
    fn walk(&mut self, json: &mut Json<'_>) -> Result<(), Flaw> {
        match json.next_byte() {
            Some(b'[') => json.array(|json| self.add(json)),
            _ => self.refuse(json),
        }
    }

    fn add(&mut self, json: &mut Json<'_>) -> Result<(), Flaw> {
        let document = json.measured(|json| match json.next_byte() {
            Some(b'"') => json.skip(),
            Some(b'{') => self.add_object(json),
            _ => self.refuse(json),
        })?;
        if self.0.len() <= DOCUMENTS_MAX {
            self.0.push(document.tokens_max());
        }
        Ok(())
    }

    /// An image or a document behind an address would cost what nothing here bounds.
    fn add_object(&mut self, json: &mut Json<'_>) -> Result<(), Flaw> {
        let at = json.at();
        let object = Record::walk(json, ["text"], |json, _| json.skip())?;
        let is_text = object.values[0].is_some_and(|text| text.json.starts_with(b"\""));
        if object.more || !is_text {
            self.1 = Some(Wrong::because(NOT_DOCUMENTS, at));
        }
        self.1 = self.1.or(object.wrong);
        Ok(())
    }

    fn refuse(&mut self, json: &mut Json<'_>) -> Result<(), Flaw> {
        self.1 = Some(Wrong::because(NOT_DOCUMENTS, json.at()));
        json.skip()
    }

    fn count(&self, fields: &Fields<'_>) -> Result<u32, EnvelopeError> {
        let field = Field::Documents.name();
        if !fields.has(Field::Documents) {
            return Err(EnvelopeError::field(field, "is missing"));
        }
        if let Some(wrong) = self.1 {
            return Err(wrong.of(field));
        }
        match u32::try_from(self.0.len()) {
            Ok(0) => Err(EnvelopeError::field(field, "is empty")),
            Ok(count) if self.0.len() <= DOCUMENTS_MAX => Ok(count),
            _ => Err(EnvelopeError::field(field, format!("has more than {DOCUMENTS_MAX} documents"))),
        }
    }

    fn search_units(&self, query_tokens: u64, cut_at: u64) -> SearchUnits {
        let units = |counted: fn(u64) -> u64, cut_at: u64| {
            let room = PIECE_TOKENS.saturating_sub(counted(query_tokens)).max(1);
            let pieces = self.0.iter().map(|tokens| counted(*tokens).min(cut_at).div_ceil(room).max(1));
            pieces.fold(0, u64::saturating_add).div_ceil(UNIT_PIECES)
        };
        let searches =
            |cut_at| Searches { max: units(|tokens| tokens, cut_at), estimated: units(tokens_estimated, cut_at) };
        SearchUnits { whole: searches(u64::MAX), cut: searches(cut_at) }
    }
}
