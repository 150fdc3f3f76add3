//! Members of a JSON object, taken out one by one; what is left at the end was not understood.

use cfr_core::upstream::UpstreamError;
use serde_json::{Map, Number, Value};

use super::manners::invalid;

/// An object on its way into a dialog. A member that is `null` counts as absent.
#[derive(Debug)]
pub struct Fields {
    members: Map<String, Value>,
    path: String,
}

impl Fields {
    /// The outermost object of a body.
    ///
    /// # Errors
    /// [`UpstreamError::Rejected`] when it is none.
    pub fn of_body(body: &[u8]) -> Result<Self, UpstreamError> {
        let members = serde_json::from_slice(body).map_err(|cause| invalid(cause.to_string()))?;
        Ok(Self { members, path: String::new() })
    }

    /// The object `value`, which stands at `path`.
    ///
    /// # Errors
    /// When it is none.
    pub fn of(value: Value, path: impl Into<String>) -> Result<Self, UpstreamError> {
        let path = path.into();
        match value {
            Value::Object(members) => Ok(Self { members, path }),
            _ => Err(invalid(format!("{path}: must be an object"))),
        }
    }

    /// Takes a member out.
    pub fn take(&mut self, name: &str) -> Option<Value> {
        self.members.remove(name).filter(|value| !value.is_null())
    }

    /// Takes a text out.
    ///
    /// # Errors
    /// When it is something else.
    pub fn text(&mut self, name: &str) -> Result<Option<String>, UpstreamError> {
        match self.take(name) {
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.wrong(name, "must be a string")),
            None => Ok(None),
        }
    }

    /// Takes a text out that must be there.
    ///
    /// # Errors
    /// When it is not there, or something else.
    pub fn required_text(&mut self, name: &str) -> Result<String, UpstreamError> {
        self.text(name)?.ok_or_else(|| self.wrong(name, "is required"))
    }

    /// Takes a truth value out.
    ///
    /// # Errors
    /// When it is something else.
    pub fn flag(&mut self, name: &str) -> Result<Option<bool>, UpstreamError> {
        match self.take(name) {
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(_) => Err(self.wrong(name, "must be true or false")),
            None => Ok(None),
        }
    }

    /// Takes a number out, as it stands.
    ///
    /// # Errors
    /// When it is something else.
    pub fn number(&mut self, name: &str) -> Result<Option<Number>, UpstreamError> {
        match self.take(name) {
            Some(Value::Number(number)) => Ok(Some(number)),
            Some(_) => Err(self.wrong(name, "must be a number")),
            None => Ok(None),
        }
    }

    /// Takes a whole number out that is not negative.
    ///
    /// # Errors
    /// When it is something else.
    pub fn integer(&mut self, name: &str) -> Result<Option<u64>, UpstreamError> {
        match self.take(name).map(|value| value.as_u64()) {
            Some(Some(number)) => Ok(Some(number)),
            Some(None) => Err(self.wrong(name, "must be a whole number that is not negative")),
            None => Ok(None),
        }
    }

    /// Takes a list out; empty where there is none.
    ///
    /// # Errors
    /// When it is something else.
    pub fn list(&mut self, name: &str) -> Result<Vec<Value>, UpstreamError> {
        match self.take(name) {
            Some(Value::Array(list)) => Ok(list),
            Some(_) => Err(self.wrong(name, "must be a list")),
            None => Ok(Vec::new()),
        }
    }

    /// Takes a list of objects out, each knowing its place.
    ///
    /// # Errors
    /// When it is something else.
    pub fn objects(&mut self, name: &str) -> Result<Vec<Self>, UpstreamError> {
        let path = self.at(name);
        let list = self.list(name)?;
        list.into_iter().enumerate().map(|(index, value)| Self::of(value, format!("{path}[{index}]"))).collect()
    }

    /// Takes an object out.
    ///
    /// # Errors
    /// When it is something else.
    pub fn object(&mut self, name: &str) -> Result<Option<Self>, UpstreamError> {
        let path = self.at(name);
        self.take(name).map(|value| Self::of(value, path)).transpose()
    }

    /// Takes a text, or a list of texts, out.
    ///
    /// # Errors
    /// When it is something else.
    pub fn texts(&mut self, name: &str) -> Result<Vec<String>, UpstreamError> {
        let list = match self.take(name) {
            Some(Value::Array(list)) => list,
            Some(one) => vec![one],
            None => Vec::new(),
        };
        let text = |value| match value {
            Value::String(text) => Ok(text),
            _ => Err(self.wrong(name, "must be a string or a list of strings")),
        };
        list.into_iter().map(text).collect()
    }

    /// Where a member stands.
    #[must_use]
    pub fn at(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// The caller's mistake in a member.
    #[must_use]
    pub fn wrong(&self, name: &str, reason: &str) -> UpstreamError {
        invalid(format!("{}: {reason}", self.at(name)))
    }

    /// The members that were not taken, with their places; `null` ones say nothing.
    #[must_use]
    pub fn left(self) -> Vec<Box<str>> {
        let said = self.members.iter().filter(|(_, value)| !value.is_null());
        said.map(|(name, _)| self.at(name).into()).collect()
    }

    /// The names of the members that were not taken yet; `null` ones say nothing.
    #[must_use]
    pub fn left_names(&self) -> Vec<String> {
        self.members.iter().filter(|(_, value)| !value.is_null()).map(|(name, _)| name.clone()).collect()
    }

    /// The members that were not taken.
    #[must_use]
    pub fn into_members(self) -> Map<String, Value> {
        self.members
    }
}
