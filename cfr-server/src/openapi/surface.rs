//! The paths outside the management API: OpenAI's own, which pass bodies on as they are, and those of operation.

use utoipa::OpenApi;

/// Describes the paths that calls to models and operators use.
#[derive(Debug, OpenApi)]
#[openapi(paths(
    chat_completions,
    completions,
    embeddings,
    responses,
    image_generations,
    image_edits,
    speech,
    transcriptions,
    translations,
    moderations,
    realtime,
    rerank,
    rerank_v2,
    messages,
    count_response_tokens,
    show_response,
    delete_response,
    cancel_response,
    list_input_items,
    count_tokens,
    generate_content,
    create_file,
    list_files,
    show_file,
    file_content,
    delete_file,
    create_batch,
    list_batches,
    show_batch,
    cancel_batch,
    list_models,
    show_model,
    list_gemini_models,
    show_gemini_model,
    crate::leaks::report,
    crate::leads::receive,
    health,
    live,
    ready,
    metrics,
    document,
    root
))]
pub(super) struct Surface;

/// Keep a file of requests at the provider that its first line goes to. Each line is let in as a call of its own.
#[utoipa::path(post, path = "/v1/files", operation_id = "create_file", tag = "batches", security(("api_key" = [])),
    request_body(content((Value = "multipart/form-data"))),
    responses((status = 200, description = "The file", body = Value),
        (status = 400, description = "A line that could not be asked, by its number", body = Value),
        (status = "default", description = "An error as OpenAI's clients know it", body = Value)))]
fn create_file() {}

/// List the files of the caller, newest first.
#[utoipa::path(get, path = "/v1/files", operation_id = "list_files", tag = "batches", security(("api_key" = [])),
    params(("after" = Option<String>, Query, description = "The last file of the page before"),
        ("limit" = Option<u32>, Query, description = "At most so many"),
        ("purpose" = Option<String>, Query, description = "`batch` or `batch_output`")),
    responses((status = 200, description = "A page", body = Value),
        (status = "default", description = "An error as OpenAI's clients know it", body = Value)))]
fn list_files() {}

/// Show a file of the caller.
#[utoipa::path(get, path = "/v1/files/{id}", operation_id = "show_file", tag = "batches", security(("api_key" = [])),
    params(("id" = String, Path, description = "The file")),
    responses((status = 200, description = "The file", body = Value),
        (status = "default", description = "An error as OpenAI's clients know it", body = Value)))]
fn show_file() {}

/// Read a file of the caller.
#[utoipa::path(get, path = "/v1/files/{id}/content", operation_id = "read_file", tag = "batches",
    security(("api_key" = [])), params(("id" = String, Path, description = "The file")),
    responses((status = 200, description = "What is in it", content((String = "application/octet-stream"))),
        (status = "default", description = "An error as OpenAI's clients know it", body = Value)))]
fn file_content() {}

/// Forget a file of the caller, here and at the provider.
#[utoipa::path(delete, path = "/v1/files/{id}", operation_id = "delete_file", tag = "batches",
    security(("api_key" = [])), params(("id" = String, Path, description = "The file")),
    responses((status = 200, description = "It is gone", body = Value),
        (status = "default", description = "An error as OpenAI's clients know it", body = Value)))]
fn delete_file() {}

/// Begin a batch. The most that its lines can cost is set aside until it is over and charged.
#[utoipa::path(post, path = "/v1/batches", operation_id = "create_batch", tag = "batches", security(("api_key" = [])),
    request_body(content((Value = "application/json"))),
    responses((status = 200, description = "The batch", body = Value),
        (status = 402, description = "A budget does not have what the batch can cost", body = Value),
        (status = "default", description = "An error as OpenAI's clients know it", body = Value)))]
fn create_batch() {}

/// List the batches of the caller, newest first.
#[utoipa::path(get, path = "/v1/batches", operation_id = "list_batches", tag = "batches", security(("api_key" = [])),
    params(("after" = Option<String>, Query, description = "The last batch of the page before"),
        ("limit" = Option<u32>, Query, description = "At most so many")),
    responses((status = 200, description = "A page", body = Value),
        (status = "default", description = "An error as OpenAI's clients know it", body = Value)))]
fn list_batches() {}

/// Show a batch of the caller. It is `finalizing` until it is charged.
#[utoipa::path(get, path = "/v1/batches/{id}", operation_id = "show_batch", tag = "batches",
    security(("api_key" = [])), params(("id" = String, Path, description = "The batch")),
    responses((status = 200, description = "The batch", body = Value),
        (status = "default", description = "An error as OpenAI's clients know it", body = Value)))]
fn show_batch() {}

/// End a batch of the caller early. What was answered is charged.
#[utoipa::path(post, path = "/v1/batches/{id}/cancel", operation_id = "cancel_batch", tag = "batches",
    security(("api_key" = [])), params(("id" = String, Path, description = "The batch")),
    responses((status = 200, description = "The batch", body = Value),
        (status = "default", description = "An error as OpenAI's clients know it", body = Value)))]
fn cancel_batch() {}

/// Answer a chat, whole or streamed. Fields that are not ours reach the provider unchanged.
#[utoipa::path(post, path = "/v1/chat/completions", operation_id = "create_chat_completion", tag = "models",
    security(("api_key" = [])), request_body(content((Value = "application/json"))),
    responses((status = 200, description = "The answer", content((Value = "application/json"), (String = "text/event-stream"))),
        (status = 402, description = "A budget is exhausted: `budget_exceeded` with what is left", body = Value),
        (status = 429, description = "A rate limit, with `retry-after`", body = Value),
        (status = "default", description = "An error as OpenAI's clients know it", body = Value)))]
fn chat_completions() {}

/// Continue a text.
#[utoipa::path(post, path = "/v1/completions", operation_id = "create_completion", tag = "models",
    security(("api_key" = [])), request_body(content((Value = "application/json"))),
    responses((status = 200, description = "The answer", content((Value = "application/json"), (String = "text/event-stream"))),
        (status = "default", description = "An error as OpenAI's clients know it", body = Value)))]
fn completions() {}

/// Turn texts into vectors.
#[utoipa::path(post, path = "/v1/embeddings", operation_id = "create_embedding", tag = "models",
    security(("api_key" = [])), request_body(content((Value = "application/json"))),
    responses((status = 200, description = "The vectors", body = Value),
        (status = "default", description = "An error as OpenAI's clients know it", body = Value)))]
fn embeddings() {}

/// Judge texts and images. Without a model, `omni-moderation-latest` judges.
#[utoipa::path(post, path = "/v1/moderations", operation_id = "create_moderation", tag = "models",
    security(("api_key" = [])), request_body(content((Value = "application/json"))),
    responses((status = 200, description = "The judgement", body = Value),
        (status = "default", description = "An error as OpenAI's clients know it", body = Value)))]
fn moderations() {}

/// Put documents in order by how well they fit a query, as Cohere and Jina have it.
#[utoipa::path(post, path = "/v1/rerank", operation_id = "create_rerank", tag = "models",
    security(("api_key" = [])), request_body(content((Value = "application/json"))),
    responses((status = 200, description = "The places, the best first", body = Value),
        (status = 402, description = "A budget is exhausted: `budget_exceeded` with what is left", body = Value),
        (status = "default", description = "An error as OpenAI's clients know it", body = Value)))]
fn rerank() {}

/// The same, where Cohere's clients look for it.
#[utoipa::path(post, path = "/v2/rerank", operation_id = "create_rerank_v2", tag = "models",
    security(("api_key" = [])), request_body(content((Value = "application/json"))),
    responses((status = 200, description = "The places, the best first", body = Value),
        (status = 402, description = "A budget is exhausted: `budget_exceeded` with what is left", body = Value),
        (status = "default", description = "An error as OpenAI's clients know it", body = Value)))]
fn rerank_v2() {}

/// Talk to a model over a WebSocket, in the events of OpenAI's realtime API.
#[utoipa::path(get, path = "/v1/realtime", operation_id = "open_realtime_session", tag = "models",
    security(("api_key" = [])), params(("model" = String, Query, description = "The model")),
    responses((status = 101, description = "The session is open: events follow"),
        (status = 426, description = "The request asks for no WebSocket", body = Value),
        (status = "default", description = "An error as OpenAI's clients know it", body = Value)))]
fn realtime() {}

/// Answer in OpenAI's Responses dialect, whole or streamed.
#[utoipa::path(post, path = "/v1/responses", operation_id = "create_response", tag = "models",
    security(("api_key" = [])), request_body(content((Value = "application/json"))),
    responses((status = 200, description = "The response", content((Value = "application/json"), (String = "text/event-stream"))),
        (status = 402, description = "A budget is exhausted: `budget_exceeded` with what is left", body = Value),
        (status = "default", description = "An error as OpenAI's clients know it", body = Value)))]
fn responses() {}

/// Make images out of words, whole or streamed.
#[utoipa::path(post, path = "/v1/images/generations", operation_id = "create_image", tag = "models",
    security(("api_key" = [])), request_body(content((Value = "application/json"))),
    responses((status = 200, description = "The images", content((Value = "application/json"), (String = "text/event-stream"))),
        (status = 402, description = "A budget is exhausted: `budget_exceeded` with what is left", body = Value),
        (status = "default", description = "An error as OpenAI's clients know it", body = Value)))]
fn image_generations() {}

/// Make images out of images and words, whole or streamed. Images come as files of a form, or as addresses in JSON.
#[utoipa::path(post, path = "/v1/images/edits", operation_id = "create_image_edit", tag = "models",
    security(("api_key" = [])), request_body(content((Value = "multipart/form-data"), (Value = "application/json"))),
    responses((status = 200, description = "The images", content((Value = "application/json"), (String = "text/event-stream"))),
        (status = 402, description = "A budget is exhausted: `budget_exceeded` with what is left", body = Value),
        (status = "default", description = "An error as OpenAI's clients know it", body = Value)))]
fn image_edits() {}

/// Read a text aloud.
#[utoipa::path(post, path = "/v1/audio/speech", operation_id = "create_speech", tag = "models",
    security(("api_key" = [])), request_body(content((Value = "application/json"))),
    responses((status = 200, description = "The sound", content((Vec<u8> = "audio/*"), (String = "text/event-stream"))),
        (status = 402, description = "A budget is exhausted: `budget_exceeded` with what is left", body = Value),
        (status = "default", description = "An error as OpenAI's clients know it", body = Value)))]
fn speech() {}

/// Write speech down, whole or streamed.
#[utoipa::path(post, path = "/v1/audio/transcriptions", operation_id = "create_transcription", tag = "models",
    security(("api_key" = [])), request_body(content((Value = "multipart/form-data"))),
    responses((status = 200, description = "The transcript", content((Value = "application/json"), (String = "text/plain"), (String = "text/event-stream"))),
        (status = 402, description = "A budget is exhausted: `budget_exceeded` with what is left", body = Value),
        (status = "default", description = "An error as OpenAI's clients know it", body = Value)))]
fn transcriptions() {}

/// Write speech down in English.
#[utoipa::path(post, path = "/v1/audio/translations", operation_id = "create_translation", tag = "models",
    security(("api_key" = [])), request_body(content((Value = "multipart/form-data"))),
    responses((status = 200, description = "The translation", content((Value = "application/json"), (String = "text/plain"))),
        (status = 402, description = "A budget is exhausted: `budget_exceeded` with what is left", body = Value),
        (status = "default", description = "An error as OpenAI's clients know it", body = Value)))]
fn translations() {}

/// Answer in Anthropic's Messages dialect, whole or streamed.
#[utoipa::path(post, path = "/v1/messages", operation_id = "create_message", tag = "models",
    security(("api_key" = [])), request_body(content((Value = "application/json"))),
    responses((status = 200, description = "The message", content((Value = "application/json"), (String = "text/event-stream"))),
        (status = 402, description = "A budget is exhausted: `billing_error` with what is left", body = Value),
        (status = "default", description = "An error as Anthropic's clients know it", body = Value)))]
fn messages() {}

/// Count the input tokens of a response, by the model's provider where it has a counter. Free.
#[utoipa::path(post, path = "/v1/responses/input_tokens", operation_id = "count_response_tokens", tag = "models",
    security(("api_key" = [])), request_body(content((Value = "application/json"))),
    responses((status = 200, description = "The number; `x-cfr-estimate: 1` says that it is our own estimate", body = Value),
        (status = "default", description = "An error as OpenAI's clients know it", body = Value)))]
fn count_response_tokens() {}

/// Show a response that its provider keeps for the caller.
#[utoipa::path(get, path = "/v1/responses/{id}", operation_id = "get_response", tag = "models", security(("api_key" = [])),
    params(("id" = String, Path, description = "The response's id")),
    responses((status = 200, description = "The response", body = Value),
        (status = 404, description = "Nothing of the caller's is kept under this id", body = Value),
        (status = "default", description = "An error as OpenAI's clients know it", body = Value)))]
fn show_response() {}

/// Have a response forgotten.
#[utoipa::path(delete, path = "/v1/responses/{id}", operation_id = "delete_response", tag = "models", security(("api_key" = [])),
    params(("id" = String, Path, description = "The response's id")),
    responses((status = 200, description = "That it is", body = Value),
        (status = 404, description = "Nothing of the caller's is kept under this id", body = Value),
        (status = "default", description = "An error as OpenAI's clients know it", body = Value)))]
fn delete_response() {}

/// Stop a response that is still being made.
#[utoipa::path(post, path = "/v1/responses/{id}/cancel", operation_id = "cancel_response", tag = "models", security(("api_key" = [])),
    params(("id" = String, Path, description = "The response's id")),
    responses((status = 200, description = "The response", body = Value),
        (status = 404, description = "Nothing of the caller's is kept under this id", body = Value),
        (status = "default", description = "An error as OpenAI's clients know it", body = Value)))]
fn cancel_response() {}

/// List what a response answers.
#[utoipa::path(get, path = "/v1/responses/{id}/input_items", operation_id = "list_response_input_items", tag = "models", security(("api_key" = [])),
    params(("id" = String, Path, description = "The response's id")),
    responses((status = 200, description = "The items", body = Value),
        (status = 404, description = "Nothing of the caller's is kept under this id", body = Value),
        (status = "default", description = "An error as OpenAI's clients know it", body = Value)))]
fn list_input_items() {}

/// Count the input tokens of a message, by the model's provider where it has a counter. Free.
#[utoipa::path(post, path = "/v1/messages/count_tokens", operation_id = "count_message_tokens", tag = "models",
    security(("api_key" = [])), request_body(content((Value = "application/json"))),
    responses((status = 200, description = "The number; `x-cfr-estimate: 1` says that it is our own estimate", body = Value),
        (status = "default", description = "An error as Anthropic's clients know it", body = Value)))]
fn count_tokens() {}

/// Answer in Gemini's dialect: `MODEL:generateContent` or `MODEL:streamGenerateContent`; or count: `MODEL:countTokens`.
#[utoipa::path(post, path = "/v1beta/models/{path}", operation_id = "generate_content", tag = "models",
    security(("api_key" = [])), request_body(content((Value = "application/json"))),
    params(("path" = String, Path, description = "The model's public name, a colon and the method")),
    responses((status = 200, description = "The content", content((Value = "application/json"), (String = "text/event-stream"))),
        (status = 402, description = "A budget is exhausted: `RESOURCE_EXHAUSTED` with what is left", body = Value),
        (status = "default", description = "An error as Gemini's clients know it", body = Value)))]
fn generate_content() {}

/// List the models that the key may use.
#[utoipa::path(get, path = "/v1/models", operation_id = "list_models", tag = "models", security(("api_key" = [])),
    responses((status = 200, description = "The models", body = Value),
        (status = "default", description = "An error as OpenAI's clients know it", body = Value)))]
fn list_models() {}

/// Show a model that the key may use.
#[utoipa::path(get, path = "/v1/models/{id}", operation_id = "get_model", tag = "models", security(("api_key" = [])),
    params(("id" = String, Path, description = "The model's public name")),
    responses((status = 200, description = "The model", body = Value),
        (status = "default", description = "An error as OpenAI's clients know it", body = Value)))]
fn show_model() {}

/// List the models that the key may use, as Gemini's clients know them.
#[utoipa::path(get, path = "/v1beta/models", operation_id = "list_gemini_models", tag = "models", security(("api_key" = [])),
    responses((status = 200, description = "The models", body = Value),
        (status = "default", description = "An error as Gemini's clients know it", body = Value)))]
fn list_gemini_models() {}

/// Show a model that the key may use, as Gemini's clients know it.
#[utoipa::path(get, path = "/v1beta/models/{path}", operation_id = "get_gemini_model", tag = "models", security(("api_key" = [])),
    params(("path" = String, Path, description = "The model's public name")),
    responses((status = 200, description = "The model", body = Value),
        (status = "default", description = "An error as Gemini's clients know it", body = Value)))]
fn show_gemini_model() {}

/// Say how the server is.
#[utoipa::path(get, path = "/health", operation_id = "get_health", tag = "operation",
    responses((status = 200, description = "State and version", body = Value)))]
fn health() {}

/// Say that the process runs.
#[utoipa::path(get, path = "/health/live", operation_id = "get_health_live", tag = "operation",
    responses((status = 200, description = "It does")))]
fn live() {}

/// Say whether calls are accepted.
#[utoipa::path(get, path = "/health/ready", operation_id = "get_health_ready", tag = "operation",
    responses((status = 200, description = "They are", body = Value), (status = 503, description = "They are not, and why", body = Value)))]
fn ready() {}

/// Count everything, for Prometheus.
#[utoipa::path(get, path = "/metrics", operation_id = "get_metrics", tag = "operation",
    responses((status = 200, description = "OpenMetrics text", body = String, content_type = "application/openmetrics-text")))]
fn metrics() {}

/// Describe every path: this document.
#[utoipa::path(get, path = "/openapi.json", operation_id = "get_openapi", tag = "operation",
    responses((status = 200, description = "OpenAPI", body = Value)))]
fn document() {}

/// Name the server.
#[utoipa::path(get, path = "/", operation_id = "get_root", tag = "operation",
    responses((status = 200, description = "Name and version", body = Value)))]
fn root() {}
