//! The fields of one request, taken out one by one: what is left at the end only notes something.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::extract::{FromRequest, Request};
use cfr_core::time::{Period, Timestamp};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::super::body::Body;
use crate::error::ApiError;

/// Bytes of what is noted with a thing.
const NOTES_BYTES_MAX: usize = 16 * 1024;
/// What a duration may last, in days.
const DAYS_MAX: u16 = 3_660;
const DAY_SECONDS: u64 = 24 * 3_600;

/// The fields of a JSON object.
#[derive(Debug)]
pub(super) struct Fields(BTreeMap<String, Box<RawValue>>);

impl<S: Send + Sync> FromRequest<S> for Fields {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        Body::from_request(request, state).await.map(|Body(fields)| Self(fields))
    }
}

impl Fields {
    /// A field; absent and `null` are none.
    ///
    /// # Errors
    /// 400 when it has another type.
    pub(super) fn take<T: DeserializeOwned>(&mut self, name: &'static str) -> Result<Option<T>, ApiError> {
        Ok(self.take_nullable(name)?.flatten())
    }

    /// A field that tells `null` from absent: absent is `None`.
    ///
    /// # Errors
    /// 400 when it has another type.
    pub(super) fn take_nullable<T: DeserializeOwned>(
        &mut self,
        name: &'static str,
    ) -> Result<Option<Option<T>>, ApiError> {
        let Some(raw) = self.0.remove(name) else { return Ok(None) };
        serde_json::from_str(raw.get()).map(Some).map_err(|error| wrong(name, &error.to_string()))
    }

    /// A field that must be there.
    ///
    /// # Errors
    /// 400 when it is not.
    pub(super) fn need<T: DeserializeOwned>(&mut self, name: &'static str) -> Result<T, ApiError> {
        self.take(name)?.ok_or_else(|| wrong(name, "is missing"))
    }

    /// A name on one line.
    ///
    /// # Errors
    /// 400 when it is too long, or none.
    pub(super) fn name(&mut self, name: &'static str) -> Result<Option<String>, ApiError> {
        let text: Option<String> = self.take(name)?;
        match text {
            Some(text) if text.trim().is_empty() || text.len() > 200 || text.chars().any(char::is_control) => {
                Err(wrong(name, "1 to 200 characters on one line are expected"))
            }
            text => Ok(text),
        }
    }

    /// When a budget begins anew, by a duration in LiteLLM's words.
    ///
    /// # Errors
    /// 400 for what is shorter than a day: nothing here begins anew so often.
    pub(super) fn period(&mut self, name: &'static str, now: Timestamp) -> Result<Option<Period>, ApiError> {
        let Some(text) = self.take::<String>(name)? else { return Ok(None) };
        period(&text, now).map(Some).ok_or_else(|| wrong(name, "whole days are expected, as in `30d`, or `1mo`"))
    }

    /// When something ends, by how long it lasts.
    ///
    /// # Errors
    /// 400 for what is no duration.
    pub(super) fn end(&mut self, name: &'static str, now: Timestamp) -> Result<Option<Option<Timestamp>>, ApiError> {
        let Some(text) = self.take_nullable::<String>(name)? else { return Ok(None) };
        let Some(text) = text.filter(|text| text != "-1") else { return Ok(Some(None)) };
        let end = seconds(&text).and_then(|seconds| now.checked_add(Duration::from_secs(seconds)).ok());
        end.map(|end| Some(Some(end))).ok_or_else(|| wrong(name, "a duration is expected, as in `30d`, `12h` or `60s`"))
    }

    /// Refuses fields that limit money or access and that nothing here enforces, by name. `null`, empty ones and `false` limit
    /// nothing.
    ///
    /// # Errors
    /// 400 that names the first.
    pub(super) fn refuse(&mut self, names: &[&'static str]) -> Result<(), ApiError> {
        for &name in names {
            let Some(raw) = self.0.remove(name) else { continue };
            if !matches!(raw.get().trim(), "null" | "[]" | "{}" | "\"\"" | "false") {
                let message =
                    format!("`{name}` is not enforced here, and what limits something is not ignored: leave it out");
                return Err(ApiError::bad_request("unsupported_limit", message).param(name));
            }
        }
        Ok(())
    }

    /// What is left, to be shown again.
    ///
    /// # Errors
    /// 400 when it is too much.
    pub(super) fn notes(self) -> Result<Map<String, Value>, ApiError> {
        let bytes: usize = self.0.iter().map(|(name, raw)| name.len() + raw.get().len()).sum();
        if bytes > NOTES_BYTES_MAX {
            return Err(wrong("metadata", &format!("at most {NOTES_BYTES_MAX} bytes are kept")));
        }
        let read = self.0.into_iter().map(|(name, raw)| Ok((name, serde_json::from_str(raw.get())?)));
        read.collect::<Result<_, serde_json::Error>>().map_err(|error| wrong("metadata", &error.to_string()))
    }
}

fn wrong(name: &'static str, message: &str) -> ApiError {
    ApiError::bad_request("invalid_field", format!("`{name}`: {message}")).param(name)
}

fn period(text: &str, now: Timestamp) -> Option<Period> {
    if let Some(months) = text.strip_suffix("mo") {
        return (months == "1").then_some(Period::AnniversaryMonth { anchor: now });
    }
    let seconds = seconds(text)?;
    let days = u16::try_from(seconds / DAY_SECONDS).ok().filter(|days| seconds % DAY_SECONDS == 0 && *days > 0)?;
    match days {
        1 => Some(Period::Day),
        7 => Some(Period::EveryNDays { days, anchor: now }),
        days if days <= DAYS_MAX => Some(Period::EveryNDays { days, anchor: now }),
        _ => None,
    }
}

fn seconds(text: &str) -> Option<u64> {
    let digits = text.find(|letter: char| !letter.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => DAY_SECONDS,
        "w" => 7 * DAY_SECONDS,
        "mo" => 30 * DAY_SECONDS,
        _ => return None,
    };
    let seconds = number.parse::<u64>().ok()?.checked_mul(unit)?;
    (seconds > 0 && seconds <= u64::from(DAYS_MAX) * DAY_SECONDS).then_some(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(json: &str) -> Fields {
        Fields(serde_json::from_str(json).expect("an object"))
    }

    #[test]
    fn what_limits_and_is_not_enforced_is_refused_by_name() {
        let mut asked = fields(r#"{"tpm_limit": 5, "guardrails": []}"#);
        asked.refuse(&["guardrails"]).expect("an empty list limits nothing");
        let refused = asked.refuse(&["soft", "tpm_limit"]).expect_err("nobody counts tokens per minute");
        assert!(String::from_utf8_lossy(&refused.body()).contains("tpm_limit"));
    }

    #[test]
    fn durations_are_read_and_short_periods_are_not() {
        let now = Timestamp::UNIX_EPOCH;
        assert_eq!(period("30d", now), Some(Period::EveryNDays { days: 30, anchor: now }));
        assert_eq!(period("24h", now), Some(Period::Day));
        assert_eq!(period("1mo", now), Some(Period::AnniversaryMonth { anchor: now }));
        assert_eq!((period("1h", now), period("", now), period("0d", now)), (None, None, None));
        assert_eq!(seconds("90s"), Some(90));
    }

    #[test]
    fn null_and_absent_are_told_apart() {
        let mut asked = fields(r#"{"duration": null}"#);
        assert_eq!(asked.end("duration", Timestamp::UNIX_EPOCH).expect("null"), Some(None));
        assert_eq!(asked.end("duration", Timestamp::UNIX_EPOCH).expect("absent"), None);
    }

    #[test]
    fn what_is_left_is_noted() {
        let mut asked = fields(r#"{"metadata": {"a": 1}, "user_id": "u"}"#);
        assert_eq!(asked.take::<String>("user_id").expect("text").as_deref(), Some("u"));
        assert_eq!(Value::Object(asked.notes().expect("little")), serde_json::json!({"metadata": {"a": 1}}));
    }
}
