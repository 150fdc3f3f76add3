//! Calls that grow at the same time, for a dialect in which one block ends before the next begins (providers.md §14).

use std::collections::VecDeque;

/// A call whose block has not ended.
#[derive(Debug)]
pub(super) struct Growing {
    /// Which call of the answer.
    pub(super) call: u32,
    pub(super) id: String,
    pub(super) name: String,
    pub(super) custom: bool,
    /// What of its arguments has not been written.
    pub(super) unwritten: String,
    nesting: Nesting,
}

impl Growing {
    pub(super) fn new(call: u32, id: String, name: String, custom: bool) -> Self {
        Self { call, id, name, custom, unwritten: String::new(), nesting: Nesting::default() }
    }

    pub(super) fn add(&mut self, fragment: &str) {
        self.nesting.add(fragment);
        self.unwritten.push_str(fragment);
    }

    /// Whether its arguments are complete, so that nothing more is to be expected.
    pub(super) const fn is_complete(&self) -> bool {
        self.nesting.is_closed()
    }
}

/// The calls of an answer, in their order: the first is being written, the others wait.
pub(super) type Queue = VecDeque<Growing>;

/// How deep inside of a JSON value a text ends.
#[derive(Debug, Default)]
struct Nesting {
    depth: u32,
    begun: bool,
    in_text: bool,
    escaped: bool,
}

impl Nesting {
    fn add(&mut self, fragment: &str) {
        fragment.bytes().for_each(|byte| self.step(byte));
    }

    const fn step(&mut self, byte: u8) {
        if self.escaped {
            self.escaped = false;
            return;
        }
        match byte {
            b'\\' if self.in_text => self.escaped = true,
            b'"' => self.in_text = !self.in_text,
            _ if self.in_text => {}
            b'{' | b'[' => {
                self.depth = self.depth.saturating_add(1);
                self.begun = true;
            }
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
    }

    const fn is_closed(&self) -> bool {
        self.begun && self.depth == 0 && !self.in_text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_complete_when_their_object_is_closed() {
        let mut call = Growing::new(0, "a".into(), "f".into(), false);
        for fragment in ["", "{\"a\": \"}", "\\\"", "}\", \"b\": [{}", "]"] {
            call.add(fragment);
            assert!(!call.is_complete(), "{}", call.unwritten);
        }
        call.add("}");
        assert!(call.is_complete());
    }
}
