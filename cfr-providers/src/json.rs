//! Reading JSON that may be large.

use serde::Deserialize;

/// Reads a value that borrows from its text. One look at the whole text for UTF-8 is cheaper than one at each string in it.
pub(crate) fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> serde_json::Result<T> {
    match std::str::from_utf8(bytes) {
        Ok(text) => serde_json::from_str(text),
        Err(_) => serde_json::from_slice(bytes), // says where the wrong byte is
    }
}
