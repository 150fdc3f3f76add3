//! Text that reads like text: sentences of common words, chosen by a seed.

const WORDS: [&str; 64] = [
    "the", "river", "carries", "light", "across", "a", "quiet", "valley", "where", "old", "stones", "remember",
    "every", "season", "and", "small", "boats", "drift", "between", "reeds", "while", "morning", "opens", "its",
    "windows", "slowly", "over", "green", "fields", "people", "walk", "home", "with", "bread", "under", "warm", "rain",
    "children", "count", "birds", "on", "distant", "wires", "some", "letters", "travel", "far", "before", "they",
    "find", "their", "reader", "clear", "water", "keeps", "no", "secrets", "patient", "gardens", "grow", "toward",
    "evening", "music", "still",
];
/// Words in one sentence.
const SENTENCE_WORDS: u64 = 11;

/// A stream of numbers from a seed (splitmix64).
pub(super) struct Dice(u64);

impl Dice {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) const fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn word(&mut self) -> &'static str {
        WORDS[(self.roll() % 64) as usize & 63]
    }
}

/// `count` tokens of text that begin with `opening`; each token is a word with the blank before it.
pub(super) fn tokens(opening: &str, dice: &mut Dice, count: u64) -> Vec<String> {
    let opening = opening.split_inclusive(' ').map(str::to_owned);
    let mut tokens: Vec<String> = opening.take(usize::try_from(count).unwrap_or(usize::MAX)).collect();
    let mut place = 0;
    while (tokens.len() as u64) < count {
        tokens.push(in_sentence(dice.word(), place % SENTENCE_WORDS));
        place += 1;
    }
    tokens
}

/// A word with a blank before it, its capital at the beginning of a sentence and its full stop at the end.
fn in_sentence(word: &str, place: u64) -> String {
    match place {
        0 => format!(" {}{}", word[..1].to_ascii_uppercase(), &word[1..]),
        last if last == SENTENCE_WORDS - 1 => format!(" {word}."),
        _ => format!(" {word}"),
    }
}

/// Tokens of a text that is not prose: pieces of a few bytes, whole characters.
pub(super) fn pieces(text: &str) -> Vec<String> {
    const PIECE_BYTES: usize = 6;
    let mut pieces = Vec::with_capacity(text.len() / PIECE_BYTES + 1);
    let mut rest = text;
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(rest.ceil_char_boundary(PIECE_BYTES.min(rest.len())));
        pieces.push(piece.to_owned());
        rest = after;
    }
    pieces
}
