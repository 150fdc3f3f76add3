//! One walk over JSON text, from its first byte to its last: every byte is proved to be JSON in UTF-8, nothing is copied.
//! It stops where a parser down the line would; the tests compare it with `serde_json` over random and damaged texts.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use super::text::{as_u64, growth_of, growth_of_escape};
use super::{DEPTH_MAX, Span};

#[cfg(test)]
mod tests;

/// A place in the text, and how far the walk is.
#[derive(Debug)]
pub(super) struct Json<'a> {
    text: &'a [u8],
    at: usize,
    depth: usize,
    growth: usize,
}

/// A value as it stands in the text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Value<'a> {
    pub(super) json: &'a [u8],
    start: usize,
    growth: usize,
}

/// Where a text is not JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Flaw {
    at: usize,
    expected: &'static str,
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected {} at byte {}", self.expected, self.at)
    }
}

impl<'a> Value<'a> {
    pub(super) fn span(&self) -> Span {
        self.start..self.start + self.json.len()
    }

    pub(super) fn is_null(&self) -> bool {
        self.json == b"null"
    }

    /// No tokenizer makes more tokens of the value than this, see [`super::text`].
    pub(super) fn tokens_max(&self) -> u64 {
        as_u64(self.json.len() + self.growth)
    }

    /// The value as text: the walk has proved that it is.
    pub(super) fn text(&self) -> &'a str {
        std::str::from_utf8(self.json).unwrap_or_default()
    }

    /// A number that has no sign, fraction or exponent.
    pub(super) fn number<N: FromStr>(&self) -> Option<N> {
        self.text().parse().ok()
    }

    /// What a string says after its escapes are undone; `None` when it is no string, or an escape stands for nothing.
    pub(super) fn string(&self) -> Option<Cow<'a, [u8]>> {
        let said = self.json.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
        if memchr::memchr(b'\\', said).is_none() {
            return Some(Cow::Borrowed(said));
        }
        serde_json::from_slice::<String>(self.json).ok().map(|said| Cow::Owned(said.into_bytes()))
    }
}

impl<'a> Json<'a> {
    pub(super) const fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0, depth: 0, growth: 0 }
    }

    /// How far the walk is.
    pub(super) const fn at(&self) -> usize {
        self.at
    }

    /// By how many bytes the text grows when it is normalised, as far as the walk is.
    pub(super) const fn growth(&self) -> usize {
        self.growth
    }

    /// The first byte of the next value.
    pub(super) fn next_byte(&mut self) -> Option<u8> {
        self.skip_space();
        self.peek()
    }

    /// Walks over an object; `each` gets every name and walks over its value.
    pub(super) fn object(
        &mut self,
        mut each: impl FnMut(&mut Self, Value<'a>) -> Result<(), Flaw>,
    ) -> Result<(), Flaw> {
        self.open(b'{', "an object")?;
        if !self.take(b'}') {
            loop {
                self.skip_space();
                let name = self.measured(Self::string)?;
                self.require(b':', "`:`")?;
                each(self, name)?;
                if !self.take(b',') {
                    break self.require(b'}', "`,` or `}`")?;
                }
            }
        }
        self.depth -= 1;
        Ok(())
    }

    /// Walks over an array; `each` walks over an element.
    pub(super) fn array(&mut self, mut each: impl FnMut(&mut Self) -> Result<(), Flaw>) -> Result<(), Flaw> {
        self.open(b'[', "an array")?;
        if !self.take(b']') {
            loop {
                each(self)?;
                if !self.take(b',') {
                    break self.require(b']', "`,` or `]`")?;
                }
            }
        }
        self.depth -= 1;
        Ok(())
    }

    /// What `walk` walks over, as a value.
    pub(super) fn measured(&mut self, walk: impl FnOnce(&mut Self) -> Result<(), Flaw>) -> Result<Value<'a>, Flaw> {
        self.skip_space();
        let (start, growth) = (self.at, self.growth);
        walk(self)?;
        let json = self.text.get(start..self.at).unwrap_or_default();
        Ok(Value { json, start, growth: self.growth - growth })
    }

    /// Walks over any value.
    pub(super) fn skip(&mut self) -> Result<(), Flaw> {
        match self.next_byte() {
            Some(b'"') => self.string(),
            Some(b'{') => self.object(|json, _| json.skip()),
            Some(b'[') => self.array(Self::skip),
            Some(b't') => self.word(b"true"),
            Some(b'f') => self.word(b"false"),
            Some(b'n') => self.word(b"null"),
            _ => self.number(),
        }
    }

    /// Nothing but space may follow.
    pub(super) fn end(&mut self) -> Result<(), Flaw> {
        match self.next_byte() {
            None => Ok(()),
            Some(_) => Err(self.expected("the end")),
        }
    }

    fn string(&mut self) -> Result<(), Flaw> {
        if self.peek() != Some(b'"') {
            return Err(self.expected("a string"));
        }
        self.at += 1;
        loop {
            self.at += plain(self.rest());
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => self.escape()?,
                Some(0x80..) => self.beyond_ascii()?,
                _ => return Err(self.expected("the rest of a string")),
            }
        }
        self.at += 1;
        Ok(())
    }

    /// What is escaped twice, as JSON in the arguments of a tool's call is, may be undone twice before it is read.
    fn escape(&mut self) -> Result<(), Flaw> {
        match self.text.get(self.at + 1) {
            Some(b'"' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 2,
            Some(b'\\') => {
                self.at += 1;
                self.growth += self.code().map_or(0, growth_of_escape);
                self.at += 1;
            }
            Some(b'u') => {
                let code = self.code().ok_or_else(|| self.expected("four hexadecimal digits"))?;
                self.growth += growth_of_escape(code);
                self.at += r"\uXXXX".len();
            }
            _ => return Err(self.expected("an escape")),
        }
        Ok(())
    }

    /// The code of the escape `\uXXXX` that stands here.
    fn code(&self) -> Option<u16> {
        self.rest().strip_prefix(br"\u")?.first_chunk().and_then(hexadecimal)
    }

    fn beyond_ascii(&mut self) -> Result<(), Flaw> {
        while matches!(self.peek(), Some(0x80..)) {
            self.character()?;
        }
        Ok(())
    }

    /// A character beyond ASCII: most of those that people write, whose second and third bytes may be any, are read here.
    fn character(&mut self) -> Result<(), Flaw> {
        let low_bits = |byte: u8| u32::from(byte & 0x3F);
        let (code, length) = match *self.rest() {
            [first @ 0xC2..=0xDF, second @ 0x80..=0xBF, ..] => (u32::from(first & 0x1F) << 6 | low_bits(second), 2),
            [first @ 0xE1..=0xEC, second @ 0x80..=0xBF, third @ 0x80..=0xBF, ..] => {
                (u32::from(first & 0x0F) << 12 | low_bits(second) << 6 | low_bits(third), 3)
            }
            _ => return self.run_beyond_ascii(),
        };
        self.growth += char::from_u32(code).map_or(0, growth_of);
        self.at += length;
        Ok(())
    }

    /// Bytes beyond ASCII up to the next that is not: they hold whole characters, or are not UTF-8.
    fn run_beyond_ascii(&mut self) -> Result<(), Flaw> {
        let rest = self.rest();
        let end = rest.iter().position(u8::is_ascii).unwrap_or(rest.len());
        let run = rest.get(..end).and_then(|run| std::str::from_utf8(run).ok());
        let run = run.ok_or_else(|| self.expected("UTF-8"))?;
        self.growth += run.chars().map(growth_of).sum::<usize>();
        self.at += end;
        Ok(())
    }

    fn number(&mut self) -> Result<(), Flaw> {
        self.at += usize::from(self.peek() == Some(b'-'));
        match self.peek() {
            Some(b'0') => self.at += 1,
            _ => self.digits("a value")?,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits("a digit")?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            self.at += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            self.digits("a digit")?;
        }
        Ok(())
    }

    fn digits(&mut self, expected: &'static str) -> Result<(), Flaw> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == start { Err(self.expected(expected)) } else { Ok(()) }
    }

    fn word(&mut self, word: &[u8]) -> Result<(), Flaw> {
        if !self.rest().starts_with(word) {
            return Err(self.expected("a value"));
        }
        self.at += word.len();
        Ok(())
    }

    fn open(&mut self, bracket: u8, expected: &'static str) -> Result<(), Flaw> {
        self.require(bracket, expected)?;
        self.depth += 1;
        if self.depth > DEPTH_MAX { Err(self.expected("fewer levels inside each other")) } else { Ok(()) }
    }

    fn require(&mut self, byte: u8, expected: &'static str) -> Result<(), Flaw> {
        if self.take(byte) { Ok(()) } else { Err(self.expected(expected)) }
    }

    /// Steps over `byte` if it is the next after space.
    fn take(&mut self, byte: u8) -> bool {
        let found = self.next_byte() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn rest(&self) -> &'a [u8] {
        self.text.get(self.at..).unwrap_or_default()
    }

    pub(super) const fn expected(&self, expected: &'static str) -> Flaw {
        Flaw { at: self.at, expected }
    }
}

/// Neither the end of a string nor an escape, a control character or a byte beyond ASCII.
const fn is_plain(byte: u8) -> bool {
    byte >= b' ' && byte != b'"' && byte != b'\\' && byte.is_ascii()
}

/// How many bytes at the start of `text` mean themselves in a string.
#[inline]
fn plain(text: &[u8]) -> usize {
    let mut at = 0;
    while let Some(word) = text.get(at..).and_then(<[u8]>::first_chunk) {
        let special = special_of(u64::from_le_bytes(*word));
        if special != 0 {
            return at + (special.trailing_zeros() / u8::BITS) as usize;
        }
        at += word.len();
    }
    let tail = text.get(at..).unwrap_or_default();
    at + tail.iter().position(|byte| !is_plain(*byte)).unwrap_or(tail.len())
}

/// The highest bit of the first byte of a word that is not plain; bits above it say nothing. Each subtraction sets it in
/// the byte that is looked for, and what it borrows reaches only bytes above.
const fn special_of(word: u64) -> u64 {
    const EACH: u64 = u64::MAX / 0xFF;
    let quote = (word ^ (EACH * b'"' as u64)).wrapping_sub(EACH);
    let backslash = (word ^ (EACH * b'\\' as u64)).wrapping_sub(EACH);
    let control = word.wrapping_sub(EACH * b' ' as u64);
    (quote | backslash | control | word) & (EACH * 0x80)
}

fn hexadecimal(digits: &[u8; 4]) -> Option<u16> {
    let [a, b, c, d] = digits.map(|digit| u16::from(HEXADECIMAL[usize::from(digit)]));
    ((a | b | c | d) <= 0xF).then_some(a << 12 | b << 8 | c << 4 | d)
}

/// The value of each digit; anything else is larger.
static HEXADECIMAL: [u8; 256] = {
    let mut values = [u8::MAX; 256];
    let mut value = 0_u8;
    while value < 16 {
        values[b"0123456789abcdef"[value as usize] as usize] = value;
        values[b"0123456789ABCDEF"[value as usize] as usize] = value;
        value += 1;
    }
    values
};
