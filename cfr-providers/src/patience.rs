//! How long a provider asks us to wait, by its headers. No clock is read: a date is compared with the answer's own.

use std::time::Duration;

use http::header::{DATE, RETRY_AFTER};
use http::{HeaderMap, HeaderName};
use jiff::Timestamp;
use jiff::fmt::rfc2822;

const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// Waiting longer than this does not help a caller who waits; the SDKs of the providers draw the same line.
pub const PATIENCE_MAX: Duration = Duration::from_secs(60);

/// How long to wait: `retry-after-ms`, else `retry-after` as seconds or as a date.
#[must_use]
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let millis = text(headers, &RETRY_AFTER_MS).and_then(|text| decimal_millis(text, 0));
    millis.or_else(|| seconds(headers)).filter(|millis| *millis > 0).map(Duration::from_millis)
}

/// How long it is from the answer, by its own date, to a moment.
#[must_use]
pub fn until(headers: &HeaderMap, moment: Timestamp) -> Option<Duration> {
    let now = date(text(headers, &DATE)?)?;
    let millis = u64::try_from(moment.as_millisecond().checked_sub(now.as_millisecond())?).ok()?;
    (millis > 0).then(|| Duration::from_millis(millis))
}

/// Whether a wait is beyond [`PATIENCE_MAX`].
#[must_use]
pub fn is_long(wait: Option<Duration>) -> bool {
    wait.is_some_and(|wait| wait > PATIENCE_MAX)
}

/// What `x-should-retry` says.
#[must_use]
pub fn should_retry(headers: &HeaderMap) -> Option<bool> {
    text(headers, &SHOULD_RETRY)?.parse().ok()
}

/// A wait written as a decimal number of seconds, such as `46.2`.
#[must_use]
pub fn decimal_seconds(text: &str) -> Option<Duration> {
    decimal_millis(text, 3).map(Duration::from_millis)
}

fn seconds(headers: &HeaderMap) -> Option<u64> {
    let value = text(headers, &RETRY_AFTER)?;
    decimal_millis(value, 3).or_else(|| u64::try_from(until(headers, date(value)?)?.as_millis()).ok())
}

/// `6420`, `7` or `1.37` with the decimal point moved to the right; what is beyond a millisecond rounds up.
fn decimal_millis(text: &str, places: usize) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let is_number = !whole.is_empty() && [whole, fraction].iter().all(|part| part.bytes().all(|b| b.is_ascii_digit()));
    let kept = &fraction[..fraction.len().min(places)];
    let rest = fraction[kept.len()..].bytes().any(|digit| digit != b'0');
    let millis: u64 = is_number.then(|| format!("{whole}{kept:0<places$}").parse().ok()).flatten()?;
    millis.checked_add(u64::from(rest))
}

fn date(text: &str) -> Option<Timestamp> {
    rfc2822::parse(text).ok().map(|zoned| zoned.timestamp())
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(headers: &[(&'static str, &'static str)], millis: Option<u64>) {
        let headers =
            headers.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect();
        assert_eq!(retry_after(&headers), millis.map(Duration::from_millis));
    }

    #[test]
    fn milliseconds_are_more_exact_than_seconds() {
        check(&[("retry-after", "7"), ("retry-after-ms", "6420")], Some(6_420));
        check(&[("retry-after", "7"), ("retry-after-ms", "soon")], Some(7_000));
    }

    #[test]
    fn fractions_round_up_to_a_millisecond() {
        check(&[("retry-after", "1.3701")], Some(1_371));
        check(&[("retry-after-ms", "12.5")], Some(13));
    }

    #[test]
    fn a_date_counts_from_the_answers_own_date() {
        let date = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");
        check(&[date, ("retry-after", "Sun, 06 Nov 1994 08:50:07 GMT")], Some(30_000));
        check(&[date, ("retry-after", "Sun, 06 Nov 1994 08:49:07 GMT")], None);
        check(&[("retry-after", "Sun, 06 Nov 1994 08:50:07 GMT")], None);
    }

    #[test]
    fn zero_and_nonsense_say_nothing() {
        for value in ["0", "-1", "soon", "", "1e3", "99999999999999999999"] {
            check(&[("retry-after", value)], None);
        }
    }

    #[test]
    fn a_long_wait_is_known_as_long() {
        assert!(is_long(Some(Duration::from_secs(61))));
        assert!(!is_long(Some(PATIENCE_MAX)));
        assert!(!is_long(None));
    }
}
