//! Whose model it is: what lies beyond the common dialect is said in its maker's words.

/// The makers whose models differ in what may be said to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    Claude,
    Nova,
    Mistral,
    /// OpenAI's open models.
    Gpt,
    /// Another, or one behind an ARN that does not say.
    Other,
}

/// Words in names of models; the first that is found counts. A name may be that of the model, of an inference profile
/// with its geography in front, or an ARN that ends with either.
const WORDS: [(&str, Family); 5] = [
    ("anthropic.", Family::Claude),
    ("claude", Family::Claude),
    ("amazon.nova", Family::Nova),
    ("mistral.", Family::Mistral),
    ("openai.", Family::Gpt),
];

impl Family {
    pub(super) fn of(model: &str) -> Self {
        let name = model.to_ascii_lowercase();
        WORDS.iter().find(|(word, _)| name.contains(word)).map_or(Self::Other, |(_, family)| *family)
    }

    /// Whether it keeps prompts where it is told to.
    pub(super) const fn caches(self) -> bool {
        matches!(self, Self::Claude | Self::Nova)
    }

    /// Whether it is told by a member of the result that a tool failed, rather than by words.
    pub(super) const fn knows_failed_tools(self) -> bool {
        matches!(self, Self::Claude | Self::Nova)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_has_one_maker_under_all_of_its_names() {
        for name in [
            "anthropic.claude-haiku-4-5-20251001-v1:0",
            "eu.anthropic.claude-sonnet-5-5",
            "arn:aws:bedrock:eu-west-1:000000000000:inference-profile/eu.anthropic.claude-sonnet-4-6",
        ] {
            assert_eq!(Family::of(name), Family::Claude, "{name}");
        }
        assert_eq!(Family::of("us.amazon.nova-pro-v1:0"), Family::Nova);
        assert_eq!(Family::of("mistral.mistral-large-2407-v1:0"), Family::Mistral);
        assert_eq!(Family::of("openai.gpt-oss-120b-1:0"), Family::Gpt);
        let profile = "arn:aws:bedrock:eu-west-1:000000000000:application-inference-profile/abc123";
        assert_eq!(Family::of(profile), Family::Other);
    }
}
