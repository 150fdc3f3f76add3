"""The official Python SDK, unmodified, against a running gateway.

Takes CFR_BASE_URL, CFR_KEY, CFR_BROKE_KEY (a budget that affords nothing) and CFR_LIMITED_KEY (one request a minute)
from the environment. Runs every check, names each one, and exits with the number of those that failed.
"""

import base64
import io
import json
import os
import sys
import time
import traceback
import wave

import openai
from openai import OpenAI

BASE_URL = os.environ["CFR_BASE_URL"]
MODEL = "gpt-4o-mini"
EMBEDDING_MODEL = "text-embedding-3-small"
HELLO = [{"role": "user", "content": "Say hello."}]
PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


def client(key=None, **options):
    return OpenAI(base_url=BASE_URL, api_key=key or os.environ["CFR_KEY"], **options)


def expect(error_type, call, **attributes):
    """Calls and returns the error, which must be exactly of this type and have these attributes."""
    try:
        call()
    except openai.APIError as error:
        assert type(error) is error_type, f"{type(error).__name__} instead of {error_type.__name__}: {error}"
        for name, value in attributes.items():
            found = getattr(error, name)
            assert found == value, f"{name} is {found!r}, not {value!r}: {error}"
        return error
    raise AssertionError(f"no {error_type.__name__}")


def a_chat_is_answered_with_usage():
    answer = client().chat.completions.create(model=MODEL, messages=HELLO, max_tokens=64)
    assert answer.object == "chat.completion" and answer.choices[0].message.content
    assert answer.choices[0].finish_reason in ("stop", "length")
    usage = answer.usage
    assert usage.prompt_tokens > 0 and usage.completion_tokens > 0
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


def a_chat_without_a_cap_is_answered():
    answer = client().chat.completions.create(model=MODEL, messages=HELLO)
    assert answer.choices[0].message.content


def a_stream_shows_no_usage_that_was_not_asked_for():
    chunks = list(client().chat.completions.create(model=MODEL, messages=HELLO, stream=True, max_tokens=64))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text and len(chunks) > 2
    assert all(chunk.choices for chunk in chunks), "a chunk without choices is the usage chunk"
    assert all(chunk.usage is None for chunk in chunks)
    assert chunks[-1].choices[0].finish_reason in ("stop", "length")


def a_stream_ends_with_the_usage_chunk_that_was_asked_for():
    options = {"include_usage": True}
    stream = client().chat.completions.create(
        model=MODEL, messages=HELLO, stream=True, stream_options=options, max_tokens=64
    )
    chunks = list(stream)
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens > 0
    assert all(chunk.usage is None for chunk in chunks[:-1])


def a_stream_can_be_left_early():
    stream = client().chat.completions.create(model=MODEL, messages=HELLO, stream=True, max_tokens=64)
    next(iter(stream))
    stream.close()


def a_forced_tool_is_called_with_json_arguments():
    answer = client().chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "How is the weather in Berlin?"}],
        tools=[WEATHER],
        tool_choice={"type": "function", "function": {"name": "get_weather"}},
        max_tokens=128,
    )
    call = answer.choices[0].message.tool_calls[0]
    assert call.type == "function" and call.id and call.function.name == "get_weather"
    assert isinstance(json.loads(call.function.arguments), dict)


def a_streamed_tool_call_can_be_put_together():
    stream = client().chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "How is the weather in Berlin?"}],
        tools=[WEATHER],
        tool_choice="required",
        stream=True,
        max_tokens=128,
    )
    name, arguments = "", ""
    for chunk in stream:
        for part in (chunk.choices[0].delta.tool_calls or []) if chunk.choices else []:
            name += part.function.name or ""
            arguments += part.function.arguments or ""
    assert name == "get_weather" and isinstance(json.loads(arguments), dict), (name, arguments)


def a_tool_result_is_taken_and_thirty_tools_are_no_surprise():
    tools = [{**WEATHER, "function": {**WEATHER["function"], "name": f"tool_{number}"}} for number in range(30)]
    call = {"id": "call_1", "type": "function", "function": {"name": "tool_1", "arguments": '{"city":"Berlin"}'}}
    messages = [
        {"role": "user", "content": "How is the weather in Berlin?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "Rain."},
    ]
    answer = client().chat.completions.create(
        model=MODEL, messages=messages, tools=tools, tool_choice="none", max_tokens=64
    )
    assert answer.choices[0].message.content


def an_answer_by_json_schema_is_json():
    schema = {
        "type": "object",
        "properties": {"answer": {"type": "string"}},
        "required": ["answer"],
        "additionalProperties": False,
    }
    answer = client().chat.completions.create(
        model=MODEL,
        messages=HELLO,
        max_tokens=128,
        response_format={"type": "json_schema", "json_schema": {"name": "reply", "strict": True, "schema": schema}},
    )
    assert isinstance(json.loads(answer.choices[0].message.content), dict)


def an_image_in_a_message_is_taken():
    content = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": PIXEL, "detail": "low"}},
    ]
    answer = client().chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": content}], max_tokens=64
    )
    assert answer.choices[0].message.content


def several_choices_are_answered_and_counted():
    answer = client().chat.completions.create(model=MODEL, messages=HELLO, n=3, max_tokens=32)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]


def log_probabilities_are_passed_on():
    answer = client().chat.completions.create(
        model=MODEL, messages=HELLO, logprobs=True, top_logprobs=2, max_tokens=32
    )
    tokens = answer.choices[0].logprobs.content
    assert tokens and all(token.logprob <= 0 for token in tokens)


def embeddings_are_made_for_each_input():
    answer = client().embeddings.create(model=EMBEDDING_MODEL, input=["one", "two"], dimensions=256)
    assert [item.index for item in answer.data] == [0, 1]
    assert all(item.embedding for item in answer.data) and answer.usage.prompt_tokens > 0


def a_moderation_judges_texts_and_pictures_by_any_model_or_none():
    judged = client().moderations.create(input=["a quiet day", "I will kill it"])
    assert [result.flagged for result in judged.results] == [False, True], judged
    assert judged.results[1].categories.violence and judged.model == "omni-moderation-latest", judged
    parts = [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}]
    judged = client().moderations.create(model="omni-moderation-latest", input=parts)
    assert len(judged.results) == 1 and not judged.results[0].flagged, judged


def models_are_listed_and_shown():
    names = [model.id for model in client().models.list()]
    assert MODEL in names and EMBEDDING_MODEL in names, names
    assert client().models.retrieve(MODEL).id == MODEL


def unknown_fields_do_not_disturb():
    answer = client().chat.completions.create(
        model=MODEL, messages=HELLO, max_tokens=32, extra_body={"a_field_of_tomorrow": {"deep": [1, 2.5, None]}}
    )
    assert answer.choices[0].message.content


def every_answer_has_a_request_id():
    raw = client().chat.completions.with_raw_response.create(model=MODEL, messages=HELLO, max_tokens=32)
    assert raw.headers["x-request-id"] and raw.parse()._request_id == raw.headers["x-request-id"]
    error = expect(openai.NotFoundError, lambda: client().models.retrieve("no-such-model"))
    assert error.request_id, "errors too"


def an_unknown_model_is_not_found():
    call = lambda: client().chat.completions.create(model="no-such-model", messages=HELLO)
    expect(openai.NotFoundError, call, code="model_not_found", status_code=404)


def an_unknown_path_is_an_error_object_of_the_dialect():
    call = lambda: client().post("/no/such/path", cast_to=object, body={})
    error = expect(openai.NotFoundError, call)
    assert error.body["message"], "the body has OpenAI's error object"


def a_wrong_key_is_an_authentication_error():
    call = lambda: client(key="sk-wrong").chat.completions.create(model=MODEL, messages=HELLO)
    expect(openai.AuthenticationError, call, code="invalid_api_key", status_code=401)


def a_request_that_cannot_be_read_is_a_bad_request():
    call = lambda: client().chat.completions.create(model=MODEL, messages=HELLO, max_tokens=-1)
    expect(openai.BadRequestError, call, status_code=400)


def an_exhausted_budget_is_402_and_not_tried_again():
    call = lambda: client(key=os.environ["CFR_BROKE_KEY"]).chat.completions.create(
        model=MODEL, messages=HELLO, max_tokens=64
    )
    error = expect(openai.APIStatusError, call, status_code=402)
    assert error.body["type"] == "budget_exceeded" or error.code == "budget_exceeded", error.body
    assert error.response.headers["x-should-retry"] == "false"
    assert {"available", "estimate", "affordable_max_tokens"} <= error.body.keys(), error.body


def a_rate_limit_is_429_with_the_time_to_wait():
    limited = client(key=os.environ["CFR_LIMITED_KEY"], max_retries=0)
    call = lambda: limited.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=16)
    call()
    error = expect(openai.RateLimitError, call, status_code=429)
    assert int(error.response.headers["retry-after"]) >= 1


def a_recording(seconds=3):
    """A WAV file of silence."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8_000)
        sound.writeframes(bytes(2 * 8_000 * seconds))
    return ("speech.wav", buffer.getvalue(), "audio/wav")


def images_are_made_and_counted():
    made = client().images.generate(model="gpt-image-2", prompt="A red dot.", size="1024x1024", quality="low", n=2)
    assert len(made.data) == 2 and base64.b64decode(made.data[0].b64_json).startswith(b"\x89PNG")
    assert made.usage.output_tokens > 0 and made.usage.input_tokens_details.text_tokens > 0


def images_are_shown_while_they_are_made():
    stream = client().images.generate(
        model="gpt-image-2", prompt="A red dot.", quality="low", stream=True, partial_images=2
    )
    kinds = [event.type for event in stream]
    assert kinds == ["image_generation.partial_image"] * 2 + ["image_generation.completed"], kinds


def images_are_edited():
    pixel = ("dot.png", base64.b64decode(PIXEL.split(",")[1]), "image/png")
    made = client().images.edit(
        model="gpt-image-2", prompt="Bluer.", image=[pixel, pixel], mask=pixel, quality="low", size="1024x1024"
    )
    assert made.data[0].b64_json and made.usage.input_tokens_details.image_tokens > 0


def a_text_is_read_aloud():
    for model in ("tts-1", "gpt-4o-mini-tts"):
        sound = client().audio.speech.create(model=model, voice="alloy", input="Hello.", response_format="wav")
        assert sound.content.startswith(b"RIFF"), model


def a_text_is_read_aloud_piece_by_piece():
    speech = client().audio.speech.with_streaming_response
    with speech.create(model="gpt-4o-mini-tts", voice="alloy", input="Hello. " * 20, response_format="wav") as sound:
        assert b"".join(sound.iter_bytes()).startswith(b"RIFF")
    with speech.create(model="gpt-4o-mini-tts", voice="alloy", input="Hello.", stream_format="sse") as events:
        lines = [json.loads(line[6:]) for line in events.iter_lines() if line.startswith("data: ")]
    assert lines[0]["type"] == "speech.audio.delta" and lines[-1]["usage"]["output_tokens"] > 0


def a_recording_is_written_down_in_every_format():
    transcribe = client().audio.transcriptions.create
    plain = transcribe(model="whisper-1", file=a_recording())
    assert plain.text
    long = transcribe(model="whisper-1", file=a_recording(), response_format="verbose_json")
    assert long.duration == 3 and long.segments[0].text
    subtitles = transcribe(model="whisper-1", file=a_recording(), response_format="srt")
    assert subtitles.startswith("1\n00:00:00,000 --> ")
    by_tokens = transcribe(model="gpt-4o-transcribe", file=a_recording())
    assert by_tokens.usage.type == "tokens" and by_tokens.usage.input_token_details.audio_tokens == 30


def a_transcript_is_streamed():
    stream = client().audio.transcriptions.create(model="gpt-4o-transcribe", file=a_recording(), stream=True)
    events = list(stream)
    text = "".join(event.delta for event in events if event.type == "transcript.text.delta")
    assert events[-1].type == "transcript.text.done" and events[-1].text == text and events[-1].usage


def a_recording_is_translated():
    assert client().audio.translations.create(model="whisper-1", file=a_recording()).text


def a_form_without_a_file_is_a_bad_request():
    def call():
        return client().audio.transcriptions.create(model="whisper-1", file=("empty.wav", b"", "audio/wav"))

    expect(openai.BadRequestError, call, code="invalid_value", param="file")

def a_batch_goes_from_a_file_to_its_answers():
    lines = [
        {
            "custom_id": f"line-{index}",
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {"model": MODEL, "messages": HELLO, "max_tokens": 20},
        }
        for index in range(3)
    ]
    content = "\n".join(json.dumps(line) for line in lines).encode()
    file = client().files.create(file=("requests.jsonl", content), purpose="batch")
    assert (file.purpose, file.filename) == ("batch", "requests.jsonl")
    assert client().files.retrieve(file.id).id == file.id
    assert client().files.content(file.id).text.count("\n") == 3
    batch = client().batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", metadata={"mine": "yes"}
    )
    deadline = time.monotonic() + 60
    while batch.status in ("validating", "in_progress", "finalizing"):
        assert time.monotonic() < deadline, batch
        time.sleep(0.05)
        batch = client().batches.retrieve(batch.id)
    assert (batch.status, batch.request_counts.completed, batch.metadata) == ("completed", 3, {"mine": "yes"})
    answers = [json.loads(line) for line in client().files.content(batch.output_file_id).text.splitlines()]
    assert [answer["custom_id"] for answer in answers] == ["line-0", "line-1", "line-2"]
    assert all(answer["response"]["body"]["usage"]["completion_tokens"] for answer in answers)
    assert [known.id for known in client().batches.list(limit=1)][0] == batch.id
    assert {known.id for known in client().files.list()} >= {file.id, batch.output_file_id}
    assert client().files.delete(file.id).deleted
    expect(openai.NotFoundError, lambda: client().files.retrieve(file.id), code="file_not_found")


def a_batch_that_does_not_fit_is_402():
    line = {"custom_id": "a", "method": "POST", "url": "/v1/embeddings", "body": {"model": EMBEDDING_MODEL, "input": "x" * 10_000}}
    broke = client(os.environ["CFR_BROKE_KEY"])
    file = broke.files.create(file=("requests.jsonl", json.dumps(line).encode()), purpose="batch")

    def call():
        return broke.batches.create(input_file_id=file.id, endpoint="/v1/embeddings", completion_window="24h")

    expect(openai.APIStatusError, call, code="budget_exceeded")


CHECKS = [
    a_chat_is_answered_with_usage,
    a_chat_without_a_cap_is_answered,
    a_stream_shows_no_usage_that_was_not_asked_for,
    a_stream_ends_with_the_usage_chunk_that_was_asked_for,
    a_stream_can_be_left_early,
    a_forced_tool_is_called_with_json_arguments,
    a_streamed_tool_call_can_be_put_together,
    a_tool_result_is_taken_and_thirty_tools_are_no_surprise,
    an_answer_by_json_schema_is_json,
    an_image_in_a_message_is_taken,
    several_choices_are_answered_and_counted,
    log_probabilities_are_passed_on,
    embeddings_are_made_for_each_input,
    a_moderation_judges_texts_and_pictures_by_any_model_or_none,
    images_are_made_and_counted,
    images_are_shown_while_they_are_made,
    images_are_edited,
    a_text_is_read_aloud,
    a_text_is_read_aloud_piece_by_piece,
    a_recording_is_written_down_in_every_format,
    a_transcript_is_streamed,
    a_recording_is_translated,
    a_form_without_a_file_is_a_bad_request,
    a_batch_goes_from_a_file_to_its_answers,
    a_batch_that_does_not_fit_is_402,
    models_are_listed_and_shown,
    unknown_fields_do_not_disturb,
    every_answer_has_a_request_id,
    an_unknown_model_is_not_found,
    an_unknown_path_is_an_error_object_of_the_dialect,
    a_wrong_key_is_an_authentication_error,
    a_request_that_cannot_be_read_is_a_bad_request,
    an_exhausted_budget_is_402_and_not_tried_again,
    a_rate_limit_is_429_with_the_time_to_wait,
]


def main():
    failed = 0
    for check in CHECKS:
        try:
            check()
            print(f"ok {check.__name__}")
        except Exception:
            failed += 1
            print(f"FAILED {check.__name__}\n{traceback.format_exc()}")
    print(f"openai {openai.__version__}: {len(CHECKS) - failed} passed, {failed} failed")
    return failed


if __name__ == "__main__":
    sys.exit(main())
