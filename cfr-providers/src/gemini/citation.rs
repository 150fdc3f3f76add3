//! Where words of an answer come from: searches and repeated texts (providers.md §7.3).

use super::wire::{Candidate, Chunk, Cited, Grounding, Segment, str_of};
use crate::dialog::{Citation, Part};

/// Adds what the answer rests on to its last words.
pub(super) fn add(parts: &mut [Part], candidate: &Candidate<'_>) {
    let texts: Vec<&str> = parts.iter().filter_map(words).collect();
    let citations = of(candidate, &texts);
    let last = parts.iter_mut().rev().find_map(|part| match part {
        Part::Text(text) => Some(text),
        _ => None,
    });
    if let Some(text) = last {
        text.citations.extend(citations);
    }
}

fn words(part: &Part) -> Option<&str> {
    match part {
        Part::Text(text) => Some(&text.text),
        _ => None,
    }
}

/// What a candidate rests on, with places in the words said so far where they can be found there.
pub(super) fn of(candidate: &Candidate<'_>, texts: &[&str]) -> Vec<Citation> {
    let mut citations: Vec<Citation> = candidate.cited().iter().filter_map(|cited| repeated(cited, texts)).collect();
    if let Some(grounding) = candidate.grounding() {
        citations.extend(grounded(&grounding, texts));
    }
    citations
}

fn repeated(cited: &Cited<'_>, texts: &[&str]) -> Option<Citation> {
    let place = |index: Option<usize>| in_characters(texts, None, index?);
    let end = place(cited.end_index);
    let start = end.and_then(|_| in_characters(texts, None, cited.start_index.unwrap_or(0)));
    Some(Citation { url: url(str_of(cited.uri.as_ref()))?, title: title(str_of(cited.title.as_ref())), start, end })
}

/// One citation for each source of each supported piece; sources that support no piece stand for the whole answer.
fn grounded(grounding: &Grounding<'_>, texts: &[&str]) -> Vec<Citation> {
    let chunks = grounding.grounding_chunks.as_deref().unwrap_or_default();
    let mut supported = vec![false; chunks.len()];
    let mut citations = Vec::new();
    for support in grounding.grounding_supports.iter().flatten() {
        let place = support.segment.as_ref().and_then(|segment| place(segment, texts));
        for &index in support.grounding_chunk_indices.iter().flatten() {
            let Some(citation) = chunks.get(index).and_then(|chunk| source(chunk, place)) else { continue };
            supported[index] = true;
            citations.push(citation);
        }
    }
    let rest = chunks.iter().zip(supported).filter(|(_, supported)| !supported);
    citations.extend(rest.filter_map(|(chunk, _)| source(chunk, None)));
    citations
}

fn source(chunk: &Chunk<'_>, place: Option<(u64, u64)>) -> Option<Citation> {
    let site = chunk.web.as_ref().or(chunk.maps.as_ref())?;
    let (start, end) = place.unzip();
    Some(Citation { url: url(str_of(site.uri.as_ref()))?, title: title(str_of(site.title.as_ref())), start, end })
}

fn place(segment: &Segment, texts: &[&str]) -> Option<(u64, u64)> {
    let at = |index| in_characters(texts, segment.part_index, index);
    Some((at(segment.start_index.unwrap_or(0))?, at(segment.end_index?)?))
}

/// A place in bytes of one part as one in characters of the whole; none where it lies outside or inside a character.
fn in_characters(texts: &[&str], part: Option<usize>, bytes: usize) -> Option<u64> {
    let part = part.unwrap_or(0);
    let before: usize = texts.get(..part)?.iter().map(|text| text.chars().count()).sum();
    let within = texts.get(part)?.get(..bytes)?.chars().count();
    u64::try_from(before.checked_add(within)?).ok()
}

fn url(uri: &str) -> Option<String> {
    (!uri.is_empty()).then(|| uri.to_owned())
}

fn title(title: &str) -> Option<String> {
    (!title.is_empty()).then(|| title.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gemini::wire::Response;

    #[test]
    fn places_in_bytes_become_places_in_characters() {
        let body = r#"{"candidates":[{"groundingMetadata":{"groundingChunks":[{"web":{"uri":"https://a.example","title":"A"}},
            {"web":{"uri":"https://b.example"}},{"odd":{}}],"groundingSupports":[{"segment":{"startIndex":3,"endIndex":6,"text":"is"},
            "groundingChunkIndices":[0,2,9]}]}}]}"#;
        let response = crate::json::parse::<Response<'_>>(body.as_bytes()).expect("an answer");
        let found = of(&response.candidates()[0], &["\u{e4}x is."]);
        let a = Citation { url: "https://a.example".into(), title: Some("A".into()), start: Some(2), end: Some(5) };
        let b = Citation { url: "https://b.example".into(), title: None, start: None, end: None };
        assert_eq!(found, [a, b]);
    }

    #[test]
    fn both_hosts_names_for_repeated_texts_are_read() {
        for name in ["citations", "citationSources"] {
            let body = format!(
                r#"{{"candidates":[{{"citationMetadata":{{"{name}":[{{"endIndex":2,"uri":"u"}},{{"endIndex":1}}]}}}}]}}"#
            );
            let response = crate::json::parse::<Response<'_>>(body.as_bytes()).expect("an answer");
            let expected = Citation { url: "u".into(), title: None, start: Some(0), end: Some(2) };
            assert_eq!(of(&response.candidates()[0], &["abc"]), [expected], "{name}");
        }
    }
}
