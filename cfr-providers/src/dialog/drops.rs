//! What a provider has no words for.

use std::borrow::Cow;

use cfr_core::upstream::UpstreamError;

use super::request::Dialog;

/// Collects what is left out of a request.
#[derive(Debug, Default)]
pub struct Drops {
    allowed: bool,
    names: Vec<Box<str>>,
}

impl Drops {
    /// Nothing is left out yet. `allowed`: the caller would rather lose what an answer depends on than get none.
    #[must_use]
    pub const fn new(allowed: bool) -> Self {
        Self { allowed, names: Vec::new() }
    }

    /// Leaves out what does not change what the answer means.
    pub fn harmless(&mut self, field: impl Into<Cow<'static, str>>) {
        let field = field.into();
        if !self.names.iter().any(|name| **name == *field) {
            self.names.push(field.into());
        }
    }

    /// Leaves out what the answer depends on, if the caller allowed it.
    ///
    /// # Errors
    /// [`UpstreamError::Unsupported`] with the field's name, if not.
    pub fn essential(&mut self, field: impl Into<Cow<'static, str>>) -> Result<(), UpstreamError> {
        if self.allowed {
            self.harmless(field);
            return Ok(());
        }
        Err(UpstreamError::Unsupported { message: field.into().into() })
    }

    /// As [`Drops::harmless`], for each of these fields that the caller used.
    pub fn harmless_said(&mut self, fields: &[(&'static str, bool)]) {
        fields.iter().filter(|(_, said)| *said).for_each(|(field, _)| self.harmless(*field));
    }

    /// As [`Drops::essential`], for each of these fields that the caller used.
    ///
    /// # Errors
    /// As [`Drops::essential`], with the first of them.
    pub fn essential_said(&mut self, fields: &[(&'static str, bool)]) -> Result<(), UpstreamError> {
        fields.iter().filter(|(_, said)| *said).try_for_each(|(field, _)| self.essential(*field))
    }

    /// Leaves out wishes that hardly anybody but OpenAI has words for. A wish not to be stored needs none.
    pub fn wishes_of_openai(&mut self, dialog: &Dialog) {
        self.harmless_said(&[
            ("logit_bias", dialog.sampling.logit_bias.is_some()),
            ("user", dialog.end_user.is_some()),
            ("verbosity", dialog.verbosity.is_some()),
            ("prompt_cache_key", dialog.cache_key.is_some()),
            ("prediction", dialog.prediction.is_some()),
            ("store", dialog.store == Some(true)),
        ]);
    }

    /// What was left out, in the order in which it was met.
    #[must_use]
    pub fn into_names(self) -> Vec<Box<str>> {
        self.names
    }
}
