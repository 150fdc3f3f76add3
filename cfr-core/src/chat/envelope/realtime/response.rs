//! What is wanted of the response, as far as it decides about the price.

use super::super::fields::fields;

fields! { "response.":
    MaxOutputTokens => "max_output_tokens",
    Metadata => "metadata",
}
