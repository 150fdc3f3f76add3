//! Parameters of requests as forms and queries carry them.

use std::collections::HashMap;

/// Bytes of a query or a form.
pub(super) const PARAMS_BYTES_MAX: usize = 16 * 1024;

/// Parameters by name. Those without a value are left out, as RFC 6749 §3.1 wants it.
#[derive(Debug, Clone, Default)]
pub(super) struct Params(HashMap<String, String>);

/// Why parameters cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum ParamsError {
    #[error("a parameter is given more than once")]
    Repeated,
    #[error("more than {PARAMS_BYTES_MAX} bytes of parameters")]
    TooLong,
}

impl Params {
    /// Reads a query or a form.
    pub(super) fn parse(text: &[u8]) -> Result<Self, ParamsError> {
        if text.len() > PARAMS_BYTES_MAX {
            return Err(ParamsError::TooLong);
        }
        let mut params = HashMap::new();
        for (name, value) in form_urlencoded::parse(text) {
            if params.insert(name.into_owned(), value.into_owned()).is_some() {
                return Err(ParamsError::Repeated);
            }
        }
        params.retain(|_, value| !value.is_empty());
        Ok(Self(params))
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The words of a parameter that is a list, divided by spaces.
    pub(super) fn words(&self, name: &str) -> impl Iterator<Item = &str> {
        self.get(name).unwrap_or_default().split(' ').filter(|word| !word.is_empty())
    }

    /// The same request with another value of a parameter, or without it, as a query.
    pub(super) fn query_with(&self, changes: &[(&str, Option<&str>)]) -> String {
        let changed = |name: &str| changes.iter().any(|(changed, _)| *changed == name);
        let mut kept: Vec<(&str, &str)> =
            self.0.iter().filter(|(name, _)| !changed(name)).map(|(name, value)| (&**name, &**value)).collect();
        kept.extend(changes.iter().filter_map(|(name, value)| Some((*name, (*value)?))));
        kept.sort_unstable();
        form_urlencoded::Serializer::new(String::new()).extend_pairs(kept).finish()
    }
}

/// An address with further parameters.
pub(super) fn with_params<'a>(address: &str, pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
    let joint = match address.split_once('?') {
        None => "?",
        Some((_, "")) => "",
        Some(_) => "&",
    };
    if query.is_empty() { address.into() } else { format!("{address}{joint}{query}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_has_one_value_or_none() {
        let params = Params::parse(b"a=1&b=&scope=openid+email%20x").expect("well formed");
        assert_eq!((params.get("a"), params.get("b"), params.get("c")), (Some("1"), None, None));
        assert_eq!(params.words("scope").collect::<Vec<_>>(), ["openid", "email", "x"]);
        assert_eq!(Params::parse(b"a=1&a=1").err(), Some(ParamsError::Repeated));
        assert_eq!(Params::parse(&[b'a'; PARAMS_BYTES_MAX + 1]).err(), Some(ParamsError::TooLong));
    }

    #[test]
    fn an_address_keeps_the_parameters_that_it_has() {
        let pairs = || [("state", "a b"), ("iss", "https://x.example")];
        let added = "state=a+b&iss=https%3A%2F%2Fx.example";
        assert_eq!(with_params("https://a.example/cb", pairs()), format!("https://a.example/cb?{added}"));
        assert_eq!(with_params("https://a.example/cb?x=1", pairs()), format!("https://a.example/cb?x=1&{added}"));
        let params = Params::parse(b"prompt=login&state=1&client_id=x").expect("well formed");
        let again = params.query_with(&[("prompt", None), ("since", Some("7"))]);
        assert_eq!(again, "client_id=x&since=7&state=1");
    }
}
