//! What a provider has no words for.

use std::borrow::Cow;

use cfr_core::upstream::UpstreamError;

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

    /// What was left out, in the order in which it was met.
    #[must_use]
    pub fn into_names(self) -> Vec<Box<str>> {
        self.names
    }
}
