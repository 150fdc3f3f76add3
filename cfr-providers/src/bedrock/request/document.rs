//! Formats and names of documents (providers.md §8.2, §13.3).

use std::collections::HashSet;

use crate::dialog::{File, Source};

/// Formats with the media types that have another name.
const FORMATS: [(&str, &str); 9] = [
    ("pdf", "application/pdf"),
    ("csv", "text/csv"),
    ("doc", "application/msword"),
    ("docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
    ("xls", "application/vnd.ms-excel"),
    ("xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
    ("html", "text/html"),
    ("txt", "text/plain"),
    ("md", "text/markdown"),
];
/// The longest name, in letters.
const NAME_LETTERS_MAX: usize = 200;
/// Letters that are left free in a name for a number behind it.
const NUMBER_LETTERS: usize = 12;
/// The name of a document that has none.
const UNNAMED: &str = "document";

/// The format of a document by its media type, or by the end of its name.
pub(super) fn format(file: &File) -> Option<&'static str> {
    let (media_type, address) = match &file.source {
        Source::Inline { media_type, .. } => (media_type.as_str(), None),
        Source::Url(address) => ("", Some(address.as_str())),
        Source::Uploaded(_) => ("", None),
    };
    let media_type = media_type.split(';').next().unwrap_or_default();
    let by_type = FORMATS.iter().find(|(_, known)| *known == media_type);
    let by_name = || {
        let end = file.name.as_deref().or(address)?.rsplit_once('.')?.1.to_ascii_lowercase();
        FORMATS.iter().find(|(format, _)| *format == end)
    };
    by_type.or_else(by_name).map(|(format, _)| *format)
}

/// Names that a request has already: no two documents may have the same.
#[derive(Debug, Default)]
pub(super) struct Names(HashSet<String>);

impl Names {
    /// A name that Bedrock takes, as near to the caller's as can be: without extension, of letters, digits, single blanks
    /// and `-()[]`.
    pub(super) fn name(&mut self, wished: Option<&str>) -> String {
        let name = cleaned(wished.unwrap_or_default());
        let name = if name.is_empty() { UNNAMED.to_owned() } else { name };
        let numbered = (2_usize..).map(|number| format!("{name} {number}"));
        let mut free = std::iter::once(name.clone()).chain(numbered).filter(|name| !self.0.contains(name));
        let name = free.next().unwrap_or_default();
        self.0.insert(name.clone());
        name
    }
}

fn cleaned(name: &str) -> String {
    let file = name.rsplit(['/', '\\']).next().unwrap_or(name);
    let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
    let known = |letter: char| letter.is_ascii_alphanumeric() || "-()[]".contains(letter);
    let spaced: String = stem.chars().map(|letter| if known(letter) { letter } else { ' ' }).collect();
    let name = spaced.split_whitespace().collect::<Vec<_>>().join(" ");
    name.chars().take(NAME_LETTERS_MAX - NUMBER_LETTERS).collect::<String>().trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(wished: &str, expected: &str) {
        assert_eq!(Names::default().name(Some(wished)), expected);
    }

    #[test]
    fn names_lose_what_is_not_allowed_in_them() {
        check("a b.pdf", "a b");
        check("Q3_report (final) [v2].tar.gz", "Q3 report (final) [v2] tar");
        check("../../etc/passwd.txt", "passwd");
        check("\u{dc}bersicht\u{a0}2026.docx", "bersicht 2026");
        check(".pdf", "document");
        check("", "document");
        assert_eq!(cleaned(&"x".repeat(300)).len(), NAME_LETTERS_MAX - NUMBER_LETTERS);
    }

    #[test]
    fn no_two_documents_have_the_same_name() {
        let mut names = Names::default();
        let all: Vec<String> = ["a.pdf", "a.txt", "a 2.pdf", "a"].iter().map(|name| names.name(Some(name))).collect();
        assert_eq!(all, ["a", "a 2", "a 2 2", "a 3"]);
    }

    #[test]
    fn the_format_is_told_by_the_type_or_by_the_name() {
        let file = |media_type: &str, name: Option<&str>| {
            let source = Source::Inline { media_type: media_type.into(), data: String::new() };
            format(&File { source, name: name.map(str::to_owned), cache: None })
        };
        assert_eq!(file("application/pdf", None), Some("pdf"));
        assert_eq!(file("text/plain; charset=utf-8", None), Some("txt"));
        assert_eq!(file("application/octet-stream", Some("Notes.MD")), Some("md"));
        assert_eq!(file("application/zip", Some("x.zip")), None);
    }
}
