//! Filters by equality: `(tenant_id='…' && status="active")`.

use serde_json::Value;

/// Conditions in one filter.
const CONDITIONS_MAX: usize = 20;

/// Fields and the values that they must have.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Filter(Vec<(String, String)>);

impl Filter {
    /// Reads a filter; an empty one wants everything.
    ///
    /// # Errors
    /// What is not understood, in words for the caller: a filter that is left out would show too much.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let text = unwrapped(text.trim());
        if text.is_empty() {
            return Ok(Self::default());
        }
        let mut conditions = Vec::new();
        let mut rest = text;
        loop {
            let (condition, after) = condition(rest)?;
            conditions.push(condition);
            if conditions.len() > CONDITIONS_MAX {
                return Err(format!("at most {CONDITIONS_MAX} conditions"));
            }
            let after = after.trim_start();
            if after.is_empty() {
                return Ok(Self(conditions));
            }
            rest = after.strip_prefix("&&").ok_or_else(|| format!("`&&` is expected before `{after}`"))?;
        }
    }

    /// What a field must be, where the filter says.
    pub(super) fn wanted(&self, field: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name == field).map(|(_, value)| &**value)
    }

    /// Whether a record has all the values.
    pub(super) fn wants(&self, record: &Value) -> bool {
        self.0.iter().all(|(field, wanted)| match record.get(field) {
            Some(Value::String(value)) => value == wanted,
            Some(Value::Null) => wanted.is_empty(),
            Some(other) => {
                let text = other.to_string();
                text == *wanted
            }
            None => false,
        })
    }
}

/// The text without the one pair of brackets around all of it.
fn unwrapped(text: &str) -> &str {
    text.strip_prefix('(').and_then(|inner| inner.strip_suffix(')')).map_or(text, str::trim)
}

fn condition(text: &str) -> Result<((String, String), &str), String> {
    let text = text.trim_start();
    let end = text.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_').unwrap_or(text.len());
    let (field, rest) = text.split_at(end);
    let rest = rest.trim_start();
    let after = rest.strip_prefix('=').filter(|_| !field.is_empty());
    let after = after.ok_or_else(|| format!("`field=value` is expected at `{text}`"))?.trim_start();
    let (value, rest) = value(after)?;
    Ok(((field.to_owned(), value), rest))
}

fn value(text: &str) -> Result<(String, &str), String> {
    let Some(quote) = text.chars().next().filter(|first| matches!(first, '\'' | '"')) else {
        let end = text.find(|letter: char| letter.is_whitespace() || letter == '&').unwrap_or(text.len());
        let (bare, rest) = text.split_at(end);
        let plain =
            !bare.is_empty() && bare.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'));
        return if plain { Ok((bare.to_owned(), rest)) } else { Err(format!("a value is expected at `{text}`")) };
    };
    let mut value = String::new();
    let mut letters = text.char_indices().skip(1);
    while let Some((place, letter)) = letters.next() {
        match letter {
            '\\' => value.extend(letters.next().map(|(_, escaped)| escaped)),
            letter if letter == quote => return Ok((value, &text[place + letter.len_utf8()..])),
            letter => value.push(letter),
        }
    }
    Err(format!("a quote is not closed at `{text}`"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn reads(text: &str, expected: &[(&str, &str)]) {
        let expected = expected.iter().map(|(field, value)| ((*field).to_owned(), (*value).to_owned())).collect();
        assert_eq!(Filter::parse(text), Ok(Filter(expected)), "{text}");
    }

    #[test]
    fn equalities_that_are_joined_are_read() {
        reads("", &[]);
        reads("(status='active')", &[("status", "active")]);
        reads("status = \"a\\\"b\" && max_users=5", &[("status", "a\"b"), ("max_users", "5")]);
        reads("(name='x && y')", &[("name", "x && y")]);
    }

    #[test]
    fn what_is_not_an_equality_is_refused() {
        for text in ["status~'a'", "a='1' || b='2'", "a='1", "a!='1'", "created>='2025'", "='1'", "a="] {
            assert!(Filter::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_record_is_wanted_when_every_field_is_as_it_says() {
        let record = json!({"status": "active", "active": true, "max_users": 5, "domain": null});
        let wants = |text: &str| Filter::parse(text).expect("a filter").wants(&record);
        assert!(wants("(status='active' && active=true && max_users=5 && domain='')"));
        assert!(!wants("status='pending'") && !wants("unknown='x'"));
    }
}
