//! An input is a few choices, one byte each, and a body.

/// What is left of an input.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    /// All of it.
    #[must_use]
    pub const fn new(data: &'a [u8]) -> Self {
        Self(data)
    }

    /// The next byte; zero at the end.
    pub fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    /// One of a list that is not empty.
    pub fn choose<T: Copy>(&mut self, list: &[T]) -> T {
        list[usize::from(self.byte()) % list.len()]
    }

    /// Everything that is left.
    #[must_use]
    pub const fn body(self) -> &'a [u8] {
        self.0
    }
}

/// The byte that chooses the first of a list that is as wanted.
///
/// # Panics
/// When none is.
pub fn choice<T>(list: &[T], is_wanted: impl Fn(&T) -> bool) -> u8 {
    let at = list.iter().position(is_wanted).expect("one of the list");
    u8::try_from(at).expect("a short list")
}
