"""The official SDKs of Anthropic and Google, and OpenAI's for Responses, unmodified, against a running gateway: each
dialect over models of every provider.

Takes CFR_BASE_URL, CFR_KEY and CFR_BROKE_KEY (a budget that affords nothing) from the environment. Runs every check,
names each one, and exits with the number of those that failed.
"""

import os
import sys
import traceback

import anthropic
import openai
from google import genai
from google.genai import errors, types

HOST = os.environ["CFR_BASE_URL"].removesuffix("/v1")
MODELS = ["claude-sonnet-4-6", "gpt-5.4-mini", "gemini-2.5-flash"]
HELLO = [{"role": "user", "content": "Say hello."}]
WEATHER = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


def claude(key=None):
    return anthropic.Anthropic(base_url=HOST, api_key=key or os.environ["CFR_KEY"], max_retries=0)


def gemini(key=None):
    options = types.HttpOptions(base_url=HOST)
    return genai.Client(api_key=key or os.environ["CFR_KEY"], http_options=options)


def gpt():
    return openai.OpenAI(base_url=os.environ["CFR_BASE_URL"], api_key=os.environ["CFR_KEY"], max_retries=0)


def messages_are_answered_by_every_provider():
    for model in MODELS:
        answer = claude().messages.create(model=model, max_tokens=64, messages=HELLO)
        assert answer.type == "message" and answer.stop_reason == "end_turn", answer
        assert model in answer.content[0].text, answer
        assert answer.usage.input_tokens > 0 and answer.usage.output_tokens > 0, answer


def messages_stream_as_they_are_whole():
    for model in MODELS:
        whole = claude().messages.create(model=model, max_tokens=64, messages=HELLO)
        with claude().messages.stream(model=model, max_tokens=64, messages=HELLO) as stream:
            text = "".join(stream.text_stream)
            final = stream.get_final_message()
        assert text == whole.content[0].text and final.stop_reason == whole.stop_reason, (text, whole)
        assert final.usage.output_tokens == whole.usage.output_tokens, (final, whole)


def a_tool_is_called_and_its_result_taken():
    tools = [{"name": "get_weather", "description": "Weather of a city", "input_schema": WEATHER}]
    asked = [{"role": "user", "content": "Weather in Oslo?"}]
    for model in MODELS:
        ask = dict(model=model, max_tokens=200, tools=tools)
        call = claude().messages.create(tool_choice={"type": "any"}, messages=asked, **ask)
        assert call.stop_reason == "tool_use", call
        block = call.content[-1]
        assert block.name == "get_weather" and isinstance(block.input["city"], str), block
        result = [{"type": "tool_result", "tool_use_id": block.id, "content": "3 degrees"}]
        answered = asked + [{"role": "assistant", "content": call.content}, {"role": "user", "content": result}]
        answer = claude().messages.create(messages=answered, **ask)
        assert answer.stop_reason == "end_turn" and answer.content[0].text, answer
        with claude().messages.stream(tool_choice={"type": "any"}, messages=asked, **ask) as stream:
            streamed = stream.get_final_message()
        assert streamed.content[-1].input == block.input, (streamed, block)


def tokens_are_counted():
    few = claude().messages.count_tokens(model=MODELS[0], messages=HELLO).input_tokens
    text = "A longer text. " * 100
    many = claude().messages.count_tokens(model=MODELS[0], messages=[{"role": "user", "content": text}]).input_tokens
    assert 0 < few < 100 < many < len(text), (few, many)


def errors_of_messages_are_those_of_the_sdk():
    ask = dict(model=MODELS[0], max_tokens=16, messages=HELLO)
    cases = [
        (anthropic.AuthenticationError, "cfr_live_wrong", ask, "authentication_error"),
        (anthropic.NotFoundError, None, ask | {"model": "nothing-such"}, "not_found_error"),
        (anthropic.APIStatusError, os.environ["CFR_BROKE_KEY"], ask, "billing_error"),
    ]
    for kind, key, request, word in cases:
        try:
            claude(key).messages.create(**request)
        except kind as error:
            assert error.body["error"]["type"] == word, error.body
        else:
            raise AssertionError(f"no {kind.__name__}")


def contents_are_generated_by_every_provider():
    client = gemini()  # it closes its connections when nobody holds it
    for model in MODELS:
        config = types.GenerateContentConfig(max_output_tokens=64)
        answer = client.models.generate_content(model=model, contents="Say hello.", config=config)
        assert model in answer.text, answer
        assert answer.usage_metadata.candidates_token_count > 0, answer
        chunks = client.models.generate_content_stream(model=model, contents="Say hello.", config=config)
        assert "".join(chunk.text or "" for chunk in chunks) == answer.text, answer


def errors_of_gemini_are_those_of_the_sdk():
    client = gemini(os.environ["CFR_BROKE_KEY"])
    try:
        client.models.generate_content(model=MODELS[0], contents="Say hello.")
    except errors.ClientError as error:
        assert error.code == 402 and error.status == "RESOURCE_EXHAUSTED", error
    else:
        raise AssertionError("no error")


def responses_are_given_by_every_provider():
    for model in MODELS:
        ask = dict(model=model, input="Say hello.", max_output_tokens=64)
        answer = gpt().responses.create(**ask)
        assert answer.status == "completed" and model in answer.output_text, answer
        with gpt().responses.stream(**ask) as stream:
            kinds = [event.type for event in stream]
            final = stream.get_final_response()
        assert kinds[0] == "response.created" and kinds[-1] == "response.completed", kinds
        assert final.output_text == answer.output_text, (final, answer)


CHECKS = [
    messages_are_answered_by_every_provider,
    messages_stream_as_they_are_whole,
    a_tool_is_called_and_its_result_taken,
    tokens_are_counted,
    errors_of_messages_are_those_of_the_sdk,
    contents_are_generated_by_every_provider,
    errors_of_gemini_are_those_of_the_sdk,
    responses_are_given_by_every_provider,
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
    versions = f"anthropic {anthropic.__version__}, google-genai {genai.__version__}, openai {openai.__version__}"
    print(f"{versions}: {len(CHECKS) - failed} passed, {failed} failed")
    return failed


if __name__ == "__main__":
    sys.exit(main())
