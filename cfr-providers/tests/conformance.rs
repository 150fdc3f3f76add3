//! Our own upstreams pass the suite that we give to others.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use cfr_providers::Fake;

mod fake {
    cfr_providers::upstream_conformance!((super::Fake::instant(), "gpt-6-sol"));
}

mod over_http {
    use std::sync::Arc;

    use cfr_core::secret::Secret;
    use cfr_providers::openai::quirks::OPENAI;
    use cfr_providers::{Fake, HttpUpstream};

    use super::support::loopback::Loopback;

    fn upstream() -> HttpUpstream {
        let transport = Arc::new(Loopback(Fake::instant()));
        HttpUpstream::openai_family_over(transport, &OPENAI, None, &Secret::new("sk-1")).unwrap()
    }

    cfr_providers::upstream_conformance!((upstream(), "gpt-6-sol"));
}

mod over_http_to_a_server_that_refuses_fields {
    use std::sync::Arc;

    use cfr_core::secret::Secret;
    use cfr_providers::openai::quirks::GROQ;
    use cfr_providers::{Fake, HttpUpstream};

    use super::support::loopback::Loopback;

    fn upstream() -> HttpUpstream {
        let transport = Arc::new(Loopback(Fake::instant()));
        HttpUpstream::openai_family_over(transport, &GROQ, None, &Secret::new("sk-1")).unwrap()
    }

    cfr_providers::upstream_conformance!((upstream(), "openai/gpt-oss-120b"));
}
