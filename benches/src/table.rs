//! Figures over several rounds as a Markdown table: the median, and how often it holds the figure of a floor.

use std::fmt::Write as _;

/// The median of the rounds; the lower one of two in the middle. Zero without rounds.
#[must_use]
pub fn median(mut rounds: Vec<u64>) -> u64 {
    rounds.sort_unstable();
    rounds.get(rounds.len().saturating_sub(1) / 2).copied().unwrap_or(0)
}

/// `figure / floor` with two decimals, as in `1.86 ×`; a dash without a floor.
#[must_use]
pub fn ratio(figure: u64, floor: u64) -> String {
    match figure.saturating_mul(100).checked_div(floor) {
        Some(hundredths) => format!("{}.{:02} ×", hundredths / 100, hundredths % 100),
        None => "–".to_owned(),
    }
}

/// Nanoseconds as microseconds with one decimal.
#[must_use]
pub fn micros(nanos: u64) -> String {
    format!("{}.{} µs", nanos / 1_000, nanos % 1_000 / 100)
}

/// KiB as MiB with one decimal.
#[must_use]
pub fn mebibytes(kib: u64) -> String {
    format!("{}.{} MiB", kib / 1_024, kib % 1_024 * 10 / 1_024)
}

/// A number with thin groups of three digits.
#[must_use]
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 2);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// A Markdown table.
#[must_use]
pub fn markdown(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "| {} |", head.join(" | "));
    let _ = writeln!(text, "|{}", "---|".repeat(head.len()));
    for row in rows {
        let _ = writeln!(text, "| {} |", row.join(" | "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_a_measured_value() {
        assert_eq!(median(vec![9, 1, 5]), 5);
        assert_eq!(median(vec![4, 1, 3, 2]), 2);
        assert_eq!(median(Vec::new()), 0);
    }

    #[test]
    fn figures_are_written_for_people() {
        assert_eq!(ratio(186, 100), "1.86 ×");
        assert_eq!(ratio(1, 0), "–");
        assert_eq!(micros(16_050), "16.0 µs");
        assert_eq!(mebibytes(1_536), "1.5 MiB");
        assert_eq!(grouped(1_234_567), "1\u{202f}234\u{202f}567");
    }

    #[test]
    fn a_table_has_a_line_per_row() {
        assert_eq!(markdown(&["a", "b"], &[vec!["1".into(), "2".into()]]), "| a | b |\n|---|---|\n| 1 | 2 |\n");
    }
}
