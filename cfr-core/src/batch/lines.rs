//! A file in the pieces in which it comes, cut into lines.

use bytes::{Bytes, BytesMut};

/// Cuts pieces of a file into its lines. It holds one line at the most, and what came with its end.
#[derive(Debug)]
pub struct Lines {
    line_bytes_max: usize,
    buffer: BytesMut,
    /// How many bytes at the beginning of the buffer have no end of line.
    searched: usize,
}

/// A line is longer than any should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("longer than {line_bytes_max} bytes")]
pub struct LineTooLong {
    /// The limit.
    pub line_bytes_max: usize,
}

impl Lines {
    /// Lines of at most this many bytes.
    #[must_use]
    pub fn new(line_bytes_max: usize) -> Self {
        Self { line_bytes_max, buffer: BytesMut::new(), searched: 0 }
    }

    /// Takes the next piece in.
    pub fn push(&mut self, piece: &[u8]) {
        self.buffer.extend_from_slice(piece);
    }

    /// The next complete line that is not blank, without its end; none when more must come first.
    ///
    /// # Errors
    /// When it is too long, complete or not.
    pub fn next_line(&mut self) -> Result<Option<Bytes>, LineTooLong> {
        while let Some(end) = memchr::memchr(b'\n', &self.buffer[self.searched..]) {
            let line = self.buffer.split_to(self.searched + end + 1);
            self.searched = 0;
            if let Some(line) = self.checked(line)? {
                return Ok(Some(line));
            }
        }
        self.searched = self.buffer.len();
        if self.searched > self.line_bytes_max { Err(self.too_long()) } else { Ok(None) }
    }

    /// The last line, where the file does not end with an end of line.
    ///
    /// # Errors
    /// When it is too long.
    pub fn last_line(&mut self) -> Result<Option<Bytes>, LineTooLong> {
        self.searched = 0;
        let rest = self.buffer.split();
        self.checked(rest)
    }

    fn checked(&self, line: BytesMut) -> Result<Option<Bytes>, LineTooLong> {
        let line = line.freeze();
        let trimmed = line.trim_ascii();
        match trimmed.len() {
            0 => Ok(None),
            length if length > self.line_bytes_max => Err(self.too_long()),
            _ => Ok(Some(line.slice_ref(trimmed))),
        }
    }

    const fn too_long(&self) -> LineTooLong {
        LineTooLong { line_bytes_max: self.line_bytes_max }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(file: &str, piece: usize) -> Result<Vec<String>, LineTooLong> {
        let (mut lines, mut found) = (Lines::new(5), Vec::new());
        for piece in file.as_bytes().chunks(piece) {
            lines.push(piece);
            while let Some(line) = lines.next_line()? {
                found.push(String::from_utf8(line.to_vec()).unwrap());
            }
        }
        found.extend(lines.last_line()?.map(|line| String::from_utf8(line.to_vec()).unwrap()));
        Ok(found)
    }

    #[test]
    fn lines_are_the_same_however_the_file_is_cut() {
        for piece in 1..20 {
            assert_eq!(cut("one\r\n\n  \ntwo\nthree", piece).unwrap(), ["one", "two", "three"], "{piece}");
            assert_eq!(cut("one\n", piece).unwrap(), ["one"]);
            assert!(cut("", piece).unwrap().is_empty());
        }
    }

    #[test]
    fn a_line_without_an_end_is_not_gathered_for_ever() {
        for piece in 1..20 {
            assert_eq!(cut("one\nthousand", piece), Err(LineTooLong { line_bytes_max: 5 }));
            assert_eq!(cut("thousand\none", piece), Err(LineTooLong { line_bytes_max: 5 }));
        }
    }
}
