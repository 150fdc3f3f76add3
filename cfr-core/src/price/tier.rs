//! Service tiers: how fast a provider serves, and at which rates.

use serde::Serialize;

/// A service tier by our name for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Tier {
    /// The ordinary rates.
    Standard,
    /// Answers within a day, at a discount.
    Batch,
    /// Answers when there is room, at a discount.
    Flex,
    /// Served first, dearer.
    Priority,
    /// A faster variant of the model, dearer.
    Fast,
    /// The fastest variant, dearest.
    Ultrafast,
}

impl Tier {
    const ALL: [Self; 6] = [Self::Standard, Self::Batch, Self::Flex, Self::Priority, Self::Fast, Self::Ultrafast];

    /// The name in the price table.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::Batch => "batch",
            Self::Flex => "flex",
            Self::Priority => "priority",
            Self::Fast => "fast",
            Self::Ultrafast => "ultrafast",
        }
    }

    /// The tier with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|tier| tier.name() == name)
    }

    /// Whether the standard rate is enough where the tier has none of its own.
    pub(super) const fn is_at_most_standard(self) -> bool {
        matches!(self, Self::Standard | Self::Batch | Self::Flex)
    }
}
