//! Gemini's `generationConfig`, as far as it decides about the price.

use super::super::fields::fields;

fields! { "generationConfig.":
    MaxOutputTokens => "maxOutputTokens" | "max_output_tokens",
    CandidateCount => "candidateCount" | "candidate_count",
    ResponseModalities => "responseModalities" | "response_modalities",
    ResponseSchema => "responseSchema" | "response_schema",
    ResponseJsonSchema => "responseJsonSchema" | "response_json_schema" | "_responseJsonSchema",
}
