"""LiteLLM, unmodified, with the callback of docs/drop-in.md: it asks before a call and tells afterwards.

Takes CFR_BASE_URL and CFR_ADMIN_KEY from the environment. Runs every check, names each one, and exits with the number of
those that failed. No call leaves this machine: LiteLLM answers by itself.
"""

import asyncio
import os
import sys
import traceback
import uuid

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import httpx
import litellm
from litellm.integrations.custom_logger import CustomLogger

HOST = os.environ["CFR_BASE_URL"].removesuffix("/v1")
HTTP = httpx.Client(base_url=HOST, headers={"x-api-key": os.environ["CFR_ADMIN_KEY"]})
MODEL = "gpt-4o-mini"


class Budget(CustomLogger):
    """Tells what became of each call."""

    def __init__(self):
        super().__init__()
        self.http = httpx.AsyncClient(base_url=HOST, headers={"x-api-key": os.environ["CFR_ADMIN_KEY"]})
        self.told = asyncio.Queue()

    async def ask(self, user, data):
        return await self.http.post("/api/check-budget", json={
            "user_id": user, "model": data["model"], "request_id": data["litellm_call_id"],
            "tokens": 8 * len(str(data.get("messages"))) + (data.get("max_tokens") or 4096)})

    async def async_log_success_event(self, kwargs, response_obj, start_time, end_time):
        usage = response_obj.usage
        answer = await self.http.post("/api/usage/log", json={
            "user_id": kwargs["litellm_params"]["metadata"]["user_api_key_user_id"], "model": kwargs["model"],
            "request_id": kwargs["litellm_call_id"], "tokens_input": usage.prompt_tokens,
            "tokens_output": usage.completion_tokens, "response_cost": kwargs["response_cost"]})
        await self.told.put(answer)


def somebody(budget):
    """A user who may spend so much."""
    email = f"{uuid.uuid4().hex}@example.org"
    team = HTTP.post("/team/new", json={"team_alias": f"t{uuid.uuid4().hex}"}).json()["team_id"]
    made = HTTP.post("/user/new", json={"user_email": email, "team_id": team, "max_budget": budget, "auto_create_key": False})
    assert made.status_code == 200, made.text
    return email


async def call(callback, user):
    data = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 50,
            "litellm_call_id": str(uuid.uuid4())}
    asked = await callback.ask(user, data)
    if asked.status_code != 200:
        return asked, None
    await litellm.acompletion(**data, mock_response="A river of light.", metadata={"user_api_key_user_id": user})
    return asked, await asyncio.wait_for(callback.told.get(), 30)


def with_callback(check):
    async def run():
        callback = Budget()
        litellm.callbacks = [callback]
        await check(callback)
    return lambda: asyncio.run(run())


async def a_call_is_held_and_settled(callback):
    user = somebody(1)
    asked, told = await call(callback, user)
    held, logged = asked.json(), told.json()
    assert told.status_code == 200 and not logged["duplicate"], told.text
    assert logged["tokens_output"] > 0 and 0 < logged["cost_total"] <= held["estimated_cost"], (held, logged)
    left = HTTP.get("/api/users", params={"email": user}).json()["users"][0]
    assert abs(left["budget_available"] - (1 - logged["cost_total"])) < 1e-9, left


async def a_call_beyond_the_budget_is_refused(callback):
    asked, told = await call(callback, somebody(0.0000001))
    assert (asked.status_code, asked.json()["error"]["code"], told) == (402, "budget_exceeded", None), asked.text


CHECKS = [with_callback(a_call_is_held_and_settled), with_callback(a_call_beyond_the_budget_is_refused)]
NAMES = ["a_call_is_held_and_settled", "a_call_beyond_the_budget_is_refused"]


def main():
    failed = 0
    for name, check in zip(NAMES, CHECKS):
        try:
            check()
            print(f"ok      {name}")
        except Exception:
            failed += 1
            print(f"FAILED  {name}\n{traceback.format_exc()}")
    return failed


if __name__ == "__main__":
    sys.exit(main())
