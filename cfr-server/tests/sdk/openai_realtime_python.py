"""The official Python SDK, unmodified, over the realtime API of a running gateway.

Takes CFR_BASE_URL, CFR_KEY and CFR_BROKE_KEY (a budget that affords nothing) from the environment. Runs every check, names
each one, and exits with the number of those that failed.
"""

import base64
import os
import sys
import traceback

from openai import OpenAI

MODEL = "gpt-realtime"
TEXT = {"type": "realtime", "output_modalities": ["text"]}
WEATHER = {
    "type": "function",
    "name": "weather",
    "description": "The weather of a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


def connect(key=None):
    client = OpenAI(base_url=os.environ["CFR_BASE_URL"], api_key=key or os.environ["CFR_KEY"])
    return client.realtime.connect(model=MODEL)


def until(session, kind):
    """Events up to one of this type; it is the last. An error that is not waited for fails."""
    events = []
    for event in session:
        events.append(event)
        assert kind == "error" or event.type != "error", event
        if event.type == kind:
            return events
    raise AssertionError(f"no {kind}: {[event.type for event in events]}")


def say(session, text):
    content = [{"type": "input_text", "text": text}]
    session.conversation.item.create(item={"type": "message", "role": "user", "content": content})


def a_text_is_answered_piece_by_piece_with_usage():
    with connect() as session:
        session.session.update(session=TEXT)
        say(session, "fake:tokens:12")
        session.response.create()
        events = until(session, "response.done")
        assert events[0].type == "session.created" and events[0].session.model == MODEL
        said = "".join(event.delta for event in events if event.type == "response.output_text.delta")
        response = events[-1].response
        assert response.status == "completed" and response.output[0].content[0].text == said
        assert response.usage.output_token_details.text_tokens == 12


def somebody_who_stops_speaking_is_answered_in_sound():
    with connect() as session:
        for sample in (b"\1\0", b"\1\0", b"\0\0"):
            session.input_audio_buffer.append(audio=base64.b64encode(sample * 9_600).decode())
        events = until(session, "response.done")
        kinds = [event.type for event in events]
        assert "input_audio_buffer.committed" in kinds and "response.output_audio.delta" in kinds
        assert events[-1].response.usage.input_token_details.audio_tokens > 0


def a_tool_is_called_and_its_result_is_read():
    with connect() as session:
        session.session.update(session={**TEXT, "tools": [WEATHER]})
        say(session, 'fake:call:weather:{"city":"Bonn"}')
        session.response.create()
        call = until(session, "response.done")[-1].response.output[0]
        assert (call.type, call.name, call.arguments) == ("function_call", "weather", '{"city":"Bonn"}')
        output = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
        session.conversation.item.create(item=output)
        session.response.create(response={"max_output_tokens": 5})
        response = until(session, "response.done")[-1].response
        assert response.output[0].type == "message" and response.usage.output_tokens <= 5


def a_budget_that_is_used_up_is_told_and_the_session_lives_on():
    with connect(os.environ["CFR_BROKE_KEY"]) as session:
        say(session, "hello")
        session.response.create()
        error = until(session, "error")[-1].error
        assert (error.type, error.code) == ("insufficient_quota", "budget_exceeded"), error
        say(session, "still there")
        until(session, "conversation.item.done")


def what_has_no_price_is_refused_by_its_name():
    with connect() as session:
        transcription = {"audio": {"input": {"transcription": {"model": "whisper-1"}}}}
        session.session.update(session={"type": "realtime", **transcription})
        error = until(session, "error")[-1].error
        assert error.param == "session.audio.input.transcription", error


CHECKS = [
    a_text_is_answered_piece_by_piece_with_usage,
    somebody_who_stops_speaking_is_answered_in_sound,
    a_tool_is_called_and_its_result_is_read,
    a_budget_that_is_used_up_is_told_and_the_session_lives_on,
    what_has_no_price_is_refused_by_its_name,
]


def main():
    failed = 0
    for check in CHECKS:
        try:
            check()
            print("ok    ", check.__name__)
        except Exception:
            failed += 1
            print("FAILED", check.__name__)
            traceback.print_exc(file=sys.stdout)
    sys.exit(failed)


if __name__ == "__main__":
    main()
